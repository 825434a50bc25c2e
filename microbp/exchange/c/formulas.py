"""The C texts that exported files are made of, by name. Most are the library's own formulas: formulas.txt, which the build makes from
src/formulas.

In such a text, `@word` stands for a name with the prefix of the file (model_word). It is a part too, which whoever uses it needs. `@@` is
an @ of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

_NAME = re.compile(r"(?<!@)@(\w+)")


def parts(text: str) -> dict[str, str]:
    """The parts of a text, which empty lines separate, by their names: the first word with an @ that is not `@INLINE`."""
    found = (part.strip("\n") for part in text.split("\n\n"))
    return {next((name for name in _NAME.findall(part) if name != "INLINE"), "INLINE"): part for part in found if part.strip()}


def _read() -> tuple[dict[str, str], dict[str, dict[str, list[str]]]]:
    text, _, lines = Path(__file__).with_name("formulas.txt").read_text("utf-8").strip("\n").rpartition("\n\n")
    rows: dict[str, dict[str, list[str]]] = {}
    for kind, name, *columns in (line.split("\t") for line in lines.split("\n")):
        rows.setdefault(kind, {})[name] = columns
    return parts(text), rows


PARTS, ROWS = _read()
# ROWS["ACTIVATION"]["tanh"] is [what backward reads, Y or Z; y from z; dz from dy], as in formulas.def.
PARTS |= parts("""
#if defined(__GNUC__) && defined(__OPTIMIZE__) && !defined(__OPTIMIZE_SIZE__)
#define @INLINE static inline __attribute__((always_inline))
#else
#define @INLINE static inline
#endif

/* The square root of a positive normal number, exactly rounded, digit by digit. */
static double @square_root(double x) {
    uint64_t bits, rest, digit, root = 0;
    double y;
    if (!(x > 0 && x <= 1.7976931348623157e308))
        return x > 0 || x == 0 ? x : @NOT_A_NUMBER;
    memcpy(&bits, &x, sizeof bits);
    const int exponent = (int)(bits >> 52) - 1023, odd = exponent & 1;
    rest = ((bits & 0xFFFFFFFFFFFFF) | 0x10000000000000) << odd << 1;
    for (digit = (uint64_t)1 << 53; digit; digit >>= 1) {
        if (rest >= 2 * root + digit) {
            rest -= 2 * root + digit;
            root += digit;
        }
        rest <<= 1;
    }
    bits = ((uint64_t)((exponent - odd) / 2 + 1022) << 52) + (root >> 1) + (root & 1);
    memcpy(&y, &bits, sizeof y);
    return y;
}

/* The root of a float, rounded as well. */
#if defined(__NO_MATH_ERRNO__) && (defined(__SSE2__) || defined(__aarch64__))
#define @ROOT(x, y) y = __builtin_sqrtf(x)
#elif defined(__GNUC__) && defined(__AVX__)
#define @ROOT(x, y) __asm__("vsqrtss %1, %1, %0" : "=x"(y) : "x"(x))
#elif defined(__GNUC__) && defined(__SSE2__)
#define @ROOT(x, y) __asm__("sqrtss %1, %0" : "=x"(y) : "x"(x))
#elif defined(__GNUC__) && defined(__aarch64__)
#define @ROOT(x, y) __asm__("fsqrt %s0, %s1" : "=w"(y) : "w"(x))
#elif defined(__GNUC__) && defined(__ARM_FP) && (__ARM_FP & 4)
#define @ROOT(x, y) __asm__("vsqrt.f32 %0, %1" : "=t"(y) : "t"(x))
#endif

@INLINE float @float_root(float x) {
#if defined(@ROOT)
    float y;
    @ROOT(x, y);
    return y;
#else /* Newton's rule: in double, its error is smaller than the distance of any root to a rounding limit */
    const double a = (double)x;
    uint64_t bits;
    double r, y;
    memcpy(&bits, &a, sizeof bits);
    bits = 0x5fe6eb50c7b537a9 - (bits >> 1); /* about 1 / sqrt(a) */
    memcpy(&r, &bits, sizeof r);
    for (int i = 0; i < 3; i++)
        r *= 1.5 - 0.5 * a * r * r;
    y = a * r;
    y += (a - y * y) * (0.5 * r);
    return x > 0 && x < @INF ? (float)y : x >= 0 ? x : @NOT_A_NUMBER;
#endif
}
""")


PARTS["nearest"] = f"""#ifdef __FAST_MATH__
#error "-ffast-math breaks the rounding in exp: compile without it"
#endif
{PARTS["nearest"]}"""


def needed(texts: Iterable[str], known: Mapping[str, str]) -> list[str]:
    """The names of the parts that texts need, each after those that it needs itself. Names that no part has are the texts' own."""
    found: dict[str, None] = {}
    done: set[str] = set()

    def visit(text: str) -> None:
        for name in _NAME.findall(text):
            if name not in done and name in known:
                done.add(name)
                visit(known[name])
                found[name] = None

    for text in texts:
        visit(text)
    return list(found)


def with_prefix(text: str, name: str) -> str:
    """The text with the names of a file."""
    return _NAME.sub(rf"{name}_\1", text).replace("@@", "@")
