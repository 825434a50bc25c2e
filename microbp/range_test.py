"""The learning-rate range test (Smith 2017, "Cyclical Learning Rates for Training Neural Networks"), as fastai's lr_find does it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import snapshot
from .arrays import Array
from .checks import whole_number
from .epoch import Pace, active, shuffled, updates
from .rows import Rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .trainer import Trainer

_BETA = 0.98  # of the running mean of the losses
_DIVERGED = 4  # times the lowest smoothed loss
_TAIL = 5  # points at the end that suggestions leave out, for there the loss is about to diverge


@dataclass(frozen=True, repr=False, eq=False)
class RangeTest:
    """What lr_find saw: the learning rates, the loss of the batch at each, and the smoothed losses, as arrays of equal lengths.

    smoothed: fastai's running mean of the last 50 losses or so. It lags: at 100 rates it falls, and reaches its minimum, up to a decade
    of rates after the losses themselves. Suggestions, which are fastai's but for `steep`, allow for that; they look at all but the first
    num_it / 10 points and the last 5; ValueError if these are too few.
    """

    lrs: Array
    losses: Array
    smoothed: Array
    num_it: int

    @property
    def suggestion(self) -> float:
        """`valley`, as fastai has it unless asked otherwise."""
        return self.valley

    @property
    def valley(self) -> float:
        """The rate in the middle of the longest falling subsequence of the smoothed losses."""
        lrs, losses = self._seen()
        lengths = [1] * len(losses)
        for i in range(1, len(losses)):
            lengths[i] = 1 + max((lengths[j] for j in range(i) if losses[j] > losses[i]), default=0)
        end = int(np.argmax(lengths))
        third = lengths[end] / 3  # of the points that fall, not of the run they span: so fastai has it
        return float(lrs[max(end - lengths[end] + int(third) + int(third / 2), 0)])

    @property
    def steep(self) -> float:
        """The rate where the smoothed loss falls most steeply over log(lr), between `valley` and its minimum.

        fastai looks at all rates, of which the lowest often win: there the mean is of few losses yet, and steep by chance.
        """
        lrs, losses = self._seen()
        first = int(np.searchsorted(lrs, self.valley))
        fall = slice(first, max(int(np.argmin(losses)), first + 1) + 1)
        return float(lrs[fall][np.argmin(np.diff(losses[fall]) / np.diff(np.log(lrs[fall])))])

    @property
    def minimum(self) -> float:
        """A tenth of the rate where the smoothed loss is lowest; the picture marks the lowest itself."""
        lrs, losses = self._seen()
        return float(lrs[np.argmin(losses)]) / 10

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draws the losses over the rates, with the suggestion, and returns the axes; needs matplotlib."""
        from . import plot

        return plot.lr_find(self, ax)

    def _seen(self) -> tuple[Array, Array]:
        seen = slice(self.num_it // 10, -_TAIL)
        if len(self.lrs[seen]) < 2:
            raise ValueError(
                f"lr_find: the loss diverged after {len(self.lrs)} of {self.num_it} rates, too few for a suggestion: lower start_lr"
            )
        return self.lrs[seen], self.smoothed[seen]

    def __repr__(self) -> str:
        return f"RangeTest({len(self.lrs)} of {self.num_it} rates)"


def lr_find(
    trainer: Trainer,
    X: Any,  # noqa: N803
    y: Any,
    *,
    start_lr: float = 1e-7,
    end_lr: float = 10.0,
    num_it: int = 100,
    batch_size: int = 32,
    sample_weight: Any = None,
    stop_div: bool = True,
) -> RangeTest:
    """Looks for a learning rate: trains `num_it` batches at rates that grow from start_lr towards end_lr by equal factors.

    It ends early where the loss is not finite, or (stop_div) the smoothed loss is above 4 times its lowest. Then the trainer and its
    network are as before, bit by bit, also after an error or Ctrl-C: `t.lr = bp.lr_find(t, X, y).suggestion` is left to you.
    """
    if not 0 < start_lr < end_lr < math.inf:
        raise ValueError(f"lr_find: the rates must be positive and grow, not from start_lr={start_lr!r} to end_lr={end_lr!r}")
    pace = Pace(whole_number(batch_size, "batch_size"))
    lrs = start_lr * (end_lr / start_lr) ** (np.arange(whole_number(num_it, "num_it", least=10)) / num_it)
    rows = trainer._shape.read(X, y, sample_weight)
    before = snapshot.take(trainer)
    try:
        losses, smoothed = _test(trainer, _endless_losses(trainer, rows, pace), lrs, stop_div)
    finally:
        snapshot.restore(trainer, before)
    return RangeTest(lrs[: len(losses)], np.array(losses), np.array(smoothed), num_it)


def _test(trainer: Trainer, stream: Iterator[float], lrs: Array, stop_div: bool) -> tuple[list[float], list[float]]:
    """The losses, and their running means as though these had not begun at 0."""
    losses: list[float] = []
    smoothed: list[float] = []
    mean = 0.0
    for lr in lrs:
        trainer.lr = lr
        try:
            losses.append(next(stream))
        except FloatingPointError:
            break
        mean += (1 - _BETA) * (losses[-1] - mean)
        smoothed.append(mean / (1 - _BETA ** len(losses)))
        if stop_div and smoothed[-1] > _DIVERGED * min(smoothed):
            break
    return losses, smoothed


def _endless_losses(trainer: Trainer, rows: Rows, pace: Pace) -> Iterator[float]:
    """The losses of the updates that fit would make, epoch after epoch."""
    for epoch in itertools.count(trainer.epoch):
        for loss, _ in updates(trainer, rows, shuffled(trainer, active(rows), epoch), pace, None):
            yield loss
