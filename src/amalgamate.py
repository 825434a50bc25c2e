"""Writes the library as two files, microbp.c and microbp.h, and microbp.hpp for C++: python src/amalgamate.py FOLDER

The rooms are joined in the order that their includes need: no file is named here, except those of the kernels. What two files may not
share is renamed: a name at file scope that is taken already gets the name of its file at the end. The kernels and their formulas are
compiled twice, for float and for double. They stand in microbp.c once, and microbp.c includes itself to get them again, for float after
a `#define NAME NAME_f32` for each of their names. In the same way it includes the list of formulas, as often as the files do.

Names are found by the layout of the sources (.clang-format): what has file scope starts in the first column."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

SOURCES = Path(__file__).parent
KERNELS, NOISE, TABLE, LIST = "kernels/kernels.c", "kernels/noise.c", "kernels/kernels.h", "formulas/formulas.def"
PUBLIC = ["microbp_base.h", "microbp_net.h", "microbp_train.h", "microbp_file.h"]
# What a build may leave out (config/config.h): rooms and files.
OPTIONAL = {
    **dict.fromkeys(
        [
            "train",
            "train/sparse",
            "train/solvers",
            "train/steps",
            "train/fitting",
            "passes/derivatives",
            "passes/backward.c",
            "passes/plan/plan.c",
        ],
        "MICROBP_TRAINING",
    ),
    **dict.fromkeys(
        ["passes/joint_norms.c", "train/steps/reduce.c", "train/steps/means.c", "train/steps/join_rows.c"],
        "MICROBP_TRAINING && MICROBP_RANKS",
    ),
    "int8": "MICROBP_INT8",
    **dict.fromkeys(["file", "system/disk.c"], "MICROBP_FILES"),
    **dict.fromkeys(["file/trainer_file.h", "file/trainer_read.c", "file/trainer_write.c"], "MICROBP_FILES && MICROBP_TRAINING"),
    **dict.fromkeys(["system/threads/place.h", "system/threads/place.c", "system/threads/pool.c"], "MICROBP_THREADS"),
}

TOKEN = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:[^"\\\n]|\\.)*"|\'(?:[^\'\\\n]|\\.)*\'|\w+|->|##|.', re.DOTALL)
INCLUDE = re.compile(r'^#include "([^"]+)".*\n', re.MULTILINE)
MACRO = re.compile(r"^#define (\w+)(\((?:.*\\\n)*.*)", re.MULTILINE)
GUARD = re.compile(r"^#ifndef (MBP_\w+_H|MICROBP_\w*H)\n#define \1\n(.*)^#endif\s*\Z", re.MULTILINE | re.DOTALL)


def text_of(name: str) -> str:
    """A file without its include guard."""
    return GUARD.sub(r"\2", (SOURCES / name).read_text("utf-8"))


# ---- the order of files ----


def includes(name: str) -> list[str]:
    return [file for file in INCLUDE.findall(text_of(name)) if "/" in file]


def in_order(names: list[str], needs: Callable[[str], list[str]]) -> list[str]:
    """The names and what they need, each after all that it needs."""
    done: dict[str, None] = {}

    def visit(name: str) -> None:
        if name not in done:
            for other in needs(name):
                visit(other)
            done[name] = None

    for name in names:
        visit(name)
    return list(done)


def room(name: str) -> str:
    return name.rpartition("/")[0]


def all_files() -> list[str]:
    """The private files: room after room, in each the headers first."""
    files = sorted(path.relative_to(SOURCES).as_posix() for path in SOURCES.rglob("*.[ch]") if path.parent.name != "include")
    needs = {
        at: [room(other) for name in files if room(name) == at for other in includes(name) if room(other) != at] for at in map(room, files)
    }
    headers = in_order([name for name in files if name.endswith(".h")], includes)
    sources = [name for name in files if name.endswith(".c")]
    return [name for at in in_order(sorted(needs), needs.__getitem__) for name in headers + sources if room(name) == at]


# ---- names ----


def code_of(text: str) -> str:
    """Without comments, strings and preprocessor lines."""
    text = re.sub(r'/\*.*?\*/|//[^\n]*|"(?:[^"\\\n]|\\.)*"', " ", text, flags=re.DOTALL)
    return re.sub(r"^#(?:.*\\\n)*.*|__attribute__\(\([^;{]*?\)\) ?(?=[\w;])|_Pragma\(.*\)", "", text, flags=re.MULTILINE)


def names_of(text: str) -> set[str]:
    """The names with file scope that the text declares, and the tags of structures."""
    code = code_of(text)
    found = re.findall(r"^(?:typedef )?(?:struct|enum|union) (\w+) \{", code, re.MULTILINE)
    found += re.findall(r"^(?:typedef .*)?\} (\w+)(?:\[\w*\])?(?:;| =)", code, re.MULTILINE)
    found += re.findall(r"^typedef [^{;]*?\b(\w+) ?(?:;|\)\()", code, re.MULTILINE)
    for constants in re.findall(r"^(?:typedef )?enum ?\w* \{(.*?)\}", code, re.MULTILINE | re.DOTALL):
        found += re.findall(r"(?:^|,)\s*(\w+)", constants)
    for head in re.findall(r"^(?:static|[A-Z]+) [^{;]*", code, re.MULTILINE):
        found += re.findall(r"(\w+)(?:\[[^\]]*\])* =", head) or re.findall(r"(\w+)(?:\(|\[|$)", head)[:1]
    return set(found)


def formulas() -> list[tuple[str, str]]:
    """The rows of formulas.def: macro and name."""
    return re.findall(r"^(?:ROW\()?([A-Z_]+)(?:\(|, )(\w+),", code_of(text_of(LIST)), re.MULTILINE)


def template_names(texts: dict[str, str]) -> set[str]:
    """Also those that macros make from the names of formulas, such as forward_##name, or from the name that they get."""
    found: set[str] = set().union(*map(names_of, texts.values()))
    for text in texts.values():
        macros = MACRO.findall(text)
        for macro, body in macros:
            for helper, start in re.findall(r"(?:([A-Z]+)\()?\b([a-z]\w*_)##name\b", body):
                inside = "".join(other for name, other in macros if name == helper)  # MAP(forward_##name) makes row_forward_##name
                outer = ["", *re.findall(r"\b([a-z]\w*_)##name\b", inside)]
                found.update(before + start + name for before in outer for kind, name in formulas() if kind == macro)
            given = re.findall(rf"^{macro}\((\w+), ", text, re.MULTILINE)
            found.update(given if re.search(r"static \w+ name\(", body) else [])
            found.update(
                f"{start}{name}{end}" for start in re.findall(r"\b([a-z]\w*_)##name\b", body) for name in given for end in ("", "_T")
            )
    return found


