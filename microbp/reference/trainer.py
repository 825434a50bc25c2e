"""Training: losses at the outputs, gradients by the chain rule, and an optimizer that sees all parameters as one long vector."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from operator import add
from typing import Any

from .around import Average, clipped, limit_norms
from .arrays import buffer, read_integers, read_matrix, several
from .autodiff import Matrix, dot, gradients, reachable
from .formulas import TRAINER_SETTINGS, penalty, row_losses
from .net import Net, Pass, Tensor
from .random import Place
from .spec import Interval, Spec, check_parameter, parameters

_LOSSES = {"loss": "_loss", "last_loss": "_last_loss"}  # of the gradients as they stand, and of the last update's

Ends = list[tuple[Matrix, list[float]]]  # where a backward pass starts: (matrix, derivative of the loss by it)


@dataclass(frozen=True)
class Batch:
    """Rows to learn from: a matrix for each input and for each output's targets, and a weight for each row."""

    inputs: list[Matrix]
    targets: list[Matrix]
    weights: list[float]

    def rows(self, index: Sequence[int]) -> Batch:
        """The rows with these numbers."""
        return Batch([_rows(x, index) for x in self.inputs], [_rows(t, index) for t in self.targets], [self.weights[i] for i in index])


def _rows(matrix: Matrix, index: Sequence[int]) -> Matrix:
    rows = matrix.row_list()
    return Matrix(len(index), matrix.cols, [value for i in index for value in rows[i]], wanted=matrix.wanted)


