"""Trainer: the public class, built on an Engine (engine/) and a Run (loop/).

What t.step(X, y) does, with the file of each step:

1. `Trainer.step` below passes ndarrays unchanged to the backend's step, and all else after data/rows.py (Shape.arrays) has converted it.
   core/_core.pyx (Trainer.step, run) checks type, shape and strides. src/train/step.c does the step: forward, loss, backward, update. In
   the reference it is reference/trainer.py.
2. If the backend refuses an array, data/rows.py (Shape.read) raises a precise error. It also checks the arrays of custom losses.
3. engine/engine.py (Engine.step) does a step with the converted rows. It calls custom losses between forward and backward:
   engine/custom_loss.py.
4. If a loss or gradient is not finite, loop/run.py (Run.diverged) adds epoch, step and advice to the error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from ..core.checks import flag
from ..core.specs import Loss, LossName, OptimizerName, OptimizerSpec
from ..core.text import brief
from ..data.class_weight import ClassWeight
from ..data.sparse import READ_AS_THEY_ARE
from ..network.network import Network, seed_or_new
from ..network.predicting import Prediction
from ..network.states.state import State
from ..settings import metrics as metric_functions
from ..settings import optimizers
from ..settings.averages import Average
from ..settings.base import Settings
from ..settings.checkpoint import Checkpoint
from ..settings.metrics import Metrics
from ..settings.stopping import EarlyStopping
from . import trainer_file
from .engine import joining as several
from .engine import losses as loss_reader
from .engine.custom_loss import CustomLoss
from .engine.engine import Engine
from .engine.engine_state import LIMITS
from .kept import Kept
from .loop import arrays
from .loop import fit as fitting
from .loop import options as fit_options
from .loop.epoch import DEFAULT_BATCH, Batching
from .loop.rates import Numbers, read_schedule
from .loop.records.callbacks import Callback, Callbacks, StopCheck
from .loop.records.history import Record
from .loop.watch import entries_of

if TYPE_CHECKING:
    from ..settings.schedules import Schedule

OneLoss: TypeAlias = LossName | Loss | CustomLoss


class Trainer(Kept):
    """Trains one network: a loss, an optimizer and their state.

    net: the Network to train. A network may have several trainers. One thread at a time may use them: a call of a second thread raises
    RuntimeError.
    loss: a name, a bp.Loss, or a custom function f(outputs, targets, weight) -> (loss, gradient with respect to outputs) on arrays. For
    several outputs, a list of these, or a dict by the names or numbers of the outputs (`net.outputs[i].name`); or one function for all
    outputs, which gets lists of outputs and targets, and returns (loss, list of gradients). The outputs are raw, (rows, outputs); targets
    are y as an array of any shape, (rows, 1) for y of shape (rows,) and an output with one column, and None if y is None; weight has shape
    (rows,) or is None. A named loss determines the activation of its output: softmax, sigmoid, exp or identity. The trainer sets this
    activation in `net` if none is set yet. ValueError: a different one is set. None: no loss, for gradients of your own: see `forward` and
    `backward_from`.
    optimizer: settings such as bp.Adam(lr=1e-3), or a name, which uses the defaults. loss_weights: a factor for each output's loss, 1 by
    default, as a list or a dict by output. seed: for shuffling, dropout and noise; by default the net's seed.
    clip_layer_norm, clip_norm, clip_value: limits for the gradients that the optimizer gets, applied in this order: the Euclidean norm of
    each layer's gradient (weight and bias together), the norm of the gradient of all trained layers (Pascanu et al. 2013), the absolute
    value of each element. `grads` itself does not change.
    penalty_per_row: False: the layers' l1 and l2 penalties are added to the gradient of each batch, and losses do not contain them. True:
    the penalties are divided by the sum of weights of the batch (its number of rows), as in scikit-learn, so that the last, smaller batch
    feels them more; and the losses of `step`, `backward` and training contain them, those of `evaluate` and of validation do not. With a
    loss of your own, they are divided by the number of rows, and the loss is yours, without them.
    average: a running average of the weights, bp.EMA(decay) or bp.SWA(start, every); see `averaged`.
    standardize_targets: whether the first `fit` or `epochs` sets mean and std of the targets for each output that has none yet, from the
    targets that it trains on; see `net.set_output`. The trainer then learns from (target - mean) / std, of which are losses, gradients and
    raw outputs; `predict` and metrics are in the unit of the targets. For losses of numbers: "mse", "mae", "gaussian_nll", ...
    comm, shard, sync_every: train in several processes, the ranks of an MPI communicator such as mpi4py.MPI.COMM_WORLD, started by
    `mpiexec -n 4 python -m mpi4py train.py`; any object with its Get_rank, Get_size, Allreduce and Bcast. All ranks do the same calls. The
    batch of a `step`, `backward` or `fit` is that of all ranks together: gradients are added in rank order (data-parallel SGD), so that all
    ranks have the same parameters, to the bit, and those of one process up to rounding. Network, seed and parameters come from rank 0.
    shard=False: every rank gives its own rows, any number. True: all give the same rows, and each uses its part. sync_every=k: each rank
    trains alone on its rows, and after every k steps parameters and optimizer state become their means (local SGD: McMahan et al. 2017,
    Stich 2019), for slow networks. `evaluate` and `predict` are of this process alone. ValueError: the ranks' arguments differ, or a loss
    is of your own. RuntimeError "rank 1 failed: ...": an error of another rank. See docs/processes.md.

    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = (X[:, 0] * X[:, 1] > 0).astype(int)
    >>> t = bp.Trainer(bp.mlp([2, 16, 2], seed=0), loss="cross_entropy", optimizer=bp.Adam(lr=0.01))
    >>> history = t.fit(X, y, epochs=40, metrics="accuracy")
    >>> history["accuracy"][-1] > 0.9
    True
    """

    __slots__ = ("__weakref__",)

    def __init__(
        self,
        net: Network,
        loss: OneLoss | Sequence[OneLoss] | Mapping[Any, OneLoss] | None,
        optimizer: OptimizerName | optimizers.Optimizer | OptimizerSpec = "adam",
        loss_weights: Sequence[float] | Mapping[Any, float] | None = None,
        seed: int | None = None,
        *,
        clip_norm: float | None = None,
        clip_layer_norm: float | None = None,
        clip_value: float | None = None,
        average: Average | None = None,
        standardize_targets: bool = False,
        penalty_per_row: bool = False,
        comm: Any = None,
        shard: bool = False,
        sync_every: int = 1,
    ) -> None:
        if not isinstance(net, Network):
            raise TypeError(f"Trainer: net must be a bp.Network, not {type(net).__name__}")
        joining = several.read("Trainer", comm, shard, sync_every)
        with joining.joined():
            if average is not None and not isinstance(average, Average):
                raise TypeError(f"Trainer: average must be bp.EMA(), bp.SWA() or None, not {brief(average)}")
            losses = loss_reader.parse(loss, net)
            weights = loss_reader.parse_weights(loss_weights, losses, [output.name for output in net.outputs])
            limits = dict(zip(LIMITS, (clip_norm, clip_layer_norm, clip_value), strict=True))
            chosen = net.seed if seed is None else seed_or_new(seed)
            settings = {
                "standardize_targets": flag("Trainer: standardize_targets", standardize_targets),
                "penalty_per_row": flag("Trainer: penalty_per_row", penalty_per_row),
            }
            seed = joining.agree(net, losses, optimizer, chosen, loss_weights=weights, average=average, **limits, **settings)
            engine = Engine(net, losses, optimizer, weights, seed, average, limits, **settings)
            joining.join(engine)
        self._attach(engine)

    # ---- steps ----

    def step(
        self,
        X: Any,  # noqa: N803
        y: Any = None,
        sample_weight: Any = None,
        lengths: Any = None,
        state: State | None = None,
    ) -> float:
        """One training step: forward, backward, update. Returns the batch loss before the update.

        X: shape (rows, features); a list of such arrays for several inputs. y: shape (rows, outputs), or (rows,) for a single output or
        for integer labels with "cross_entropy"; for several outputs a list, or a dict by the names or numbers of the outputs. None: there
        are no targets; losses of your own, and outputs whose loss weight is 0, need none. sample_weight: shape (rows,), at least 0 and not
        all 0, by default all 1. The batch loss is the sum of weight x row loss, divided by the sum of weights. A row of weight 0 is not
        there: the result is the same as without it, and its values, which may be NaN, are not read. The same is true of the targets of an
        output whose loss weight is 0.

        Weights of single targets: shape (rows, outputs); for several outputs a list or dict with one for each, (rows,) or (rows, outputs),
        where None is all 1. Targets that are missing (bp.Loss) have weight 0. The loss of each output is then the sum of weight x loss of
        the target, divided by the sum of the output's weights (for "half_sse", times its number of columns). An output without targets
        adds 0; a row without a target in any output is not there.

        state: from `net.state(rows)`: recurrent layers go on from it, and it becomes that after X. No gradient flows into it (truncated
        back-propagation). All rows go on, also those of weight 0 or without targets, so X must be finite in them.
        lengths: for a bp.Sequence, how many positions of each row are there, (rows,), as in `net.predict`. The others have no loss, no
        gradient and no statistics.

        ValueError or TypeError: the arrays do not fit the network. FloatingPointError: the loss or a gradient is not finite. After an
        error, nothing has changed.

        >>> t = bp.Trainer(bp.mlp([3, 4, 1], seed=0), loss="mse")
        >>> X, y = np.ones((8, 3)), np.ones(8)
        >>> t.step(X, y) > t.step(X, y)
        True
        """
        plain = self._plain
        try:
            if lengths is not None or state is not None:
                pass
            elif type(y) is plain and type(X) in READ_AS_THEY_ARE and (sample_weight is None or type(sample_weight) is plain):
                return self._step(X, y, sample_weight)
            elif plain is not None:
                if type(y) is dict:
                    y, sample_weight = self._engine.shape.by_output(y, sample_weight)
                if type(y) is list and type(X) is plain and sample_weight is None:
                    for target in y:  # the backend itself refuses another number of targets
                        if type(target) is not plain:
                            break
                    else:
                        return self._step(X, y, None)
                return self._step(*self._engine.shape.arrays(X, y, sample_weight))
        except (TypeError, ValueError, FloatingPointError):
            pass  # the code below raises an error that names the cause
        if self._engine.ranks is not None and self._engine.must_join:
            with self._engine.joined(closes=False):
                return Trainer.step(self, X, y, sample_weight, lengths, state)
        rows = self._engine.read_batch(X, y, sample_weight, lengths)
        try:
            return self._engine.step(rows, self._engine.core_state(state, rows, "step"))
        except FloatingPointError as error:
            raise self._run.diverged(error, rows) from error

    def backward(
        self,
        X: Any,  # noqa: N803
        y: Any = None,
        sample_weight: Any = None,
        accumulate: bool = False,
        total: float | Sequence[float] | None = None,
        first_row: int = 0,
        input_grads: bool = False,
        lengths: Any = None,
        state: State | None = None,
    ) -> float:
        """Computes the gradient of the loss and of the layers' l1 and l2 penalties into `grads`. Returns the loss; changes no parameter.

        X, y, sample_weight, lengths: as in `step`. accumulate: add to `grads` instead of overwriting them. total: for a part of a larger
        batch, the sum of weights of the whole batch, or a list of one for each output (of weights of targets, the sum over the rows of
        their mean; 0: the output has no target); first_row: the position in the batch of the part's first row, not counting rows of
        weight 0. The losses and gradients of the parts, also of those on other machines, then add up to those of the batch, except with
        batch_norm, which normalizes each part by its own rows, as in PyTorch. A part without rows, or whose weights are all 0, adds
        nothing. A custom loss that raises an error or returns an invalid result changes nothing. input_grads: also compute `input_grads`,
        0 for rows of weight 0. state: as in `step`.

        >>> t = bp.Trainer(bp.mlp([3, 4, 1], seed=0), loss="mse")
        >>> X, y = np.ones((8, 3)), np.ones(8)
        >>> loss = t.backward(X[:4], y[:4], total=8) + t.backward(X[4:], y[4:], accumulate=True, total=8, first_row=4)
        >>> abs(loss - t.evaluate(X, y)) < 1e-6
        True
        """
        if self._engine.ranks is not None and self._engine.must_join:
            with self._engine.joined(closes=False):
                return Trainer.backward(self, X, y, sample_weight, accumulate, total, first_row, input_grads, lengths, state)
        rows = self._engine.read_batch(X, y, sample_weight, lengths, is_part=total is not None)
        try:
            goes_on = self._engine.core_state(state, rows, "backward")
            return self._engine.backward(rows, accumulate, total, first_row, input_grads, goes_on)
        except FloatingPointError as error:
            raise self._run.diverged(error, rows) from error

    # ---- evaluation ----

    def evaluate(
        self,
        X: Any,  # noqa: N803
        y: Any = None,
        sample_weight: Any = None,
        lengths: Any = None,
        state: State | None = None,
    ) -> float:
        """The loss on any number of rows, without dropout and noise. Changes nothing. X, y, sample_weight, lengths: as in `step`; of
        several outputs, y is a list, or a dict by output. state: as in `step`; it changes.

        If X or y contains NaN in a row with a weight above 0, the loss is NaN.

        >>> t = bp.Trainer(bp.mlp([3, 2], seed=0), loss="mse")
        >>> t.evaluate(np.zeros((5, 3)), np.zeros((5, 2)))
        0.0
        """
        try:
            if self._plain is not None and state is lengths is None:
                return self._engine.array_evaluate(*self._engine.shape.arrays(X, y, sample_weight))
        except (TypeError, ValueError):
            pass  # the code below raises an error that names the cause
        rows = self._engine.read(X, y, sample_weight, lengths=lengths)
        return self._engine.evaluate(rows, self._engine.core_state(state, rows, "evaluate"))

    def predict(
        self,
        X: Any,  # noqa: N803
        raw: bool = False,
        out: Any = None,
        at: Any = None,
        training: bool = False,
        seed: int | None = None,
        lengths: Any = None,
        state: State | None = None,
    ) -> Prediction:
        """Calls `net.predict`: probabilities for "cross_entropy" and "bce", rates for "poisson". raw=True: the outputs that the loss gets.

        >>> t = bp.Trainer(bp.mlp([3, 2], seed=0), loss="cross_entropy")
        >>> t.predict(np.zeros((1, 3)))
        array([[0.5, 0.5]], dtype=float32)
        """
        return self.net.predict(X, raw, out, at, training, seed, lengths, state)

    # ---- epochs ----

    def epochs(
        self,
        X: Any,  # noqa: N803
        y: Any = None,
        sample_weight: Any = None,
        batch_size: int = DEFAULT_BATCH,
        order: Any = None,
        *,
        class_weight: ClassWeight | None = None,
        accumulate: int = 1,
        schedules: Mapping[str, str | Schedule | Callable[[int], float]] | None = None,
        lengths: Any = None,
    ) -> Iterator[Record]:
        """An endless iterator: each iteration trains one epoch and yields its record. Stop with `break`.

        order: the indices of the rows that each epoch trains on, in this order; if None, each epoch shuffles all rows. Rows of weight 0 are
        passed over. Other arguments: as in `fit`; a schedule needs a length.

        >>> t = bp.Trainer(bp.mlp([3, 1], seed=0), loss="mse")
        >>> for record in t.epochs(np.ones((40, 3)), np.ones(40)):
        ...     if record.loss < 1e-3 or record.epoch == 5:
        ...         break
        >>> t.epoch, t.steps
        (5, 10)
        """
        with self._engine.joined():
            batching = fit_options.for_all_rows(self._engine, Batching(batch_size, accumulate), schedules=schedules)
            batching = fit_options.in_team(self._engine, batching, {"schedules": schedules, "order": order is not None}, "epochs")
            rows = arrays.read_rows(self._engine, X, y, sample_weight, lengths, batching.team)
            rows, trained = arrays.weigh(self._engine, rows, rows.active(), class_weight, batching.team)
            if order is not None:
                trained = arrays.check_order(order, rows)
            numbers = Numbers(self._run, schedules, None)
            is_shuffled = order is None and not self._engine.is_solver
            return arrays.arrays_of(rows, trained, is_shuffled, batching).endless(self._run, numbers)

    def fit(
        self,
        X: Any,  # noqa: N803
        y: Any = None,
        *,
        epochs: int,
        batch_size: int = DEFAULT_BATCH,
        sample_weight: Any = None,
        class_weight: ClassWeight | None = None,
        rows: Any = None,
        shuffle: bool = True,
        carry_state: bool = False,
        validation: float | tuple[Any, ...] | np.ndarray[Any, Any] | None = None,
        patience: int | None = None,
        monitor: str = "val_loss",
        mode: Literal["min", "max"] | None = None,
        min_delta: float = 0.0,
        stop: EarlyStopping | None = None,
        schedule: str | Schedule | Callable[[int], float] | None = None,
        schedules: Mapping[str, str | Schedule | Callable[[int], float]] | None = None,
        metrics: Metrics = (),
        callback: Callback | Sequence[Callback] | None = None,
        batch_callback: Callback | Sequence[Callback] | None = None,
        accumulate: int = 1,
        max_time: float | timedelta | None = None,
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
        checkpoint_every: int | timedelta = 1,
        progress: bool | None = None,
        lengths: Any = None,
        goal: float | None = None,
        gradient_tolerance: float | None = None,
        max_fail: int | None = None,
        watch: Literal["layers"] | None = None,
    ) -> dict[str, list[float]]:
        """Trains for `epochs` more epochs and returns `history`.

        X, y, sample_weight, lengths: as in `step`, with any number of rows; of several outputs, y is a list, or a dict by output. X without
        y is a stream, unless it is an array (for several inputs a list of arrays) and no loss needs targets: an iterable of chunks (X, y),
        (X, y, weight) or (X, y, weight, lengths), or a function that returns one for each epoch, such as a generator function. One chunk
        is in memory at a time. Rows are shuffled within their chunk; a batch may span two chunks. For a schedule without a length, fit
        first reads the whole stream to count its rows. An invalid chunk raises an error after the chunks before it have been trained on. A
        chunk without rows, or whose weights are all 0, is passed over.

        batch_size: rows per update; the last batch of an epoch may be smaller. shuffle: a new order for each epoch.
        carry_state: recurrent layers go on from batch to batch: row i of a batch goes on where row i of the batch before ended. An epoch
        starts from zeros. Rows stay in their order; not with a stream.
        class_weight: multiplies each training row's weight by a factor for its class: {label: weight} (1 for missing labels), a list with a
        weight per class, or "balanced", rows / (classes x rows of the class), where `sample_weight` counts rows by their weights. For
        labels with "cross_entropy", or one column with "bce" or "hinge". For several outputs a dict: {"policy": "balanced"}.
        rows: the indices of the rows to use; None: all. The result has the bits of a fit on X[rows], but X is not copied. They may repeat.

        validation: (X, y), (X, y, weight), (X, y, weight, lengths), or the rows to hold out: a fraction of those with a weight above 0, or
        an array of indices.
        patience: stop after this many epochs in which `monitor` ("val_loss", "loss", of an output "val_loss_policy", or a metric;
        "val_accuracy" means "accuracy" of the validation rows, the name of the entry remains "accuracy") has not improved on its best by
        more than `min_delta`; then restore the best epoch's state: parameters, optimizer, average, `lr`, `schedule`, `steps` and `epoch`.
        `history` keeps the epochs after it.
        mode: "min" or "max"; if None, determined by the metric's name. stop: a bp.EarlyStopping(patience, ...), instead of patience,
        monitor, mode and min_delta. max_fail: MATLAB's name for `patience` with "val_loss".
        schedule: a schedule such as bp.Cosine(lr=0.1) or "cosine(lr=0.1)", or a function that takes the number of updates so far and
        returns the learning rate. It is called for all updates of an epoch (or chunk) before the first of them, even if `max_time` or a
        callback ends the epoch early. The rates overwrite `t.lr`, which keeps the last one. `t.schedule` keeps a schedule, not a function;
        pass it to a later fit to continue it.
        schedules: the same for other numbers by name: {"weight_decay": bp.Cosine(0.02), "dropout": bp.CosLog(1)}, where "dropout" is the
        factor `t.dropout` of all dropout rates. Each number is set at the start of each epoch, to the value after as many updates as there
        have been, which it keeps after fit. A schedule without a length starts at the trainer's first update and ends with this fit, so
        that a fit with the same schedules continues an interrupted one. Any parameter of the optimizer of which an update needs only the
        present value can have one, such as momentum, but not lr and betas.

        metrics: a name, a function, a bp.Metric, a list of these, or a dict of them by the name of their entry. With several outputs, a key
        that is the name or number of an output chooses metrics of this output: {"policy": "accuracy", "value": ["rmse", f]} has the
        entries "accuracy_policy", "rmse_value" and "f_value". They are computed on the
        validation rows if there are any, else on the training rows, with these rows' weights (without class_weight). Names use the rule
        of the loss. For "cross_entropy": "accuracy", "subset_accuracy", "balanced_accuracy", "f1", "auc", "log_loss", "brier", "top_3"; for
        "bce" the same without "top_3"; for "hinge" the first five; for "bce" and losses of numbers "rmse", "mae", "r2", "pinball". Each
        has a function with an explanation: help(bp.f1). A function f(y, predictions) gets sample_weight= too if it has this parameter, as
        scikit-learn's have; for labels instead of predictions, pass bp.Metric(f, on="labels"). For several outputs, a function
        that is not of one output gets lists.

        callback: a function or a list of functions, called with the record of each epoch; if one returns True, fit stops.
        batch_callback: the same after each update, with a record of epoch, loss, lr and steps; if one returns True, the epoch and fit stop.
        accumulate: the number of micro-batches of batch_size rows per update. The update is the same as with one large batch, up to
        rounding, and needs less memory; not with batch_norm, which normalizes each micro-batch by its own rows, as in PyTorch. With
        accumulate or batch_callback, fit loops over batches in Python, which is slower for small networks.

        max_time: seconds, or a datetime.timedelta. When this time has passed, fit stops after an update, within about 50 ms. The incomplete
        epoch has a record too.

        checkpoint: a file to `save` to at the end and after every `checkpoint_every` epochs; if checkpoint_every is a datetime.timedelta,
        after an epoch when this time has passed since the last save. Or a bp.Checkpoint(path, every=...). This program gives the result of
        one uninterrupted fit, however often it is started again after a crash, Ctrl-C or its end, with early stopping too (`finished`):

            t = Trainer.load(path) if os.path.exists(path) else Trainer(...)
            t.fit(X, y, epochs=100 - t.epoch, schedule=t.schedule or bp.Cosine(lr=0.01), checkpoint=path, ...)

        goal: stop after an epoch whose loss is at most this. gradient_tolerance: stop after an epoch after which no element of `grads` has
        an absolute value above this; meaningful with all rows in a batch. `stop_reason` tells what has ended the fit. An optimizer that
        uses all rows at once, such as bp.LBFGS, does one iteration in each epoch, without batch_size, shuffle, schedules and accumulate;
        the loss of a record is that after its iteration; fit also stops if no better point is found.

        progress: whether to print a progress line to stderr; by default, only to a terminal or in a notebook.

        watch: "layers" adds for each layer of `net.layers` the entries "dense_0.activation", ".gradient", ".weight" and ".update", of the
        last update of an epoch: the root mean square of the layer's output over up to 64 of the update's rows, and the Euclidean norms of
        the gradient, the parameters, and their change (weight and bias together). update / weight is about 1e-3 where training goes well.
        The training does not change by a bit. Measuring takes 1 to 3 % of the time of the fit: the first and the last epoch are measured,
        and others when there is time, which depends on the clock; NaN stands for those passed over, and for one that ends before its last
        update. bp.Standardize has only ".activation". Not with comm. See docs/watching.md.

        ValueError, TypeError or OSError: an argument is invalid; nothing has changed. If a metric or the validation raises an error, the
        epoch does not count: `epoch` and `history` do not contain it, `steps` does. FloatingPointError: the loss or a gradient is not
        finite. After Ctrl-C, network and history are valid.

        >>> X = np.linspace(-1, 1, 40).reshape(-1, 1)
        >>> t = bp.Trainer(bp.mlp([1, 8, 1], seed=0), loss="mse", optimizer=bp.Adam(lr=0.02))
        >>> history = t.fit(X, np.sin(X), epochs=30, batch_size=8, validation=0.2, patience=10, metrics="r2")
        >>> sorted(history)
        ['loss', 'lr', 'r2', 'seconds', 'val_loss']
        >>> t.reset()
        >>> _ = t.fit(X, np.sin(X), epochs=4, batch_size=8, schedules={"weight_decay": bp.Polynomial(0.02)})
        >>> round(t.weight_decay, 6)  # the last epoch starts after 15 of 20 updates
        0.005
        """
        with self._engine.joined():
            self._engine.check_losses()
            named_metrics = metric_functions.resolve(metrics, self._engine.shape.names)
            entries = entries_of(self._engine, named_metrics, validation is not None)
            stop_check = StopCheck(Callbacks(batch_callback, "batch_callback"), fit_options.seconds(max_time))
            options = fit_options.Options(
                epochs=epochs,
                batching=fit_options.for_all_rows(
                    self._engine,
                    Batching(batch_size, accumulate, stop_check, carry_state, layers=fit_options.layer_watch(self._engine, watch, entries)),
                    schedule=schedule,
                    schedules=schedules,
                ),
                shuffle=shuffle,
                stop=fit_options.early_stopping(stop, patience, monitor, mode, min_delta, entries, max_fail),
                schedule=schedule,
                schedules=schedules,
                metrics=named_metrics,
                callbacks=Callbacks(callback, "callback"),
                checkpoint=fit_options.checkpoint_rule(checkpoint, checkpoint_every),
                progress=progress,
                goal=goal,
                gradient_tolerance=gradient_tolerance,
            )
            with self._engine.training():
                if options.checkpoint is not None:  # if the trainer cannot be saved, raises an error now, not after hours
                    kept = self.schedule if schedule is None else read_schedule(schedule) if isinstance(schedule, str | Settings) else None
                    trainer_file.check({"optimizer": self.optimizer, "averaging": self.averaging, "schedule": kept, "stop": options.stop})
                data = {
                    "sample_weight": sample_weight,
                    "class_weight": class_weight,
                    "validation": validation,
                    "chosen": rows,
                    "lengths": lengths,
                }
                fitting.fit(self._run, X, y, options, self.save, **data)
                return self.history