def renamed(text: str, new: dict[str, str], is_name: Callable[[str, str], bool] = lambda before, after: before not in (".", "->")) -> str:
    """The text with other names. is_name: whether a word is the name, by the tokens before and after it."""
    words = TOKEN.findall(text)
    solid = [word for word in words if not word.isspace()]
    before, after, result, i = "", "", [], 0
    for word in words:
        if word.isspace():
            result.append(word)
            continue
        after = solid[i + 1] if i + 1 < len(solid) else ""
        result.append(new[word] if word in new and is_name(before, after) else word)
        before, i = word, i + 1
    return "".join(result)


# ---- the parts of microbp.c ----

START = """\
#if !defined(MICROBP_LIST) && !defined(MICROBP_TEMPLATE)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow" /* the names of other files */
#ifdef __clang__
#pragma clang diagnostic ignored "-Wpass-failed"     /* loops that clang does not vectorize */
#pragma clang diagnostic ignored "-Wunused-function" /* functions of headers that a build does not need */
#endif
#endif

#ifdef __cplusplus
#error "microbp.c is C: compile it with a C compiler, and link it to the C++ program"
#endif

#ifdef MICROBP_LIST
"""
FOR_KERNELS = """
#undef MICROBP_LIST

#elif defined(MICROBP_TEMPLATE)

"""
MAIN = """
#else

#if defined(__linux__) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* for threads and files */
#endif
#ifndef MICROBP_SOURCE
#define MICROBP_SOURCE "microbp.c" /* the name of this file */
#endif
#include "microbp.h"

/* The kernels are compiled for the instructions that the compiler may use. */
#if defined(__AVX512F__)
#define MBP_ISA avx512
#define MICROBP_AVX512 1
#elif defined(__AVX2__) && defined(__FMA__)
#define MBP_ISA avx2
#define MICROBP_AVX2 1
#elif defined(__x86_64__)
#define MBP_ISA sse2
#define MICROBP_SSE2 1
#elif defined(__aarch64__)
#define MBP_ISA neon
#define MICROBP_NEON 1
#else
#define MBP_ISA generic
#define MICROBP_GENERIC 1
#endif
@INCLUDES@
/* Sums and products stay as they are written: no contraction to fused multiply-adds. gcc ignores the pragma of C, and clang
 * that of gcc. The other options of gcc are for speed: without them, square roots are calls and loops are not vectorized. */
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#else
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off", "no-math-errno", "no-trapping-math")
#if defined(__OPTIMIZE__) && !defined(__OPTIMIZE_SIZE__)
#pragma GCC optimize("tree-vectorize", "vect-cost-model=dynamic")
#endif
#endif
"""
PASSES = """\
#define MICROBP_TEMPLATE
#if MICROBP_F32
#define MICROBP_NAME(name) name##_f32
#define MICROBP_KERNELS
#include MICROBP_SOURCE
#undef MICROBP_KERNELS
#undef MICROBP_NAME
#endif
#define MBP_DOUBLE
#if MICROBP_F64
#define MICROBP_NAME(name) name##_f64
#define MICROBP_KERNELS
#include MICROBP_SOURCE
#undef MICROBP_KERNELS
#undef MICROBP_NAME
#endif
#if MICROBP_TRAINING
#define MBP_NOISE
#define MICROBP_NAME(name) name##_noise
#include MICROBP_SOURCE
#undef MICROBP_NAME
#undef MBP_NOISE
#endif
/* The formulas alone, for the files below. */
#include MICROBP_SOURCE
#undef MBP_DOUBLE
#undef MICROBP_TEMPLATE
"""
END = """
#ifndef __clang__
#pragma GCC pop_options
#endif
#pragma GCC diagnostic pop
#endif
"""


