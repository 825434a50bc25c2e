"""Training: the losses of the outputs, gradients by the chain rule, and an optimizer over the flat vector of all parameters."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from operator import add
from typing import Any

from .arrays import Batch, buffer, counted, overwrite, read_batch, read_loss_weight, read_matrix, read_totals, several
from .autodiff import Matrix, dot, gradients, reachable, reshaped
from .clipping import Averaging, clipped, commit_statistics, follow_statistics, limit_norms, penalties_of
from .formulas import TRAINER_SETTINGS, weighted_losses
from .layers import Tensor
from .net import Net, Pass
from .optimizers import updated
from .positions.lengths import parts_of
from .random import Place
from .ranks.joined import Joining, Joint, telling
from .ranks.ranks import LeftError, Ranks
from .sharing.lock import locked
from .solvers.steps import Solving
from .sparse.layers import SparseLayers
from .sparse.rows import refuse
from .spec import Spec, check_parameter, kind_of, number_text, parameters, target_columns, unknown
from .states.state import Carry, State

_LOSSES = {"loss": "_loss", "last_loss": "_last_loss"}  # name for `get`: attribute
_COUNTS = {"average_count": "average_count", "epoch": "_epoch", "evaluations": "_evaluations"}
_STEPS_MAX = 9 * 10**18  # leaves room for more updates than anyone can make

Losses = Callable[[list[Any]], tuple[float, Sequence[Any]]]
Ends = list[tuple[Matrix, list[float]]]  # where a backward pass starts: (matrix, derivative of the loss with respect to it)


@locked(
    holds="evaluate input_grads set steps reset set_average set_sparse set_reduce",
    trains="step backward apply forward backward_from step_with iterate_with epoch",
)
class Trainer(Solving, Averaging, Joining):
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
        self.net, self.hold, self.seed = net, net.hold, net.seed if seed is None else seed
        self._losses = [None if text is None else Spec.parse("loss", text) for text in losses]
        self._loss_weights = [read_loss_weight(weight, i) for i, weight in enumerate(loss_weights)]
        self._optimizer = Spec.parse(kind_of(optimizer), optimizer)
        self._start_solver(self._optimizer)
        self._values = dict(self._optimizer.values)
        self._settings = {name: default for name, (default, _) in parameters(TRAINER_SETTINGS).items()}
        self._average = None
        self._ranks = self._steppers = Ranks()
        self._sparse = SparseLayers()
        self.grads = self._zeros()
        self.slots = {name: self._zeros() for name in self._optimizer.entry.slots}
        self._start_optimizer()
        self._pass: tuple[Pass, tuple[int, int], Joint] | None = None  # of the last forward, with the changes of the net before it
        self._pending: array | None = None  # the buffers after the next update
        self._followed: Pass | None = None  # the last pass whose statistics are in them
        self._input_grads: list[Matrix] | None = None
        self._penalty = 0.0  # the penalties in the loss of the last pass
        for i, (loss, output) in enumerate(zip(self._losses, net.graph.outputs)):
            if loss and loss.entry.targets == "LABELS" and net.graph.nodes[output.node].width < 2:
                raise ValueError(f"output {i} has 1 column, but {loss.name} needs at least 2, one per class; for 1 column use bce")
            if loss:
                target_columns(str(loss), net.graph.nodes[output.node].width)  # an error, if they do not fit each other
                output.check(i, loss)
        with net.hold(), net.gate:  # last, so that a failed check changes nothing
            for loss, output in zip(self._losses, net.graph.outputs):
                if loss:
                    output.activation = loss.entry.detail

    # ---- the three parts of a step ----

    @telling
    def step(self, x: Any, y: Any, weight: Any = None, state: State | None = None, same: bool = False) -> float:
        """Forward, loss, backward, update; returns the batch loss. same: the rows are those of the step before, which changes no result."""
        batch = self._read_batch(x, y, weight, state=state)
        if self._solver:
            self.net.check_statistics(batch.checked().inputs)
            return self._kept(self._iterate(batch), batch)
        return self._kept(self._train(batch, self._joined(batch, may_be_none=self._ranks.every > 1)), batch)

    @telling
    def backward(
        self,
        x: Any,
        y: Any,
        weight: Any = None,
        accumulate: bool = False,
        total: Any = 0.0,
        first_row: int = 0,
        input_grads: bool = False,
        state: State | None = None,
    ) -> float:
        """Computes the gradient without an update; returns the loss. total: the sum of the row weights of the whole logical batch (0: of
        this batch), or a sequence with one for each output. With `total`, no row need be there: the sum over no rows is 0."""
        totals = read_totals(total, len(self._losses))
        if first_row < 0:
            raise ValueError(f"first_row is {first_row}, but must be at least 0")
        batch = self._read_batch(x, y, weight, input_grads, state=state)
        if input_grads:
            refuse(self.net.graph, several(parts_of(x)[0], len(self.net.graph.inputs), "x"), "input_grads needs")
        if first_row >= 2**63 - len(batch.weights):
            raise ValueError(f"first_row is {first_row}: with {counted(len(batch.weights), 'row')}, row numbers would exceed 2^63 - 1")
        for i, (whole, part) in enumerate(zip(totals or (), batch.totals)):
            if whole == 0 < part and self._loss_weights[i]:
                needs = "set it to the sum of all its weights in the whole batch"
                raise ValueError(f"totals[{i}] is 0, but output {i} has targets in this part: {needs}")
        joint = self._joint_of(batch, totals, first_row, accumulate)
        losses, result, ends = self._forward_loss(batch, joint, self._place(joint.first_row))
        self._check_losses(losses, joint.ranks if self._shares_statistics(joint) else Ranks())
        found = self._gradients(result, ends, accumulate, self._share(batch, joint.totals))
        self._store_gradients(result, found, input_grads, accumulate)
        if self._input_grads is not None:
            self._input_grads = [batch.spread(gradient) for gradient in self._input_grads]
        self._prepare_statistics(result, accumulate)
        self._loss = sum(losses) + self._penalty + (self._loss if accumulate and not math.isnan(self._loss) else 0.0)
        return self._kept(losses, batch)

    @telling
    def apply(self) -> None:
        """Updates the parameters with the current `grads`. Those of frozen layers become 0."""
        self._refuse("apply")
        self._check_sparse()
        ranks = self._steppers
        ranks.header(1)
        for tensor in filter(self._is_frozen, self.net.layout):
            self.grads[tensor.place] = array(self.net.format, [0.0]) * (tensor.rows * tensor.cols)
            self._sparse.forget([tensor.layer])
        (loss,), own = ranks.numbers([self._loss]), self._all_grads()
        grads = ranks.sum(own)
        with ranks.agreed():
            self._check_gradients(grads)
        self._join_names(own, self._sparse, ranks, self.net.layout)
        overwrite(self.grads, self._sparse.take(grads, self.net.layout))
        self._loss = loss
        self._update()

    # ---- a step in parts, for a custom loss ----

    @telling
    def forward(self, x: Any) -> list[memoryview]:
        """Runs a forward pass in training; returns the raw outputs."""
        inputs = self.net.read_inputs(several(x, len(self.net.graph.inputs), "x"), wanted=True)
        if inputs[0].rows == 0:
            raise ValueError("the batch has 0 rows, but needs at least 1")
        self._check_sparse(inputs)
        rows, ranks = inputs[0].rows, self._steppers
        counts = [int(count) for count, _ in ranks.header(rows, rows)]
        joint = Joint(ranks, sum(counts), sum(counts), (), sum(counts[: ranks.rank]))
        with ranks.agreed():
            self.net.check_statistics(inputs, ranks.numbers)
        result = self.net.forward(inputs, self._place(joint.first_row), self._settings["dropout"], total=ranks.numbers)
        self._pass = result, (self.net.layer_changes, self.net.changes), joint
        return [buffer(reshaped(output, rows, len(output.data) // rows), self.net.format) for output in self._pass[0].outputs]

    @telling
    def backward_from(self, gradients: Sequence[Any], accumulate: bool = False, input_grads: bool = False) -> None:
        """Runs the backward pass of the last `forward`, from the gradients with respect to its raw outputs."""
        if self._pass is None:
            raise ValueError("the outputs have no values: call forward first")
        result, (layers, changes), joint = self._pass
        if layers != self.net.layer_changes:
            raise ValueError("layers were frozen, unfrozen or changed after forward: call forward again")
        if changes != self.net.changes:
            raise ValueError("the parameters were changed after forward: call forward again")
        if len(gradients) != (count := len(result.outputs)):
            raise ValueError(f"gradients has {counted(len(gradients), 'array')}, but the net has {counted(count, 'output')}")
        pairs, rows = enumerate(zip(result.outputs, gradients)), result.inputs[0].rows
        ends = [(o, read_matrix(g, len(o.data) // rows, self.net.format, f"gradient {i}", rows).data) for i, (o, g) in pairs]
        self._check_sparse(result.inputs)
        if self._shares_statistics(joint):
            joint.ranks.header()
        share = rows / joint.rows / (joint.rows if self._settings["penalty_per_row"] else 1)
        self._store_gradients(result, self._gradients(result, ends, accumulate, 0.0 if accumulate else share), input_grads, accumulate)
        self._prepare_statistics(result, accumulate)
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

    def evaluate(self, x: Any, y: Any, weight: Any = None, state: State | None = None) -> float:
        """The loss of a batch of any size, in inference."""
        batch = self._read_batch(x, y, weight, state=state).checked()
        return self._kept(self._forward_loss(batch, Joint.of(batch), None)[0], batch)

    @telling
    def epoch(self, x: Any, y: Any, weight: Any, index: Any, batch_rows: int, lr: Any, stop: Any = None, last: Any = None) -> float:
        """One step for each `batch_rows` rows of `index` (None: all rows, in order); rows of weight 0 are passed over. lr: a learning rate
        for each step, and any for steps that there are not because of such rows; None: the trainer's "lr" for all steps. "lr" itself does
        not change. stop: a function that is called after each step; the epoch ends if it returns True. last: is called before the last.

        Returns the weighted mean of the row losses, each computed in the step that trains on the row.
        """
        self._refuse("an epoch in batches")
        data = self._read_batch(x, y, weight, index=index)
        batches = [batch.checked() for batch in data.split(batch_rows)]
        if self._ranks.ranks == 1:
            if index is not None and data.given == 0:
                raise ValueError("n is 0, but must be at least 1")
            data.checked()
        if batches and self._steppers.ranks == 1:
            self.net.check_statistics(batches[-1].inputs)
        rates = self._read_rates(lr, -(-data.given // batch_rows))
        own_lr, self._sums = self._values["lr"], [0.0] * (2 * len(self._losses) + 2)
        try:
            self._run_epoch(self._joined_steps(batches, data.part(0, 0), rates, last), stop or (lambda: False))
        except LeftError:  # as if this rank's `stop` had ended the epoch
            if not any(self._sums):
                return 0.0
        finally:
            self._values["lr"] = own_lr
        (penalties, weight), both = self._sums[:2], self._sums[2:]
        self._penalty = penalties / (weight or 1.0)
        return self._kept([one / total if total else 0.0 for one, total in zip(both[::2], both[1::2])], data)

    def sparse_grad(self, layer: str) -> tuple[array, array] | None:
        """The numbers of the rows and, row by row, the gradient of a sparse layer's weight; None: the layer is not sparse."""
        return self._sparse.gradient(layer, self.net.layout)

    def set_sparse(self, layer: str | None, rows: bytes = b"") -> None:
        """Makes a layer sparse, whose gradient becomes that of these rows (int32) in `grads`; layer None: makes all layers dense."""
        if layer is None:
            overwrite(self.grads, self._all_grads())
            self._sparse = SparseLayers()
        else:
            self._sparse.restore(layer, rows, self.net.graph, self.net.layout, self._optimizer)
            overwrite(self.grads, self._sparse.take(self.grads, self.net.layout, layer))

    def _all_grads(self) -> array:
        return self._sparse.whole(self.grads, self.net.layout)

    def _check_sparse(self, inputs: Sequence[Matrix] = ()) -> None:
        self._sparse.check(self.net.graph, inputs, self._optimizer, self._values.get("weight_decay", 0.0), self._average is not None)

    def input_grads(self) -> list[memoryview]:
        """The gradients with respect to the inputs, of the last backward with input_grads=True."""
        if self._input_grads is None:
            raise ValueError("input 0 has no gradient: call backward with input_grads=1 first")
        return [buffer(gradient, self.net.format) for gradient in self._input_grads]

    # ---- settings and state ----

    def get(self, name: str) -> float:
        """A parameter of the optimizer, or a limit for gradient clipping, by name. "dropout": the factor of all dropout rates. "loss": the
        loss of the current gradients; "last_loss": the loss of the gradients of the last update; both are NaN if unknown. "epoch": a count
        that the caller keeps. "evaluations": how often a solver has computed loss and gradient."""
        if name in _LOSSES:
            return getattr(self, _LOSSES[name])
        if name in _COUNTS and (self._solver or name != "evaluations"):
            return float(getattr(self, _COUNTS[name]))
        if name not in (values := self._values | self._settings | self._named):
            raise self._unknown(name)
        return values[name]

    def _unknown(self, name: str) -> ValueError:
        own = " ".join(["evaluations" * self._solver, *self._named])
        valid = f"{self._optimizer.entry.parameters} {TRAINER_SETTINGS} loss last_loss average_count epoch {own}"
        return unknown(f"a trainer with {self._optimizer.name} has no parameter", name, valid.split())

    def set(self, name: str, value: float) -> None:
        """Sets a value that `get` returns, except decay_bias, which cannot be changed."""
        if name in _LOSSES:
            setattr(self, _LOSSES[name], float(value))
            return
        if name in _COUNTS and (self._solver or name != "evaluations"):
            return self._set_count(name, float(value))
        if name in self._settings:
            self._refuse_limit(name, value)
            self._settings[name] = check_parameter(TRAINER_SETTINGS, name, float(value))
            return
        if name == "decay_bias":
            raise ValueError('decay_bias cannot be changed: create a trainer with it, such as "adam(decay_bias=1)"')
        if name not in self._values:
            raise self._unknown(name)
        self._refuse_change(name)
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
        overwrite(self.grads, self._zeros())
        if self._average:
            overwrite(self._average.vector, array(self.net.format, [0.0] * len(self._average.vector)))
            self._average.count = 0
        self._pending, self._solver_numbers = None, []
        self._sparse = SparseLayers()
        self._start_optimizer()

    def _start_optimizer(self) -> None:
        self._epoch = self._evaluations = 0
        self.output_losses = [math.nan] * len(self._losses)
        for name, start in self._optimizer.entry.slots.items():
            overwrite(self.slots[name], array(self.net.format, [self._values[start] if start else 0.0]) * len(self.net.params))
        self.steps = 0

    def _set_count(self, name: str, count: float) -> None:
        if not (0 <= count <= 2**53 and count.is_integer()):
            raise ValueError(f"{name} must be a whole number of at least 0, not {number_text(count)}")
        if name == "average_count":
            self._set_average_count(count)
        else:
            setattr(self, _COUNTS[name], int(count))

    # ---- reading ----

    def _zeros(self) -> array:
        return array(self.net.format, bytes(self.net.params.itemsize * len(self.net.params)))

    def _read_batch(self, x: Any, y: Any, weight: Any, wanted: bool = False, index: Any = None, state: State | None = None) -> Batch:
        """The rows of `index` (None: all) that are there. Of the others, no value is read."""
        if None in self._losses:
            hint = "use forward, and backward_from with a gradient that you compute"
            raise ValueError(f"output {self._losses.index(None)} has no loss: {hint}")
        inputs = self.net.read_inputs(several(x, len(self.net.graph.inputs), "x"), wanted)
        outputs = [(output, self.net.graph.nodes[output.node]) for output in self.net.graph.outputs]
        valid = [self.net.valid(inputs)[output.node] for output, _ in outputs]
        keeps = state is not None
        batch = read_batch(inputs, y, weight, index, self._losses, self._loss_weights, outputs, valid, self.net.format, keeps)
        batch.carry = Carry(state, self.net.graph, self.net.dtype, batch.given, batch.numbers) if state else None
        return batch

    def _read_rates(self, lr: Any, steps: int) -> list[float]:
        if lr is None:
            return []
        rates = read_matrix(lr, 1, "d", "lr", steps if self._ranks.ranks == 1 else None).data
        return [check_parameter(self._optimizer.entry.parameters, "lr", rate) for rate in rates]

    # ---- computing ----

    def _place(self, first_row: int) -> Place:
        return Place(self._own_seed, self._steps, first_row)

    def _forward_loss(self, batch: Batch, joint: Joint, training: Place | None) -> tuple[list[float], Pass, Ends]:
        """The loss of each output, the forward pass, and where the backward pass starts: the losses of rows or elements, with the
        derivatives loss weight x weight / total."""
        if not batch.weights and not self._shares_statistics(joint):  # no row is there, and the sum over no rows is 0
            tensors = [Matrix(tensor.rows, tensor.cols, self.net.params[tensor.place].tolist()) for tensor in self.net.layout]
            return [0.0] * len(self._losses), Pass(batch.inputs, tensors, [], [], []), []
        result = self.net.forward(batch.inputs, training, self._settings["dropout"], carry=batch.carry, total=joint.ranks.numbers)
        self._penalty = 0.0
        self._pass, losses, ends = None, [], []  # as in C, where the values of an earlier forward are overwritten
        for i, (loss, loss_weight, output, target) in enumerate(zip(self._losses, self._loss_weights, result.outputs, batch.targets)):
            if loss_weight == 0 or not batch.weights or joint.totals[i] == 0:  # no targets: only the penalties of its layers remain
                losses.append(0.0)
                ends.append((output, [0.0] * len(output.data)))
                continue
            weights, each = batch.of_positions(i)
            target = reshaped(target, output.rows, len(target.data) // output.rows)
            of_rows, kept = weighted_losses(loss.entry, output, target, weights, **loss.values)
            shares = [loss_weight * weight / (joint.totals[i] * each) for weight in kept]
            losses.append(dot(shares, of_rows.data))
            ends.append((of_rows, shares))
        return losses, result, ends

    def _train(self, batch: Batch, joint: Joint) -> list[float]:
        if not joint.rows:  # while other ranks train on theirs
            self._penalty = 0.0
            if self._average:
                self._average.update(self._steps + 1, self.net.params + self.net.buffers)
            self._count_step()
            return [0.0] * len(self._losses)
        losses = self._differentiate(batch, joint)
        self._update()
        return losses

    def _differentiate(self, batch: Batch, joint: Joint | None = None) -> list[float]:
        """The losses of the outputs; `grads` and what belongs to them. joint: with the rows of other ranks."""
        joint = joint or Joint.of(batch)
        ranks = joint.ranks
        losses, result, ends = self._forward_loss(batch, joint, self._place(joint.first_row))
        losses = self._check_losses(losses, ranks)
        flat, inputs = self._gradients(result, ends, accumulate=False, share=self._share(batch, joint.totals))
        (self._penalty,) = ranks.numbers([self._penalty])
        grads = ranks.sum(flat)
        with ranks.agreed():
            self._check_gradients(grads)
        self._store_gradients(result, (flat, inputs), input_grads=False, accumulate=False)
        self._join_names(flat, self._sparse, ranks, self.net.layout)
        overwrite(self.grads, self._sparse.take(grads, self.net.layout))
        self._prepare_statistics(result, accumulate=False)
        self._loss = sum(losses) + self._penalty
        return losses

    def _kept(self, losses: list[float], batch: Batch) -> float:
        """Keeps the losses of the outputs, divided by their loss weights, and the states; returns the loss, with self._penalty."""
        batch.keep()
        self.output_losses = [loss / weight if weight else math.nan for loss, weight in zip(losses, self._loss_weights)]
        return sum(losses) + self._penalty

    def _gradients(self, result: Pass, ends: Ends, accumulate: bool, share: float) -> tuple[array, list[list[float]]]:
        """The flat gradient, and the gradients with respect to the inputs. accumulate: adds self.grads. Frozen layers get 0.
        The gradient includes that of the penalties, times `share`. Sets self._penalty: the penalties that the loss includes."""
        penalties = penalties_of(self.net, result.tensors, reachable(end for end, _ in ends))
        self._penalties = share * sum(map(sum, (matrix.data for matrix in penalties)))
        self._penalty = self._penalties if self._settings["penalty_per_row"] else 0.0
        found = gradients(ends + [(end, [share] * len(end.data)) for end in penalties], result.tensors + result.inputs)
        flat, kept = self._zeros(), self._all_grads()
        for tensor, gradient in zip(self.net.layout, found):
            if not self._is_frozen(tensor):
                before = kept[tensor.place] if accumulate else [0.0] * len(gradient)
                flat[tensor.place] = array(self.net.format, map(add, before, gradient))
        return flat, found[len(result.tensors) :]

    def _share(self, batch: Batch, totals: Sequence[float]) -> float:
        """The factor of the penalties: which part of the logical batch these rows are; with penalty_per_row divided by its weight."""
        per_row = self._settings["penalty_per_row"]
        used = [(part, whole) for part, whole, weight in zip(batch.totals, totals, self._loss_weights) if whole and weight]
        used = used or [(batch.total, totals[0] or 1.0)]
        return sum(part / whole / (whole if per_row else 1.0) for part, whole in used) / len(used)

    def _check_gradients(self, flat: array) -> None:
        for tensor in self.net.layout:
            if not self._is_frozen(tensor) and not all(map(math.isfinite, flat[tensor.place])):
                raise FloatingPointError(f"the gradient of layer {tensor.layer} ({tensor.name}) is not finite")

    def _store_gradients(self, result: Pass, found: tuple[array, list[list[float]]], input_grads: bool, accumulate: bool) -> None:
        flat, inputs = found
        self._sparse.start(self.net.graph, result.inputs, self.grads if accumulate else None, self.net.layout)
        self._sparse.name(self.net.graph, result.inputs if result.inputs[0].rows else [], accumulate)
        overwrite(self.grads, self._sparse.take(flat, self.net.layout))
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
        limits = {name: limit for name, limit in self._settings.items() if name.startswith("clip")}
        grads, found = clipped(self.net, self._all_grads(), **limits), {}
        for tensor in self.net.layout:
            factor = self.net.graph.layers[tensor.layer].rate(tensor.name)
            if factor and not self._is_frozen(tensor):
                tensor_decay = decay if tensor.is_matrix or decay_bias else 0.0
                found[tensor] = self._updated(tensor, grads[tensor.place], tensor_decay, hyper | {"lr": factor * hyper["lr"]})
        with self.net.changing():
            for tensor, (params, *slots) in found.items():
                for vector, values in zip((self.net.params, *self.slots.values()), (params, *slots)):
                    vector[tensor.place] = array(self.net.format, values)
            limit_norms(self.net, self._sparse.named)
            commit_statistics(self.net, self._pending)
            self._pending = None
        self._last_loss, self._loss = self._loss, math.nan
        if self._average:
            self._average.update(self._steps + 1, self.net.params + self.net.buffers)
        self._count_step()

    def _updated(self, tensor: Tensor, grads: list[float], decay: float, hyper: dict[str, float]) -> list[list[float]]:
        """The new parameters and slots of a tensor."""
        params, *slots = (vector[tensor.place].tolist() for vector in (self.net.params, *self.slots.values()))
        unnamed = self._sparse.unnamed(tensor)
        return updated(self._optimizer.entry, params, grads, slots, unnamed, self._steps + 1, decay, hyper)

    # ---- running statistics ----

    def _prepare_statistics(self, result: Pass, accumulate: bool) -> None:
        """The running statistics after the next update. accumulate: starts from the pending ones, if any. Those of a pass count once."""
        if not accumulate or self._pending is None:
            self._pending, self._followed = self.net.buffers[:], None
        if self._followed is not result:
            follow_statistics(self.net, result.batches, self._pending)
        self._followed = result
