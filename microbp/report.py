"""The report of a training: measures of each part of the rows, as an object and as text."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .arrays import Array
from .preparation import Preparation
from .trainer import Trainer

if TYPE_CHECKING:
    from .dataset import Data, Part

_SHOWN = 12  # classes whose confusion is shown as a table
_KEPT = 10_000  # rows of a test on numbers whose residuals are looked at
_BINS, _BAR = 9, 40  # lines and letters of the residuals' picture


@dataclass(frozen=True)
class Told:
    """What is known after a training: the scores as JSON has them, and of the test rows the confusion, or true and predicted numbers."""

    title: str
    scores: dict[str, Any]
    rows: dict[str, int]
    preparation: Preparation
    confusion: Array | None  # (classes, classes): rows of the first axis' class that were predicted as the second axis'
    true: Array
    predicted: Array


def measure(arguments: argparse.Namespace, trainer: Trainer, data: Data) -> Told:
    """Measures the trained network on all parts."""
    target, history = data.preparation.target, trainer.history
    widths = [data.preparation.width, *(layer.units for layer in trainer.net.layers)]
    seconds = sum(history.get("seconds", []))
    kind = "classification" if target.classes else "regression"
    scores: dict[str, Any] = {
        "task": arguments.data if arguments.data == "digits" else kind,
        "net": "-".join(map(str, widths)),
        "parameters": len(trainer.net.params),
        "epochs": trainer.epoch,
        "seconds": seconds,
        "rows_per_second": trainer.epoch * data.training / seconds if seconds else 0.0,
    }
    rows: dict[str, int] = {}
    for part, pieces in data.parts.items():
        tally = _Tally(len(target.classes) or 1)
        for piece in pieces():
            tally.add(trainer, piece)
        scores[part], rows[part] = tally.scores(data, target.scale), tally.count
    title = f"{arguments.data.rpartition('/')[2]}, {scores['net']} {arguments.activation.text}"
    kept = np.concatenate(tally.kept) * target.scale + target.centre
    return Told(title, scores, rows, data.preparation, tally.confusion if target.classes else None, kept[:, 0], kept[:, 1])


class _Tally:
    """Sums over rows, from which the measures come."""

    def __init__(self, outputs: int) -> None:
        self.count = 0
        self.loss = 0.0
        self.confusion = np.zeros((outputs, outputs), np.int64)
        self.kept: list[Array] = [np.empty((0, 2))]
        self._residual = np.zeros(outputs)
        self._sum = np.zeros(outputs)
        self._squares = np.zeros(outputs)

    def add(self, trainer: Trainer, part: Part) -> None:
        """Takes note of some rows."""
        outputs = trainer.predict(part.x)
        self.loss += trainer.evaluate(*part) * len(part.x)
        self.count += len(part.x)
        if len(self._sum) > 1:
            labels = part.y if part.y.ndim == 1 else part.y.argmax(axis=1)
            np.add.at(self.confusion, (labels, outputs.argmax(axis=1)), 1)
        if part.y.ndim == 1 and len(self._sum) > 1:
            return
        targets = part.y.reshape(len(part.y), -1)
        self._residual += ((targets - outputs) ** 2).sum(axis=0)
        self._sum += targets.sum(axis=0)
        self._squares += (targets**2).sum(axis=0)
        if len(self._sum) == 1 and sum(map(len, self.kept)) < _KEPT:
            self.kept.append(np.column_stack([targets, outputs]))

    def scores(self, data: Data, scale: float) -> dict[str, float | None]:
        """Loss and accuracy; under a loss of numbers the root mean squared error, in the target's unit, and r2."""
        if self.count == 0:
            return {}
        scores: dict[str, float | None] = {"loss": self.loss / self.count}
        if len(self._sum) > 1:
            scores["accuracy"] = float(np.trace(self.confusion) / self.count)
        if data.loss.name not in ("cross_entropy", "bce", "hinge"):
            total = self._squares - self._sum**2 / self.count
            explained = np.where(total > 0, 1 - self._residual / np.where(total > 0, total, 1), self._residual == 0)
            scores["rmse"] = float(np.sqrt(self._residual.mean() / self.count) * scale)
            scores["r2"] = float(explained.mean()) if self.count > 1 else None  # one row has no variance to explain
        return scores