def title(name: str) -> str:
    return f"\n/* ==== {name} {'=' * (108 - len(name))} */\n\n"


def without_includes(text: str) -> str:
    """Includes of private files are dropped, except of the list, for which microbp.c includes itself."""
    text = INCLUDE.sub(lambda found: "#define MICROBP_LIST\n#include MICROBP_SOURCE\n" if found[1] == LIST else "", text)
    return text.strip("\n") + "\n"


def undefined(text: str) -> str:
    """#undef for each macro that the text leaves defined. _GNU_SOURCE stays: headers that come later need it too."""
    last = {name: word for word, name in re.findall(r"^#(define|undef) (\w+)", text, re.MULTILINE)}
    names = [
        name
        for name, word in last.items()
        if word == "define" and not name.startswith(("MICROBP_", "MBP_DOUBLE", "MBP_NOISE", "_GNU_SOURCE"))
    ]
    return "".join(f"#undef {name}\n" for name in names)


def under(conditions: list[str], text: str) -> str:
    return "".join(f"{condition}\n" for condition in conditions) + text + "#endif\n" * len(conditions)


def lines_under(text: str) -> Iterator[tuple[str, list[str]]]:
    """The lines, each with the conditions of the preprocessor that it is under."""
    conditions: list[str] = []
    for line in text.splitlines():
        if line.startswith("#if"):
            conditions.append(line)
        elif line.startswith("#el"):
            conditions[-1] = line.replace("#elif", "#if")
        elif line.startswith("#endif"):
            conditions.pop()
        else:
            yield line, conditions


def system_includes(text: str) -> str:
    return "".join(under(conditions, f"{line}\n") for line, conditions in lines_under(text) if line.startswith("#include <"))


def template_files() -> list[str]:
    """The files that are compiled for each dtype: the kernels and noise, and the formulas of one dtype."""
    once = in_order([TABLE], includes)
    return [name for name in in_order([KERNELS, NOISE], includes) if name not in once]


def conditions_of(name: str) -> list[str]:
    """In which passes a file of the template is compiled, and in which builds."""
    if not name.startswith("kernels/"):
        return ["#ifdef MBP_DOUBLE"] if "#define MBP_DOUBLE" in text_of(name) else []
    roots = {root for root in (KERNELS, NOISE) if name in in_order([root], includes)}
    passes = "MICROBP_KERNELS" if roots == {KERNELS} else "MBP_NOISE" if roots == {NOISE} else "MICROBP_NAME"
    builds = [conditions[-1] for line, conditions in lines_under(text_of(KERNELS)) if line == f'#include "{name}"' and conditions]
    return [f"#ifdef {passes}", *builds]


def template() -> tuple[str, str, set[str]]:
    """The kernels and the formulas of one dtype, double if MBP_DOUBLE is defined; the list; and the names of the formulas. Names that
    cannot be macros, because a field or a formula has the same name, are replaced by others."""
    texts = {name: text_of(name) for name in [*template_files(), LIST]}
    found = template_names(texts)
    fields = {word for name in in_order([TABLE], includes) if name != LIST for word in re.findall(r"\w+", code_of(text_of(name)))}
    rows = {name: f"{name}_T" for name in found & {name for _, name in formulas()}}
    others = {name: f"{name}_T" for name in found & fields if name not in rows}
    for name in texts:
        texts[name] = renamed(texts[name], others)
        texts[name] = renamed(texts[name], rows, lambda before, after: after == "(")
    found = {rows.get(name, others.get(name, name)) for name in found}
    plain = set().union(*(names_of(text) for name, text in texts.items() if room(name) == room(LIST)))
    listed = texts.pop(LIST)
    body = "".join(under(conditions_of(name), title(name) + without_includes(text)) for name, text in texts.items())
    before = under(["#ifdef MICROBP_NAME"], "".join(f"#define {name} MICROBP_NAME({name})\n" for name in sorted(found)))
    after = under(["#ifdef MICROBP_NAME"], "".join(f"#undef {name}\n" for name in sorted(found)))
    return before + body + "\n" + undefined(body) + after, listed, plain


