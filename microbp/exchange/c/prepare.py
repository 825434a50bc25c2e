"""The columns of a table, in C: model_prepare makes the inputs of the network of them, model_class and model_target read its outputs."""

from __future__ import annotations

import numpy as np

from ...tables.encodings.category import Category
from ...tables.encodings.number import Number
from ...tables.encodings.scaling import CLIP
from ...tables.preparation import Preparation
from ...tables.readers.table import LARGEST
from .formulas import PARTS, parts
from .numbers import comment, constant, quoted

PARTS |= parts(f"""
/* The features of a number: scaled, one for each bin, whether it is missing. central: a missing one has the bins of the centre. */
static void @number(double v, double centre, double scale, int clip, int bins, const double *edges, int missing, int central, float *x) {{
    double moved = (v - centre) / scale;
    if (clip) {{
        moved = (v - centre) / ({CLIP!r} * scale);
        moved = moved < -1e150 ? -1e150 : moved > 1e150 ? 1e150 : moved;
        moved = {CLIP!r} * moved / @square_root(1 + moved * moved);
    }}
    const int is_missing = !(moved >= -{LARGEST!r} && moved <= {LARGEST!r});
    x[0] = is_missing ? 0 : (float)moved;
    for (int j = 0; j < bins; j++) {{
        const double share = ((is_missing ? centre : v) - edges[j]) / (edges[j + 1] - edges[j]);
        x[1 + j] = is_missing && !central ? 0 : share < 0 ? 0 : share > 1 ? 1 : (float)share;
    }}
    if (missing)
        x[1 + bins] = (float)is_missing;
}}

/* The place of a text among n levels; of another text, one of the `shared` places after them, by its CRC-32. */
static int @level(const char *text, const char *const *levels, int n, int shared) {{
    uint32_t crc = 0xFFFFFFFF;
    text = text ? text : "";
    for (int i = 0; i < n; i++) {{
        int j = 0;
        while (text[j] && text[j] == levels[i][j])
            j++;
        if (text[j] == levels[i][j])
            return i;
    }}
    if (shared < 2)
        return n;
    for (; *text; text++) {{
        crc ^= (unsigned char)*text;
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
    }}
    return n + (int)(~crc % (uint32_t)shared);
}}
""")


def functions(preparation: Preparation, linkage: str, raw: bool) -> list[str]:
    """The texts of model_prepare, and of model_class or model_target. linkage: what is before a function."""
    if preparation.sparse:
        raise ValueError("C: the table's features are sparse rows, which C has no preparation for: export model.net")
    for feature in preparation.features:
        if not isinstance(feature, Number | Category):
            raise ValueError(f"C: column {feature.name!r} is a date, which C cannot read: train without it, or export model.net")
    outputs = [_class(preparation, linkage)] if preparation.target.classes else [] if raw else [_target(preparation, linkage)]
    return [_prepare(preparation, linkage), *outputs]


def _prepare(preparation: Preparation, linkage: str) -> str:
    numbers: list[str] = []
    texts: list[str] = []
    lines: list[str] = []
    x = ids = 0
    for feature in preparation.features:
        if isinstance(feature, Number):
            lines += _number(feature, f"numbers[{len(numbers)}]", x)
            numbers.append(feature.name)
        else:
            assert isinstance(feature, Category)
            lines += _category(feature, f"texts[{len(texts)}]", x, ids)
            ids += feature.embedded > 0
            texts.append(feature.name)
        x += 0 if isinstance(feature, Category) and feature.embedded else feature.width
    about = ["/* Makes x of the columns of a row."]
    about += [f" * numbers[{i}]: {comment(name)}" for i, name in enumerate(numbers)] + [" * NaN: missing."] * bool(numbers)
    about += [f" * texts[{i}]: {comment(name)}" for i, name in enumerate(texts)]
    about += [
        ' * NULL or "": missing; not so words for that, such as NaN, which tables read as missing. Texts have no spaces before or after',
        " * them. A number as text is written in its shortest form: 1, not 1.0.",
    ] * bool(texts)
    arguments = ["const double *numbers"] * bool(numbers) + ["const char *const *texts"] * bool(texts)
    arguments += ["float *x"] * (x > 0) + ["int32_t *ids"] * (ids > 0)
    return "\n".join([*about, " */", f"{linkage}void @prepare({', '.join(arguments)}) {{", *lines, "}"])


def _number(feature: Number, value: str, x: int) -> list[str]:
    edges = [constant("edges", np.array(feature.edges))] if feature.bins else []
    settings = f"{int(feature.clip)}, {feature.bins}, {'edges' if edges else 'NULL'}, {int(feature.missing)}, {int(feature.central)}"
    call = f"@number({value}, {feature.centre!r}, {feature.scale!r}, {settings}, x + {x});"
    return [f"    {{\n{edges[0]}\n    {call}\n    }}"] if edges else [f"    {call}"]


def _category(feature: Category, text: str, x: int, ids: int) -> list[str]:
    count = len(feature.levels)
    levels = f"    static const char *const levels[] = {{{', '.join(map(quoted, feature.levels))}}};" if count else ""
    place = f"@level({text}, {'levels' if count else 'NULL'}, {count}, {feature.shared})"
    if feature.embedded:
        use = f"    ids[{ids}] = {place};"
    elif feature.signed:
        use = f"    const int level = {place};\n    x[{x}] = level < 2 ? (float)(2 * level - 1) : 0;"
    else:
        use = f"    const int level = {place};\n    for (int j = 0; j < {feature.width}; j++)\n        x[{x} + j] = j == level;"
    return ["    {", *filter(None, [levels]), use, "    }"]


def _class(preparation: Preparation, linkage: str) -> str:
    names = preparation.target.classes
    lines = [f"/* The name of class i, from 0 to {len(names) - 1}: y[i] belongs to it. */", f"{linkage}const char *@class(int i) {{"]
    lines += [f"    static const char *const classes[] = {{{', '.join(map(quoted, names))}}};", "    return classes[i];", "}"]
    return "\n".join(lines)


def _target(preparation: Preparation, linkage: str) -> str:
    target = preparation.target
    lines = [f"/* {comment(target.name)}, for the output y[0]. */", f"{linkage}float @target(float y) {{"]
    lines.append(f"    double value = (double)y * {target.scale!r} + {target.centre!r};")
    if target.log and target.low:
        lines.append(f"    const double above = value - {float(np.log(target.low))!r};")
        lines.append(f"    value = above < 0 ? {target.low!r} * (1 + above) : (double)@EXP((float)value);")
    if target.factor != 1:
        lines.append(f"    value *= {target.factor!r};")
    if target.is_cut:
        lines.append(f"    value = value < {target.low!r} ? {target.low!r} : value > {target.high!r} ? {target.high!r} : value;")
    return "\n".join([*lines, "    return (float)value;", "}"])