class Trainer:
    """A loss for each output (None: the caller brings its gradient to backward_from), an optimizer, and their state for one net.

    `grads` and each of `slots` are flat vectors laid out as the net's parameters. seed: of dropout and noise; None: the net's.
    """

    def __init__(
        self, net: Net, losses: Sequence[str | None], loss_weights: Sequence[float], optimizer: str, seed: int | None = None
    ) -> None:
        for what, given in (("losses", losses), ("loss weights", loss_weights)):
            if len(given) != len(net.graph.outputs):
                raise ValueError(f"the net has {len(net.graph.outputs)} outputs, but {len(given)} {what} are given")
        self.net = net
        self.seed = net.seed if seed is None else seed
        self._losses = [None if text is None else Spec.parse("loss", text) for text in losses]
        self._loss_weights = [_finite(weight, f"loss weight {i}") for i, weight in enumerate(loss_weights)]
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
                raise ValueError(f"output {i}: {loss} needs at least 2 outputs, one for each class; for one output use bce")
            if loss:
                _check_activation(i, output.activation, loss)
        for loss, output in zip(self._losses, net.graph.outputs):  # the last thing, so that a trainer that is refused changes nothing
            if loss:
                output.activation = loss.entry.detail

    # ---- the three parts of a step ----

    def step(self, x: Any, y: Any, weight: Any = None) -> float:
        """Forward, loss, backward, update; returns the batch loss."""
        batch = self._read_batch(x, y, weight)
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
        """The gradient without the update; returns the loss. total: the sum of row weights of the whole logical batch (0: of this one)."""
        if not 0 <= total < math.inf:
            raise ValueError(f"total={total} is not in [0,inf)")
        if first_row < 0:
            raise ValueError(f"first_row={first_row} is not in [0,inf)")
        batch = self._read_batch(x, y, weight, input_grads)
        self._check_statistics(len(batch.weights))
        divisor = total or _total(batch)
        losses, result, ends = self._forward_loss(batch, divisor, self._place(first_row))
        self._check_losses(losses)
        found = self._gradients(result, ends, accumulate, _total(batch) / divisor)
        self._store_gradients(result, found, input_grads)
        self._prepare_statistics(result, accumulate)
        self._loss = sum(losses) + (self._loss if accumulate and not math.isnan(self._loss) else 0.0)
        return sum(losses)

    def apply(self) -> None:
        """The update from `grads` as they stand."""
        self._check_gradients(self.grads)
        self._update()

    # ---- a step in parts, for a loss of the caller's own ----

    def forward(self, x: Any) -> list[memoryview]:
        """The raw outputs, in training."""
        inputs = self.net.read_inputs(several(x, len(self.net.graph.inputs), "x"), wanted=True)
        self._check_statistics(_check_rows(inputs))
        self._pass = self.net.forward(inputs, self._place(0))
        return [buffer(output, self.net.format) for output in self._pass.outputs]

    def backward_from(self, gradients: Sequence[Any], accumulate: bool = False, input_grads: bool = False) -> None:
        """Backward from the gradient by each raw output of the last forward."""
        if self._pass is None:
            raise ValueError("backward_from needs a forward(x) before it")
        outputs = self._pass.outputs
        if len(gradients) != len(outputs):
            raise ValueError(f"the net has {len(outputs)} outputs, but {len(gradients)} gradients are given")
        read = [read_matrix(g, o.cols, self.net.format, f"gradient {i}", o.rows) for i, (g, o) in enumerate(zip(gradients, outputs))]
        ends = [(output, g.data) for output, g in zip(outputs, read)]
        found = self._gradients(self._pass, ends, accumulate, share=0.0 if accumulate else 1.0)
        self._store_gradients(self._pass, found, input_grads)
        self._prepare_statistics(self._pass, accumulate)
        self._loss = math.nan

    # ---- loops and other questions ----

    def evaluate(self, x: Any, y: Any, weight: Any = None) -> float:
        """The loss of a batch of any size, in inference."""
        batch = self._read_batch(x, y, weight)
        losses, _, _ = self._forward_loss(batch, _total(batch), None)
        return sum(losses)

    def epoch(self, x: Any, y: Any, weight: Any, index: Any, batch_rows: int, lr: Any, stop: Any = None) -> float:
        """A step for each `batch_rows` rows of `index` (None: all in order); lr: a rate for each step, or None: the
        trainer's own, which stays as it is in both cases. stop: a function, asked now and then; True ends the epoch.

        Returns the weighted mean loss of the rows as they were trained.
        """
        data = self._read_batch(x, y, weight)
        batches = list(_batches(_read_index(index, len(data.weights)), batch_rows))
        self._check_statistics(len(batches[-1]))
        rates = self._read_rates(lr, len(batches))
        own_lr = self._values["lr"]
        try:
            return self._run_epoch((data.rows(rows) for rows in batches), rates, stop or (lambda: False))
        finally:
            self._values["lr"] = own_lr

    def _run_epoch(self, batches: Iterator[Batch], rates: list[float], stop: Callable[[], bool]) -> float:
        loss, total = 0.0, 0.0
        for step, (batch, rate) in enumerate(zip(batches, rates)):
            self._values["lr"] = rate
            try:
                loss += self._train(batch) * _total(batch)
            except (FloatingPointError, ValueError) as error:
                raise type(error)(f"step {step}: {error}") from None
            total += _total(batch)
            if stop():
                break
        return loss / total

    def input_grads(self) -> list[memoryview]:
        """The gradient by each input, of the last backward with input_grads=True."""
        if self._input_grads is None:
            raise ValueError("there are no input gradients: call backward with input_grads=True")
        return [buffer(gradient, self.net.format) for gradient in self._input_grads]

    # ---- settings and state ----

    def get(self, name: str) -> float:
        """A parameter of the optimizer, or a limit of the gradients that it sees; or "loss", of the gradients as they stand, or
        "last_loss", of the last update's; NaN: not known."""
        if name in _LOSSES:
            return getattr(self, _LOSSES[name])
        values = self._values | self._settings
        if name not in values:
            raise ValueError(f'unknown parameter "{name}"; the parameters are: {", ".join(values)}')
        return values[name]

    def set(self, name: str, value: float) -> None:
        """Changes what `get` tells; decay_bias is chosen when the trainer is made."""
        if name in _LOSSES:
            setattr(self, _LOSSES[name], float(value))
            return
        if name in self._settings:
            self._settings[name] = check_parameter(TRAINER_SETTINGS, name, float(value))
            return
        self._values[name] = check_parameter(self._optimizer.entry.parameters, name, float(value))

    @property
    def steps(self) -> int:
        """Updates so far; set together with the slots it restores an earlier state. Setting forgets the losses."""
        return self._steps

    @steps.setter
    def steps(self, steps: int) -> None:
        if steps < 0:
            raise ValueError(f"steps={steps} is not in [0,inf)")
        self._steps = int(steps)
        self._loss = self._last_loss = math.nan

    def reset(self) -> None:
        """Gradients and average of zero, slots as at the start, no updates."""
        _copy(self.grads, self._zeros())
        if self._average:
            _copy(self._average.vector, array(self.net.format, [0.0] * len(self._average.vector)))
        self._pending = None
        self._start_optimizer()

    def _start_optimizer(self) -> None:
        for name, start in self._optimizer.entry.slots.items():
            _copy(self.slots[name], array(self.net.format, [self._values[start] if start else 0.0]) * len(self.net.params))
        self.steps = 0

    # ---- the average of [parameters, buffers] ----

    def set_average(self, decay: float, start: int, every: int) -> None:
        """Averages the states after the updates start, start + every, ...; decay=1: all count the same."""
        if not 0 <= decay <= 1:
            raise ValueError(f"the average's decay={decay} is not in [0,1]")
        if start < 0 or every < 1:
            raise ValueError(f"start={start} must be at least 0, and every={every} at least 1")
        first = start if start > self._steps else self._steps - (self._steps - start) % every + every
        size = len(self.net.params) + len(self.net.buffers)
        self._average = Average(array(self.net.format, [0.0] * size), float(decay), first, every)

    @property
    def average(self) -> array | None:
        """The average: parameters, then buffers."""
        return self._average.vector if self._average else None

    @property
    def average_count(self) -> int:
        """Of how many states it is."""
        return self._average.count(self._steps) if self._average else 0

    # ---- reading ----

    def _zeros(self) -> array:
        return array(self.net.format, bytes(self.net.params.itemsize * len(self.net.params)))

    def _read_batch(self, x: Any, y: Any, weight: Any, wanted: bool = False) -> Batch:
        if None in self._losses:
            raise ValueError(f"output {self._losses.index(None)} has no loss: use forward and backward_from")
        inputs = self.net.read_inputs(several(x, len(self.net.graph.inputs), "x"), wanted)
        rows = _check_rows(inputs)
        ys = several(y, len(self._losses), "y")
        targets = [self._read_targets(i, target, rows) for i, target in enumerate(ys)]
        return Batch(inputs, targets, _read_weights(weight, rows))

    def _read_targets(self, i: int, y: Any, rows: int) -> Matrix:
        loss, cols = self._losses[i].entry, self.net.graph.nodes[self.net.graph.outputs[i].node].width
        what = f"y {i}"
        labels = read_integers(y, what) if loss.targets == "LABELS" else None
        if labels is not None:
            return _one_hot(labels, rows, cols, what)
        targets = read_matrix(y, cols, self.net.format, what, rows)
        _check_targets(targets, loss.targets, what)
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
        """Each output's part of the batch loss, the forward pass, and where the backward pass starts: at the row losses, each of
        which counts loss weight x row weight / total."""
        result = self.net.forward(batch.inputs, training)
        losses, ends = [], []
        for loss, loss_weight, output, target in zip(self._losses, self._loss_weights, result.outputs, batch.targets):
            of_rows = row_losses(loss.entry, output, target, **loss.values)
            shares = [loss_weight * weight / total for weight in batch.weights]
            losses.append(dot(shares, of_rows.data))
            ends.append((of_rows, shares))
        return losses, result, ends

    def _train(self, batch: Batch) -> float:
        losses, result, ends = self._forward_loss(batch, _total(batch), self._place(0))
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
                raise FloatingPointError(f"the loss of output {i} ({spec}) is {loss}")

    def _gradients(self, result: Pass, ends: Ends, accumulate: bool, share: float) -> tuple[array, list[list[float]]]:
        """The flat gradient, on top of `grads` if accumulate and 0 for frozen layers, and the gradients by the inputs. The penalties are
        further ends, each of whose weights counts `share`."""
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
        """Those of the weights that the loss depends on."""
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
        flat, by_inputs = found
        _copy(self.grads, flat)
        self._input_grads = [Matrix(x.rows, x.cols, g) for x, g in zip(result.inputs, by_inputs)] if input_grads else None

    def _is_frozen(self, tensor: Tensor) -> bool:
        return self.net.graph.layers[tensor.layer].frozen

    def _update(self) -> None:
        """One optimizer step on every parameter that is not frozen. Weight decay acts on weights, and with decay_bias=1 on all."""
        hyper = dict(self._values)
        decay, decay_bias = hyper.pop("weight_decay"), hyper.pop("decay_bias")
        if self._optimizer.entry.loss_rose:
            hyper["loss_rose"] = self._loss > self._last_loss
        grads, found = clipped(self.net, self.grads, **self._settings), {}
        for tensor in self.net.layout:
            factor = self.net.graph.layers[tensor.layer].settings["lr"]
            if factor and not self._is_frozen(tensor):
                tensor_decay = decay if tensor.is_matrix or decay_bias else 0.0
                found[tensor] = self._updated(tensor, grads[tensor.place], tensor_decay, hyper | {"lr": factor * hyper["lr"]})
        for tensor, (params, *slots) in found.items():
            for vector, values in zip((self.net.params, *self.slots.values()), (params, *slots)):
                vector[tensor.place] = array(self.net.format, values)
        limit_norms(self.net)
        self._commit_statistics()
        self._steps += 1
        self._last_loss, self._loss = self._loss, math.nan
        if self._average:
            self._average.see(self._steps, self.net.params + self.net.buffers)

    def _updated(self, tensor: Tensor, grads: list[float], decay: float, hyper: dict[str, float]) -> list[list[float]]:
        """A tensor's new parameters and slots."""
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
        moving = [node.layer for node in self.net.graph.nodes if node.kind == "batch_norm" and not node.layer.frozen]
        if rows == 1 and moving:
            needs = f"batch_norm (layer {moving[0].name}) needs at least 2 rows in training"
            raise ValueError(f"{needs}; choose a batch size that leaves no single row")

    def _prepare_statistics(self, result: Pass, accumulate: bool) -> None:
        """What the running statistics become by this pass; accumulate: on top of those that wait for the next update."""
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


