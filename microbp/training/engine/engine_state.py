"""EngineState: the part of an Engine that is about its settings and its state, apart from the steps that change them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from ...core.backend import CoreTrainer
from ...core.checks import floating
from ...core.specs import OptimizerSpec
from ...core.text import brief
from ...data.arrays import Array, Views
from ...network.network import Network
from ...ranks.ranks import Ranks
from ...settings import optimizers
from . import solver, sparse
from .custom_loss import CustomLosses

LIMITS = ("clip_norm", "clip_layer_norm", "clip_value")
# Parameters of optimizers that are not among `numbers`: lr has its own property; the others belong to all updates, as factors of a
# product over them or as the start of slots.
CONSTANT = ("lr", "decay_bias", "eps_hat", "beta1", "beta2", "momentum_decay", "initial_accumulator_value")
T = TypeVar("T")


class EngineState:
    """The attributes and methods of an Engine for its settings and its whole state."""

    __slots__ = (
        "_core", "_custom", "_forwarded", "average", "comm", "grads", "initial", "input_grads", "is_solver", "net", "optimizer", "ranks",
        "shard", "slots", "sync_every",
    )  # fmt: skip

    _core: CoreTrainer
    _custom: CustomLosses | None
    _forwarded: int | None
    average: Array | None
    grads: Array
    initial: dict[str, float]
    input_grads: list[Array] | None
    is_solver: bool
    net: Network
    optimizer: str | optimizers.Optimizer | OptimizerSpec
    slots: Views
    comm: Any
    ranks: Ranks | None  # the processes that train together; None: this one is alone
    shard: bool  # whether all ranks get the same rows, of which each uses its part
    sync_every: int  # the number of steps after which the ranks average their parameters; 1: each step is one of all ranks

    # ---- one thread at a time ----

    def hold(self) -> AbstractContextManager[None]:
        """Holds the network for this thread. Calls of other threads that change it or its trainers are refused (RuntimeError)."""
        return self.net._core.hold()

    def training(self) -> AbstractContextManager[None]:
        """`hold` for a training: RuntimeError inside a function of the user that a training calls."""
        return self.net._core.hold(True)

    def guest(self) -> AbstractContextManager[None]:
        """Runs a function of the user while this thread trains: it may do everything with the network except training."""
        return self.net._core.guest()

    # ---- several processes ----

    def join(self, ranks: Ranks | None) -> None:
        """From now on, steps are those of these ranks; None: of this process alone."""
        if ranks is None:
            self._core.set_reduce(None)
        else:
            self._core.set_reduce(ranks.rank, ranks.size, ranks.gather, ranks.swap, ranks.begin, ranks.finish, self.sync_every)
        self.ranks = ranks

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """A block in which steps are of this process alone. Whoever trains in it restores everything."""
        ranks = self.ranks
        if ranks is None:
            yield
            return
        self.join(None)
        try:
            yield
        finally:
            self.join(ranks)

    def joined(self, closes: bool = True) -> AbstractContextManager[Any]:
        """A block in which all ranks do the same: see Ranks.joined."""
        return contextlib.nullcontext() if self.ranks is None else self.ranks.joined(closes)

    @property
    def must_join(self) -> bool:
        """Whether a call that exchanges must be in such a block, and is not yet. The fast paths ask for `ranks` first."""
        return self.ranks is not None and not self.ranks.is_inside

    def exchange(self, call: Callable[..., T], *arguments: Any) -> T:
        """A call of the backend that exchanges: see Ranks.call."""
        if self.ranks is None:
            return call(*arguments)
        with self.ranks.call(self._core):
            return call(*arguments)

    # ---- settings and state ----

    @property
    def lr(self) -> float:
        """The learning rate of the next update; NaN: there is none."""
        return math.nan if self.is_solver else self._core.get("lr")

    @lr.setter
    def lr(self, value: float) -> None:
        self._core.set("lr", value)

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers besides lr that may change between updates: the factor of the dropout rates, and parameters of the optimizer."""
        return {name: self._core.get(name) for name in self.initial}

    def set_numbers(self, values: Mapping[str, float]) -> None:
        """Sets some of `numbers`. ValueError: one is out of range; none has changed."""
        with self.hold():
            before = self.numbers
            try:
                for name, value in values.items():
                    self._core.set(name, value)
            except ValueError:
                for name, value in before.items():
                    self._core.set(name, value)
                raise

    @property
    def recorded(self) -> dict[str, float]:
        """What a record tells of the optimizer: the learning rate, or numbers of the solver."""
        return solver.recorded(self._core, optimizers.parse(self.optimizer))

    @property
    def steps(self) -> int:
        """The number of updates so far."""
        return self._core.steps

    @steps.setter
    def steps(self, value: int) -> None:
        self._core.steps = value

    @property
    def limits(self) -> dict[str, float | None]:
        """The limits for the gradients that the optimizer gets."""
        return {name: self.limit(name) for name in LIMITS}

    def limit(self, name: str) -> float | None:
        """The value of one of LIMITS; None: no limit."""
        value = self._core.get(name)
        return value if value < math.inf else None

    def set_limit(self, name: str, limit: float | None) -> None:
        """Sets one of LIMITS."""
        self._core.set(name, as_limit(name, limit))

    @property
    def penalty_per_row(self) -> bool:
        """Whether the penalties are divided by the weight of the batch, and are part of the loss."""
        return bool(self._core.get("penalty_per_row"))

    @property
    def average_count(self) -> int:
        """The number of states in the average."""
        return self._core.average_count

    def reset(self) -> None:
        """Resets gradients, optimizer state, average and steps; the network's parameters stay."""
        with self.hold():
            self._core.reset()
            self.input_grads = self._forwarded = None
            if self._custom is not None:
                self._custom.reset()

    def state(self) -> dict[str, Any]:
        """A copy of everything that steps change, except the network."""
        with self.hold():
            self.net.flush()
            return {
                "lr": self.lr,
                "numbers": self.numbers,
                "steps": self.steps,
                "losses": {name: self._core.get(name) for name in ("loss", "last_loss")},
                **sparse.state_of(self._core, self.net, self.grads),
                **solver.state_of(self._core, self.net, self.is_solver),
                "slots": {name: view.copy() for name, view in self.slots.items()},
                "average": None if self.average is None else self.average.copy(),
                "average_count": self.average_count,
            }

    def set_state(self, state: dict[str, Any]) -> None:
        """Restores a state, bit for bit."""
        with self.hold():
            self.set_numbers(state["numbers"])
            solver.restore(self._core, state)
            self.steps = state["steps"]
            for name, loss in state["losses"].items():
                self._core.set(name, loss)
            sparse.restore(self._core, self.net, self.grads, state)
            for name, values in state["slots"].items():
                self.slots[name][...] = values
            if self.average is not None:
                self.average[...] = state["average"]
            self._core.set("average_count", state["average_count"])
            self._forwarded = None

    def snapshot(self) -> dict[str, Any]:
        """A copy of everything that steps change, including the network's parameters and buffers."""
        with self.hold():
            return self.state() | {"params": self.net.params.copy(), "buffers": self.net.buffers.copy()}

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Restores a snapshot, bit for bit."""
        with self.hold():
            self.set_state(snapshot)
            self.net._restore(snapshot["params"], snapshot["buffers"])


def as_limit(name: str, limit: float | None) -> float:
    """A limit as the backends store it: infinity means no limit."""
    value = math.inf if limit is None else floating(name, limit)
    if not value > 0:
        raise ValueError(f"{name} must be above 0, or None for no limit, not {brief(limit)}")
    return value
