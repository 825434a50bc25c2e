"""How a trainer steps with a solver: an iteration on the rows of a batch."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from typing import Any

from .least_squares import LeastSquares, check, check_size, square
from .solver import MOVED, Problem, Solver, Vector, check_whole


class Solving:
    """The part of a Trainer that belongs to its solver."""

    net: Any
    grads: Any
    _optimizer: Any
    _values: dict[str, Any]
    _steps: int
    _loss: float
    _last_loss: float
    _penalties: float
    _pending: Any
    _evaluations: int
    _differentiate: Any
    _check_gradients: Any
    step_with: Any
    _losses: Any
    _loss_weights: Any
    _share: Any

    def _start_solver(self, spec: Any) -> None:
        self._solver = spec.kind == "solver"
        self._solver_numbers: list[float] = []
        if self._solver:
            check_whole(spec.entry.make, spec.values)

    def _refuse(self, what: str) -> None:
        if self._solver:
            raise ValueError(
                f"{what} does not work with {self._optimizer.name}, which finds its steps by losses of the same rows; use another "
                "optimizer, such as adam"
            )

    def _refuse_limit(self, name: str, limit: float) -> None:
        if name.startswith("clip") and limit < math.inf:
            self._refuse("clipping of gradients")

    def _refuse_change(self, name: str) -> None:
        if self._solver:
            raise ValueError(f'{name} cannot be changed: create a trainer with it, "{self._optimizer.name}({name}=...)"')

    @property
    def solver_state(self) -> bytes:
        """What the next iteration depends on besides the parameters, as the bytes of doubles."""
        return array("d", self._solver_numbers).tobytes()

    def set_solver_state(self, numbers: bytes) -> None:
        """Replaces it. b"": the solver starts anew."""
        if len(numbers) % 8:
            raise ValueError(f"the state of a solver has {len(numbers)} bytes, but must have a multiple of 8")
        if not self._solver:
            raise ValueError(f"{self._optimizer.name} has no state of a solver: it is an optimizer")
        state, count = array("d", numbers).tolist(), len(self.net.params)
        if not self._made().restore(state):
            name = self._optimizer.name
            raise ValueError(f"a state of {name} for {count} parameters cannot have {len(state)} numbers")
        self._solver_numbers = state

    @property
    def _named(self) -> dict[str, float]:
        """The numbers of the solver, by name."""
        if not self._solver:
            return {}
        solver = self._made()
        solver.restore(self._solver_numbers)
        return dict(zip(self._optimizer.entry.detail.split(), solver.numbers))

    def _made(self) -> Solver:
        """A solver without a state, at the parameters."""
        return self._optimizer.entry.make(list(self.net.params), self._values)

    def _check_iteration(self) -> None:
        """Refuses what makes the loss of the same rows and parameters differ, or parameters move otherwise than by the gradient."""
        name, nodes = self._optimizer.name, self.net.graph.nodes
        used, last = set(), [output.node for output in self.net.graph.outputs]
        while last:
            used.add(number := last.pop())
            last += [operand for operand in nodes[number].operands if operand not in used]
        for number in sorted(used):
            if nodes[number].kind in ("dropout", "noise"):
                raise ValueError(f"node {number} is {nodes[number].kind}, which does not work with {name}: remove it, or use adam")
        unfit = ("l1", "l2", "max_norm") if self._optimizer.entry.make.SETS_L2 else ("l1", "max_norm")
        for layer in self.net.graph.layers.values():
            tensors = [tensor for tensor in self.net.layout if tensor.layer == layer.name]
            if layer.frozen or not tensors:
                continue
            has = "batch_norm" if layer.kind == "batch_norm" else next((key for key in unfit if layer.settings.get(key)), "")
            if not has and any(layer.rate(tensor.name) != 1 for tensor in tensors):
                has = "a factor of lr"
            if has:
                advice = "remove it, freeze the layer, or use adam"
                raise ValueError(f"layer {layer.name} has {has}, which does not work with {name}: {advice}")

    def _iterate(self, batch: Any) -> list[float]:
        """One iteration with these rows; the losses of the outputs after it. It counts as a step only if it finds a better point."""
        if batch.carry:
            self._refuse("state")
        self._check_iteration()
        losses: list[float] = []

        def value(x: list[float]) -> tuple[float, list[float]]:
            nonlocal losses
            self._put(x)
            losses = self._differentiate(batch)
            self._seen.append(self._loss)
            return sum(losses) + self._penalties, list(self.grads)

        problem = self._least_squares(batch, value) if self._optimizer.entry.make.NEEDS_RESIDUALS else Problem(value, held=self._held())
        with self.net.changing():
            self._run(problem)
        return losses

    def iterate_with(self, x: Any, losses: Any, same: bool = False) -> float:
        """The same with losses of the caller: see step_with. same: the losses are the same function as in the iteration before, which
        changes no result."""
        if not self._solver:
            raise ValueError(f"iterate_with needs a solver, such as lbfgs, not {self._optimizer.name}: call step_with")
        if self._optimizer.entry.make.NEEDS_RESIDUALS:
            raise ValueError(f"{self._optimizer.name} does not work with a loss of your own; use lbfgs")
        self._check_iteration()

        def value(params: list[float]) -> tuple[float, list[float]]:
            with self.net.changing():
                self._put(params)
            loss = self.step_with(x, losses, update=False)
            self._check_gradients(self.grads)
            self._seen.append(loss)
            return loss + self._penalties, list(self.grads)

        self._run(Problem(value, held=self._held()))
        return self._loss

    def _held(self) -> frozenset[int]:
        """The numbers of the parameters of frozen layers."""
        frozen = [tensor for tensor in self.net.layout if self.net.graph.layers[tensor.layer].frozen]
        return frozenset(i for tensor in frozen for i in range(tensor.place.start, tensor.place.stop))

    def _put(self, x: list[float]) -> None:
        """Sets the parameters, and x to the numbers that they have become."""
        x[:] = [_held(one, self.net.format) for one in x]
        if not all(map(math.isfinite, x)):
            raise FloatingPointError("a parameter is not finite")
        self.net.params[:] = array(self.net.format, x)
        self._evaluations += 1

    def _run(self, problem: Problem) -> None:
        """One iteration on this problem, each of whose evaluations adds its loss to self._seen."""
        params, kept = self.net.params[:], self._loss
        self._seen: list[float] = []
        solver = self._made()
        solver.restore(self._solver_numbers)
        try:
            moved = solver.iterate(problem) == MOVED
        except BaseException:
            self.net.params[:], self._loss = params, kept
            raise
        self._solver_numbers, self._pending, self._last_loss = solver.state, None, self._seen[0]
        self._steps += moved

    def _least_squares(self, batch: Any, value: Callable[[Vector], tuple[float, Vector]]) -> Problem:
        name, count = self._optimizer.name, len(self.net.params)
        check(name, self._losses, self._loss_weights)
        self.net.refuse_sparse(batch.inputs, f"{name} needs")
        squares = LeastSquares(self.net, batch, self._losses, self._loss_weights)
        check_size(name, squares.residuals, count)

        def linearize(x: Vector, by_rows: bool) -> tuple[float, Vector, list[Vector], Vector]:
            found, gradient = value(x)
            rows = squares.jacobian()
            return found, gradient, rows if by_rows else square(rows, count), squares.diagonal(self._share(batch, batch.totals))

        def cross(x: Vector, trial: Vector) -> Vector:
            value(trial)
            slopes = squares.slopes()
            value(x)
            return squares.cross(slopes)

        return Problem(value, squares.residuals, squares.targets, lambda x: value(x)[0], linearize, cross)


def _held(x: float, code: str) -> float:
    """The number, or infinity where the format cannot represent it."""
    try:
        return array(code, [x])[0]
    except OverflowError:
        return math.copysign(math.inf, x)
