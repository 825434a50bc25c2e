"""Averages of the parameters during training: immutable settings. The average itself is in the trainer."""

from __future__ import annotations

from typing import Annotated

from ..core.checks import real, whole
from .base import Settings


class Average(Settings):
    """The base class of averages."""

    @property
    def rule(self) -> tuple[float, int, int]:
        """The arguments (decay, start, every) for the backend."""
        raise NotImplementedError


class EMA(Average):
    """An exponential moving average of the parameters: after each update, average = decay x average + (1 - decay) x parameters.

    It starts as a copy of the parameters after the first update (Polyak & Juditsky 1992; Tarvainen & Valpola 2017).
    `Trainer.averaged()` is the network with the averaged parameters, `Trainer.average_params` their flat view.

    decay: the fraction of the average that an update keeps, in [0, 1); 0.999 by default. The average covers about 1 / (1 - decay) updates.
    start, every: as those of `bp.SWA`; by default, every update is averaged.

    PyTorch: torch.optim.swa_utils.get_ema_multi_avg_fn(decay).

    >>> t = bp.Trainer(bp.mlp([2, 8, 1], seed=0), loss="mse", optimizer="adam", average=bp.EMA(decay=0.9))
    >>> history = t.fit(np.ones((20, 2)), np.ones(20), epochs=2)
    >>> t.averaged().predict(np.zeros((5, 2))).shape
    (5, 1)
    """

    decay: Annotated[float, real("[0,1)")] = 0.999
    start: Annotated[int, whole(0)] = 0
    every: Annotated[int, whole(1)] = 1

    @property
    def rule(self) -> tuple[float, int, int]:
        return self.decay, self.start, self.every


class SWA(Average):
    """Stochastic weight averaging (Izmailov et al. 2018, equation 2): the mean of the parameters after updates start, start + every,
    start + 2 * every and so on.

    An epoch of n rows in batches of b has s = ceil(n / b) updates. SWA(start=10 * s, every=s) averages the parameters at the end of each
    epoch from the 10th on. `Trainer.averaged()` is the network with the averaged parameters, `Trainer.average_params` their flat view.

    start: the first update to average, as counted by `Trainer.steps`, at least 0; 0 by default. The first averaged state is copied, also if
    `Trainer.steps` was set to a larger number before.
    every: the number of updates between two averaged states, at least 1; 1 by default.

    PyTorch: torch.optim.swa_utils.AveragedModel, where the user calls update_parameters after each epoch to average.

    >>> t = bp.Trainer(bp.mlp([2, 8, 1], seed=0), loss="mse", optimizer="adam", average=bp.SWA(start=4, every=2))
    >>> history = t.fit(np.ones((20, 2)), np.ones(20), epochs=10, batch_size=10)
    >>> t.averaged().predict(np.zeros((5, 2))).shape
    (5, 1)
    """

    start: Annotated[int, whole(0)] = 0
    every: Annotated[int, whole(1)] = 1

    @property
    def rule(self) -> tuple[float, int, int]:
        return 1.0, self.start, self.every
