"""The report of `microbp train`, as JSON and as text."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.specs import OptimizerSpec
from ..core.text import counted, printable
from ..data.arrays import Array
from ..settings import optimizers
from ..tables.model import epochs_done
from ..tables.preparation import Preparation
from ..tables.scores import Scores
from .runs import TableRun

_SHOWN = 12  # the confusion matrix is shown for at most this many classes
_BINS, _BAR = 9, 40  # lines of the histogram of residuals, and characters of its longest bar


def facts(run: TableRun, scores: Scores) -> dict[str, Any]:
    """The object that --json prints."""
    trainer = run.trainer
    seconds = sum(trainer.history.get("seconds", []))
    kind = "classification" if run.data.preparation.target.classes else "regression"
    return {
        "task": run.options.data if run.options.data == "digits" else kind,
        "net": _net(run),
        "parameters": len(trainer.net.params),
        "epochs": epochs_done(trainer),
        "seconds": seconds,
        "rows_per_second": epochs_done(trainer) * run.data.training / seconds if seconds else 0.0,
        **scores.parts,
    }


def title(run: TableRun) -> str:
    """The title of the report: the data and the network, such as "digits, 64-128-10 relu"."""
    return f"{printable(run.options.data.rpartition('/')[2])}, {_net(run)} {run.options.activation.text}"


def _net(run: TableRun) -> str:
    return "-".join(map(str, [run.data.preparation.width, *(layer.units for layer in run.trainer.net.layers)]))


def text(run: TableRun, scores: Scores, written: Sequence[str]) -> str:
    """The report as text. written: the names of the written files, starting with the network's."""
    options, data, trainer, known = run.options, run.data, run.trainer, facts(run, scores)
    classes, is_digits = [printable(name) for name in data.preparation.target.classes], options.data == "digits"
    measures = list(scores.parts["train"])
    best = int(np.argmin(trainer.history["val_loss"])) + 1
    optimizer = rounded(optimizers.parse(trainer.optimizer))
    lines = [
        f"{title(run)}: {known['parameters']:,} parameters, {data.loss.text}, {optimizer}, batch {run.batch}, seed {options.seed}",
        *([] if is_digits else [_columns(data.preparation)]),
        *(f"ignored column {printable(name)}: {printable(why)}" for name, why in data.preparation.left_out.items()),
        "".join([f"{'':12}", *(f"{column:>10}" for column in ("rows", *measures))]),
        *(_line(part, rows, scores.parts[part]) for part, rows in scores.rows.items() if rows),
        *(_residuals(scores.true - scores.predicted) if scores.confusion is None else _confusion(scores.confusion, classes)),
        f"{counted(known['epochs'], 'epoch')} (best: {best}) in {known['seconds']:.2f} s, {known['rows_per_second']:,.0f} rows per second",
    ]
    if written:
        lines.append(f"wrote {' and '.join(map(printable, written))}")
    if written and written[0].endswith(".safetensors"):
        lines.append(f"to predict: microbp predict {printable(shlex.quote(written[0]))} {'digits' if is_digits else 'DATA'}")
    return "\n".join(lines)


def rounded(optimizer: OptimizerSpec) -> str:
    """An optimizer as text, with rounded numbers."""
    inside = ",".join(f"{key}={value:.3g}" for key, value in optimizer.parameters.items())
    return f"{optimizer.name}({inside})" if inside else optimizer.name


def _columns(preparation: Preparation) -> str:
    target = preparation.target
    what = f"one of {len(target.classes)} classes" if target.classes else "a number"
    columns, features = counted(len(preparation.features), "column"), counted(preparation.width, "feature")
    return f"predicts {printable(target.name)}, {what}, from {columns} ({features})"


def _line(name: str, rows: int, scores: dict[str, float | None]) -> str:
    return "".join([f"{name:12}", f"{rows:>10,}", *(_cell(key, value) for key, value in scores.items())])


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return f"{'-':>10}"
    return f"{100 * value:>8.2f} %" if key == "accuracy" else f"{value:>10.4g}"


def _confusion(counts: Array, classes: Sequence[str]) -> list[str]:
    """The confusion matrix of the test rows (rows: true classes, columns: predicted); for many classes, the most frequent mistakes."""
    if len(classes) <= _SHOWN:
        names = [name if len(name) <= 12 else f"{name[:11]}~" for name in classes]
        width = max(*map(len, names), len(str(counts.max()))) + 2
        head = f"{'true':<{max(width, 6)}}" + "".join(f"{name:>{width}}" for name in names) + "  predicted"
        return [head, *(f"{name:<{max(width, 6)}}" + "".join(f"{n:>{width}}" for n in row) for name, row in zip(names, counts))]
    wrong = counts - np.diag(np.diag(counts))
    places = np.argsort(-wrong, axis=None)[:5]
    pairs = [divmod(int(place), len(classes)) for place in places]
    mistakes = [f"{classes[i]} as {classes[j]} ({wrong[i, j]})" for i, j in pairs if wrong[i, j]]
    return [f"most frequent mistakes: {', '.join(mistakes) or 'none'}"]


def _residuals(residuals: Array) -> list[str]:
    """Quantiles and a histogram of true minus predicted."""
    if len(residuals) == 0:
        return []
    low, middle, high = np.quantile(residuals, [0.05, 0.5, 0.95])
    counts, edges = np.histogram(residuals, bins=_BINS)
    bars = ["#" * int(np.ceil(_BAR * count / counts.max())) for count in counts]
    head = f"true minus predicted: median {middle:.3g}, 90 % between {low:.3g} and {high:.3g}"
    return [head, *(f"{left:>10.3g} to {right:>9.3g} {bar} {count}" for left, right, bar, count in zip(edges, edges[1:], bars, counts))]
