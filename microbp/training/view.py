"""The attributes of a trainer: its parts, its state, and how it prints. Its methods are in trainer.py."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..core.attributes import Closed
from ..core.checks import flag, floating, real, whole_number
from ..core.specs import Loss, OptimizerSpec
from ..core.text import counted
from ..data.arrays import Array, assign
from ..network.network import Network
from ..settings import optimizers
from ..settings.averages import Average
from . import shown
from .engine import sparse
from .engine.custom_loss import CustomLoss, Joint
from .engine.engine import Engine
from .loop.rates import read_schedule
from .loop.run import Run

if TYPE_CHECKING:
    from ..settings.schedules import Schedule

_rate = real("[0,inf)")


def _limit(name: str, doc: str) -> Any:
    """A property for one of the engine's limits."""

    def get(self: View) -> float | None:
        return self._engine.limit(name)

    def put(self: View, limit: float | None) -> None:
        self._engine.set_limit(name, limit)

    return property(get, put, doc=doc)


def _number(name: str, doc: str) -> Any:
    """A property for one of the engine's numbers; NaN: the optimizer has none."""

    def get(self: View) -> float:
        return self._engine.numbers.get(name, math.nan)

    def put(self: View, value: float) -> None:
        self._engine.set_numbers({name: floating(name, value)})

    return property(get, put, doc=doc)