def trusted(params: list[float], direction: list[float], lr: float) -> list[float]:
    """A tensor less lr times the direction made as long as the tensor; with its own length where one of the two is 0."""
    long, of_direction = math.hypot(*params), math.hypot(*direction)
    ratio = long / of_direction if long and of_direction else 1.0
    return [p - lr * ratio * d for p, d in zip(params, direction)]


def _copy(vector: array, values: array) -> None:
    """An empty array would take even an empty slice for a resize, which its views forbid."""
    if values:
        vector[:] = values


# ---- checks ----


def _check_activation(i: int, chosen: str | None, loss: Spec) -> None:
    """Refuses a loss that implies another output activation than the one that is chosen."""
    implied = loss.entry.detail
    if chosen not in (None, implied):
        raise ValueError(
            f"output {i} has the activation {chosen}, but the loss {loss.name} implies {implied}; to change what predictions mean: "
            f'net.set_output({i}, "{implied}")'
        )


def _finite(value: float, what: str) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{what} is {value}, not a finite number")
    return float(value)


def _check_rows(inputs: list[Matrix]) -> int:
    if inputs[0].rows == 0:
        raise ValueError("x has 0 rows; training needs at least 1")
    return inputs[0].rows


def _check_targets(targets: Matrix, allowed: str, what: str) -> None:
    """allowed: as in formulas.Loss; what is no label is a probability. NaN passes: the loss will be NaN, and refused."""
    interval = Interval.parse({"SIGNS": "[-1,1]", "LABELS": "[0,1]"}.get(allowed, allowed))
    right = "-1 or +1" if allowed == "SIGNS" else f"in {interval.text}"
    for r, row in enumerate(targets.row_list()):
        for value in row:
            wrong = value not in interval or (allowed == "SIGNS" and abs(value) != 1)
            if wrong and not math.isnan(value):
                raise ValueError(f"{what}, row {r}: target {value} is not {right}")


