"""What can be asked of a trainer, and set: its parts, its state, and how it prints. What it does is in trainer.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.attributes import Closed
from ..core.checks import real, whole_number
from ..core.specs import Loss, OptimizerSpec
from ..data.arrays import Array, as_array
from ..network.network import Network
from ..settings import optimizers
from ..settings.averages import Average
from . import shown
from .engine.engine import Engine
from .engine.own_loss import OwnLoss
from .loop.rates import read_schedule
from .loop.run import Run

if TYPE_CHECKING:
    from ..settings.schedules import Schedule

_rate = real("[0,inf)")


def _limit(name: str, doc: str) -> Any:
    """The property of a limit that the engine keeps."""

    def get(self: View) -> float | None:
        return self._engine.limit(name)

    def put(self: View, limit: float | None) -> None:
        self._engine.set_limit(name, limit)

    return property(get, put, doc=doc)


class View(Closed):
    """The attributes of a Trainer, each read from its engine and its run, where it is kept."""

    __slots__ = ("_engine", "_run")

    _engine: Engine
    _run: Run

    clip_norm: float | None = _limit("clip_norm", "The largest norm of all gradients together that the optimizer sees; None: no limit.")
    clip_layer_norm: float | None = _limit("clip_layer_norm", "The same of each layer's gradients, weight and bias together.")
    clip_value: float | None = _limit("clip_value", "The largest absolute value of an element of the gradients; None: no limit.")

    # ---- what it is made of ----

    @property
    def net(self) -> Network:
        """The network that it trains."""
        return self._engine.net

    @property
    def losses(self) -> tuple[Loss | OwnLoss, ...]:
        """The loss of each output."""
        return self._engine.losses

    @property
    def loss_weights(self) -> tuple[float, ...]:
        """The factor of each output's loss."""
        return self._engine.loss_weights

    @property
    def optimizer(self) -> str | optimizers.Optimizer | OptimizerSpec:
        """The optimizer as it was given; `lr` is the rate now."""
        return self._engine.optimizer

    @property
    def seed(self) -> int:
        """The seed of shuffling, dropout and noise."""
        return self._engine.seed

    @property
    def averaging(self) -> Average | None:
        """The rule of the average, bp.EMA() or bp.SWA(); None without one."""
        return self._engine.averaging

    # ---- state ----

    @property
    def grads(self) -> Array:
        """The gradients, one flat writable view laid out as `net.params`."""
        return self._engine.grads

    @grads.setter
    def grads(self, values: Any) -> None:  # so that `t.grads /= 2` works; the memory stays the same
        self._engine.grads[...] = as_array(values, "grads")

    @property
    def input_grads(self) -> Array | Any:
        """The gradient by the input, shaped as X (a list of them for several inputs), of the last backward(..., input_grads=True)."""
        found = self._engine.input_grads
        if found is None:
            raise ValueError("input_grads: call backward(..., input_grads=True) first")
        return found[0] if len(found) == 1 else found

    @property
    def state(self) -> Mapping[str, Array]:
        """The optimizer's state: name -> flat writable view laid out as `net.params`."""
        return self._engine.slots

    @property
    def lr(self) -> float:
        """The learning rate; may be set at any time, to a number of at least 0."""
        return self._engine.lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._engine.lr = _rate("lr", value)

    @property
    def steps(self) -> int:
        """The updates so far; may be set."""
        return self._engine.steps

    @steps.setter
    def steps(self, value: int) -> None:
        self._engine.steps = whole_number(value, "steps", least=0)

    @property
    def epoch(self) -> int:
        """The epochs so far; may be set. The order of the rows in the next one follows from it and the seed."""
        return self._run.epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        self._run.epoch = whole_number(value, "epoch", least=0)

    @property
    def schedule(self) -> Schedule | None:
        """The schedule of the latest fit, as far as it came, for a later fit to go on with; None after a function. May be set."""
        return self._run.schedule

    @schedule.setter
    def schedule(self, schedule: str | Schedule | None) -> None:
        self._run.schedule = read_schedule(schedule)

    @property
    def average_params(self) -> Array | None:
        """The average of the parameters, one flat writable view laid out as `net.params`, all 0 before it begins; None without one."""
        average = self._engine.average
        return None if average is None else average[: len(self.net.params)]

    def averaged(self) -> Network:
        """A copy of the network with the averaged parameters and buffers. ValueError if there is no average, or none yet.

        >>> t = bp.Trainer(bp.mlp([3, 1], seed=0), loss="mse", average=bp.EMA(0.9))
        >>> _ = t.step(np.ones((4, 3)), np.ones(4))
        >>> np.array_equal(t.averaged().params, t.net.params)
        True
        """
        average = self._engine.average
        if average is None:
            raise ValueError("averaged: this trainer keeps no average; make it with Trainer(..., average=bp.EMA()) or bp.SWA()")
        if self._engine.average_count == 0:
            raise ValueError(f"averaged: the average begins later than after the {self.steps} updates so far ({self.averaging})")
        net = self.net.copy()
        net.params[...], net.buffers[...] = np.split(average, [len(net.params)])
        return net

    @property
    def history(self) -> dict[str, list[float]]:
        """Equally long lists, one entry per epoch: loss, lr, seconds, val_loss and metrics; NaN where an epoch had none."""
        return self._run.history

    # ---- in words ----

    def __repr__(self) -> str:
        return shown.as_text(self._run)

    def _repr_html_(self) -> str:
        return shown.as_html(self._run)
