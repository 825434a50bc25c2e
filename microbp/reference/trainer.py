"""Training: the losses of the outputs, gradients by the chain rule, and an optimizer over the flat vector of all parameters."""

from __future__ import annotations

import math
import sys
from array import array
from collections.abc import Callable, Sequence, Set
from operator import add
from typing import Any

from .arrays import Batch, buffer, counted, read_index, read_labels, read_matrix, read_weights, rows_of, several
from .autodiff import Matrix, dot, gradients, reachable
from .clipping import Average, clipped, limit_norms
from .formulas import TRAINER_SETTINGS, penalty, row_losses
from .net import Net, Pass, Tensor
from .optimizers import trusted
from .random import Place
from .sharing.lock import locked
from .spec import Interval, Spec, check_parameter, number_text, parameters, unknown

_LOSSES = {"loss": "_loss", "last_loss": "_last_loss"}  # name for `get`: attribute
_COUNTS = ("average_count", "epoch")
_STEPS_MAX = 9 * 10**18  # leaves room for more updates than anyone can make

Losses = Callable[[list[Any]], tuple[float, Sequence[Any]]]
Ends = list[tuple[Matrix, list[float]]]  # where a backward pass starts: (matrix, derivative of the loss with respect to it)


@locked(holds="evaluate input_grads set steps reset set_average", trains="step backward apply forward backward_from step_with epoch")
class Trainer:
    """The losses of the outputs, an optimizer, and their state for one net. A loss is None if the caller passes its gradient to
    backward_from.

    `grads` and each of `slots` are flat vectors in the order of the net's parameters. seed: of dropout and noise; None: the net's seed.
    """

    def __init__(
        self, net: Net, losses: Sequence[str | None], loss_weights: Sequence[float], optimizer: str, seed: int | None = None
    ) -> None:
        for what, given in (("losses", losses), ("loss_weights", loss_weights)):
            if len(given) != len(net.graph.outputs):
                raise ValueError(f"{what} has {counted(len(given), 'item')}, but the net has {counted(len(net.graph.outputs), 'output')}")
        self.net, self.hold = net, net.hold
        self.seed = net.seed if seed is None else seed
        self._losses = [None if text is None else Spec.parse("loss", text) for text in losses]
        self._loss_weights = [_finite(weight, f"loss_weights[{i}]") for i, weight in enumerate(loss_weights)]
        self._optimizer = Spec.parse("optimizer", optimizer)
        self._values = dict(self._optimizer.values)
        self._settings = {name: default for name, (default, _) in parameters(TRAINER_SETTINGS).items()}
        self._average: Average | None = None
        self.grads = self._zeros()
        self.slots = {name: self._zeros() for name in self._optimizer.entry.slots}
        self._start_optimizer()
        self._pass: Pass | None = None
        self._pending: array | None = None  # the buffers after the next update
        self._input_grads: list[Matrix] | None = None
        for i, (loss, output) in enumerate(zip(self._losses, net.graph.outputs)):
            if loss and loss.entry.targets == "LABELS" and net.graph.nodes[output.node].width < 2:
                raise ValueError(f"output {i} has 1 column, but {loss.name} needs at least 2, one per class; for 1 column use bce")
            if loss:
                _check_activation(i, output.activation, loss)
        with net.hold(), net.gate:  # last, so that a failed check changes nothing
            for loss, output in zip(self._losses, net.graph.outputs):
                if loss:
                    output.activation = loss.entry.detail

    # ---- the three parts of a step ----

    def step(self, x: Any, y: Any, weight: Any = None) -> float:
        """Forward, loss, backward, update; returns the batch loss."""
        batch = self._read_batch(x, y, weight).checked()
        self._check_statistics(len(batch.weights))
        return self._train(batch)

    def backward(
        self,
        x: Any,
        y: Any,
        weight: Any = None,
        accumulate: bool = False,
        total: float = 0.0,
        first_row: int = 0,
        input_grads: bool = False,
    ) -> float:
        """Computes the gradient without an update; returns the loss. total: the sum of the row weights of the whole logical batch (0: of
        this batch). With `total`, no row need be there: the sum over no rows is 0."""
        if not (total == 0 or sys.float_info.min <= total < math.inf):
            needs = "finite and at least 2.3e-308, or 0 (to use the sum of this batch)"
            raise ValueError(f"total must be the sum of all row weights, {needs}")
        if first_row < 0:
            raise ValueError(f"first_row is {first_row}, but must be at least 0")
        batch = self._read_batch(x, y, weight, input_grads)
        if first_row >= 2**63 - len(batch.weights):
            rows = counted(len(batch.weights), "row")
            raise ValueError(f"first_row is {first_row}: with {rows}, row numbers would exceed 2^63 - 1")
        self._check_statistics(len(batch.weights))
        divisor = total or batch.checked().total
        losses, result, ends = self._forward_loss(batch, divisor, self._place(first_row))
        self._check_losses(losses)
        found = self._gradients(result, ends, accumulate, batch.total / divisor)
        self._store_gradients(result, found, input_grads)
        if self._input_grads is not None:
            self._input_grads = [batch.spread(gradient) for gradient in self._input_grads]
        self._prepare_statistics(result, accumulate)
        self._loss = sum(losses) + (self._loss if accumulate and not math.isnan(self._loss) else 0.0)
        return sum(losses)

    def apply(self) -> None:
        """Updates the parameters with the current `grads`."""
        self._check_gradients(self.grads)
        self._update()

    # ---- a step in parts, for a custom loss ----

    def forward(self, x: Any) -> list[memoryview]:
        """Runs a forward pass in training; returns the raw outputs."""
        inputs = self.net.read_inputs(several(x, len(self.net.graph.inputs), "x"), wanted=True)
        if inputs[0].rows == 0:
            raise ValueError("the batch has 0 rows, but needs at least 1")
        self._check_statistics(inputs[0].rows)
        self._pass = self.net.forward(inputs, self._place(0), self._settings["dropout"])
        return [buffer(output, self.net.format) for output in self._pass.outputs]

    def backward_from(self, gradients: Sequence[Any], accumulate: bool = False, input_grads: bool = False) -> None:
        """Runs the backward pass of the last `forward`, from the gradients with respect to its raw outputs."""
        if self._pass is None:
            raise ValueError("the outputs have no values: call forward first")
        outputs = self._pass.outputs
        if len(gradients) != len(outputs):
            raise ValueError(f"gradients has {counted(len(gradients), 'array')}, but the net has {counted(len(outputs), 'output')}")
        read = [read_matrix(g, o.cols, self.net.format, f"gradient {i}", o.rows) for i, (g, o) in enumerate(zip(gradients, outputs))]
        ends = [(output, g.data) for output, g in zip(outputs, read)]
        found = self._gradients(self._pass, ends, accumulate, share=0.0 if accumulate else 1.0)
        self._store_gradients(self._pass, found, input_grads)
        self._prepare_statistics(self._pass, accumulate)
        self._loss = math.nan

    def step_with(self, x: Any, losses: Losses, accumulate: bool = False, input_grads: bool = False, update: bool = True) -> float:
        """A step, or without update a `backward`. losses(raw outputs) returns the loss and its gradients, and may do all but train."""
        outputs = self.forward(x)
        with self.net.guest():
            loss, gradients = losses(outputs)
        before = self._loss if accumulate and not math.isnan(self._loss) else 0.0
        self.backward_from(gradients, accumulate, input_grads)
        self._loss = before + loss
        if update:
            self.apply()
        return loss

    # ---- evaluation and epochs ----

    def evaluate(self, x: Any, y: Any, weight: Any = None) -> float:
        """The loss of a batch of any size, in inference."""
        batch = self._read_batch(x, y, weight).checked()
        losses, _, _ = self._forward_loss(batch, batch.total, None)
        return sum(losses)

    def epoch(self, x: Any, y: Any, weight: Any, index: Any, batch_rows: int, lr: Any, stop: Any = None) -> float:
        """One step for each `batch_rows` rows of `index` (None: all rows, in order); rows of weight 0 are passed over. lr: a learning rate
        for each step, and any for steps that there are not because of such rows; None: the trainer's "lr" for all steps. "lr" itself does
        not change. stop: a function that is called after each step; the epoch ends if it returns True.

        Returns the weighted mean of the row losses, each computed in the step that trains on the row.
        """
        data = self._read_batch(x, y, weight, index=index).checked()
        batches = [batch.checked() for batch in data.split(batch_rows)]
        self._check_statistics(len(batches[-1].weights))
        rates = self._read_rates(lr, -(-data.given // batch_rows))
        own_lr = self._values["lr"]
        try:
            return self._run_epoch(batches, rates, stop or (lambda: False))
        finally:
            self._values["lr"] = own_lr

    def _run_epoch(self, batches: list[Batch], rates: list[float], stop: Callable[[], bool]) -> float:
        loss, total = 0.0, 0.0
        for batch, rate in zip(batches, rates):
            self._values["lr"] = rate
            loss += self._train(batch) * batch.total
            total += batch.total
            with self.net.guest():
                if stop():
                    break
        return loss / total

    def input_grads(self) -> list[memoryview]:
        """The gradients with respect to the inputs, of the last backward with input_grads=True."""
        if self._input_grads is None:
            raise ValueError("input 0 has no gradient: call backward with input_grads=1 first")
        return [buffer(gradient, self.net.format) for gradient in self._input_grads]

    # ---- settings and state ----

    def get(self, name: str) -> float:
        """A parameter of the optimizer, or a limit for gradient clipping, by name. "dropout": the factor of all dropout rates. "loss": the
        loss of the current gradients; "last_loss": the loss of the gradients of the last update; both are NaN if unknown. "epoch": a count
        that the caller keeps."""
        if name in _LOSSES:
            return getattr(self, _LOSSES[name])
        if name in _COUNTS:
            return float(self.average_count if name == "average_count" else self._epoch)
        values = self._values | self._settings
        if name not in values:
            raise self._unknown(name)
        return values[name]

    def _unknown(self, name: str) -> ValueError:
        valid = f"{self._optimizer.entry.parameters} {TRAINER_SETTINGS} loss last_loss average_count epoch"
        return unknown(f"a trainer with {self._optimizer.name} has no parameter", name, valid.split())

    def set(self, name: str, value: float) -> None:
        """Sets a value that `get` returns, except decay_bias, which cannot be changed."""
        if name in _LOSSES:
            setattr(self, _LOSSES[name], float(value))
            return
        if name in _COUNTS:
            return self._set_count(name, float(value))
        if name in self._settings:
            self._settings[name] = check_parameter(TRAINER_SETTINGS, name, float(value))
            return
        if name == "decay_bias":
            raise ValueError('decay_bias cannot be changed: create a trainer with it, such as "adam(decay_bias=1)"')
        if name not in self._values:
            raise self._unknown(name)
        self._values[name] = check_parameter(self._optimizer.entry.parameters, name, float(value))

    @property
    def steps(self) -> int:
        """The number of updates so far. Setting it resets both losses to NaN. To restore an earlier state, also write the slots."""
        return self._steps

    @steps.setter
    def steps(self, steps: int) -> None:
        if not 0 <= steps <= _STEPS_MAX:
            raise ValueError(f"steps is {steps}, but must be {'at least 0' if steps < 0 else f'at most {_STEPS_MAX}'}")
        self._steps = int(steps)
        self._loss = self._last_loss = math.nan

    def reset(self) -> None:
        """Zeroes gradients and average, and resets slots, step count and losses."""
        _copy(self.grads, self._zeros())
        if self._average:
            _copy(self._average.vector, array(self.net.format, [0.0] * len(self._average.vector)))
            self._average.count = 0
        self._pending = None
        self._start_optimizer()

    def _start_optimizer(self) -> None:
        self._epoch = 0  # the caller's count
        for name, start in self._optimizer.entry.slots.items():
            _copy(self.slots[name], array(self.net.format, [self._values[start] if start else 0.0]) * len(self.net.params))
        self.steps = 0

    # ---- the average of [parameters, buffers] ----

    def set_average(self, decay: float, start: int, every: int) -> None:
        """Keeps an average of the states after the updates start, start + every, ... decay=1: all states have the same weight."""
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must be in [0,1], not {number_text(decay)}")
        for name, value, least in (("start", start, 0), ("every", every, 1)):
            if value < least:
                raise ValueError(f"{name} is {value}, but must be at least {least}")
        size = len(self.net.params) + len(self.net.buffers)
        self._average = Average(array(self.net.format, [0.0] * size), float(decay), start, every)

    @property
    def average(self) -> array | None:
        """The average: parameters, then buffers; None if there is none."""
        return self._average.vector if self._average else None

    @property
    def average_count(self) -> int:
        """The number of states in the average."""
        return self._average.count if self._average else 0

    def _set_count(self, name: str, count: float) -> None:
        if not (0 <= count <= 2**53 and count.is_integer()):
            raise ValueError(f"{name} must be a whole number of at least 0, not {number_text(count)}")
        if name == "epoch":
            self._epoch = int(count)
        elif self._average:
            self._average.count = int(count)
        elif count:
            raise ValueError(f"average_count cannot be {number_text(count)}: the trainer has no average")

    # ---- reading ----

    def _zeros(self) -> array:
        return array(self.net.format, bytes(self.net.params.itemsize * len(self.net.params)))

    def _read_batch(self, x: Any, y: Any, weight: Any, wanted: bool = False, index: Any = None) -> Batch:
        """The rows of `index` (None: all) that are there. Of the others, no value is read."""
        if None in self._losses:
            hint = "use forward, and backward_from with a gradient that you compute"
            raise ValueError(f"output {self._losses.index(None)} has no loss: {hint}")
        inputs = self.net.read_inputs(several(x, len(self.net.graph.inputs), "x"), wanted)
        rows = inputs[0].rows
        ys = several(y, len(self._losses), "y")
        asked = read_index(index, rows)
        chosen, weights = read_weights(weight, rows, asked)
        targets = [self._read_targets(i, target, rows, chosen if self._loss_weights[i] else []) for i, target in enumerate(ys)]
        return Batch([rows_of(matrix, chosen) for matrix in inputs], targets, weights, chosen, len(asked))

    def _read_targets(self, i: int, y: Any, rows: int, chosen: Sequence[int]) -> Matrix:
        """The targets of the chosen rows, of `rows` in total."""
        loss, cols = self._losses[i], self.net.graph.nodes[self.net.graph.outputs[i].node].width
        what = f"target {i}"
        if loss.entry.targets == "LABELS":
            labels = read_labels(y, rows, cols, what, chosen, loss.name)
            if labels is not None:
                return labels
        targets = rows_of(read_matrix(y, cols, self.net.format, what, rows), chosen)
        _check_targets(targets, loss, what, chosen)
        return targets

    def _read_rates(self, lr: Any, steps: int) -> list[float]:
        if lr is None:
            return [self._values["lr"]] * steps
        rates = read_matrix(lr, 1, "d", "lr", steps).data
        return [check_parameter(self._optimizer.entry.parameters, "lr", rate) for rate in rates]

    # ---- computing ----

    def _place(self, first_row: int) -> Place:
        return Place(self.seed, self._steps, first_row)

    def _forward_loss(self, batch: Batch, total: float, training: Place | None) -> tuple[list[float], Pass, Ends]:
        """The loss of each output, the forward pass, and where the backward pass starts: the row losses, with the derivatives
        loss weight x row weight / total."""
        if not batch.weights:  # no row is there, and the sum over no rows is 0
            tensors = [Matrix(tensor.rows, tensor.cols, self.net.params[tensor.place].tolist()) for tensor in self.net.layout]
            return [0.0] * len(self._losses), Pass(batch.inputs, tensors, [], [], []), []
        result = self.net.forward(batch.inputs, training, self._settings["dropout"])
        losses, ends = [], []
        for loss, loss_weight, output, target in zip(self._losses, self._loss_weights, result.outputs, batch.targets):
            if loss_weight == 0:  # there are no targets; only the penalties of the output's layers remain
                losses.append(0.0)
                ends.append((output, [0.0] * len(output.data)))
                continue
            of_rows = row_losses(loss.entry, output, target, **loss.values)
            shares = [loss_weight * weight / total for weight in batch.weights]
            losses.append(dot(shares, of_rows.data))
            ends.append((of_rows, shares))
        return losses, result, ends

    def _train(self, batch: Batch) -> float:
        losses, result, ends = self._forward_loss(batch, batch.total, self._place(0))
        self._check_losses(losses)
        found = self._gradients(result, ends, accumulate=False, share=1.0)
        self._check_gradients(found[0])
        self._store_gradients(result, found, input_grads=False)
        self._prepare_statistics(result, accumulate=False)
        self._loss = sum(losses)
        self._update()
        return sum(losses)

    def _check_losses(self, losses: list[float]) -> None:
        for i, (spec, loss) in enumerate(zip(self._losses, losses)):
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss of output {i} ({spec}) is {loss}, not a finite number")

    def _gradients(self, result: Pass, ends: Ends, accumulate: bool, share: float) -> tuple[array, list[list[float]]]:
        """The flat gradient, and the gradients with respect to the inputs. accumulate: adds self.grads. Frozen layers get 0.
        The gradient includes that of the penalties, times `share`."""
        penalties = self._penalties(result, reachable(end for end, _ in ends))
        ends = ends + [(end, [share] * len(end.data)) for end in penalties]
        found = gradients(ends, result.tensors + result.inputs)
        flat = self._zeros()
        for tensor, gradient in zip(self.net.layout, found):
            if not self._is_frozen(tensor):
                before = self.grads[tensor.place] if accumulate else [0.0] * len(gradient)
                flat[tensor.place] = array(self.net.format, map(add, before, gradient))
        return flat, found[len(result.tensors) :]

    def _penalties(self, result: Pass, reached: Set[Matrix]) -> list[Matrix]:
        """The penalties of the weights that the loss depends on."""
        found = []
        for tensor, matrix in zip(self.net.layout, result.tensors):
            settings = self.net.graph.layers[tensor.layer].settings
            if tensor.is_matrix and matrix in reached and (settings["l1"] or settings["l2"]):
                found.append(penalty(matrix, settings["l1"], settings["l2"]))
        return found

    def _check_gradients(self, flat: array) -> None:
        for tensor in self.net.layout:
            if not self._is_frozen(tensor) and not all(map(math.isfinite, flat[tensor.place])):
                raise FloatingPointError(f"the gradient of layer {tensor.layer} ({tensor.name}) is not finite")

    def _store_gradients(self, result: Pass, found: tuple[array, list[list[float]]], input_grads: bool) -> None:
        flat, inputs = found
        _copy(self.grads, flat)
        self._input_grads = [Matrix(x.rows, x.cols, g) for x, g in zip(result.inputs, inputs)] if input_grads else None

    def _is_frozen(self, tensor: Tensor) -> bool:
        return self.net.graph.layers[tensor.layer].frozen

    def _update(self) -> None:
        """One optimizer step for all parameters that are not frozen. Weight decay acts on weights, and with decay_bias=1 on all
        parameters."""
        hyper = dict(self._values)
        decay, decay_bias = hyper.pop("weight_decay"), hyper.pop("decay_bias")
        if self._optimizer.entry.loss_rose:
            hyper["loss_rose"] = self._loss > self._last_loss
        limits = {name: limit for name, limit in self._settings.items() if name != "dropout"}
        grads, found = clipped(self.net, self.grads, **limits), {}
        for tensor in self.net.layout:
            factor = self.net.graph.layers[tensor.layer].rate(tensor.name)
            if factor and not self._is_frozen(tensor):
                tensor_decay = decay if tensor.is_matrix or decay_bias else 0.0
                found[tensor] = self._updated(tensor, grads[tensor.place], tensor_decay, hyper | {"lr": factor * hyper["lr"]})
        with self.net.gate:
            for tensor, (params, *slots) in found.items():
                for vector, values in zip((self.net.params, *self.slots.values()), (params, *slots)):
                    vector[tensor.place] = array(self.net.format, values)
            limit_norms(self.net)
            self._commit_statistics()
        self._steps += 1
        self._last_loss, self._loss = self._loss, math.nan
        if self._average:
            self._average.update(self._steps, self.net.params + self.net.buffers)

    def _updated(self, tensor: Tensor, grads: list[float], decay: float, hyper: dict[str, float]) -> list[list[float]]:
        """The new parameters and slots of a tensor."""
        entry, t = self._optimizer.entry, self._steps + 1
        params, *slots = (vector[tensor.place].tolist() for vector in (self.net.params, *self.slots.values()))
        start = [p - hyper["lr"] * decay * p if entry.decay == "decoupled" else p for p in params]
        seen = [g + decay * p if entry.decay == "gradient" else g for g, p in zip(grads, params)]
        found = [entry.update(p, g, s, t, **hyper) for p, g, *s in zip(start, seen, *slots)]
        moved = [p for p, _ in found]
        if entry.decay == "trust":
            moved = trusted(params, [d + decay * p for d, p in zip(moved, params)], hyper["lr"])
        return [moved, *map(list, zip(*(s for _, s in found)))]

    # ---- running statistics ----

    def _check_statistics(self, rows: int) -> None:
        updated = [node.layer for node in self.net.graph.nodes if node.kind == "batch_norm" and not node.layer.frozen]
        if rows == 1 and updated:
            needs = f"batch_norm (layer {updated[0].name}) needs at least 2 rows in training"
            raise ValueError(f"{needs}; choose a batch size that leaves no single row")

    def _prepare_statistics(self, result: Pass, accumulate: bool) -> None:
        """Computes the running statistics after the next update. accumulate: starts from the pending ones, if there are any."""
        if not accumulate or self._pending is None:
            self._pending = self.net.buffers[:]
        places = {(tensor.layer, tensor.name): tensor.place for tensor in self.net.buffer_layout}
        for batch in result.batches:
            momentum, unbiased = batch.layer.settings["momentum"], batch.rows / (batch.rows - 1)
            found = {"running_mean": batch.mean, "running_var": [unbiased * variance for variance in batch.variance]}
            for name, values in found.items():
                place = places[batch.layer.name, name]
                moved = [(1 - momentum) * old + momentum * new for old, new in zip(self._pending[place], values)]
                self._pending[place] = array(self.net.format, moved)

    def _commit_statistics(self) -> None:
        pending, self._pending = self._pending, None
        for tensor in self.net.buffer_layout:
            if pending is not None and not self._is_frozen(tensor):
                self.net.buffers[tensor.place] = pending[tensor.place]


def _copy(vector: array, values: array) -> None:
    """Copies the values into the vector. Skips empty vectors: a slice assignment to one counts as a resize, which a view of it forbids."""
    if values:
        vector[:] = values


# ---- checks ----


def _check_activation(i: int, chosen: str | None, loss: Spec) -> None:
    """Raises ValueError if the loss implies a different output activation than the chosen one."""
    implied = loss.entry.detail
    if chosen not in (None, implied):
        raise ValueError(
            f"output {i} has the activation {chosen}, but the loss {loss.name} needs {implied}; to change it, call "
            f'net.set_output({i}, "{implied}")'
        )


def _finite(value: float, what: str) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{what} is not finite")
    return float(value)


def _check_targets(targets: Matrix, loss: Spec, what: str, numbers: Sequence[int]) -> None:
    """Raises ValueError for targets that the loss does not accept. numbers: the caller's row numbers. Targets of a "LABELS" loss are
    probabilities here. NaN passes: it makes the loss NaN, which raises FloatingPointError."""
    signs = loss.entry.targets == "SIGNS"
    interval = Interval.parse({"SIGNS": "[-1,1]", "LABELS": "[0,1]"}.get(loss.entry.targets, loss.entry.targets))
    if (interval.low, interval.high) == (-math.inf, math.inf):  # infinite targets pass too: they make the loss infinite
        return
    valid = "{-1, 1}" if signs else interval.text
    for r, row in zip(numbers, targets.row_list()):
        for j, value in enumerate(row):
            wrong = value not in interval or (signs and abs(value) != 1)
            if wrong and not math.isnan(value):
                raise ValueError(f"{what}, row {r}, column {j} is {value:.8g}, but {loss.name} needs values in {valid}")