def plain_files(taken: set[str]) -> str:
    """All other files; the passes over the template are in the place of kernels.c."""
    files = all_files()
    later = [
        name for name in files[: files.index(KERNELS)] if name.endswith(".c") and set(in_order([name], includes)) & set(template_files())
    ]
    place = files.index(KERNELS) + 1
    parts = []
    for name in [*(name for name in files[:place] if name not in later), *later, *files[place:]]:
        if name == KERNELS:
            parts.append(title("kernels and formulas of each dtype") + PASSES)
        if name in template_files() or name == LIST:
            continue
        text = without_includes(text_of(name))
        names = {word for word in names_of(text) if not word.startswith("mbp_")}  # the others are unique already
        if name.endswith(".c"):
            new = {word: f"{word}_in_{Path(name).stem}" for word in names & taken}
            text = renamed(text, new) + undefined(text)
            names = {new.get(word, word) for word in names}
        elif names & taken:
            sys.exit(f"{name}: another file has {', '.join(sorted(names & taken))} too")
        taken |= names
        option = OPTIONAL.get(name, OPTIONAL.get(room(name)))
        parts.append(title(name) + under([f"#if {option}"] if option else [], text))
    return "".join(parts)


# ---- the two files ----

ABOUT = """\
/* microbp @VERSION@: small dense neural networks that are trained in C. This file and microbp.h are the whole library,
 * written by src/amalgamate.py from the files whose names are below. microbp.h describes the functions.
 *
 *     cc app.c microbp.c -lm                    float32, the instructions that the compiler uses anyway, no threads
 *     -march=native                             AVX2 and FMA, or AVX-512; other processors may not run the program
 *     -DMICROBP_DOUBLE                          also float64
 *     -DMICROBP_THREADS -pthread                also pools of threads
 *     -DMICROBP_FILES=0                         without files, for systems without POSIX, where this is the default
 *
 * -O2 is a good choice. -ffast-math is refused: results would have other bits. Keep the name of this file, because it
 * includes itself: the kernels are compiled once for float and once for double.
 *
@CONTENTS@
 *
@LICENSE@ */
"""


def commented(text: str) -> str:
    return "\n".join(f" * {line}".rstrip() for line in text.strip().splitlines())


def contents(text: str, first: int) -> str:
    """The titles with the numbers of their lines."""
    lines = [(number, found[1]) for number, line in enumerate(text.splitlines(), first) if (found := re.match(r"/\* ==== (.*?) =", line))]
    return commented("\n".join(["The files, and the lines where they start:", *(f"    {number:6} {name}" for number, name in lines)]))


def source() -> str:
    """microbp.c."""
    kernels, listed, taken = template()
    text = START + title(LIST) + without_includes(listed) + FOR_KERNELS + kernels
    text += MAIN.replace("@INCLUDES@", system_includes("".join(map(text_of, template_files()))).strip()) + plain_files(taken) + END
    version = re.findall(r'MBP_VERSION "(.*)"', (SOURCES / "include/microbp_base.h").read_text("utf-8"))[0]
    about = ABOUT.replace("@VERSION@", version).replace("@LICENSE@", commented((SOURCES.parent / "LICENSE").read_text("utf-8")))
    lines = about.count("\n") + contents(text, 0).count("\n") + 1
    return about.replace("@CONTENTS@", contents(text, lines)) + text


def header() -> str:
    """microbp.h with its parts in it."""
    text = (SOURCES / "include/microbp.h").read_text("utf-8")
    parts = {name: GUARD.sub(r"\2", (SOURCES / "include" / name).read_text("utf-8")) for name in PUBLIC}
    order = in_order(PUBLIC, lambda name: [other for other in INCLUDE.findall(parts[name])])
    inlined = "".join(INCLUDE.sub("", parts[name]).strip("\n") + "\n\n" for name in order)
    places = list(INCLUDE.finditer(text))
    return text[: places[0].start()] + inlined + text[places[-1].end() :].lstrip("\n")


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python src/amalgamate.py FOLDER")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "microbp.c").write_text(source(), encoding="utf-8")
    (folder / "microbp.h").write_text(header(), encoding="utf-8")
    (folder / "microbp.hpp").write_text((SOURCES / "include/microbp.hpp").read_text("utf-8"), encoding="utf-8")


if __name__ == "__main__":
    main()
