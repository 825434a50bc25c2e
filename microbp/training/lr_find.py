"""The learning-rate range test (Smith 2017, "Cyclical Learning Rates for Training Neural Networks"), as fastai's lr_find does it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .._doors import door
from ..core.checks import flag, floating, whole_number
from ..data import faults
from ..data.arrays import Array
from ..data.rows import Rows
from .loop.arrays import shuffled
from .loop.epoch import Batching, updates
from .loop.run import Run
from .trainer import Trainer

if TYPE_CHECKING:
    from matplotlib.axes import Axes


_BETA = 0.98  # decay of the running mean of the losses
_DIVERGED = 4  # the test stops when the smoothed loss exceeds this many times its minimum
_MOST = 1_000_000  # rates: more would need much memory, and hours
_TAIL = 5  # the suggestions ignore this many last points, where the loss is about to diverge


@dataclass(frozen=True, repr=False, eq=False)
class RangeTest:
    """The result of lr_find: the learning rates, the batch loss at each, and the smoothed losses, as arrays of equal lengths.

    smoothed: fastai's running mean of about the last 50 losses, which lags behind the losses: with 100 rates, `smoothed` has its minimum at
    a rate up to 10 times higher than `losses`. The suggestions, which are fastai's except `steep`, allow for that. They ignore the first
    num_it / 10 points and the last 5, and raise ValueError if fewer than 2 points remain. num_it: the number of rates that lr_find tried,
    or would have tried if the loss had not diverged.

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
        """The same as `valley`, fastai's default."""
        return self.valley

    @property
    def valley(self) -> float:
        """The rate about halfway along the longest decreasing subsequence of the smoothed losses."""
        lrs, losses = self._seen()
        lengths = [1] * len(losses)
        for i in range(1, len(losses)):
            lengths[i] = 1 + max((lengths[j] for j in range(i) if losses[j] > losses[i]), default=0)
        end = int(np.argmax(lengths))
        third = lengths[end] / 3  # like fastai: of the subsequence's points, not of all points in its range
        return float(lrs[max(end - lengths[end] + int(third) + int(third / 2), 0)])

    @property
    def steep(self) -> float:
        """The rate between `valley` and the minimum where the smoothed loss falls most steeply over log(lr).

        fastai searches all rates. It often returns one of the lowest, where the running mean of only a few losses falls steeply by chance.
        """
        lrs, losses = self._seen()
        first = int(np.searchsorted(lrs, self.valley))
        fall = slice(first, max(int(np.argmin(losses)), first + 1) + 1)
        return float(lrs[fall][np.argmin(np.diff(losses[fall]) / np.diff(np.log(lrs[fall])))])

    @property
    def minimum(self) -> float:
        """A tenth of the rate where the smoothed loss is lowest."""
        lrs, losses = self._seen()
        return float(lrs[np.argmin(losses)]) / 10

    def plot(self, ax: Axes | None = None) -> Axes:
        """Plots the losses against the learning rates, with the suggestions. Needs matplotlib.

        ax: the axes to draw on; if None, those of a new figure. Returns the axes. `bp.plot.lr_find(result)` does the same.

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
                f"lr_find: the loss diverged after {len(self.lrs)} of {self.num_it} rates, too few for a suggestion; use a lower start_lr"
            )
        return self.lrs[seen], self.smoothed[seen]

    def __repr__(self) -> str:
        try:
            found = f"suggestion {self.suggestion:.2g}"
        except ValueError:
            found = "no suggestion: the loss diverged"
        return f"RangeTest({found}, {len(self.lrs)} of {self.num_it} rates)"


def lr_find(
    trainer: Trainer,
    X: Any,  # noqa: N803
    y: Any = None,
    *,
    start_lr: float = 1e-7,
    end_lr: float = 10.0,
    num_it: int = 100,
    batch_size: int = 32,
    sample_weight: Any = None,
    stop_div: bool = True,
) -> RangeTest:
    """Searches for a learning rate: trains on `num_it` batches at rates that grow by equal factors from start_lr to end_lr.

    X, y, sample_weight, batch_size: as in `Trainer.fit`. start_lr, end_lr: 0 < start_lr < end_lr, else ValueError; the last rate is end_lr
    divided by the factor. num_it: the number of rates, 10 to 1,000,000. stop_div: stop when the smoothed loss exceeds 4 times its minimum.
    The test always stops when the loss is not finite; FloatingPointError if that is because X or y contains NaN or infinity. ValueError
    for an optimizer without a learning rate, such as bp.LBFGS().

    Afterwards the trainer and its network are as before, bit for bit, even after an error or Ctrl-C. `t.lr` does not change either.
    This is the range test of Smith 2017, "Cyclical Learning Rates for Training Neural Networks", section 3.3, with fastai's defaults.

    >>> X = np.linspace(-1, 1, 64).reshape(-1, 1)
    >>> t = bp.Trainer(bp.mlp([1, 8, 1], seed=0), loss="mse")
    >>> t.lr = bp.lr_find(t, X, np.sin(X)).suggestion
    >>> 1e-4 < t.lr < 1
    True
    """
    if not isinstance(trainer, Trainer):
        raise TypeError(f"lr_find: the first argument must be a bp.Trainer, not {type(trainer).__name__}")
    start, end = floating("lr_find: start_lr", start_lr), floating("lr_find: end_lr", end_lr)
    if not (0 < start < end < math.inf and end / start < math.inf):
        raise ValueError(f"lr_find: the rates must satisfy 0 < start_lr < end_lr, not start_lr={start} and end_lr={end}")
    batching = Batching(whole_number(batch_size, "batch_size"))
    count = whole_number(num_it, "num_it", least=10)
    if count > _MOST:
        raise ValueError(f"num_it must be at most {_MOST}, not {count}")
    lrs = start * (end / start) ** (np.arange(count) / count)
    run = trainer._run
    if run.engine.is_solver:
        raise ValueError(f"lr_find does not work with {run.engine.optimizer}, which has no learning rate; use another, such as bp.Adam()")
    return range_test(run, run.engine.read(X, y, sample_weight), batching, lrs, flag("lr_find: stop_div", stop_div))


def range_test(run: Run, rows: Rows, batching: Batching, lrs: Array, stop_div: bool = True) -> RangeTest:
    """The test with rates that grow, on rows that have been read."""
    with run.engine.training(), run.engine.alone():
        before = run.engine.snapshot()
        try:
            losses, smoothed = _test(run, rows, batching, lrs, stop_div)
        finally:
            run.engine.restore(before)
    return RangeTest(lrs[: len(losses)], np.array(losses), np.array(smoothed), len(lrs))


def _test(run: Run, rows: Rows, batching: Batching, lrs: Array, stop_div: bool) -> tuple[list[float], list[float]]:
    """Does one update at each rate; returns the losses and their bias-corrected running means."""
    losses: list[float] = []
    smoothed: list[float] = []
    mean = 0.0
    stream = _endless_losses(run, rows, batching)
    for lr in lrs:
        run.engine.lr = lr
        try:
            losses.append(next(stream))
        except FloatingPointError as error:
            if cause := faults.not_finite(rows, rows.active(), run.engine.net.dtype, run.engine.loss_weights, run.engine.losses):
                raise FloatingPointError(f"lr_find: {cause}: the loss is not finite at any rate") from error
            break
        mean += (1 - _BETA) * (losses[-1] - mean)
        smoothed.append(mean / (1 - _BETA ** len(losses)))
        if stop_div and smoothed[-1] > _DIVERGED * min(smoothed):
            break
    return losses, smoothed


def _endless_losses(run: Run, rows: Rows, batching: Batching) -> Iterator[float]:
    """Trains like fit, epoch after epoch, and yields the loss of each update."""
    for epoch in itertools.count(run.epoch):
        for losses, _ in updates(run.engine, rows, shuffled(run.engine, rows.active(), epoch), batching, None):
            yield losses[0]
