"""Trainer: losses, an optimizer and their state for one network."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from . import backend as backends
from . import description, epoch, fitting, gradcheck, optimizers, streaming, trainer_file
from .arrays import Array
from .averages import Average
from .checks import whole_number
from .class_weight import ClassWeight
from .fitting import Callback
from .history import Record
from .metrics import Metric
from .network import Network, seed_or_new
from .own_loss import OwnLoss, OwnLosses
from .rows import Rows, Shape
from .specs import Loss, OptimizerSpec
from .stopping import Stopping

if TYPE_CHECKING:
    from .schedules import Schedule

_ndarray = np.ndarray
_LIMITS = ("clip_norm", "clip_layer_norm", "clip_value")


def _check_limit(name: str, limit: float | None) -> float:
    value = math.inf if limit is None else float(limit)
    if not value > 0:
        raise ValueError(f"{name} must be above 0, or None for no limit, not {limit!r}")
    return value


def _limit(name: str, doc: str) -> property:
    """A limit that the backend keeps, infinite where there is none."""

    def get(self: Trainer) -> float | None:
        limit = self._core.get(name)
        return limit if limit < math.inf else None

    def put(self: Trainer, limit: float | None) -> None:
        self._core.set(name, _check_limit(name, limit))

    return property(get, put, doc=doc)


class Trainer:
    """Trains `net` by `loss` with `optimizer`.

    loss: a name, a Loss, a function f(outputs, targets, weight) -> (loss, gradient by outputs), or a list of these, one per output.
    A named loss implies the activation of its output: softmax, sigmoid, exp or identity. The trainer sets it in `net` where none is
    chosen yet, and is refused where net.set_output, or another trainer, chose another one.
    optimizer: settings such as Adam(lr=1e-3), or a name, which means the defaults. loss_weights: one factor per output. seed: of
    shuffling, dropout and noise; None: the net's.
    clip_layer_norm, clip_norm, clip_value: limits of the gradients that the optimizer sees, in this order: the Euclidean norm of each
    layer's, weight and bias together; the norm of all that trains (Pascanu et al. 2013); each element. `grads` stays as it is.
    average: an average of the weights to keep along the way, EMA(decay) or SWA(start, every); see `averaged`.
    """

    clip_norm = _limit("clip_norm", "The largest norm of all gradients together that the optimizer sees; None: no limit.")
    clip_layer_norm = _limit("clip_layer_norm", "The largest norm of a layer's gradients, weight and bias together; None: no limit.")
    clip_value = _limit("clip_value", "The largest absolute value of an element of the gradients; None: no limit.")

    def __init__(
        self,
        net: Network,
        loss: str | Loss | OwnLoss | Sequence[str | Loss | OwnLoss],
        optimizer: str | optimizers.Optimizer | OptimizerSpec = "adam",
        loss_weights: Sequence[float] | None = None,
        seed: int | None = None,
        *,
        clip_norm: float | None = None,
        clip_layer_norm: float | None = None,
        clip_value: float | None = None,
        average: Average | None = None,
    ) -> None:
        if not isinstance(net, Network):
            raise TypeError(f"Trainer: net must be a bp.Network, not {type(net).__name__}")
        self.net = net
        self.seed = net.seed if seed is None else seed_or_new(seed)
        self.losses = _parse_losses(loss, net)
        self.loss_weights = _parse_loss_weights(loss_weights, len(self.losses))
        self.optimizer = optimizer
        if average is not None and not isinstance(average, Average):
            raise TypeError(f"Trainer: average must be bp.EMA(), bp.SWA() or None, not {average!r}")
        self.averaging = average
        limits = dict(zip(_LIMITS, (clip_norm, clip_layer_norm, clip_value), strict=True))
        for name, limit in limits.items():
            _check_limit(name, limit)
        self.epoch = 0
        self.schedule: Schedule | None = None  # the latest fit's, as far as it came
        self._records: list[Record] = []
        self._best: dict[str, Any] | None = None  # of early stopping, while fit runs
        self._input_grads: list[Array] | None = None
        self._connect()
        self._set_limits(limits)

    def _connect(self) -> None:
        """Makes the backend's trainer, and the views of its vectors."""
        net, losses = self.net, self.losses
        named = [loss if isinstance(loss, Loss) else None for loss in losses]
        texts = [loss.text if loss else None for loss in named]
        optimizer = optimizers.parse(self.optimizer).text
        self._core = backends.load(net.backend).Trainer(net._core, texts, list(self.loss_weights), optimizer, self.seed)
        self._step = self._core.step
        self._own = None
        functions = [loss for loss in losses if not isinstance(loss, Loss)]
        if functions:
            self._own = OwnLosses(self._core, functions, self.loss_weights, net.dtype)
        self._shape = Shape(
            inputs=net._input_widths,
            outputs=net._output_widths,
            labels=tuple(loss is not None and loss.detail == "softmax" for loss in named),
            own=tuple(loss is None for loss in named),
        )
        self._grads = np.asarray(memoryview(self._core.grads))
        self._state = MappingProxyType({name: np.asarray(memoryview(slot)) for name, slot in self._core.slots.items()})
        if self.averaging is not None:
            self._core.set_average(*self.averaging.rule)
        average = self._core.average
        self._average = None if average is None else np.asarray(memoryview(average))

    def _set_limits(self, limits: Mapping[str, float | None]) -> None:
        for name, limit in limits.items():
            setattr(self, name, limit)

    # ---- steps ----

    def step(self, x: Any, y: Any, sample_weight: Any = None) -> float:
        """One training step: forward, backward, update. Returns the batch loss before the update."""
        try:
            if type(x) is _ndarray and type(y) is _ndarray and self._own is None:
                try:
                    return self._step(x, y, sample_weight)
                except (TypeError, ValueError):
                    pass  # converted below, or refused there with the shapes
            rows = self._shape.read(x, y, sample_weight)
            return self._own.step(rows) if self._own else self._step(rows.x, rows.y, rows.weight)
        except FloatingPointError as error:
            raise self._diverged(error) from error

    def backward(
        self,
        x: Any,
        y: Any,
        sample_weight: Any = None,
        accumulate: bool = False,
        total: float | None = None,
        first_row: int = 0,
        input_grads: bool = False,
    ) -> float:
        """Fills `grads` with the gradient of the loss and of the layers' l1 and l2 penalties; changes no parameter; returns the loss.

        accumulate: add to `grads`. total: the sum of weights of the whole logical batch, of which this is the part that starts at
        `first_row`; the parts then simply add. input_grads: `input_grads` is filled too.
        """
        rows = self._shape.read(x, y, sample_weight)
        if total is not None and not 0 < total < float("inf"):
            raise ValueError(f"backward: total must be positive and finite, not {total!r}")
        if self._own is None:
            divisor = 0.0 if total is None else float(total)
            loss = self._core.backward(rows.x, rows.y, rows.weight, accumulate, divisor, first_row, input_grads)
        elif total is not None:
            raise ValueError("backward: total= has no meaning for a loss function of your own, which divides as it likes")
        else:
            loss = self._own.backward(rows, accumulate, input_grads)
        self._input_grads = [np.array(gradient) for gradient in self._core.input_grads()] if input_grads else None
        return loss

    def apply(self) -> None:
        """The optimizer's update from `grads` as they stand."""
        try:
            self._core.apply()
        except FloatingPointError as error:
            raise self._diverged(error) from error

    def _diverged(self, error: FloatingPointError) -> FloatingPointError:
        where = f"epoch {self.epoch + 1}, step {self.steps + 1}"
        return FloatingPointError(
            f"{error} ({where}): try a lower lr (now {self.lr:g}), scale the inputs and targets to about -1 to 1, check them for NaN"
        )

    # ---- looking ----

    def evaluate(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """The loss of any number of rows; changes nothing."""
        return self._evaluate(self._shape.read(X, y, sample_weight))

    def _evaluate(self, rows: Rows) -> float:
        if self._own is None:
            return self._core.evaluate(rows.x, rows.y, rows.weight)
        outputs = self.net.predict(rows.x)
        return self._own.evaluate(outputs if isinstance(outputs, list) else [outputs], rows)

    def predict(self, X: Any, out: Any = None) -> Any:  # noqa: N803
        """The outputs after their activations: probabilities under "cross_entropy" and "bce", rates under "poisson"."""
        return self.net.predict(X, link=True, out=out)

    def check_gradients(self, x: Any, y: Any, sample_weight: Any = None) -> gradcheck.GradientCheck:
        """The gradients against central differences, on a float64 copy; print the answer, or read its `error`."""
        return gradcheck.check(self, self._shape.read(x, y, sample_weight))

    # ---- state ----

    @property
    def grads(self) -> Array:
        """The gradients, one flat writable view laid out as `net.params`."""
        return self._grads

    @property
    def input_grads(self) -> Any:
        """The gradient by the input (a list of them for several inputs) of the last backward(..., input_grads=True)."""
        if self._input_grads is None:
            raise ValueError("input_grads: call backward(..., input_grads=True) first")
        return self._input_grads[0] if len(self._input_grads) == 1 else self._input_grads

    @property
    def state(self) -> Mapping[str, Array]:
        """The optimizer's state: name -> flat writable view laid out as `net.params`."""
        return self._state

    @property
    def lr(self) -> float:
        """The learning rate; may be set at any time."""
        return self._core.get("lr")

    @lr.setter
    def lr(self, value: float) -> None:
        self._core.set("lr", float(value))

    @property
    def steps(self) -> int:
        """The updates so far."""
        return self._core.steps

    @steps.setter
    def steps(self, value: int) -> None:
        self._core.steps = value

    @property
    def average(self) -> Array | None:
        """The average of the parameters, then of the buffers, as one flat writable view, all 0 before it begins; None without one."""
        return self._average

    def averaged(self) -> Network:
        """A copy of the network with the averaged parameters and buffers."""
        if self._average is None:
            raise ValueError("averaged: this trainer keeps no average; make it with Trainer(..., average=bp.EMA()) or bp.SWA()")
        if self._core.average_count == 0:
            raise ValueError(f"averaged: the average begins later than after the {self.steps} updates so far ({self.averaging})")
        net = self.net.copy()
        net.params[...], net.buffers[...] = np.split(self._average, [len(net.params)])
        return net

    @property
    def history(self) -> dict[str, list[float]]:
        """Equally long lists, one entry per epoch: loss, lr, seconds, val_loss and metrics; NaN where an epoch had none."""
        names = dict.fromkeys(name for record in self._records for name in record if name not in ("epoch", "steps"))
        return {name: [record.get(name, float("nan")) for record in self._records] for name in names}

    def reset(self) -> None:
        """Forgets gradients, optimizer state, average, counters and history; the network's parameters stay."""
        self._core.reset()
        self.epoch = 0
        self.schedule = None
        self._records = []
        self._best = None
        self._input_grads = None

    def _state_now(self) -> dict[str, Any]:
        """A copy of all that a step changes in the trainer."""
        slots = {name: view.copy() for name, view in self._state.items()}
        losses = {name: self._core.get(name) for name in ("loss", "last_loss")}
        average = None if self._average is None else self._average.copy()
        return {"lr": self.lr, "steps": self.steps, "losses": losses, "grads": self._grads.copy(), "slots": slots, "average": average}

    def _set_state(self, state: dict[str, Any]) -> None:
        self.lr, self.steps = state["lr"], state["steps"]
        for name, loss in state["losses"].items():
            self._core.set(name, loss)
        self._grads[...] = state["grads"]
        for name, values in state["slots"].items():
            self._state[name][...] = values
        if self._average is not None:
            self._average[...] = state["average"]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the trainer and its network to a safetensors file: all of it, or nothing.

        `Trainer.load` goes on from there bit for bit as if nothing had happened; `bp.load` opens the file as the network. Losses of your
        own cannot be saved.
        """
        trainer_file.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], backend: str | None = None, n_threads: int | None = None) -> Self:
        """The trainer that `save` wrote, with its network in `net`; backend and n_threads as in bp.load."""
        return trainer_file.load(cls, path, backend, n_threads)

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if not name.startswith("_") or name in ("_records", "_best")}
        return state | {"_saved": self._state_now(), "_limits": {name: getattr(self, name) for name in _LIMITS}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        saved, limits = state.pop("_saved"), state.pop("_limits")
        vars(self).update(state)
        self._input_grads = None
        with self.net._without_activations():
            self._connect()
        self._set_state(saved)
        self._set_limits(limits)

    # ---- epochs ----

    def epochs(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
        batch_size: int = 32,
        order: Any = None,
        *,
        class_weight: ClassWeight | None = None,
        accumulate: int = 1,
    ) -> Iterator[Record]:
        """Trains without end, an epoch per record: `for record in t.epochs(X, y): ...`, until you break.

        order: the row numbers of every epoch, in their order; None shuffles all rows anew each time. The rest is as in `fit`.
        """
        rows = self._shape.read(X, y, sample_weight)
        rows, _ = fitting.weigh(self, rows, epoch.active(rows), class_weight)
        return epoch.endless(self, rows, fitting.pace(batch_size, accumulate), fitting.check_order(order, rows.count))

    def fit(
        self,
        X: Any,  # noqa: N803
        y: Any = None,
        *,
        epochs: int,
        batch_size: int = 32,
        sample_weight: Any = None,
        class_weight: ClassWeight | None = None,
        shuffle: bool = True,
        validation: float | tuple[Any, ...] | None = None,
        patience: int | None = None,
        monitor: str = "val_loss",
        mode: str | None = None,
        min_delta: float = 0.0,
        schedule: str | Schedule | Callable[[int], float] | None = None,
        metrics: str | Metric | Sequence[str | Metric] = (),
        callback: Callback | Sequence[Callback] | None = None,
        batch_callback: Callback | Sequence[Callback] | None = None,
        accumulate: int = 1,
        progress: bool | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        every: int | timedelta = 1,
    ) -> dict[str, list[float]]:
        """Trains for `epochs` more epochs and returns `history`.

        X without y: chunks of rows, as an iterable of (X, y) or (X, y, weight), or as a function that gives one for each epoch, such as
        a generator function; memory holds one chunk at a time. Rows are shuffled within their chunk, updates go on across chunks. A
        schedule of open length counts the rows first. A chunk that is refused ends fit where it is.
        class_weight: a factor of each training row's weight by its class: {label: weight} (1 for labels left out), a weight per class,
        or "balanced", rows / (classes x rows of the class). For labels under "cross_entropy", one column under "bce" or "hinge".
        validation: (X, y), (X, y, weight), or the fraction of rows to set aside.
        patience: stop after so many epochs in which `monitor`, the loss or a metric, has not got better than ever before by more than
        `min_delta`; the best epoch's parameters, optimizer state and rate come back. mode: "min" or "max"; None: as metrics' names say.
        schedule: such as bp.Cosine(lr=0.1), its text, or a function from the number of updates so far to the learning rate. The
        last rate stays in `lr`; `schedule`, if it is one of bp.schedules, in `t.schedule`, with which a later fit goes on.
        metrics: names or functions f(y, predictions), of the validation rows if there are any, else of the training rows.
        callback: a function, or a list of them, called with each record; True stops.
        batch_callback: the same after each update, with a record of epoch, loss, lr and steps; True ends the epoch there, and fit.
        accumulate: micro-batches of batch_size rows for each update, equal to the joined batch but for rounding, where that needs
        too much memory. With this and with batch_callback fit loops in Python, batch by batch, which is slower for small networks.
        progress: a line on stderr; None: where it is a terminal or a notebook.
        checkpoint: a file to `save` to after `every` so many epochs, or when so much time (a datetime.timedelta) has passed, and at the
        end. After a crash or Ctrl-C, `t = Trainer.load(path)` and `t.fit` for the epochs that are left, with the same arguments and
        schedule=t.schedule, give what one fit would have given, early stopping included.
        """
        settings = fitting.Settings(
            epochs=whole_number(epochs, "epochs", least=0),
            pace=fitting.pace(batch_size, accumulate),
            shuffle=shuffle,
            stopping=Stopping(None if patience is None else whole_number(patience, "patience"), monitor, mode, min_delta),
            schedule=schedule,
            callback=callback,
            batch_callback=batch_callback,
            progress=progress,
            checkpoint=checkpoint,
            every=every,
        )
        if y is None:
            streaming.fit(self, X, validation, metrics, settings, sample_weight=sample_weight, class_weight=class_weight)
        else:
            fitting.fit(self, self._shape.read(X, y, sample_weight), validation, metrics, class_weight, settings)
        return self.history


def _parse_losses(loss: Any, net: Network) -> list[Loss | OwnLoss]:
    count = len(net._output_widths)
    losses = list(loss) if isinstance(loss, list | tuple) else [loss]
    if len(losses) != count:
        raise ValueError(f"Trainer: loss must be a list of {count} losses, one per output of the network, not {len(losses)}")
    parsed = [one if callable(one) else Loss.parse(one) for one in losses]
    named = [one for one in parsed if isinstance(one, Loss)]
    if named and len(named) < count:
        raise ValueError("Trainer: either every output has a named loss, or every output has a function of your own")
    described = description.read(net.text())
    for i, (output, one) in enumerate(zip(described.outputs, parsed, strict=True)):
        if isinstance(one, Loss):
            _refuse_activation_twice(described, output, one)
            _refuse_other_activation(i, output, one)
    return parsed


def _refuse_other_activation(i: int, output: description.OutputInfo, loss: Loss) -> None:
    if output.activation not in (None, loss.detail):
        raise ValueError(
            f'Trainer: output {i} has the activation {output.activation}, but the loss "{loss.name}" implies {loss.detail}; to change what '
            f'predictions mean: net.set_output({i}, activation="{loss.detail}")'
        )


def _refuse_activation_twice(described: description.Description, output: description.OutputInfo, loss: Loss) -> None:
    node = described.nodes[output.node]
    activation = described.layers[node.detail].activation if node.operation == "dense" else node.detail
    if node.operation in ("dense", "activation") and activation == loss.detail != "identity":
        raise ValueError(
            f'Trainer: the output (node {output.node}) ends in {activation}, which the loss "{loss.name}" applies itself: write '
            f"bp.Dense({output.width}) without activation; net.predict(X, link=True) gives the {activation} of the outputs"
        )


def _parse_loss_weights(loss_weights: Sequence[float] | None, count: int) -> list[float]:
    weights = [1.0] * count if loss_weights is None else [float(weight) for weight in loss_weights]
    if len(weights) != count or not all(0 <= weight < float("inf") for weight in weights):
        raise ValueError(f"Trainer: loss_weights must be {count} finite numbers of at least 0, one per output, not {loss_weights!r}")
    return weights