class View(Closed):
    """The attributes of a Trainer. Each is stored in its engine or its run."""

    __slots__ = ("_engine", "_run")

    _INSTEAD: ClassVar = {  # for attributes that cannot be set
        "net": "create a new trainer: bp.Trainer(net, ...)",
        "losses": "create a new trainer: bp.Trainer(t.net, loss=...)",
        "loss_weights": "create a new trainer: bp.Trainer(t.net, ..., loss_weights=...)",
        "optimizer": "set t.lr, or create a new trainer: bp.Trainer(t.net, ..., optimizer=...)",
        "seed": "create a new trainer: bp.Trainer(t.net, ..., seed=...)",
        "averaging": "create a new trainer: bp.Trainer(t.net, ..., average=...)",
        "comm": "create a new trainer: bp.Trainer(t.net, ..., comm=...)",
        "shard": "create a new trainer: bp.Trainer(t.net, ..., comm=..., shard=...)",
        "sync_every": "create a new trainer: bp.Trainer(t.net, ..., comm=..., sync_every=...)",
        "average_params": "change its values: t.average_params[:] = values",
        "state": "change its values: t.state[name][:] = values",
        "input_grads": "t.backward(..., input_grads=True) computes it",
        "sparse_grads": "t.step and t.backward compute them",
        "output_losses": "t.step, t.backward and t.evaluate compute it",
        "stop_reason": "t.fit sets it",
        "evaluations": "it counts by itself; t.reset() sets it to 0",
        "history": "fit and epochs append to it, and t.reset() empties it",
    }

    _engine: Engine
    _run: Run

    clip_norm: float | None = _limit("clip_norm", "The maximum norm of the gradient of all trained layers. None: no limit.")
    clip_layer_norm: float | None = _limit(
        "clip_layer_norm", "The maximum norm of the gradient of each layer (weight and bias together). None: no limit."
    )
    clip_value: float | None = _limit("clip_value", "The maximum absolute value of a gradient element. None: no limit.")

    dropout: float = _number(
        "dropout", "A factor in [0, 1] of all dropout rates, 1 by default. `fit(schedules=...)` can change it from epoch to epoch."
    )
    weight_decay: float = _number("weight_decay", "The optimizer's weight decay. `fit(schedules=...)` can change it from epoch to epoch.")

    @property
    def penalty_per_row(self) -> bool:
        """Whether the penalties are divided by the sum of weights of the batch, and are part of the training loss."""
        return self._engine.penalty_per_row

    @penalty_per_row.setter
    def penalty_per_row(self, value: bool) -> None:
        self._engine.set_numbers({"penalty_per_row": flag("penalty_per_row", value)})

    # ---- parts ----

    @property
    def net(self) -> Network:
        """The trainer's network."""
        return self._engine.net

    @property
    def losses(self) -> tuple[Loss | CustomLoss | None, ...]:
        """The loss of each output: the same function for all if it is one for all; None for each of a trainer without losses."""
        return tuple(loss.function if isinstance(loss, Joint) else loss for loss in self._engine.losses)

    @property
    def loss_weights(self) -> tuple[float, ...]:
        """The factor for each output's loss."""
        return self._engine.loss_weights

    @property
    def optimizer(self) -> str | optimizers.Optimizer | OptimizerSpec:
        """The optimizer passed to the constructor. The current learning rate is `lr`."""
        return self._engine.optimizer

    @property
    def seed(self) -> int:
        """The seed of shuffling, dropout and noise."""
        return self._engine.seed

    @property
    def averaging(self) -> Average | None:
        """The settings of the weight average, a bp.EMA or bp.SWA. None if there is no average."""
        return self._engine.averaging

    @property
    def comm(self) -> Any:
        """The communicator of the processes that train together; None: this process is alone. Copies and files have none."""
        return self._engine.comm

    @property
    def shard(self) -> bool:
        """Whether all ranks of `comm` get the same rows, of which each uses its part."""
        return self._engine.shard

    @property
    def sync_every(self) -> int:
        """The number of steps after which the ranks of `comm` average their parameters; 1: each step is one of all ranks."""
        return self._engine.sync_every

    # ---- state ----

    @property
    def grads(self) -> Array:
        """The gradients: a flat writable view with the layout of `net.params`. ValueError: a layer is sparse; see `sparse_grads`."""
        sparse.refuse(sparse.grads_of(self._engine._core, self._engine.net))
        return self._engine.grads

    @grads.setter
    def grads(self, values: Any) -> None:  # for `t.grads /= 2`; writes into the same memory
        assign(self._engine.grads, values, "grads")

    @property
    def sparse_grads(self) -> Mapping[str, tuple[Array, Array]]:
        """The gradients of the weights of sparse layers, by the name of the layer: the numbers of the rows (inputs of the layer) that the
        last batch named, int32 in ascending order, and these rows of the gradient, (rows, units). They are copies.

        A dense layer is sparse from the first step or backward on in which it reads a sparse X (CSR), until `reset`: each step then costs
        as much as the values stored. Rows that a batch does not name catch up later on what they miss, which makes the result equal to
        that of dense rows, up to rounding, for SGD, Momentum, Adagrad, Adadelta, RMSprop and Ftrl. Adam and AdamW are lazy, as PyTorch's
        SparseAdam (Adam with eps_hat=True equals it): the moments of a row change in the steps that name it; rows catch up on AdamW's
        decay. Other optimizers, weight_decay where it is part of the gradient (but for SGD and Momentum), l1, l2, max_norm and averages
        are refused (ValueError).
        Of a sparse layer there are no dense `grads`. Files, copies and pickles contain its gradient.

        >>> import types
        >>> X = types.SimpleNamespace(data=np.array([1.0, 2.0]), indices=np.array([7, 3]), indptr=np.array([0, 1, 2]), shape=(2, 1000))
        >>> t = bp.Trainer(bp.mlp([1000, 4, 1], activation="tanh", seed=0), loss="mse")
        >>> _ = t.step(X, [0, 1])  # X: two rows with one value each; scipy.sparse.csr_array is the same
        >>> rows, values = t.sparse_grads["dense_0"]
        >>> rows, values.shape
        (array([3, 7], dtype=int32), (2, 4))
        """
        return sparse.SparseGrads(sparse.grads_of(self._engine._core, self._engine.net))

    @property
    def input_grads(self) -> Array | Any:
        """The gradient with respect to X, in the shape of X (a list for several inputs).

        It is that of the last `backward` or `backward_from` with input_grads=True; ValueError: the last one was without.
        """
        found = self._engine.input_grads
        if found is None:
            raise ValueError("input_grads: call backward(..., input_grads=True) first")
        return found[0] if len(found) == 1 else found

    @property
    def output_losses(self) -> list[float]:
        """The loss of each output in the last step, backward or evaluate, before its loss weight. The sum over the outputs of loss weight x
        loss is the loss of that call. Those of the epochs of `fit` are in `history`.

        NaN: there was no such call yet, or the loss weight is 0. Files do not contain it.

        >>> x = bp.Input(2)
        >>> t = bp.Trainer(bp.Network(x, [bp.Dense(1)(x), bp.Dense(1)(x)], seed=0), ["mse", "mae"], loss_weights=[1, 0.5])
        >>> loss = t.step(np.ones((4, 2)), [np.ones(4), np.ones(4)])
        >>> a, b = t.output_losses
        >>> abs(a + 0.5 * b - loss) < 1e-12
        True
        """
        return self._engine.output_losses

    @property
    def state(self) -> Mapping[str, Array]:
        """The optimizer's state: name -> flat writable view with the layout of `net.params`."""
        self._engine.net._core.settle()
        return self._engine.slots

    @property
    def stop_reason(self) -> str | None:
        """What has ended the latest `fit`: "epochs", "goal", "gradient", "patience", "max_time" or "callback"; with an optimizer that uses
        all rows at once, also "no step": no point in the direction of the steepest descent is better. None: there was no fit yet, or an
        error has ended it.

        >>> t = bp.Trainer(bp.mlp([1, 1], dtype="float64", seed=0), loss="mse", optimizer=bp.LBFGS())
        >>> _ = t.fit([[1.0], [2.0], [3.0]], [3.0, 5.0, 7.0], epochs=100, goal=1e-12)
        >>> t.stop_reason, t.epoch < 20
        ('goal', True)
        """
        return self._run.reason

    @property
    def evaluations(self) -> int | None:
        """How often an optimizer such as bp.LBFGS has computed the loss and its gradient since the trainer was created, loaded or reset:
        the cost of its iterations. None: the optimizer computes them once in each step.

        >>> t = bp.Trainer(bp.mlp([1, 4, 1], activation="tanh", dtype="float64", seed=0), loss="mse", optimizer=bp.LBFGS())
        >>> _ = t.fit([[1.0], [2.0], [3.0]], [0.1, 0.9, 0.2], epochs=10)
        >>> t.steps, t.evaluations < 20
        (10, True)
        """
        return int(self._engine._core.get("evaluations")) if self._engine.is_solver else None

    @property
    def lr(self) -> float:
        """The learning rate; can be set at any time to a number of at least 0. An update whose rate comes from a schedule sets it."""
        return self._engine.lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._engine.lr = _rate("lr", value)

    @property
    def steps(self) -> int:
        """The number of updates so far; can be set to a number below 2**62. After early stopping, it is that of the best epoch.

        Setting it does not change the average: this keeps the states averaged so far, and goes on with the updates that have the numbers of
        its bp.SWA.
        """
        return self._engine.steps

    @steps.setter
    def steps(self, value: int) -> None:
        self._engine.steps = whole_number(value, "steps", least=0, bits=62)

    @property
    def epoch(self) -> int:
        """The number of epochs so far; can be set to a number below 2**62. With the seed, it determines the row order of the next epoch.

        After early stopping, it is the number of the best epoch, whose state has been restored; `history` also has the epochs after it.
        """
        return self._run.epoch

    @epoch.setter
    def epoch(self, value: int) -> None:
        with self._engine.hold():
            self._run.epoch = whole_number(value, "epoch", least=0, bits=62)

    @property
    def finished(self) -> bool:
        """Whether early stopping ended the latest fit. A fit with `checkpoint` and the same early stopping then trains nothing.

        Other fits train on and set it to False, as does t.finished = False.
        """
        stopped = self._run.stopped
        return stopped is not None and stopped.is_over

    @finished.setter
    def finished(self, value: bool) -> None:
        if flag("finished", value):
            raise ValueError("finished can only be set to False, to train on; early stopping sets it to True")
        with self._engine.hold():
            self._run.stopped = None

    @property
    def schedule(self) -> Schedule | None:
        """The schedule of the latest fit that had one, in its current state, to pass to a later fit; None after a fit with a function.

        After early stopping, its state is that of the best epoch.

        Can be set.
        """
        return self._run.schedule

    @schedule.setter
    def schedule(self, schedule: str | Schedule | None) -> None:
        with self._engine.hold():
            self._run.schedule = read_schedule(schedule)

    @property
    def average_params(self) -> Array | None:
        """The averaged parameters: a flat writable view with the layout of `net.params`, zeros until the average starts. None without an
        average.
        """
        average = self._engine.average
        return None if average is None else average[: len(self.net.params)]

    def averaged(self) -> Network:
        """A copy of the network with the averaged parameters and buffers. ValueError: there is no average, or it has not started yet.

        >>> t = bp.Trainer(bp.mlp([3, 1], seed=0), loss="mse", average=bp.EMA(0.9))
        >>> _ = t.step(np.ones((4, 3)), np.ones(4))
        >>> np.array_equal(t.averaged().params, t.net.params)
        True
        """
        average = self._engine.average
        if average is None:
            raise ValueError("averaged: this trainer has no average; create it with Trainer(..., average=bp.EMA()) or average=bp.SWA()")
        if self._engine.average_count == 0:
            raise ValueError(f"averaged: the average has not started after {counted(self.steps, 'update')} ({self.averaging})")
        with self._engine.hold():
            net = self.net.copy()
            averaged = self.net._views(*np.split(average, [len(self.net.params)]))
            for name, values in net.tensors.items():
                values[...] = averaged[name]
            return net

    @property
    def history(self) -> dict[str, list[float]]:
        """Lists of equal length with a value per epoch: loss, lr, seconds, val_loss and metrics; NaN where an epoch had no such value.

        With several outputs also the loss of each, before its loss weight: loss_policy and val_loss_policy for an output whose
        `net.outputs[i].name` is "policy", loss_0 for an output without a name; not for a loss weight of 0.

        It is one dict, to which each epoch appends; `copy.deepcopy(t.history)` stays as it is. `reset` starts a new one.
        """
        return self._run.history

    # ---- printing ----

    def __repr__(self) -> str:
        return shown.as_text(self._run)

    def _repr_html_(self) -> str:
        return shown.as_html(self._run)
