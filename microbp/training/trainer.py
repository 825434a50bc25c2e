"""Trainer: the public class, built on an Engine (engine/) and a Run (loop/).

What t.step(X, y) does, with the file of each step:

1. `Trainer.step` below passes ndarrays unchanged to the backend's step. core/_core.pyx (Trainer.step, run) checks type, shape and strides.
   src/train/step.c does the step: forward, loss, backward, update. In the reference it is reference/trainer.py.
2. If the backend refuses an array, or an argument is not an ndarray, data/rows.py (Shape.read) converts it or raises a precise error.
3. engine/engine.py (Engine.step) does a step with the converted rows. It calls custom losses between forward and backward:
   engine/custom_loss.py.
4. If a loss or gradient is not finite, loop/run.py (Run.diverged) adds epoch, step and advice to the error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from ..core.specs import Loss, LossName, OptimizerName, OptimizerSpec
from ..core.text import brief
from ..data.class_weight import ClassWeight
from ..network.network import Network, seed_or_new, without_activations
from ..network.predicting import Prediction
from ..settings import metrics as metric_functions
from ..settings import optimizers
from ..settings.averages import Average
from ..settings.checkpoint import Checkpoint
from ..settings.metrics import Metric, MetricName
from ..settings.stopping import EarlyStopping
from . import gradcheck, trainer_file
from .engine import losses as loss_reader
from .engine.custom_loss import CustomLoss
from .engine.engine import LIMITS, Engine
from .loop import arrays
from .loop import fit as fitting
from .loop import options as fit_options
from .loop.callbacks import Callback, Callbacks, StopCheck
from .loop.epoch import Batching
from .loop.history import Record
from .loop.run import Run
from .loop.watch import Entries
from .view import View

if TYPE_CHECKING:
    from ..settings.schedules import Schedule


class Trainer(View):
    """Trains one network: a loss, an optimizer and their state.

    net: the Network to train. A network may have several trainers; use one of them at a time.
    loss: a name, a bp.Loss, or a custom function f(outputs, targets, weight) -> (loss, gradient with respect to outputs) on arrays. For
    several outputs, a list of these, either all named or all functions. A named loss determines the activation of its output: softmax,
    sigmoid, exp or identity. The trainer sets this activation in `net` if none is set yet. ValueError: a different one is set.
    optimizer: settings such as bp.Adam(lr=1e-3), or a name, which uses the defaults. loss_weights: a factor for each output's loss, 1 by
    default. seed: for shuffling, dropout and noise; by default the net's seed.
    clip_layer_norm, clip_norm, clip_value: limits for the gradients that the optimizer gets, applied in this order: the Euclidean norm of
    each layer's gradient (weight and bias together), the norm of the gradient of all trained layers (Pascanu et al. 2013), the absolute
    value of each element. `grads` itself does not change.
    average: a running average of the weights, bp.EMA(decay) or bp.SWA(start, every); see `averaged`.

    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = (X[:, 0] * X[:, 1] > 0).astype(int)
    >>> t = bp.Trainer(bp.mlp([2, 16, 2], seed=0), loss="cross_entropy", optimizer=bp.Adam(lr=0.01))
    >>> history = t.fit(X, y, epochs=40, metrics="accuracy")
    >>> history["accuracy"][-1] > 0.9
    True
    """

    __slots__ = ("__weakref__", "_plain", "_step")

    def __init__(
        self,
        net: Network,
        loss: LossName | Loss | CustomLoss | Sequence[LossName | Loss | CustomLoss],
        optimizer: OptimizerName | optimizers.Optimizer | OptimizerSpec = "adam",
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
        if average is not None and not isinstance(average, Average):
            raise TypeError(f"Trainer: average must be bp.EMA(), bp.SWA() or None, not {brief(average)}")
        losses = loss_reader.parse(loss, net)
        weights = loss_reader.parse_weights(loss_weights, len(losses))
        limits = dict(zip(LIMITS, (clip_norm, clip_layer_norm, clip_value), strict=True))
        self._attach(Engine(net, losses, optimizer, weights, net.seed if seed is None else seed_or_new(seed), average, limits))

    def _attach(self, engine: Engine) -> None:
        self._engine = engine
        self._run = Run(engine)
        self._step = engine.array_step
        self._plain = None if engine.has_custom_losses else np.ndarray  # the type of arrays that `_step` accepts unchanged

    # ---- steps ----

    def step(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """One training step: forward, backward, update. Returns the batch loss before the update.

        X: shape (rows, features); a list of such arrays for several inputs. y: shape (rows, outputs), or (rows,) for a single output or
        for integer labels with "cross_entropy"; a list for several outputs. sample_weight: shape (rows,), at least 0 and not all 0, by
        default all 1. The batch loss is the sum of weight x row loss, divided by the sum of weights.

        ValueError or TypeError: the arrays do not fit the network. FloatingPointError: the loss or a gradient is not finite. After an
        error, nothing has changed.

        >>> t = bp.Trainer(bp.mlp([3, 4, 1], seed=0), loss="mse")
        >>> X, y = np.ones((8, 3)), np.ones(8)
        >>> t.step(X, y) > t.step(X, y)
        True
        """
        try:
            if type(X) is type(y) is self._plain:
                return self._step(X, y, sample_weight)
        except (TypeError, ValueError, FloatingPointError):
            pass  # the code below converts the arrays, or raises an error that names the cause
        rows = self._engine.shape.read(X, y, sample_weight)
        try:
            return self._engine.step(rows)
        except FloatingPointError as error:
            raise self._run.diverged(error, rows) from error

    def backward(
        self,
        X: Any,  # noqa: N803
        y: Any,
        sample_weight: Any = None,
        accumulate: bool = False,
        total: float | None = None,
        first_row: int = 0,
        input_grads: bool = False,
    ) -> float:
        """Computes the gradient of the loss and of the layers' l1 and l2 penalties into `grads`. Returns the loss; changes no parameter.

        X, y, sample_weight: as in `step`. accumulate: add to `grads` instead of overwriting them. total: for a part of a larger batch, the
        sum of weights of the whole batch; first_row: the position in the batch of the part's first row. The losses and gradients of the
        parts then add up to those of the batch. input_grads: also compute `input_grads`.

        >>> t = bp.Trainer(bp.mlp([3, 4, 1], seed=0), loss="mse")
        >>> X, y = np.ones((8, 3)), np.ones(8)
        >>> loss = t.backward(X[:4], y[:4], total=8) + t.backward(X[4:], y[4:], accumulate=True, total=8, first_row=4)
        >>> abs(loss - t.evaluate(X, y)) < 1e-6
        True
        """
        rows = self._engine.shape.read(X, y, sample_weight)
        try:
            return self._engine.backward(rows, accumulate, total, first_row, input_grads)
        except FloatingPointError as error:
            raise self._run.diverged(error, rows) from error

    def apply(self) -> None:
        """Updates the parameters from the current `grads`. `backward` followed by `apply` is a `step`.

        >>> t = bp.Trainer(bp.mlp([3, 1], seed=0), loss="mse")
        >>> _ = t.backward(np.ones((8, 3)), np.ones(8))
        >>> t.apply()
        >>> t.steps
        1
        """
        try:
            self._engine.apply()
        except FloatingPointError as error:
            raise self._run.diverged(error) from error

    # ---- evaluation ----

    def evaluate(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """The loss on any number of rows, without dropout and noise. Changes nothing. X, y, sample_weight: as in `step`.

        >>> t = bp.Trainer(bp.mlp([3, 4, 2], seed=0), loss="mse")
        >>> t.evaluate(np.zeros((5, 3)), np.zeros((5, 2)))
        0.0
        """
        return self._engine.evaluate(self._engine.shape.read(X, y, sample_weight))

    def predict(self, X: Any, raw: bool = False, out: Any = None, at: str | int | None = None) -> Prediction:  # noqa: N803
        """Calls `net.predict`: probabilities for "cross_entropy" and "bce", rates for "poisson". raw=True: the outputs that the loss gets.

        >>> t = bp.Trainer(bp.mlp([3, 4, 2], seed=0), loss="cross_entropy")
        >>> t.predict(np.zeros((1, 3)))
        array([[0.5, 0.5]], dtype=float32)
        """
        return self.net.predict(X, raw, out, at)

    def check_gradients(self, X: Any, y: Any, sample_weight: Any = None) -> gradcheck.GradientCheck:  # noqa: N803
        """Compares the gradients with central differences, on a float64 copy of the network. Print the result, or read its `error`.

        X, y, sample_weight: as in `step`; a few rows are enough. Of up to 2000 parameters, all are checked; of more, a sample of about 500.

        >>> t = bp.Trainer(bp.mlp([3, 4, 2], activation="tanh", seed=0), loss="mse")
        >>> t.check_gradients(np.ones((5, 3)), np.ones((5, 2))).error < 1e-6
        True
        """
        return gradcheck.check(self._engine, self._engine.shape.read(X, y, sample_weight))

    # ---- copies and files ----

    def reset(self) -> None:
        """Resets gradients, optimizer state, average, counters and history. The network's parameters stay.

        >>> t = bp.Trainer(bp.mlp([3, 1], seed=0), loss="mse")
        >>> _ = t.step(np.ones((4, 3)), np.ones(4))
        >>> t.reset()
        >>> t.steps, bool(t.state["m"].any())
        (0, False)
        """
        self._engine.reset()
        self._run.reset()

    def __getstate__(self) -> dict[str, Any]:
        """The whole state, for pickles and copies. Files contain the entries named in trainer_file.SAVED, and the network."""
        engine = self._engine
        settings = {"losses": list(engine.losses), "loss_weights": list(engine.loss_weights), "optimizer": engine.optimizer}
        settings |= {"seed": engine.seed, "averaging": engine.averaging, "limits": engine.limits}
        attributes = dict(getattr(self, "__dict__", {}))  # of a subclass
        return {"net": engine.net, **settings, "engine": engine.state(), **self._run.state(), "attributes": attributes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        losses, weights = tuple(state["losses"]), tuple(state["loss_weights"])
        with without_activations(state["net"]):  # the output activations may have changed since the trainer was created
            self._attach(Engine(state["net"], losses, state["optimizer"], weights, state["seed"], state["averaging"], state["limits"]))
        self._engine.set_state(state["engine"])
        self._run.set_state(state)
        for name, value in state["attributes"].items():
            setattr(self, name, value)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves the trainer and its network to a safetensors file, completely or not at all.

        Training continues from `Trainer.load(path)` bit for bit as if never interrupted. `bp.load(path)` loads the network alone.
        ValueError: a custom loss, which cannot be saved. OSError: the file cannot be written.

        >>> bp.Trainer(bp.mlp([3, 1], seed=0), loss="mse").save("run.safetensors")
        >>> len(bp.load("run.safetensors").params)
        4
        """
        trainer_file.save(path, self.net, self.__getstate__())

    @classmethod
    def load(cls, path: str | os.PathLike[str], backend: str | None = None, n_threads: int | None = None) -> Self:
        """Loads a trainer that `save` wrote; its network is `net`. backend, n_threads: as in bp.load.

        ValueError: the file contains no trainer, or is damaged.

        >>> bp.Trainer(bp.mlp([3, 1], seed=0), loss="mse", optimizer=bp.SGD(lr=0.5)).save("run.safetensors")
        >>> bp.Trainer.load("run.safetensors").lr
        0.5
        """
        return trainer_file.load(cls, path, backend, n_threads)

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
        """An endless iterator: each iteration trains one epoch and yields its record. Stop with `break`.

        order: the indices of the rows that each epoch trains on, in this order; if None, each epoch shuffles all rows. Other arguments: as
        in `fit`.

        >>> t = bp.Trainer(bp.mlp([3, 1], seed=0), loss="mse")
        >>> for record in t.epochs(np.ones((40, 3)), np.ones(40)):
        ...     if record.loss < 1e-3 or record.epoch == 5:
        ...         break
        >>> t.epoch, t.steps
        (5, 10)
        """
        rows = self._engine.shape.read(X, y, sample_weight)
        rows, trained = arrays.weigh(self._engine, rows, arrays.active(rows), class_weight)
        if order is not None:
            trained = arrays.check_order(order, rows.count)
        return arrays.Arrays(rows, trained, order is None, Batching(batch_size, accumulate)).endless(self._run)

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
        mode: Literal["min", "max"] | None = None,
        min_delta: float = 0.0,
        stop: EarlyStopping | None = None,
        schedule: str | Schedule | Callable[[int], float] | None = None,
        metrics: MetricName | Metric | Sequence[MetricName | Metric] = (),
        callback: Callback | Sequence[Callback] | None = None,
        batch_callback: Callback | Sequence[Callback] | None = None,
        accumulate: int = 1,
        max_time: float | timedelta | None = None,
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
        checkpoint_every: int | timedelta = 1,
        progress: bool | None = None,
    ) -> dict[str, list[float]]:
        """Trains for `epochs` more epochs and returns `history`.

        X, y, sample_weight: as in `step`, with any number of rows. X without y is a stream: an iterable of chunks (X, y) or (X, y, weight),
        or a function that returns one for each epoch, such as a generator function. One chunk is in memory at a time. Rows are shuffled
        within their chunk; a batch may span two chunks. For a schedule without a length, fit first reads the whole stream to count its
        rows. An invalid chunk raises an error after the chunks before it have been trained on.

        batch_size: rows per update; the last batch of an epoch may be smaller. shuffle: a new order for each epoch.
        class_weight: multiplies each training row's weight by a factor for its class: {label: weight} (1 for missing labels), a list with a
        weight per class, or "balanced", rows / (classes x rows of the class). For labels with "cross_entropy", or a single output with
        "bce" or "hinge".

        validation: (X, y), (X, y, weight), or the fraction of rows to hold out.
        patience: stop after this many epochs in which `monitor` ("val_loss", "loss" or a metric) has not improved on its best by more than
        `min_delta`; then restore the best epoch's parameters, optimizer state and learning rate. mode: "min" or "max"; if None, determined
        by the metric's name. stop: a bp.EarlyStopping(patience, ...), instead of patience, monitor, mode and min_delta.
        schedule: a schedule such as bp.Cosine(lr=0.1) or "cosine(lr=0.1)", or a function that takes the number of updates so far and
        returns the learning rate. `t.lr` keeps the last rate. `t.schedule` keeps a schedule, not a function; pass it to a later fit to
        continue it.

        metrics: names or functions f(y, outputs), computed on the validation rows if there are any, else on the training rows.

        callback: a function or a list of functions, called with the record of each epoch; if one returns True, fit stops.
        batch_callback: the same after each update, with a record of epoch, loss, lr and steps; if one returns True, the epoch and fit stop.
        accumulate: the number of micro-batches of batch_size rows per update. The update is the same as with one large batch, up to
        rounding, and needs less memory. With accumulate or batch_callback, fit loops over batches in Python, which is slower for
        small networks.

        max_time: seconds, or a datetime.timedelta. When this time has passed, fit stops after an update, within about 50 ms. The incomplete
        epoch has a record too.

        checkpoint: a file to `save` to at the end and after every `checkpoint_every` epochs; if checkpoint_every is a datetime.timedelta,
        after an epoch when this time has passed since the last save. Or a bp.Checkpoint(path, every=...). After a crash or Ctrl-C,
        `t = Trainer.load(path)` and `t.fit` for the remaining epochs, with the same arguments and schedule=t.schedule, give the result of
        one uninterrupted fit, early stopping included.

        progress: whether to print a progress line to stderr; by default, only to a terminal or in a notebook.

        ValueError or TypeError: an argument is invalid; nothing has changed. FloatingPointError: the loss or a gradient is not finite.
        After Ctrl-C, network and history are valid.

        >>> X = np.linspace(-1, 1, 40).reshape(-1, 1)
        >>> t = bp.Trainer(bp.mlp([1, 8, 1], seed=0), loss="mse", optimizer=bp.Adam(lr=0.02))
        >>> history = t.fit(X, np.sin(X), epochs=30, batch_size=8, validation=0.2, patience=10, metrics="r2")
        >>> sorted(history)
        ['loss', 'lr', 'r2', 'seconds', 'val_loss']
        """
        named_metrics = metric_functions.resolve(metrics, len(self.losses))
        entries = Entries(tuple(named_metrics), validation is not None)
        stop_check = StopCheck(Callbacks(batch_callback, "batch_callback"), fit_options.seconds(max_time))
        options = fit_options.Options(
            epochs=epochs,
            batching=Batching(batch_size, accumulate, stop_check),
            shuffle=shuffle,
            stop=fit_options.early_stopping(stop, patience, monitor, mode, min_delta, entries),
            schedule=schedule,
            metrics=named_metrics,
            callbacks=Callbacks(callback, "callback"),
            checkpoint=fit_options.checkpoint_rule(checkpoint, checkpoint_every),
            progress=progress,
        )
        if options.checkpoint is not None:
            trainer_file.encode(self.net, self.__getstate__())  # if the trainer cannot be saved, raises an error now, not after hours
        fitting.fit(self._run, X, y, options, self.save, sample_weight=sample_weight, class_weight=class_weight, validation=validation)
        return self.history
