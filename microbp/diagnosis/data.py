"""The checks of the data: what is in X and y, and whether the outputs of the network can reach y."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from ..core.specs import Loss
from ..core.text import counted
from ..data import faults
from ..data.arrays import Array
from ..data.sparse import SparseRows
from .patient import Patient, Sign, Unchecked

_FEWEST = 4  # rows, else nothing can be measured
_RANGES = {  # of the activation functions that do not reach all numbers
    "relu": (0, math.inf), "square": (0, math.inf), "abs": (0, math.inf), "exp": (0, math.inf), "softplus": (0, math.inf),
    "sigmoid": (0, 1), "hard_sigmoid": (0, 1), "tanh": (-1, 1), "softsign": (-1, 1), "sin": (-1, 1), "cos": (-1, 1),
}  # fmt: skip


def not_finite(p: Patient) -> Iterator[Sign]:
    """The number of rows with NaN or infinity, which the following checks do without; or of such tensors."""
    if text := faults.bad_tensor(p.net.tensors):
        wrong = [name for name, tensor in p.net.tensors.items() if not np.isfinite(tensor).all()]
        p.prevents = "the network has parameters that are not finite"
        yield Sign(len(wrong), wrong[0], text.partition(":")[0], new_start(p))
    if text := faults.not_finite(p.rows, None, p.net.dtype, p.engine.loss_weights, p.losses):
        bad = np.zeros(p.rows.count, bool)
        for _, array in p.rows.named():
            if isinstance(array, SparseRows):
                bad[array.row_of_each()[~np.isfinite(array.data.astype(p.net.dtype))]] = True
            elif array is not None and array.dtype.kind == "f":
                bad |= ~np.isfinite(array.astype(p.net.dtype)).reshape(len(bad), -1).all(axis=1)
        bad &= p.rows.is_there
        name, count = text.partition(" ")[0], len(p.rows.xs) + len(p.rows.ys)
        rows = f"{name}.reshape(len({name}), -1)"
        kept = "X, y = X[keep], y[keep]" if count == 2 else "X, y = [x[keep] for x in X], [t[keep] for t in y]"
        text = f"{text}; {counted(int(bad.sum()), 'row')} of {p.rows.count:,} cannot be used"
        yield Sign(int(bad.sum()), name, text, f"keep = np.isfinite({rows}).all(axis=1); {kept}")
        good = np.setdiff1d(p.rows.active(), np.flatnonzero(bad))
        if len(good) >= _FEWEST:
            p.rows = p.rows.take(good)
        else:
            p.prevents = "X or y is not finite"


def labels(p: Patient) -> Iterator[Sign]:
    """The number of faults: targets that the loss refuses, classes without rows, a single class."""
    if p.prevents is None and p.rows.count:
        try:
            p.engine.check_targets(p.rows)
        except ValueError as error:
            p.prevents = "y does not fit the loss"
            yield _refused(p, str(error))
            return
    for i, loss in p.named_losses():
        y, name = p.rows.ys[i][p.rows.active()], p.target(i)
        classes, width = classes_of(p, i, y), p.net.outputs[i].width
        look = f"print(np.unique({name}, return_counts=True))"
        if classes is None:
            if y.size > 1 and (y == y.reshape(-1)[0]).all():
                yield Sign(1, name, f"all targets are {y.reshape(-1)[0]:g}, so that there is nothing to learn", look)
            continue
        counts = np.bincount(classes, minlength=width)
        there = np.flatnonzero(counts)
        if len(there) == 1 and width > 1:
            yield Sign(1, name, f"all rows have the class {there[0]}, so that there is nothing to learn", look)
        elif width == 1:
            yield Sign(1, name, f'with 1 output "{loss.name}" is always 0', f"output = bp.Dense({max(2, int(classes.max()) + 1)})")
        elif not counts[0] and counts[1:].all():
            text = f"the labels are 1 to {width - 1}, but {width} outputs stand for 0 to {width - 1}; output 0 has no rows"
            yield Sign(1, name, text, f"{name} = {name} - 1")


def _refused(p: Patient, text: str) -> Sign:
    """text: the error of a step, which begins with the place, such as "y[3] is"."""
    i, loss = next(((i, loss) for i, loss in p.named_losses() if text.startswith(p.target(i))), next(p.named_losses()))
    name, classes = p.target(i), np.unique(p.rows.ys[i][p.rows.active()])
    if loss.name == "bce" and len(classes) > 2:
        if (classes % 1).any():
            return Sign(1, name, f"{text}; these are numbers, not classes", _with_loss(p, i, "mse"))
        text = f"{text}; for {len(classes)} classes, use {len(classes)} outputs and cross_entropy"
        return Sign(
            1, name, text, f'output, loss = bp.Dense({len(classes)}), "cross_entropy"; {name} = np.unique({name}, return_inverse=True)[1]'
        )
    if loss.detail == "softmax":
        fix = f"np.unique({name}, return_inverse=True)[1]"
    elif loss.name == "hinge":
        fix = f"np.where({name} == {name}.max(), 1, -1)"
    else:
        fix = f"({name} == {name}.max()).astype(float)" if loss.name == "bce" else f"np.maximum({name}, 0)"
    return Sign(1, name, text, f"{name} = {fix}")


def classes_of(p: Patient, i: int, y: Array) -> Array | None:
    """The labels of output i, flat, without those that are missing; None: it has no classes."""
    if not p.shape.labels[i]:
        return None
    is_labels = y.dtype.kind in "biu" and y.size == len(y) * p.shape.positions(i)
    found = y.reshape(-1) if is_labels else y.reshape(-1, p.net.outputs[i].width).argmax(axis=1)
    kept: Array = found[found >= 0].astype(int)
    return kept


def exclusive_classes(p: Patient) -> Iterator[Sign]:
    """The number of columns that are 1 in exactly one place of each row, with a loss that does not use that."""
    for i, loss in p.named_losses():
        y = p.rows.ys[i]
        if loss.name in ("bce", "mse") and y.ndim == 2 and y.shape[1] > 2 and np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all():
            text = f'each row of {p.target(i)} has one 1: "cross_entropy" knows that the classes exclude each other, "{loss.name}" does not'
            yield Sign(y.shape[1], p.target(i), text, _with_loss(p, i, "cross_entropy"))


def output_range(p: Patient) -> Iterator[Sign]:
    """The share of targets that the activation function of the output layer cannot reach."""
    for i, loss in p.named_losses():
        node = p.net.nodes[p.net.outputs[i].node]
        while node.operation in ("dropout", "noise"):
            node = p.net.nodes[node.operands[0]]
        name = (node.activation or "identity").partition("(")[0]
        if name in _RANGES and loss.name != "gaussian_nll":
            share, text = _unreachable(p, i, loss, name)
            yield Sign(share, node.layer or f"node {node.node}", text, f"output = bp.Dense({node.width})  # without {name}")


def _unreachable(p: Patient, i: int, loss: Loss, name: str) -> tuple[float, str]:
    low, high = _RANGES[name]
    if loss.detail != "identity":
        return 1.0, f'"{loss.name}" applies {loss.detail} to outputs of any size, but {name} gives numbers from {low} to {high}'
    y, output = np.asarray(p.rows.ys[i][p.rows.active()], np.float64), p.net.outputs[i]
    if output.mean is not None and output.std is not None:
        y = (y - np.array(output.mean)[: y.shape[-1]]) / np.array(output.std)[: y.shape[-1]]
    share = float(np.mean((y < low) | (y > high)))
    spread = f"which are from {np.nanmin(y):.3g} to {np.nanmax(y):.3g}"
    return share, f"{name} gives numbers from {low} to {high}; that leaves out {share:.0%} of the targets, {spread}"


def inputs_scale(p: Patient) -> Iterator[Sign]:
    """How many times larger than 1 the root mean square of a column is, or how many times shorter than 1 the rows are."""
    found = list(p.columns())
    if not found:
        raise Unchecked("all inputs are ids")
    for name, x, are_features, is_scaled in found:
        if is_scaled:
            continue
        mean, std = x.mean(axis=0), x.std(axis=0)
        rms = np.sqrt(mean**2 + std**2)
        length, j = float(np.sqrt((rms**2).sum())), int(rms.argmax())
        if are_features:
            fix = f"{name} = ({name} - {name}.mean(axis=0)) / np.maximum({name}.std(axis=0), 1e-9)"
        else:
            fix = f"{name} = {name} / {float(rms[j]):.3g}"
        others = int((rms > rms[j] / 10).sum()) - 1
        also = f"; so {'does' if others == 1 else 'do'} {counted(others, 'other column')}" if others else ""
        text = f"it has the mean {mean[j]:.3g} and the standard deviation {std[j]:.3g}{also}. Or start with bp.Standardize()"
        yield Sign(float(rms[j]), f"{name}[:, {j}]" if are_features else name, text, fix)
        if length > 0:
            yield Sign(1 / length, name, f"its rows are short: their root mean square length is {length:.2g}", fix)


def targets_scale(p: Patient) -> Iterator[Sign]:
    """How many times larger than 1 the root mean square of targets is, or how many times smaller than 1 their standard deviation."""
    found = [i for i, loss in p.named_losses() if loss.detail == "identity" and loss.name != "hinge" and p.net.outputs[i].mean is None]
    if not found:
        raise Unchecked("the targets are classes, or the trainer standardizes them")
    for i in found:
        y = np.asarray(p.rows.ys[i][p.rows.active()], np.float64)
        mean, std = float(np.nanmean(y)), float(np.nanstd(y))
        fix = new_trainer(p, "trainer.net", ", standardize_targets=True")
        text = f"the targets have the mean {mean:.3g} and the standard deviation {std:.3g}"
        yield Sign(max(math.hypot(mean, std), 1 / std if std > 0 else 0.0), p.target(i), text, fix)


def constant_columns(p: Patient) -> Iterator[Sign]:
    """The number of columns that are the same in all rows."""
    for name, x, are_features, _ in p.columns():
        same = np.flatnonzero((x == x[0]).all(axis=0))
        if are_features and len(same) and len(x) > 1:
            text = f"{len(same)} of {counted(x.shape[1], 'column')} tell nothing: each has one value in all rows"
            yield Sign(len(same), f"{name}[:, {_listed(same)}]", text, f"{name} = np.delete({name}, {same.tolist()}, axis=1)")


def duplicate_columns(p: Patient) -> Iterator[Sign]:
    """The number of columns that equal an earlier one."""
    for name, x, are_features, _ in p.columns():
        first: dict[bytes, int] = {}
        varied = [j for j in range(x.shape[1]) if are_features and (x[:, j] != x[0, j]).any()]
        same = [j for j in varied if first.setdefault(x[:, j].tobytes(), j) != j]
        if same:
            text = f"{counted(len(same), 'column')} of {x.shape[1]} equal another: column {same[0]} equals {first[x[:, same[0]].tobytes()]}"
            yield Sign(len(same), f"{name}[:, {_listed(same)}]", text, f"{name} = np.delete({name}, {same}, axis=1)")


def new_start(p: Patient, name: str | None = None) -> str:
    """The code that draws the weights again; for layers of this name that would be too large or small again, that of other ones."""
    layer = next((one for one in p.net.layers if one.name == name and one.init.startswith(("normal", "uniform", "zeros", "array"))), None)
    if layer is not None:
        return f'layer = bp.Dense({layer.units}, activation="{layer.activation}", init="auto")  # not {layer.init}'
    init = f"trainer.net.init(seed={p.net.seed})"
    return f"{init}; trainer.reset()" if p.trainer.steps else init


def new_trainer(p: Patient, net: str, settings: str = "") -> str:
    """The code of a trainer of this network, with the losses of the old one, and its optimizer."""
    return f"trainer = bp.Trainer({net}, trainer.losses{'' if len(p.losses) > 1 else '[0]'}, trainer.optimizer{settings})"


def _with_loss(p: Patient, i: int, loss: str) -> str:
    """The code of a trainer with another loss for output i."""
    if len(p.losses) > 1:
        return f'losses = [*trainer.losses[:{i}], "{loss}", *trainer.losses[{i + 1}:]]'
    return f'trainer.net.set_output(0, None); trainer = bp.Trainer(trainer.net, "{loss}", trainer.optimizer)'


def _listed(places: Sequence[int] | Array) -> str:
    shown = ", ".join(str(int(j)) for j in places[:4])
    return f"[{shown}{', ...' if len(places) > 4 else ''}]" if len(places) > 1 else shown
