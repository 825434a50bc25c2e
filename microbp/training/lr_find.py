"""The learning-rate range test (Smith 2017, "Cyclical Learning Rates for Training Neural Networks"), as fastai's lr_find does it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._doors import door
from ..core.checks import whole_number
from ..data.arrays import Array
from ..data.rows import Rows
from .loop.arrays import active, shuffled
from .loop.epoch import Pace, updates
from .loop.run import Run
from .trainer import Trainer

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_BETA = 0.98  # of the running mean of the losses
_DIVERGED = 4  # times the lowest smoothed loss
_TAIL = 5  # points at the end that suggestions leave out, for there the loss is about to diverge


@dataclass(frozen=True, repr=False, eq=False)
class RangeTest:
    """What lr_find saw: the learning rates, the loss of the batch at each, and the smoothed losses, as arrays of equal lengths.

    smoothed: fastai's running mean of the last 50 losses or so. It lags: at 100 rates it falls, and reaches its minimum, up to a decade
    of rates after the losses themselves. Suggestions, which are fastai's but for `steep`, allow for that. They look at all but the first
    num_it / 10 points and the last 5, and raise ValueError if these are too few. num_it: the number of rates that lr_find was to try.

    >>> X = np.linspace(-1, 1, 64).reshape(-1, 1)
    >>> found = bp.lr_find(bp.Trainer(bp.mlp([1, 8, 1], seed=0), loss="mse"), X, np.sin(X))
    >>> found.lrs.shape == found.losses.shape, 1e-4 < found.suggestion < 1
    (True, True)
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
        """Draws the losses over the learning rates, with the suggestions. It needs matplotlib.

        ax: the axes to draw on; None: those of a new figure. Returns the axes. `bp.plot.lr_find(result)` is the same.

        >>> X = np.linspace(-1, 1, 64).reshape(-1, 1)
        >>> t = bp.Trainer(bp.mlp([1, 8, 1], seed=0), loss="mse")
        >>> bp.lr_find(t, X, X**2).plot().get_xlabel()
        'learning rate'
        """
        axes: Axes = door("RangeTest.plot")(self, ax)
        return axes

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

    X, y, sample_weight, batch_size: as in `Trainer.fit`. start_lr, end_lr: positive and rising, else ValueError. num_it: the number of
    rates, at least 10. stop_div: end where the smoothed loss is above 4 times its lowest; it always ends where the loss is not finite.

    At the end the trainer and its network are as before, bit by bit, also after an error or Ctrl-C: to set `t.lr` is left to you.
    The range test of Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3, with fastai's defaults.

    >>> X = np.linspace(-1, 1, 64).reshape(-1, 1)
    >>> t = bp.Trainer(bp.mlp([1, 8, 1], seed=0), loss="mse")
    >>> t.lr = bp.lr_find(t, X, np.sin(X)).suggestion
    >>> 1e-4 < t.lr < 1
    True
    """
    if not isinstance(trainer, Trainer):
        raise TypeError(f"lr_find: the first argument must be a bp.Trainer, not {type(trainer).__name__}")
    if not 0 < start_lr < end_lr < math.inf:
        raise ValueError(f"lr_find: the rates must be positive and grow, not from start_lr={start_lr!r} to end_lr={end_lr!r}")
    pace = Pace(whole_number(batch_size, "batch_size"))
    lrs = start_lr * (end_lr / start_lr) ** (np.arange(whole_number(num_it, "num_it", least=10)) / num_it)
    run = trainer._run  # the one look into a trainer from outside: it offers the engine, whose updates these are
    rows = run.engine.shape.read(X, y, sample_weight)
    before = run.engine.snapshot()
    try:
        losses, smoothed = _test(run, rows, pace, lrs, stop_div)
    finally:
        run.engine.restore(before)
    return RangeTest(lrs[: len(losses)], np.array(losses), np.array(smoothed), num_it)


def _test(run: Run, rows: Rows, pace: Pace, lrs: Array, stop_div: bool) -> tuple[list[float], list[float]]:
    """The losses, and their running means as though these had not begun at 0."""
    losses: list[float] = []
    smoothed: list[float] = []
    mean = 0.0
    stream = _endless_losses(run, rows, pace)
    for lr in lrs:
        run.engine.lr = lr
        try:
            losses.append(next(stream))
        except FloatingPointError:
            break
        mean += (1 - _BETA) * (losses[-1] - mean)
        smoothed.append(mean / (1 - _BETA ** len(losses)))
        if stop_div and smoothed[-1] > _DIVERGED * min(smoothed):
            break
    return losses, smoothed


def _endless_losses(run: Run, rows: Rows, pace: Pace) -> Iterator[float]:
    """The losses of the updates that fit would make, epoch after epoch."""
    for epoch in itertools.count(run.epoch):
        for loss, _ in updates(run.engine, rows, shuffled(run.engine, active(rows), epoch), pace, None):
            yield loss
