"""Averages of the parameters along the way: frozen settings. The average itself belongs to the trainer."""

from __future__ import annotations

from typing import Annotated

from ..core.checks import real, whole
from .base import Settings


class Average(Settings):
    """What every average's settings offer."""

    @property
    def rule(self) -> tuple[float, int, int]:
        """(decay, start, every) as the backends take them."""
        raise NotImplementedError


class EMA(Average):
    """An exponential moving average of the parameters: after each update, average = decay x average + (1 - decay) x parameters.

    It starts as a copy of the parameters after the first update (Polyak & Juditsky 1992; Tarvainen & Valpola 2017).
    `Trainer.averaged()` is the network with the averaged parameters, `Trainer.average_params` their flat view.

    decay: how much of the average an update keeps, in [0, 1); 0.999 by default. It looks back over about 1 / (1 - decay) updates.

    PyTorch: torch.optim.swa_utils.get_ema_multi_avg_fn(decay).

    >>> t = bp.Trainer(bp.mlp([2, 8, 1], seed=0), loss="mse", optimizer="adam", average=bp.EMA(decay=0.9))
    >>> history = t.fit(np.ones((20, 2)), np.ones(20), epochs=2)
    >>> t.averaged().predict(np.zeros((5, 2))).shape
    (5, 1)
    """

    decay: Annotated[float, real("[0,1)")] = 0.999

    @property
    def rule(self) -> tuple[float, int, int]:
        return self.decay, 0, 1


class SWA(Average):
    """Stochastic weight averaging (Izmailov et al. 2018, equation 2): the mean of the parameters after the updates number start,
    start + every, start + 2 every, ....

    n rows in batches of b are s = ceil(n / b) updates per epoch: SWA(start=10 * s, every=s) averages the ends of epochs from the 10th on.
    `Trainer.averaged()` is the network with the averaged parameters, `Trainer.average_params` their flat view.

    start: the first update that counts, as `Trainer.steps` counts them, at least 0; 0 by default.
    every: updates from one that counts to the next, at least 1; 1 by default.

    PyTorch: torch.optim.swa_utils.AveragedModel, which the user updates after the epochs that count.

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
