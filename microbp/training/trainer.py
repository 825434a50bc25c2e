"""Trainer: the top of the training room, over an engine (engine/) and its run (loop/).

The walk of t.step(X, y), step by step, with the file of each:

1. Arrays go as they are to the backend's step (`Trainer.step` below): core/_core.pyx (Trainer.step, run) checks type, shape and strides,
   and src/train/step.c is the step itself: forward, loss, backward, update. The reference's is reference/trainer.py.
2. What the backend refuses, and what is no ndarray, is read with care: data/rows.py (Shape.read) converts it, or says what does not fit.
3. engine/engine.py (Engine.step) steps with the rows. Losses of the caller's own are called between forward and backward:
   engine/own_loss.py.
4. Where a loss or gradient is not finite, loop/run.py (Run.diverged) adds epoch, step and advice to the error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from ..core.specs import Loss, LossName, OptimizerName, OptimizerSpec
from ..data.class_weight import ClassWeight
from ..network.network import Network, seed_or_new, without_activations
from ..network.predicting import Prediction
from ..settings import optimizers
from ..settings.averages import Average
from ..settings.checkpoint import Checkpoint
from ..settings.metrics import Metric, MetricName
from ..settings.stopping import EarlyStopping
from . import gradcheck, trainer_file
from .engine import losses as loss_reader
from .engine.engine import LIMITS, Engine
from .engine.own_loss import OwnLoss
from .loop import arrays
from .loop import fit as fitting
from .loop import options as fit_options
from .loop.callbacks import Brake, Callback, Callbacks
from .loop.epoch import Pace
from .loop.history import Record
from .loop.run import Run
from .view import View

if TYPE_CHECKING:
    from ..settings.schedules import Schedule


class Trainer(View):
    """A loss, an optimizer and their state, for one network, whose parameters it changes.

    net: the Network. It may have several trainers, and is used by one of them at a time.
    loss: a name, a bp.Loss, or a function f(outputs, targets, weight) -> (loss, gradient by outputs) on arrays; for several outputs a list
    of these, either all named or all functions. A named loss implies the activation of its output: softmax, sigmoid, exp or identity. The
    trainer sets it in `net` where none is chosen yet, and is refused (ValueError) where another one is chosen.
    optimizer: settings such as bp.Adam(lr=1e-3), or a name, which means the defaults. loss_weights: a factor of each output's loss; None:
    ones. seed: of shuffling, dropout and noise; None: the net's.
    clip_layer_norm, clip_norm, clip_value: limits of the gradients that the optimizer sees, in this order: the Euclidean norm of each
    layer's, weight and bias together; the norm of all that trains (Pascanu et al. 2013); each element. `grads` stays as it is.
    average: an average of the weights to keep along the way, bp.EMA(decay) or bp.SWA(start, every); see `averaged`.

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
        loss: LossName | Loss | OwnLoss | Sequence[LossName | Loss | OwnLoss],
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
            raise TypeError(f"Trainer: average must be bp.EMA(), bp.SWA() or None, not {average!r}")
        losses = loss_reader.parse(loss, net)
        weights = loss_reader.parse_weights(loss_weights, len(losses))
        limits = dict(zip(LIMITS, (clip_norm, clip_layer_norm, clip_value), strict=True))
        self._drive(Engine(net, losses, optimizer, weights, net.seed if seed is None else seed_or_new(seed), average, limits))

    def _drive(self, engine: Engine) -> None:
        self._engine = engine
        self._run = Run(engine)
        self._step = engine.array_step
        self._plain = None if engine.has_own_losses else np.ndarray  # the type of arrays that it takes as they are

    # ---- steps ----

    def step(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """One training step: forward, backward, update. Returns the batch loss before the update.

        X: (rows, features); a list of such arrays for several inputs. y: (rows, outputs), (rows,) for one output or for integer labels
        under "cross_entropy"; a list for several outputs. sample_weight: (rows,), at least 0 and not all 0; None: ones. The batch loss is
        the sum of weight x row loss over the sum of weights. ValueError or TypeError says what does not fit; FloatingPointError that the
        loss or a gradient is not finite. Then nothing has changed.

        >>> t = bp.Trainer(bp.mlp([3, 4, 1], seed=0), loss="mse")
        >>> X, y = np.ones((8, 3)), np.ones(8)
        >>> t.step(X, y) > t.step(X, y)
        True
        """
        try:
            if type(X) is type(y) is self._plain:
                return self._step(X, y, sample_weight)
        except (TypeError, ValueError):
            pass  # converted below, or refused there with the shapes
        except FloatingPointError as error:
            raise self._run.diverged(error) from error
        try:
            return self._engine.step(self._engine.shape.read(X, y, sample_weight))
        except FloatingPointError as error:
            raise self._run.diverged(error) from error

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
        """Fills `grads` with the gradient of the loss and of the layers' l1 and l2 penalties; changes no parameter; returns the loss.

        X, y, sample_weight: as in `step`. accumulate: add to `grads`. total: the sum of weights of the whole logical batch, of which this
        is the part that starts at `first_row`; the parts then simply add. input_grads: `input_grads` is filled too.

        >>> t = bp.Trainer(bp.mlp([3, 4, 1], seed=0), loss="mse")
        >>> X, y = np.ones((8, 3)), np.ones(8)
        >>> loss = t.backward(X[:4], y[:4], total=8) + t.backward(X[4:], y[4:], accumulate=True, total=8, first_row=4)
        >>> abs(loss - t.evaluate(X, y)) < 1e-6
        True
        """
        return self._engine.backward(self._engine.shape.read(X, y, sample_weight), accumulate, total, first_row, input_grads)

    def apply(self) -> None:
        """The optimizer's update from `grads` as they stand. `backward` and then `apply` are a `step`.

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

    # ---- looking ----

    def evaluate(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        """The loss of any number of rows, without dropout and noise; changes nothing. X, y, sample_weight: as in `step`.

        >>> t = bp.Trainer(bp.mlp([3, 4, 2], seed=0), loss="mse")
        >>> t.evaluate(np.zeros((5, 3)), np.zeros((5, 2)))
        0.0
        """
        return self._engine.evaluate(self._engine.shape.read(X, y, sample_weight))

    def predict(self, X: Any, raw: bool = False, out: Any = None, at: str | int | None = None) -> Prediction:  # noqa: N803
        """`net.predict`: probabilities under "cross_entropy" and "bce", rates under "poisson"; raw=True: what the loss sees.

        >>> t = bp.Trainer(bp.mlp([3, 4, 2], seed=0), loss="cross_entropy")
        >>> t.predict(np.zeros((1, 3)))
        array([[0.5, 0.5]], dtype=float32)
        """
        return self.net.predict(X, raw, out, at)

    def check_gradients(self, X: Any, y: Any, sample_weight: Any = None) -> gradcheck.GradientCheck:  # noqa: N803
        """The gradients against central differences, on a float64 copy of the network: print the answer, or read its `error`.

        X, y, sample_weight: as in `step`; a few rows are enough. Up to 2000 parameters are all checked, of more a sample of 500.

        >>> t = bp.Trainer(bp.mlp([3, 4, 2], activation="tanh", seed=0), loss="mse")
        >>> t.check_gradients(np.ones((5, 3)), np.ones((5, 2))).error < 1e-6
        True
        """
        return gradcheck.check(self._engine, self._engine.shape.read(X, y, sample_weight))

    # ---- copies and files ----

    def reset(self) -> None:
        """Forgets gradients, optimizer state, average, counters and history; the network's parameters stay.

        >>> t = bp.Trainer(bp.mlp([3, 1], seed=0), loss="mse")
        >>> _ = t.step(np.ones((4, 3)), np.ones(4))
        >>> t.reset()
        >>> t.steps, bool(t.state["m"].any())
        (0, False)
        """
        self._engine.reset()
        self._run.reset()

    def __getstate__(self) -> dict[str, Any]:
        """All that pickles and copies keep; files keep trainer_file.SAVED of it, and the network."""
        engine = self._engine
        settings = {"losses": list(engine.losses), "loss_weights": list(engine.loss_weights), "optimizer": engine.optimizer}
        settings |= {"seed": engine.seed, "averaging": engine.averaging, "limits": engine.limits}
        of_a_subclass = dict(getattr(self, "__dict__", {}))
        return {"net": engine.net, **settings, "engine": engine.state(), **self._run.state(), "attributes": of_a_subclass}

    def __setstate__(self, state: dict[str, Any]) -> None:
        losses, weights = tuple(state["losses"]), tuple(state["loss_weights"])
        with without_activations(state["net"]):  # which may have been changed after the trainer was made
            self._drive(Engine(state["net"], losses, state["optimizer"], weights, state["seed"], state["averaging"], state["limits"]))
        self._engine.set_state(state["engine"])
        self._run.set_state(state)
        for name, value in state["attributes"].items():
            setattr(self, name, value)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the trainer and its network to a safetensors file: all of it, or nothing.

        `Trainer.load` goes on from there bit for bit as if nothing had happened; `bp.load` opens the file as the network. Losses of your
        own cannot be saved (ValueError); OSError says why a file cannot be written.

        >>> bp.Trainer(bp.mlp([3, 1], seed=0), loss="mse").save("run.safetensors")
        >>> len(bp.load("run.safetensors").params)
        4
        """
        trainer_file.save(path, self.net, self.__getstate__())

    @classmethod
    def load(cls, path: str | os.PathLike[str], backend: str | None = None, n_threads: int | None = None) -> Self:
        """The trainer that `save` wrote, with its network in `net`; backend and n_threads as in bp.load.

        ValueError if the file holds no trainer, or is damaged.

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
        """Trains without end, an epoch per record: until you break.

        order: the row numbers of every epoch, in their order; None shuffles all rows anew each time. The rest is as in `fit`.

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
        return arrays.Arrays(rows, trained, order is None, Pace(batch_size, accumulate)).endless(self._run)

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

        X, y, sample_weight: as in `step`, of any number of rows. X without y: chunks of rows, as an iterable of (X, y) or (X, y, weight),
        or as a function that gives one for each epoch, such as a generator function; memory holds one chunk at a time. Rows are shuffled
        within their chunk, updates go on across chunks. A schedule of open length counts the rows first. A chunk that is refused ends fit
        where it is.
        batch_size: rows of an update; the last, smaller batch of an epoch is trained too. shuffle: an order of its own for each epoch.
        class_weight: a factor of each training row's weight by its class: {label: weight} (1 for labels left out), a weight per class,
        or "balanced", rows / (classes x rows of the class). For labels under "cross_entropy", one column under "bce" or "hinge".
        validation: (X, y), (X, y, weight), or the fraction of rows to set aside.
        patience: stop after this many epochs in which `monitor`, the loss or a metric, has not got better than ever before by more than
        `min_delta`; the best epoch's parameters, optimizer state and rate come back. mode: "min" or "max"; None: as metrics' names say.
        stop: the same four in one, bp.EarlyStopping(patience, ...).
        schedule: such as bp.Cosine(lr=0.1), its text, or a function from the number of updates so far to the learning rate. The
        last rate stays in `lr`; `schedule`, if it is one of bp.schedules, in `t.schedule`, with which a later fit goes on.
        metrics: names or functions f(y, predictions), of the validation rows if there are any, else of the training rows.
        callback: a function, or a list of them, called with each record; True stops.
        batch_callback: the same after each update, with a record of epoch, loss, lr and steps; True ends the epoch there, and fit.
        accumulate: micro-batches of batch_size rows for each update, equal to the joined batch but for rounding, where that needs
        too much memory. With this and with batch_callback fit loops in Python, batch by batch, which is slower for small networks.
        max_time: seconds, or a datetime.timedelta. Once they have passed since fit began, it ends after an update, within about 50 ms.
        The epoch that is cut short has a record too.
        checkpoint: a file to `save` to after `checkpoint_every` epochs, or when so much time (a datetime.timedelta) has passed, and at the
        end; or both in one, bp.Checkpoint(path, every=...). After a crash or Ctrl-C, `t = Trainer.load(path)` and `t.fit` for the epochs
        that are left, with the same arguments and schedule=t.schedule, give what one fit would have given, early stopping included.
        progress: a line on stderr; None: where it is a terminal or a notebook.

        ValueError or TypeError, before anything changes, says what does not fit; FloatingPointError, in the middle, that the loss or a
        gradient is not finite. After Ctrl-C network and history are valid.

        >>> X = np.linspace(-1, 1, 40).reshape(-1, 1)
        >>> t = bp.Trainer(bp.mlp([1, 8, 1], seed=0), loss="mse", optimizer=bp.Adam(lr=0.02))
        >>> history = t.fit(X, np.sin(X), epochs=30, batch_size=8, validation=0.2, patience=10, metrics="r2")
        >>> sorted(history)
        ['loss', 'lr', 'r2', 'seconds', 'val_loss']
        """
        options = fit_options.Options(
            epochs=epochs,
            pace=Pace(batch_size, accumulate, Brake(Callbacks(batch_callback, "batch_callback"), fit_options.seconds(max_time))),
            shuffle=shuffle,
            stop=fit_options.early_stopping(stop, patience, monitor, mode, min_delta),
            schedule=schedule,
            metrics=metrics,
            callbacks=Callbacks(callback, "callback"),
            checkpoint=fit_options.checkpoint_rule(checkpoint, checkpoint_every),
            progress=progress,
        )
        if options.checkpoint is not None:
            trainer_file.encode(self.net, self.__getstate__())  # what no file can hold is refused before hours of training
        fitting.fit(self._run, X, y, options, self.save, sample_weight=sample_weight, class_weight=class_weight, validation=validation)
        return self.history