def _one_hot(labels: list[int], rows: int, cols: int, what: str) -> Matrix:
    if len(labels) != rows:
        raise ValueError(f"{what} has {len(labels)} labels, but x has {rows} rows")
    for r, label in enumerate(labels):
        if not 0 <= label < cols:
            raise ValueError(f"{what}, row {r}: label {label} is not in 0 to {cols - 1}")
    return Matrix(rows, cols, [float(j == label) for label in labels for j in range(cols)])


def _read_weights(weight: Any, rows: int) -> list[float]:
    if weight is None:
        return [1.0] * rows
    return read_matrix(weight, 1, "d", "weight", rows).data


def _total(batch: Batch) -> float:
    total = sum(batch.weights)
    if not 0 < total < math.inf:
        raise ValueError(f"the row weights sum to {total}; they must be finite and their sum above 0")
    return total


def _read_index(index: Any, rows: int) -> Sequence[int]:
    if index is None:
        return range(rows)
    numbers = read_integers(index, "index")
    if not numbers:
        raise ValueError("index must hold row numbers, whole and at least one")
    for number in numbers:
        if not 0 <= number < rows:
            raise ValueError(f"index holds row {number}, but x has rows 0 to {rows - 1}")
    return numbers


def _batches(index: Sequence[int], batch_rows: int) -> Iterator[Sequence[int]]:
    if batch_rows < 1:
        raise ValueError(f"batch_rows={batch_rows} is not at least 1")
    for first in range(0, len(index), batch_rows):
        yield index[first : first + batch_rows]
