"""Writes the float32 formulas as parts of exported C: python formula_text.py FILE

A part is a function, macro or constant without comments. Its name, and those of the parts that it uses, have an @ in front, for the prefix
that an exported file gives to its names. Empty lines separate parts. Then follow the rows of formulas.def, with tabs between columns.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILES = ("formulas/formulas.h", "formulas/rows.h", "formulas/random.h", "formulas/hash.c", "formulas/running.h", "formulas/optimizers.h")
# Functions of these files that are not about one number, or not in float32
LEFT_OUT = (
    r"mbp_turn|mbp_normal_pair|mbp_uniform|mbp_draw|mbp_fill|hash_of_blocks|mbp_hash$|four_bytes|eight_bytes|narrow_|row_kl|no_labels"
)
LEFT_OUT += r"|SHARP|row_gaussian|row_minus|row_smoothed|row_expectation|row_block_0|row_cross"
STEPS = r"(sgd|momentum)\w*_(step|prepare)|adam_(moments|step|prepare|hat_prepare)|(no|beta)_powers|normal_eps"  # of optimizers.h
CONDITIONS = {"MBP_DOUBLE": False, "MICROBP_SMALL": True, "MICROBP_POSITIONS": True}
# Columns of a row of formulas.def that are written, after the kind and the name
ROWS = {
    "ACTIVATION": (1, 6, 7),
    "OUTPUT_ACTIVATION": (2,),
    "ROW_OUTPUT_ACTIVATION": (2,),
    "LOSS": (1, 4, 5, 7, 8),
    "OPTIMIZER": (1, 4, 5, 6, 7),
}
CHANGES = {
    r"\(T\)__builtin_inf\(\)": "as_number(0x7f800000)",
    r'\(T\)__builtin_nan\(""\)': "as_number(0x7fc00000)",
    r"__builtin_sqrtf": "float_root",
    r"__builtin_sqrt\b": "square_root",
    r"^(FORMULA|SHARED|ONCE|HOT|static inline( __attribute__\(\(always_inline\)\))?|(?=u?int64_t ))": "INLINE ",
    r"\bT\b": "float",
    r"\bBits\b": "uint32_t",
    r"\bmbp_": "",
}
ELSEWHERE = {"INLINE", "square_root", "float_root"}  # parts of microbp/exchange/c


def lines_of(text: str) -> list[str]:
    """The lines of a C text that a float32 build compiles, without comments."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL).replace("\\\n", " ")
    kept, used = [], [True]
    for line in text.splitlines():
        word, _, rest = line.strip().lstrip("#").strip().partition(" ")
        if not line.strip().startswith("#"):
            kept += [line] if all(used) else []
        elif word in ("if", "ifdef", "ifndef"):
            name = rest.strip()
            used.append(CONDITIONS.get(name, False) if word != "ifndef" else not CONDITIONS.get(name, False))
        elif word == "else":
            used[-1] = not used[-1]
        elif word == "endif":
            used.pop()
        elif word == "define" and all(used):
            kept.append(line.strip())
    return kept


def units_of(lines: list[str]) -> list[str]:
    """The declarations, definitions and macros of a file."""
    units, unit, depth = [], "", 0
    for line in lines:
        if line.startswith("#"):
            units += [] if depth else [line]
            continue
        unit += " " + line.strip()
        depth += line.count("{") - line.count("}")
        if depth == 0 and unit.rstrip().endswith((";", "}")):
            units.append(unit.strip())
            unit = ""
    return units


def named(units: list[str]) -> dict[str, str]:
    """The parts by their names."""
    parts: dict[str, str] = {}
    for unit in (re.sub(r"\s+", " ", unit) for unit in units):
        if found := re.fullmatch(r"static const (\w+) (.*);", unit):
            for one in re.split(r", (?=\w+ =)", found[2]):
                name = one.split(" ")[0]
                parts[name] = f"#define {name} {one.partition(' = ')[2]}" if "__builtin" in one else f"static const {found[1]} {one};"
        elif found := re.fullmatch(r"enum \{ (.*) \};", unit):
            parts |= {one.split(" ")[0]: f"enum {{ {one.strip()} }};" for one in found[1].rstrip(", ").split(",") for one in [one.strip()]}
        elif unit.startswith("#define ") and (found := re.match(r"#define (\w+)\S* .", unit)):
            parts[found[1]] = unit
        elif unit.startswith("typedef struct"):
            parts[unit.rstrip(";").split(" ")[-1]] = unit
        elif not unit.startswith(("typedef", "#")) and "{" in unit and (found := re.search(r"(?<!__attribute__)\b(?!__)(\w+)\(", unit)):
            parts[found[1]] = unit
    return {name: text for name, text in parts.items() if not re.match(LEFT_OUT, name) and not re.search(LEFT_OUT, text)}


def columns_of(row: str) -> list[str]:
    """The arguments of a macro."""
    found, depth, is_text = [""], 0, False
    for i, letter in enumerate(row):
        is_text ^= letter == '"' and row[i - 1] != "\\"
        depth += 0 if is_text else (letter == "(") - (letter == ")")
        if letter == "," and not depth and not is_text:
            found.append("")
        else:
            found[-1] += letter
    return [re.sub(r"\s+", " ", column).strip().strip('"') for column in found]


def main() -> None:
    parts: dict[str, str] = {}
    for name in FILES:
        found = named(units_of(lines_of((ROOT / name).read_text("utf-8"))))
        if name.endswith("rows.h"):  # rows are short
            found = {part: re.sub(r"\bint64_t\b", "int", text) for part, text in found.items()}
        if name.endswith("optimizers.h"):
            found = {part: text for part, text in found.items() if re.fullmatch(STEPS, part)}
        parts |= {part: text for part, text in found.items() if part not in ("FORMULA", "SHARED", "ONCE", "HOT")}
    names = {re.sub("^mbp_", "", name) for name in parts} | ELSEWHERE

    def written(text: str) -> str:
        for pattern, change in CHANGES.items():
            text = re.sub(pattern, change, text)
        text = text.replace("INLINE  ", "INLINE ")
        text = re.sub(r"(?<![.\w])[A-Za-z_]\w*", lambda word: f"@{word[0]}" if word[0] in names else word[0], text)
        return re.sub(r" ?([-+*/=<>?:&|^,;{}]+) ?", lambda sign: sign[1], text) if not text.startswith("#") else text

    rows = []
    for line in re.findall(
        r"^ROW\((.*?)\)$", "\n".join(lines_of((ROOT / "formulas/formulas.def").read_text("utf-8"))), re.DOTALL | re.MULTILINE
    ):
        kind, *columns = columns_of(line)
        if kind in ROWS and (kind != "OPTIMIZER" or re.fullmatch(STEPS, columns[7])):
            rows.append("\t".join((kind, columns[0], *(written(columns[i]) for i in ROWS[kind]))))
    Path(sys.argv[1]).write_text("\n\n".join([*map(written, parts.values()), "\n".join(rows)]) + "\n", "utf-8")


if __name__ == "__main__":
    main()
