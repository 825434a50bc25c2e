"""Engine: a backend's trainer with its losses, and everything that steps change. It does updates and knows nothing about epochs."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from ...core import backend as backends
from ...core.backend import CoreState
from ...core.checks import flag, floating, whole_number
from ...core.specs import Loss, OptimizerSpec, SolverSpec, table
from ...core.text import brief, counted
from ...data import faults
from ...data.arrays import Array, Views
from ...data.rows import Rows, Shape
from ...network.network import Network
from ...network.states.state import State, of_call
from ...settings import optimizers
from ...settings.averages import Average
from . import moments, penalties, sparse, target_scale
from .custom_loss import CustomLoss, CustomLosses, Joint
from .engine_state import CONSTANT, EngineState, as_limit
from .gradients import OutputGradients, read_input_grads
from .named_losses import NamedLosses

_SMALLEST = float(np.finfo(np.float64).tiny)  # the backends treat smaller numbers as 0


class Engine(EngineState):
    """Trains `net` with `losses`, one per output, which losses.py has checked. None: the caller has gradients of his own."""

    __slots__ = ("_from_outputs", "_named_losses", "averaging", "loss_weights", "losses", "seed", "shape", "standardize_targets")

    def __init__(
        self,
        net: Network,
        losses: tuple[Loss | CustomLoss | Joint | None, ...],
        optimizer: str | optimizers.Optimizer | OptimizerSpec,
        loss_weights: tuple[float, ...],
        seed: int,
        averaging: Average | None = None,
        limits: Mapping[str, float | None] = MappingProxyType({}),
        standardize_targets: bool = False,
        penalty_per_row: bool = False,
    ) -> None:
        if standardize_targets:
            target_scale.check(losses)
        self.is_solver = isinstance(spec := optimizers.parse(optimizer), SolverSpec)  # a step is an iteration, without a learning rate
        values = {name: as_limit(name, limit) for name, limit in limits.items()} | {"penalty_per_row": float(penalty_per_row)}
        self.net, self.losses, self.optimizer, self.loss_weights = net, losses, optimizer, loss_weights
        self.seed, self.averaging, self.standardize_targets = seed, averaging, standardize_targets
        named = [loss if isinstance(loss, Loss) else None for loss in losses]
        texts, several = [loss.text if loss else None for loss in named], len(named) > 1
        with self.hold():  # so that no other thread's call makes the constructor fail when it has set the output activations
            self._core = backends.load(net.backend).Trainer(net._core, texts, list(loss_weights), spec.text, seed)
            if averaging is not None:
                self._core.set_average(*averaging.rule)
            for name, value in values.items():
                self._core.set(name, value)
        parameters = () if self.is_solver else table(spec.kind)[spec.name].parameters
        self.initial = {name: self._core.get(name) for name in ("dropout", *parameters) if name not in CONSTANT}  # of `numbers`
        self.shape = Shape(
            inputs=tuple(entry.width for entry in net.inputs),
            outputs=tuple(math.prod(entry.row_shape) for entry in net.outputs),
            targets=tuple(
                math.prod(entry.grid) * (loss.target_columns(entry.width) if loss else entry.width)
                for entry, loss in zip(net.outputs, named, strict=True)
            ),
            labels=tuple(loss is not None and loss.detail == "softmax" for loss in named),
            whole=tuple(loss is None or loss.needs_rows for loss in named),
            own=tuple(loss is None for loss in named),
            optional=tuple(not one or not weight or (one.missing and several) for one, weight in zip(named, loss_weights, strict=True)),
            names=tuple(entry.name for entry in net.outputs),
            missing=tuple(loss is not None and loss.missing for loss in named),
            counts=tuple(weight != 0 for weight in self.loss_weights),
            ids=net._ids, rows=net._shapes[0], grids=tuple(entry.grid for entry in net.outputs), sequences=net._sequences,
        )  # fmt: skip
        self._named_losses: NamedLosses | None = None
        self._custom = self._own_losses() if self.has_losses and None in named else None
        self._from_outputs = OutputGradients((1.0,) * len(losses), self.shape, net.dtype, "got", "gradients")
        self._forwarded: int | None = None  # the rows of the last forward
        self.grads: Array = np.asarray(memoryview(self._core.grads))
        self.slots = Views({name: np.asarray(memoryview(slot)) for name, slot in self._core.slots.items()}, "t.state")
        average = self._core.average
        self.average: Array | None = None if average is None else np.asarray(memoryview(average))
        self.input_grads: list[Array] | None = None  # of the last backward(input_grads=True)
        self.comm, self.ranks, self.shard, self.sync_every = None, None, False, 1  # see joining.py

    def _own_losses(self) -> CustomLosses:
        named = self.named_alone() if any(isinstance(loss, Loss) for loss in self.losses) else None
        reader = OutputGradients(self.loss_weights, self.shape, self.net.dtype, "returned", "the returned gradient")
        return CustomLosses(self._core, self.losses, self.loss_weights, named, reader)

    def named_alone(self) -> NamedLosses:
        """The named losses without the net, for losses of both kinds, and to check targets."""
        if self._named_losses is None:
            self._named_losses = NamedLosses(self.net, self.losses, self.loss_weights, self.shape)
        return self._named_losses

    # ---- steps ----

    @property
    def has_losses(self) -> bool:
        """Whether the trainer has losses. Without, gradients come from the caller."""
        return self.losses[0] is not None

    def check_losses(self) -> None:
        """ValueError if there are none."""
        if not self.has_losses:
            raise ValueError(
                "this trainer has no loss (loss=None): call t.forward(X), t.backward_from(gradients) and t.apply(), or create a trainer "
                "with a loss: bp.Trainer(t.net, loss=...)"
            )

    def read(self, x: Any, y: Any, weight: Any, may_be_none: bool = False, lengths: Any = None) -> Rows:
        """The rows of a call that needs the losses: see Shape.read."""
        self.check_losses()
        return self.shape.read(x, y, weight, may_be_none, lengths)

    def read_batch(self, x: Any, y: Any, weight: Any, lengths: Any, is_part: bool = False) -> Rows:
        """The rows of a batch, of which some ranks may have none. With shard=True, this rank's part of them, unless the caller has cut them
        himself (is_part)."""
        self.check_losses()
        rows = self.shape.read(x, y, weight, is_part or self.ranks is not None, lengths)
        if not self.shard or is_part or self.ranks is None:
            return rows
        part = self.ranks.part(rows.count)
        return rows.take(np.arange(part.start, part.stop))

    @property
    def has_custom_losses(self) -> bool:
        """Whether some losses are Python functions. The backend cannot train an epoch with them in one call."""
        return self._custom is not None

    @property
    def array_step(self) -> Callable[[Any, Any, Any], float]:
        """The backend's step, which takes arrays unchanged. It raises an error for arrays that it cannot read and for custom losses."""
        return self._core.step

    @property
    def array_evaluate(self) -> Callable[[Any, Any, Any], float]:
        """The same for `evaluate`."""
        return self._core.evaluate

    def step(self, rows: Rows, state: CoreState | None = None, same: bool = False) -> float:
        """Forward, backward, update. Returns the loss before the update; of a solver the loss after it. same: of a solver: whether the rows
        are those of the step before, unchanged."""
        if self._custom is None:
            return self._named(rows, self._core.step, state, same)
        return self._custom.iterate(rows.present(), same) if self.is_solver else self._custom.step(rows.present())

    def backward(
        self,
        rows: Rows,
        accumulate: bool = False,
        total: float | Sequence[float] | None = None,
        first_row: int = 0,
        input_grads: bool = False,
        state: CoreState | None = None,
    ) -> float:
        """Computes `grads`, changes no parameter, and returns the loss. The arguments are those of Trainer.backward."""
        if not (accumulate is input_grads is False and total is None and type(first_row) is int and first_row == 0):
            accumulate, input_grads = flag("backward: accumulate", accumulate), flag("backward: input_grads", input_grads)
            total, first_row = self._part(rows, total, first_row)
        core_total = 0.0 if total is None else np.array(total) if isinstance(total, list) else total
        if self._custom is None and not input_grads and self.input_grads is None:
            return self._named(rows, self._core.backward, accumulate, core_total, first_row, False, state)  # holds the network itself
        with self.training():
            if self._custom is None:
                loss = self._named(rows, self._core.backward, accumulate, core_total, first_row, input_grads, state)
            else:
                loss = self._custom.backward(rows.present(), accumulate, input_grads)
            self.input_grads = read_input_grads(self._core, rows, self.shape.inputs, self.net.dtype) if input_grads else None
            return loss

    def _part(self, rows: Rows, total: Any, first_row: Any) -> tuple[float | list[float] | None, int]:
        """The checked arguments of `backward` that place a part in its batch."""
        first_row = whole_number(first_row, "backward: first_row", least=0)
        if first_row + rows.count >= 2**63:
            raise ValueError(f"backward: first_row + {counted(rows.count, 'row')} must be below 2**63, but first_row is {first_row}")
        if total is None:
            return None, first_row
        count = len(self.losses)
        given = list(total) if count > 1 and isinstance(total, list | tuple | np.ndarray) else [total]
        if count > 1 and (len(given) not in (1, count) or (len(given) == 1 and isinstance(total, list | tuple))):
            raise ValueError(f"backward: total must be a number, or a list of {count}, one per output, not {brief(total)}")
        found = [floating("backward: total", one) for one in given]
        for i, one in enumerate(found):
            if not (_SMALLEST <= one < math.inf or (len(found) > 1 and one == 0)):
                place = f"[{i}]" if len(found) > 1 else ""
                raise ValueError(f"backward: total{place} must be finite and at least {_SMALLEST:.3g}, not {brief(one)}")
        total = found if len(found) > 1 else found[0]
        if self._custom is not None:
            raise ValueError("backward: total= works with named losses only, because a custom loss does its own averaging")
        return total, first_row

    def forward(self, xs: list[Array]) -> list[Array]:
        """The raw outputs as in training, as arrays of their own."""
        # The backend reads an input again in backward_from, and uses an array of the net's dtype where it is; sparse rows it copies.
        kept = [x.copy() if type(x) is np.ndarray and x.dtype == self.net.dtype else x for x in xs]
        given = kept[0] if len(kept) == 1 else kept
        outputs = self._core.forward(given) if self.ranks is None else self.exchange(self._core.forward, given)
        self._forwarded = len(xs[0])
        return [np.asarray(output) for output in outputs]

    def backward_from(self, gradients: Any, accumulate: bool, input_grads: bool) -> None:
        """Computes `grads` from the gradients with respect to the outputs of the last `forward`."""
        if accumulate is not False or input_grads is not False:
            accumulate, input_grads = flag("backward_from: accumulate", accumulate), flag("backward_from: input_grads", input_grads)
        if self._forwarded is None:
            raise ValueError("the outputs have no values: call forward first")
        read = self._from_outputs.all("backward_from", gradients, self._forwarded)
        if not input_grads and self.input_grads is None:
            self.exchange(self._core.backward_from, read, accumulate)  # holds the network itself
            return
        with self.training():
            self.exchange(self._core.backward_from, read, accumulate, input_grads)
            self.input_grads = [np.array(gradient) for gradient in self._core.input_grads()] if input_grads else None

    def core_state(self, state: State | None, rows: Rows, call: str) -> CoreState | None:
        """The backend's state for a call with these rows; TypeError or ValueError if it does not fit."""
        if state is not None and self._custom is not None:
            raise ValueError(f"{call}: state works with named losses only, not with a loss of your own")
        return None if state is None else of_call(state, rows.count, call, self.net.backend)

    def _named(self, rows: Rows, call: Callable[..., float], *arguments: Any, chosen: Array | None = None) -> float:
        """Calls the backend. If it refuses a target, the error names the first such row by its index in the caller's arrays.

        chosen: the indices of the rows to search for that target; None: all.
        """
        try:
            if self.ranks is None:
                return call(rows.x, rows.y, rows.weight, *arguments)
            return self.exchange(call, rows.x, rows.y, rows.weight, *arguments)
        except ValueError as error:
            if found := faults.refused_target(str(error), rows, chosen, self.shape, self.losses):
                raise ValueError(found) from None
            raise

    def apply(self) -> None:
        """Updates the parameters from the current `grads`."""
        if self.ranks is None:
            self._core.apply()
        else:
            self.exchange(self._core.apply)

    def epoch(
        self,
        rows: Rows,
        order: Array,
        batch_size: int,
        rates: Array | None,
        stop: Callable[[], bool] | None = None,
        last: Callable[[], object] | None = None,
    ) -> tuple[float, int]:
        """Does one step per batch of `batch_size` rows, in the order of `order`, in one call of the backend. Not for custom losses.

        Returns the mean loss, and the number of rows trained on.
        rates: the learning rate of each step (`lr` keeps the last); None: `lr` for all steps.
        stop: called every 50 ms; if it returns True, the epoch ends after a step. last: called before the last step.
        """
        with self.training():
            first = self.steps
            try:
                loss = self._named(rows, self._core.epoch, order, batch_size, rates, self._stops(stop), last, chosen=order)
            except BaseException as error:
                self._keep_rate(rates, self.steps - first + isinstance(error, FloatingPointError))  # a failed step has used its rate too
                raise
            self._keep_rate(rates, self.steps - first)
            return loss, min((self.steps - first) * batch_size, len(order))

    def _stops(self, stop: Callable[[], bool] | None) -> Callable[[], bool] | None:
        """What the backend calls during an epoch: `stop` after the first step, and a look whether Ctrl-C has been pressed."""
        ranks, first = self.ranks, self.steps

        def stops() -> bool:
            if ranks is not None:
                ranks.check_interrupt()
            return stop is not None and self.steps > first and stop()

        return None if ranks is None and stop is None else stops

    def _keep_rate(self, rates: Array | None, used: int) -> None:
        if rates is not None and used:
            self.lr = rates[used - 1]

    # ---- the losses of the outputs ----

    @property
    def output_losses(self) -> list[float]:
        """The loss of each output in the last step, backward, evaluate or epoch, before its loss weight; NaN: none."""
        return self._core.output_losses if self._custom is None else self._custom.output_losses

    def entries(self, losses: Sequence[float]) -> dict[str, float]:
        """The entries of a record for losses of the outputs: none for one output, for one function for all, and for loss weights of 0."""
        if len(self.losses) == 1 or isinstance(self.losses[0], Joint):
            return {}
        found = zip(self.shape.names, losses, self.loss_weights, strict=True)
        return {f"loss_{name}": loss for name, loss, weight in found if weight != 0}

    # ---- evaluation and checks ----

    def evaluate(self, rows: Rows, state: CoreState | None = None) -> float:
        """The loss without dropout and noise; changes nothing."""
        if self._custom is None:
            return self._named(rows, self._core.evaluate, state)
        rows = rows.present()
        with self.hold():
            outputs = self.net.predict(rows.x, raw=True)
            return self._custom.evaluate(outputs if isinstance(outputs, list) else [outputs], rows)

    def check_batch(self, rows: Rows) -> None:
        """Raises an error for too few rows to train on: batch_norm needs two."""
        self.exchange(self._core.forward, rows.xs[0] if len(rows.xs) == 1 else rows.xs)

    def check_targets(self, rows: Rows, chosen: Array | None = None) -> None:
        """Raises an error for targets that a step would refuse, by computing the losses of zero outputs. The net does not run.

        chosen: the indices of the rows to check; None: all. There may be no rows.
        """
        if not any(isinstance(loss, Loss) for loss in self.losses):
            return
        if chosen is not None:
            rows = replace(rows, xs=[]).take(chosen)
        if rows.count:
            self.named_alone().check(rows)

    def loss_and_gradient(self, params: Array, rows: Rows) -> tuple[float, Array]:
        """Returns the training objective (loss in training mode with the layers' penalties) at these parameters, and `grads`, its gradient.

        The net's parameters do not change, but predictions of other threads meanwhile use `params`. Dropout and noise are the same in each
        call until the next update.
        """
        with self.training():
            before, buffers = self.net.params.copy(), self.net.buffers
            self.net._core.assign(np.ascontiguousarray(params, dtype=self.net.dtype), buffers)
            try:
                loss = self.backward(rows)
                if self.has_custom_losses or not self.penalty_per_row:  # else the loss contains the penalties
                    loss += penalties.of_net(self.net) / (rows.present().count if self.penalty_per_row else 1)
                return loss, sparse.in_full(self.grads, sparse.grads_of(self._core, self.net), self.net)
            finally:
                self.net._core.assign(before, buffers)

    def permutation(self, purpose: int, instance: int, count: int) -> Array:
        """A permutation of 0 to count - 1, determined by the seed and the arguments. purpose: backend.SHUFFLE or backend.SPLIT."""
        return np.asarray(backends.load(self.net.backend).permutation(self.seed, purpose, instance, count))

    @contextlib.contextmanager
    def standardized(self, rows: Rows, trained: Array) -> Iterator[None]:
        """Sets what has no statistics yet, from the rows with these indices: bp.Standardize layers, and the targets' mean and std with
        standardize_targets. If the block ends with an error before the first update, they are what they were."""
        layers, outputs = self.unset_layers(), self.unset_outputs()
        if not layers and not outputs:
            yield
            return
        target_scale.check_activations(self.net, outputs)
        before, steps = self.net.buffers.copy(), self.steps
        part = rows if np.array_equal(trained, np.arange(rows.count)) else rows.take(trained)
        try:
            gather = moments.alone if self.ranks is None or self.shard else self.ranks.gather_arrays
            if layers and gather is moments.alone:
                self._core.net.standardize(part.xs, False)
            elif layers:
                moments.standardize(self.net, part.xs, layers, gather)
            for i, loss in outputs:
                target_scale.set_unit(self.net, part, i, loss, self.shape.outputs[i], gather)
            yield
        except BaseException:
            if self.steps == steps:
                self.net.buffers[...] = before
                for i, _ in outputs:
                    self.net.set_output(i, "identity")
            raise

    def unset_outputs(self) -> list[tuple[int, Loss]]:
        """The outputs whose targets are to be standardized, but have no mean and std yet, with their losses."""
        wanted = zip(self.net.outputs, self.losses, self.shape.counts, strict=True) if self.standardize_targets else ()
        return [(i, loss) for i, (output, loss, counts) in enumerate(wanted) if counts and output.mean is None and isinstance(loss, Loss)]

    def unset_layers(self) -> list[str]:
        """The names of the bp.Standardize layers, which are not frozen, that still have the mean 0 and the standard deviation 1."""
        tensors = self.net.tensors
        names = [layer.name for layer in self.net.layers if layer.kind == "standardize" and not layer.frozen]
        return [name for name in names if not tensors[f"{name}.mean"].any() and (tensors[f"{name}.std"] == 1).all()]
