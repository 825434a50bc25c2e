"""Raw columns of a table as inputs of a model, and classes or numbers as its outputs."""

from __future__ import annotations

import numpy as np

from ...tables.encodings.category import Category, shortest
from ...tables.encodings.number import Number
from ...tables.encodings.scaling import CLIP
from ...tables.preparation import Preparation
from ...tables.readers.cells import DOUBTFUL, MISSING, Reading, to_number
from ...tables.readers.table import LARGEST
from .graph import Graph
from .wire import TYPES

_ADVICE = "; write the network without the table's columns: bp.export(model.net, path)"


def write_inputs(g: Graph, preparation: Preparation) -> list[str]:
    """An input (rows, 1) for each column, numbers as float64 and texts as strings; the names of the values that the network gets.

    ValueError: a column has no form in ONNX.
    """
    if preparation.sparse:
        raise ValueError(f"to ONNX: the columns of sparse rows have no form in ONNX{_ADVICE}")
    blocks: list[str] = []
    ids: list[str] = []
    for feature in preparation.features:
        if isinstance(feature, Number):
            blocks += _number(g, feature, preparation.readings.get(feature.name, Reading()))
        elif not isinstance(feature, Category):
            raise ValueError(f"to ONNX: column {feature.name} has dates, which ONNX cannot read{_ADVICE}")
        elif feature.shared > 1:
            raise ValueError(f"to ONNX: column {feature.name} has hashed texts, for which ONNX has no operator{_ADVICE}")
        else:
            found = _category(g, feature, preparation.readings.get(feature.name, Reading("text")))
            (ids if feature.embedded else blocks).append(found)
    features = [g.named(g.free("features"), g.op("Concat", *blocks, axis=1))] if blocks else []
    return [*features, *ids]


def _number(g: Graph, feature: Number, reading: Reading) -> list[str]:
    """The features of a number, in float64: a number may be large and vary little. Numbers beyond float32 count as missing."""

    def constant(values: object) -> str:
        return g.constant(values, np.float64)

    x = g.input(feature.name, "float64", (1,))
    gaps, centre = g.op("Not", g.op("LessOrEqual", g.op("Abs", x), constant([LARGEST]))), constant([feature.centre])
    for word in dict.fromkeys(number for number in map(to_number, reading.missing) if number is not None):
        gaps = g.op("Or", gaps, g.op("Equal", x, constant([word])))
    value = g.op("Where", gaps, centre, x)
    moved = g.op("Div", g.op("Sub", value, centre), constant([feature.scale * (CLIP if feature.clip else 1)]))
    if feature.clip:
        length = g.op("Sqrt", g.op("Add", g.op("Mul", moved, moved), constant([1])))
        moved = g.op("Div", g.op("Mul", moved, constant([CLIP])), length)
    columns = [moved]
    if feature.edges:
        left = constant(feature.edges[:-1])
        known = value if feature.central else g.op("Where", gaps, constant(feature.edges[:1]), x)
        share = g.op("Div", g.op("Sub", known, left), constant(np.diff(feature.edges)))
        columns.append(g.op("Clip", share, constant(0), constant(1)))
    return [g.op("Cast", column, to=TYPES["float32"]) for column in columns + [gaps] * feature.missing]


def _category(g: Graph, feature: Category, reading: Reading) -> str:
    """The features of a text, or its id. A number as text is found in its usual forms, 1 and 1.0."""
    places = {level: i for i, level in reversed(list(enumerate(feature.levels)))}
    for level, place in list(places.items()):
        number = to_number(level)
        if number is not None:
            places |= {form: place for form in (shortest(level) or level, repr(number)) if form not in places}
    if "" in places:
        places |= {word: places[""] for word in MISSING | DOUBTFUL | {*reading.missing} if reading.is_missing(word) and word not in places}
    keys, x = tuple(places), g.input(feature.name, "str", (1,))
    if feature.signed:
        signs = tuple(2.0 * place - 1 for place in places.values())
        return g.op("LabelEncoder", x, keys_strings=keys, values_floats=signs, default_float=0.0)
    other = len(feature.levels)
    if not keys:  # all texts are others
        keys, places = ("",), {"": other}
    found = g.op("LabelEncoder", x, keys_strings=keys, values_int64s=tuple(places.values()), default_int64=other)
    return found if feature.embedded else g.op("Cast", g.op("Equal", found, g.constant([range(feature.width)])), to=TYPES["float32"])


def write_outputs(g: Graph, preparation: Preparation, value: str, has_probabilities: bool) -> None:
    """The outputs "label" (rows,) and "probabilities" (or "scores") (rows, classes); or "number" (rows, 1), in the unit of the target."""
    target = preparation.target
    names = "label", "probabilities" if has_probabilities else "scores", "number"
    label, scores, number = (g.free(name) for name in names)
    if not target.classes:
        g.output(number, "float64", (1,), _true(g, preparation, value))
        return
    best, labels = g.op("ArgMax", value, axis=1, keepdims=0), np.array(target.labels)
    kind = labels.dtype.name
    if kind in ("int64", "bool"):
        best = g.op("Gather", g.constant(labels, labels.dtype), best)
    else:
        kind, keys = "str", range(len(labels))
        best = g.op("LabelEncoder", best, keys_int64s=keys, values_strings=target.classes, default_string="")
    g.output(label, kind, (), best)
    g.place += "/1"
    g.output(scores, "float32", (len(labels),), value)


def _true(g: Graph, preparation: Preparation, value: str) -> str:
    """`Target.numbers` of outputs of the network."""

    def constant(values: object) -> str:
        return g.constant(values, np.float64)

    target = preparation.target
    y = g.op("Add", g.op("Mul", g.op("Cast", value, to=TYPES["float64"]), constant(target.scale)), constant(target.centre))
    if target.log and target.low:
        above = g.op("Sub", y, constant(np.log(target.low)))
        below = g.op("Mul", g.op("Add", above, constant(1)), constant(target.low))
        y = g.op("Where", g.op("Less", above, constant(0)), below, g.op("Exp", y))
    y = g.op("Mul", y, constant(target.factor))
    if target.is_cut:
        y = g.op("Clip", y, constant(target.low), constant(target.high))
    return y
