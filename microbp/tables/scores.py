"""Loss and metrics of a trained network on each part of the rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.specs import Loss
from ..data.arrays import Array
from ..settings.decisions import NO_LABEL, read
from ..settings.number_metrics import explained
from ..training.trainer import Trainer
from .preparation import Target
from .split import Data, Part

_KEPT = 10_000  # for a numeric target: after this many test rows, predictions of further pieces are not kept


@dataclass(frozen=True)
class Scores:
    """The metrics of each part. For the test part also the confusion matrix, or the true and predicted numbers."""

    parts: dict[str, dict[str, Any]]  # by part and metric: loss; accuracy; rmse, in the target's unit; r2, None for one row
    rows: dict[str, int]  # number of rows by part
    confusion: Array | None  # (classes, classes); [i, j]: number of rows of class i predicted as class j
    true: Array  # (rows,), in the target's unit; of a stream, the first pieces that have 10,000 rows together
    predicted: Array


def measure(trainer: Trainer, data: Data) -> Scores:
    """Evaluates the trainer's network on all parts."""
    target = data.preparation.target
    tallies = {part: _Tally(trainer, pieces(), data.preparation.outputs) for part, pieces in data.parts.items()}
    test = tallies["test"]
    kept = np.concatenate(test.kept) * target.scale + target.centre
    return Scores(
        parts={part: tally.scores(data.loss, target) for part, tally in tallies.items()},
        rows={part: tally.count for part, tally in tallies.items()},
        confusion=test.confusion if target.classes else None,
        true=kept[:, 0],
        predicted=kept[:, 1],
    )


class _Tally:
    """Sums over the rows of a part, and the metrics computed from the sums."""

    def __init__(self, trainer: Trainer, pieces: Iterable[Part], outputs: int) -> None:
        self.count = 0
        self.confusion = np.zeros((outputs, outputs), np.int64)
        self.kept: list[Array] = [np.empty((0, 2))]
        self._loss = 0.0
        self._residual = np.zeros(outputs)  # the sums of the squared differences from the predictions
        self._total = np.zeros(outputs)  # the same from the mean
        self._mean = np.zeros(outputs)
        for piece in pieces:
            self._add(trainer, piece)

    def _add(self, trainer: Trainer, part: Part) -> None:
        outputs, rows = trainer.predict(part.x), len(part.x)
        self._loss += trainer.evaluate(*part) * rows
        if len(self.confusion) > 1:
            case = read(part.y, outputs, loss=Loss("cross_entropy"))  # with each loss, a row has one class
            known = case.decided[:, 0] != NO_LABEL
            np.add.at(self.confusion, (case.true[known, 0], case.decided[known, 0]), 1)
        if part.y.size == outputs.size:
            self._add_numbers(part.y.reshape(outputs.shape), outputs)
        self.count += rows

    def _add_numbers(self, targets: Array, outputs: Array) -> None:
        """Updates the sums of squares as `Summary` does."""
        mean = targets.mean(axis=0)
        gap, share = mean - self._mean, len(targets) / (self.count + len(targets))
        self._residual += ((targets - outputs) ** 2).sum(axis=0)
        self._total += ((targets - mean) ** 2).sum(axis=0) + gap * gap * self.count * share
        self._mean += gap * share
        if len(mean) == 1 and sum(map(len, self.kept)) < _KEPT:
            self.kept.append(np.column_stack([targets, outputs]))

    def scores(self, loss: Loss, target: Target) -> dict[str, Any]:
        """The loss. For classes, the accuracy. With a loss for numbers, rmse (in the target's unit) and r2."""
        if self.count == 0:
            return {}
        scores: dict[str, Any] = {"loss": self._loss / self.count}
        if target.classes:
            scores["accuracy"] = float(np.trace(self.confusion) / self.count)
        if loss.name not in ("cross_entropy", "bce", "hinge"):
            scores["rmse"] = float(np.sqrt(self._residual.mean() / self.count) * target.scale)
            # one row has no variance to explain
            scores["r2"] = float(explained(self._residual, self._total).mean()) if self.count > 1 else None
        return scores
