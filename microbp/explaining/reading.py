"""Reads a row and its target, and finds out what is differentiated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.checks import whole_number
from ..core.specs import Loss
from ..core.text import brief, counted
from ..data.arrays import Array
from ..data.by_output import listed
from ..data.ids import as_inputs
from ..network.network import Network
from ..reference.arrays import read_batch
from ..reference.autodiff import Matrix, dot, gradients, reshaped
from ..reference.formulas import weighted_losses
from ..reference.spec import Spec
from ..training.engine import losses as loss_reader
from ..training.engine.engine import Engine
from .text import short
from .units import Row, Start, index, shape_of_node


def one_row(net: Network, x: Any) -> list[Array]:
    """The inputs, each (1, numbers)."""
    count = len(net.inputs)
    given = x if count > 1 else [x]
    if not (isinstance(given, list | tuple) and len(given) == count):
        raise ValueError(f"explain: x must be a list of {count} rows, one per input, not {brief(x)}")
    rows = []
    for i, (entry, one) in enumerate(zip(net.inputs, given, strict=True)):
        what, numbers = "x" if count == 1 else f"x[{i}]", math.prod(entry.row_shape)
        try:
            array = np.asarray(one.toarray() if hasattr(one, "toarray") else one)
        except ValueError:
            raise ValueError(f"explain: {what} cannot be read as a row: its parts differ in shape: {brief(one)}") from None
        if array.dtype.kind not in ("iu" if entry.levels else "biuf"):
            raise TypeError(f"explain: {what} must have {'ids, which are whole numbers' if entry.levels else 'numbers'}, not {brief(one)}")
        if array.ndim > 1 and len(array) > 1 and array.size == len(array) * numbers:
            raise ValueError(f"explain: {what} has {len(array)} rows, but one row is explained at a time: pass {what}[0]")
        if array.size != numbers:
            raise ValueError(f"explain: {what} has {counted(array.size, 'number')}, but a row of this net has {numbers}")
        shapes = [(), (numbers,), entry.row_shape, entry.row_shape[:-1] if entry.row_shape[-1] == 1 else entry.row_shape]
        if array.shape not in [*shapes, *((1, *shape) for shape in shapes)]:
            raise ValueError(f"explain: {what} has the shape {array.shape}, but a row of this net has {entry.row_shape}")
        with np.errstate(over="ignore"):  # a number too large for float32 is infinity there
            row = np.ascontiguousarray(array.reshape(1, -1), None if entry.levels else net.dtype)
        if not np.isfinite(row).all():
            place = int(np.argmin(np.isfinite(row)))
            raise ValueError(f"explain: {what} has {array.flat[place]:g} at place {place}: put a number there that {net.dtype} can hold")
        rows.append(row)
    return as_inputs(rows if count > 1 else rows[0], net._ids, "x")


def outputs(row: Row, output: Any) -> tuple[Start, str]:
    """Where the backward pass starts without a loss, and what is differentiated."""
    places = [(end, i) for end in row.ends for i in range(len(row.values[end].data))]
    if output is None and len(places) > 1:
        what = f"the sum of the {len(places)} outputs, as with dL/dy = 1 for each"
        return [(end, [1.0] * len(row.values[end].data)) for end in row.ends], what
    number = 0 if output is None else whole_number(output, "explain: output", least=0)
    if number >= len(places):
        raise ValueError(f"explain: output is {number}, but the net has {counted(len(places), 'output column')}, numbered from 0")
    end, column = places[number]
    start = [(end, [float(i == column) for i in range(len(row.values[end].data))])]
    return start, f"{row.names[end][0]}{index(shape_of_node(row.nodes[end]), column)}, as with dL/dy = 1"


def loss_of(net: Network, row: Row, xs: list[Array], y: Any, loss: Any, weights: Sequence[float]) -> tuple[Start, float, str, str]:
    """The outputs with the derivatives of the loss by them, its value, its name, and the name with the targets."""
    core: Any = net._core
    try:
        losses = loss_reader.parse(loss, net)
    except (TypeError, ValueError) as error:
        raise type(error)(str(error).replace("Trainer:", "explain:", 1)) from None
    named = [one for one in losses if isinstance(one, Loss)]
    if len(named) < len(losses):
        raise ValueError(
            "explain: a loss of your own has no formula that could be explained: choose one with a name, or leave y and loss out"
        )
    engine = Engine(net, tuple(named), "sgd", tuple(weights), 0)
    rows = engine.read(xs if len(xs) > 1 else xs[0], _one_target(net, y), None)
    engine.evaluate(rows)  # refuses targets that the loss does not accept
    specs = [Spec.parse("loss", one.text) for one in named]
    ends = [(output, core.graph.nodes[output.node]) for output in core.graph.outputs]
    batch = read_batch(row.inputs, rows.y, rows.weight, None, specs, weights, ends, [None] * len(ends), core.format)
    start, value = [], 0.0
    for i, (spec, end, target) in enumerate(zip(specs, row.ends, batch.targets, strict=True)):
        output = row.values[end]
        if not (weights[i] and batch.totals[i]):  # no target counts
            start.append((end, [0.0] * len(output.data)))
            continue
        leaf = Matrix(output.rows, output.cols, output.data, wanted=True)
        each_weight, each = batch.of_positions(i)
        of_rows, kept = weighted_losses(
            spec.entry, leaf, reshaped(target, output.rows, len(target.data) // output.rows), each_weight, **spec.values
        )
        shares = [weights[i] * weight / (batch.totals[i] * each) for weight in kept]
        value += dot(shares, of_rows.data)
        start.append((end, gradients([(of_rows, shares)], [leaf])[0]))
    if math.isnan(value):
        raise ValueError("explain: the loss is NaN: look for NaN in y and in net.tensors")
    name = " + ".join(f"{short(weight)} * {one.text}" if weight != 1 else one.text for one, weight in zip(named, weights, strict=True))
    targets = [short(target) for matrix in batch.targets for target in matrix.data]
    return start, value, name, f"{name} with target{'s' * (len(targets) > 1)} {', '.join(targets)}"


def _one_target(net: Network, y: Any) -> Any:
    """The target, or those of several outputs, as one row."""
    names = [entry.name for entry in net.outputs]
    ys = listed(y, names, "explain: y") if isinstance(y, dict) else y if len(names) > 1 else [y]
    if not (isinstance(ys, list | tuple) and len(ys) == len(names)):
        raise ValueError(f"explain: y must be a list of {len(names)} targets, one per output, not {brief(y)}")
    rows = [one if one is None else np.asarray(one) for one in ys]
    for i, (row, entry) in enumerate(zip(rows, net.outputs, strict=True)):
        if row is not None and (row.ndim < 2 + len(entry.grid) or len(row) == 1):  # others have several rows, which the engine refuses
            rows[i] = row.reshape(1, -1) if row.size > 1 else row.reshape(-1)
    return rows if len(rows) > 1 else rows[0]


def notes(net: Network, of_outputs: bool) -> list[str]:
    """What to know about the numbers."""
    kinds = {node.operation for node in net.nodes}
    activations = {str(output.activation) for output in net.outputs} - {"None", "identity"}
    return [
        *["Dropout and noise are the identity here, as in predict."] * bool(kinds & {"dropout", "noise"}),
        *["batch_norm uses its running statistics, as in predict."] * ("batch_norm" in kinds),
        *["Penalties (l1, l2) are not part of it."] * any(layer.l1 or layer.l2 for layer in net.layers),
        *[f"Outputs are raw: before {' and '.join(sorted(activations))}."] * bool(of_outputs and activations),
    ]