# ---- as text ----


def text(arguments: argparse.Namespace, told: Told, trainer: Trainer, data: Data, written: Sequence[str]) -> str:
    """The report for people."""
    scores, target = told.scores, data.preparation.target
    measures = list(scores["train"])
    best = int(np.argmin(trainer.history["val_loss"])) + 1
    lines = [
        f"{told.title}: {scores['parameters']:,} parameters, {data.loss.text}, {_short(trainer.optimizer)}, batch {arguments.batch}, "
        f"seed {arguments.seed}",
        *([] if arguments.data == "digits" else [_columns(target.name, data.preparation)]),
        *(f"left out {name}: {why}" for name, why in data.preparation.left_out.items()),
        "".join([f"{'':12}", *(f"{column:>10}" for column in ("rows", *measures))]),
        *(_line(part, rows, scores[part]) for part, rows in told.rows.items() if rows),
        *(_residuals(told.true - told.predicted) if told.confusion is None else _confusion(told.confusion, target.classes)),
        f"{scores['epochs']} epochs (the best was {best}) in {scores['seconds']:.2f} s, {scores['rows_per_second']:,.0f} rows per second",
    ]
    if written:
        lines.append(f"wrote {' and '.join(written)}")
    if written and written[0].endswith(".safetensors"):
        lines.append(f"predict by: microbp predict {written[0]} {'digits' if arguments.data == 'digits' else 'DATA'}")
    return "\n".join(lines)


def _short(optimizer: Any) -> str:
    """An optimizer's token with numbers as people read them."""
    inside = ",".join(f"{key}={value:.3g}" for key, value in optimizer.parameters.items())
    return f"{optimizer.name}({inside})" if inside else optimizer.name


def _columns(target: str, preparation: Preparation) -> str:
    classes = preparation.target.classes
    what = f"one of {len(classes)} classes" if classes else "a number"
    return f"predicts {target}, {what}, from {len(preparation.features)} columns, which make {preparation.width} features"


def _line(name: str, rows: int, scores: dict[str, float | None]) -> str:
    return "".join([f"{name:12}", f"{rows:>10,}", *(_cell(key, value) for key, value in scores.items())])


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return f"{'-':>10}"
    return f"{100 * value:>8.2f} %" if key == "accuracy" else f"{value:>10.4g}"


def _confusion(counts: Array, classes: Sequence[str]) -> list[str]:
    """What the test rows are, down, and what was predicted, across; of many classes the most frequent mistakes."""
    if len(classes) <= _SHOWN:
        names = [name if len(name) <= 12 else f"{name[:11]}~" for name in classes]
        width = max(*map(len, names), len(str(counts.max()))) + 2
        head = f"{'true':<{max(width, 6)}}" + "".join(f"{name:>{width}}" for name in names) + "  predicted"
        return [head, *(f"{name:<{max(width, 6)}}" + "".join(f"{n:>{width}}" for n in row) for name, row in zip(names, counts))]
    wrong = counts - np.diag(np.diag(counts))
    places = np.argsort(-wrong, axis=None)[:5]
    pairs = [divmod(int(place), len(classes)) for place in places]
    said = [f"{classes[i]} as {classes[j]} ({wrong[i, j]})" for i, j in pairs if wrong[i, j]]
    return [f"most frequent mistakes: {', '.join(said) or 'none'}"]


def _residuals(residuals: Array) -> list[str]:
    """Quantiles of true minus predicted, and how many rows lie where."""
    if len(residuals) == 0:
        return []
    low, middle, high = np.quantile(residuals, [0.05, 0.5, 0.95])
    counts, edges = np.histogram(residuals, bins=_BINS)
    bars = ["#" * int(np.ceil(_BAR * count / counts.max())) for count in counts]
    head = f"true minus predicted: median {middle:.3g}, 90 % between {low:.3g} and {high:.3g}"
    return [head, *(f"{left:>10.3g} to {right:>9.3g} {bar} {count}" for left, right, bar, count in zip(edges, edges[1:], bars, counts))]
