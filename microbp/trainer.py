"""Trainer: losses, an optimizer and their state for one network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from . import backend as backends
from . import description, epoch, fitting, gradcheck, optimizers, streaming
from .arrays import Array
from .checks import whole_number
from .class_weight import ClassWeight
from .fitting import Callback
from .history import Record
from .metrics import Metric
from .network import Network, seed_or_new
from .own_loss import OwnLoss, OwnLosses
from .rows import Rows, Shape
from .schedules import Schedule
from .specs import Loss, OptimizerSpec
from .stopping import Stopping

_ndarray = np.ndarray


class Trainer:
    """Trains `net` by `loss` with `optimizer`.

    loss: a name, a Loss, a function f(outputs, targets, weight) -> (loss, gradient by outputs), or a list of these, one per output.
    optimizer: a name or settings such as Adam(lr=1e-3). loss_weights: one factor per output. seed: of the shuffling; None: the net's.
    """

    def __init__(
        self,
        net: Network,
        loss: str | Loss | OwnLoss | Sequence[str | Loss | OwnLoss],
        optimizer: str | optimizers.Optimizer | OptimizerSpec = "adam",
        loss_weights: Sequence[float] | None = None,
        seed: int | None = None,
    ) -> None:
        if not isinstance(net, Network):
            raise TypeError(f"Trainer: net must be a bp.Network, not {type(net).__name__}")
        self.net = net
        self.seed = net.seed if seed is None else seed_or_new(seed)
        self.losses = _parse_losses(loss, net)
        self.loss_weights = _parse_loss_weights(loss_weights, len(self.losses))
        self.optimizer = optimizer
        self.epoch = 0
        self.schedule: Schedule | None = None  # the latest fit's, as far as it came
        self._records: list[Record] = []
        self._input_grads: list[Array] | None = None
        self._connect()

    def _connect(self) -> None:
        """Makes the backend's trainer, and the views of its vectors."""
        net, losses = self.net, self.losses
        named = [loss if isinstance(loss, Loss) else None for loss in losses]
        texts = [loss.text if loss else None for loss in named]
        self._core = backends.load(net.backend).Trainer(net._core, texts, list(self.loss_weights), optimizers.parse(self.optimizer).text)
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
        """Fills `grads` and changes no parameter; returns the loss.

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
        """The outputs through their links: probabilities under "cross_entropy" and "bce", rates under "poisson"."""
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
    def history(self) -> dict[str, list[float]]:
        """Equally long lists, one entry per epoch: loss, lr, seconds, val_loss and metrics; NaN where an epoch had none."""
        names = dict.fromkeys(name for record in self._records for name in record if name not in ("epoch", "steps"))
        return {name: [record.get(name, float("nan")) for record in self._records] for name in names}

    def reset(self) -> None:
        """Forgets gradients, optimizer state, counters and history; the network's parameters stay."""
        self._core.reset()
        self.epoch = 0
        self.schedule = None
        self._records = []
        self._input_grads = None

    def _state_now(self) -> dict[str, Any]:
        """A copy of all that a step changes in the trainer."""
        slots = {name: view.copy() for name, view in self._state.items()}
        return {"lr": self.lr, "steps": self.steps, "grads": self._grads.copy(), "slots": slots}

    def _set_state(self, state: dict[str, Any]) -> None:
        self.lr, self.steps = state["lr"], state["steps"]
        self._grads[...] = state["grads"]
        for name, values in state["slots"].items():
            self._state[name][...] = values

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if not name.startswith("_") or name == "_records"}
        return state | {"_saved": self._state_now()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        saved = state.pop("_saved")
        vars(self).update(state)
        self._input_grads = None
        self._connect()
        self._set_state(saved)

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
    for output, one in zip(described.outputs, parsed, strict=True):
        if isinstance(one, Loss):
            _refuse_link_twice(described, output, one)
    return parsed


def _refuse_link_twice(described: description.Description, output: description.OutputInfo, loss: Loss) -> None:
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
