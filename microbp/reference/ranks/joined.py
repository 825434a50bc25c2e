"""How a trainer steps with others: each rank has its own rows, and a step is that of the rows of all ranks together."""

from __future__ import annotations

import functools
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, repeat
from operator import add
from typing import Any, TypeVar

from .ranks import LeftError, Ranks

Call = TypeVar("Call", bound=Callable[..., Any])


@dataclass(frozen=True)
class Joint:
    """The rows of all ranks in a step. total: the sum of their weights. totals: what the loss of each output is divided by.
    first_row: the number of this rank's first row among them. ranks: those that the step belongs to."""

    ranks: Ranks
    total: float
    rows: int
    totals: Sequence[float]
    first_row: int = 0

    @classmethod
    def of(cls, batch: Any) -> Joint:
        """This rank's rows."""
        return cls(Ranks(), batch.total, len(batch.weights), batch.totals)


def telling(method: Call) -> Call:
    """Of a method: if it fails in one rank, the others learn of it."""

    @functools.wraps(method)
    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        with self._ranks.telling():
            return method(self, *arguments, **named)

    return call  # type: ignore[return-value]


class Joining:
    """The part of a Trainer that belongs to its ranks."""

    net: Any
    slots: Any
    seed: int
    _steps: int
    _average: Any
    _check_sparse: Any
    _refuse: Any
    _losses: Any
    _loss_weights: Any
    _values: dict[str, float]
    _penalty: float
    _sums: list[float]
    _train: Any
    _ranks: Ranks  # those that train together
    _steppers: Ranks  # those of a step: this one alone, if parameters are averaged instead
    _part_rows = 0  # how many rows the gradient has, of all ranks

    def set_reduce(
        self,
        rank: int | None,
        ranks: int = 1,
        gather: Any = None,
        swap: Any = None,
        begin: Any = None,
        finish: Any = None,
        every: int = 0,
    ) -> None:
        """Trains together with other processes, by exchanges of bytes: see Ranks. every > 1: each steps on its own rows, and after so
        many steps the parameters become their means. rank None: alone."""
        if rank is None:
            self._ranks = self._steppers = Ranks()
            return
        self._refuse("training on several processes")
        _check(rank, ranks, gather, begin, finish, every)
        self._ranks = Ranks(rank, ranks, gather, swap, begin, finish, every, self.net.guest)
        self._steppers = self._ranks if every <= 1 else Ranks()

    @property
    def failed_rank(self) -> int:
        """The rank that has failed in the last call that exchanges, if all know it; -1: none."""
        return self._ranks.failed

    @property
    def _own_seed(self) -> int:
        """That of dropout and noise: one for all ranks of a step."""
        return (self.seed + (self._ranks.rank if self._ranks.every > 1 else 0)) % 2**64

    def _joined(self, batch: Any, may_be_none: bool = False) -> Joint:
        """This batch together with those of the other ranks. What can be refused is refused here: after the header, no rank is alone with
        an error. may_be_none: no rank need have rows."""
        ranks = self._steppers
        self._check_sparse(batch.inputs)
        if ranks.ranks == 1 and not may_be_none:
            batch.checked()
        found = ranks.header(batch.total, len(batch.weights))
        total, rows = (functools.reduce(add, numbers) for numbers in zip(*found))
        totals = ranks.numbers(batch.totals)
        with ranks.agreed():
            self._check_joint(batch, ranks, int(rows), total, totals, may_be_none)
        return Joint(ranks, total, int(rows), totals, int(sum(rows for _, rows in found[: ranks.rank])))

    def _joint_of(self, batch: Any, totals: list[float] | None, first_row: int, accumulate: bool) -> Joint:
        """What `backward` divides by. totals: those that the caller knows. first_row: with other ranks, rows are counted here."""
        ranks = self._steppers
        if ranks.ranks > 1:
            joint = self._joined(batch, may_be_none=totals is not None)
            first = self._part_rows if accumulate else 0
            self._part_rows = first + joint.rows
            return replace(joint, totals=totals or joint.totals, first_row=first + joint.first_row)
        if totals is None:
            return replace(self._joined(batch, may_be_none=self._ranks.every > 1), first_row=first_row)
        self.net.check_statistics(batch.inputs)
        self._check_sparse(batch.inputs)
        return Joint(ranks, 0.0, 0, totals, first_row)

    def _check_joint(self, batch: Any, ranks: Ranks, rows: int, total: float, totals: Sequence[float], may_be_none: bool) -> None:
        if rows or not may_be_none:
            batch.check_totals(rows, rows, total, totals)
        self.net.check_statistics(batch.inputs, ranks.numbers)

    def _shares_statistics(self, joint: Joint) -> bool:
        """Whether a batch_norm uses the rows of other ranks, so that a rank without rows takes part in the passes."""
        return joint.ranks.ranks > 1 and joint.rows > 0 and self.net.has_statistics

    def _joined_steps(
        self, batches: Sequence[Any], empty: Any, rates: Sequence[float], last: Callable[[], object] | None
    ) -> Iterator[tuple[Any, Joint]]:
        """The batches of an epoch: until no rank has rows left. rates: for each of them, or none. last: is called before the last."""
        ranks, waiting = self._ranks, chain(batches, repeat(empty))
        own_rate, steps = self._values["lr"], int(max(count for count, _ in ranks.header(len(batches))))
        for number, batch in enumerate(islice(waiting, steps)):
            if rates and number >= len(rates):
                raise ValueError(f"lr has {len(rates)} rates, but the epoch has {steps} steps, those of the rank with the most rows")
            self._values["lr"] = rates[number] if rates else own_rate
            if last is not None and number == steps - 1:
                with self.net.guest():
                    last()
            yield batch, self._joined(batch, may_be_none=True)
        if ranks.every > 1 and (not steps or self._steps % ranks.every):
            self._take_means()

    def _run_epoch(self, steps: Iterable[tuple[Any, Joint]], stop: Callable[[], bool]) -> None:
        """Adds to self._sums the penalties, the weight of rows that they belong to, and for each output its losses and its weights."""
        for batch, joint in steps:
            losses = self._train(batch, joint)
            weight = sum(total for total, one in zip(joint.totals, self._loss_weights) if one)
            both = [number for loss, total in zip(losses, joint.totals) for number in (loss * total, total)]
            self._sums = list(map(add, self._sums, [self._penalty * weight, weight, *both]))
            with self.net.guest():
                if stop():
                    return self._ranks.leave()
        if self._ranks.every > 1:
            self._sums = self._ranks.numbers(self._sums)

    def _count_step(self) -> None:
        """At the end of a step: counts it."""
        self._steps += 1
        if self._ranks.every > 1 and self._steps % self._ranks.every == 0:
            self._take_means()

    def _take_means(self) -> None:
        """Parameters, buffers, slots and the average become the means of those of all ranks."""
        (first, _), *others = self._ranks.header(self._steps)
        for rank, (steps, _) in enumerate(others, 1):
            if steps != first:
                told = f"process 0 has made {first:.0f} steps, but process {rank} {steps:.0f}: start all of them again from one file"
                with self._ranks.agreed():
                    raise LeftError(told)
        vectors = [self.net.params, self.net.buffers, *self.slots.values(), *([self._average.vector] if self._average else [])]
        found = [self._ranks.mean(vector) for vector in vectors]
        with self.net.changing():
            for vector, mean in zip(vectors, found):
                if mean:  # an empty vector cannot be changed while there is a view of it
                    vector[:] = mean

    def _check_losses(self, losses: list[float], ranks: Ranks) -> list[float]:
        """Their sums over the ranks, if they are finite."""
        parts = [part.tolist() for part in ranks.gathered(array("d", losses))]
        sums = [functools.reduce(add, each) for each in zip(*parts)]
        with ranks.agreed():
            for i, (spec, loss) in enumerate(zip(self._losses, losses)):
                if not math.isfinite(loss):
                    raise FloatingPointError(f"the loss of output {i} ({spec}) is {loss}, not a finite number")
            for rank, part in enumerate(parts):
                if not all(map(math.isfinite, part)):
                    raise FloatingPointError(f"the loss of process {rank} is not finite")
            if not all(map(math.isfinite, sums)):
                raise FloatingPointError("the sum of the losses of all processes is not finite")
        return sums

    def _join_names(self, flat: array, sparse: Any, ranks: Ranks, layout: Sequence[Any]) -> None:
        """The sparse layers become those of all ranks, with the rows that any of them names. A gradient that is dense in this rank names
        all rows, or none if it is 0. flat: that of this rank."""
        weights = [tensor for tensor in layout if tensor.is_matrix]
        counts = ranks.numbers([float(tensor.layer in sparse.named) for tensor in weights])
        for tensor in (tensor for tensor, count in zip(weights, counts) if count and ranks.ranks > 1):
            rows = range(tensor.rows) if any(flat[tensor.place].tobytes()) else ()
            sparse.named[tensor.layer] = ranks.union(sparse.named.get(tensor.layer, set(rows)))


def _check(rank: int, ranks: int, gather: Any, begin: Any, finish: Any, every: int) -> None:
    if gather is None:
        raise ValueError("how.gather is NULL, but must be a function")
    if ranks < 1:
        raise ValueError(f"how.ranks is {ranks}, but must be at least 1")
    if not 0 <= rank < ranks:
        raise ValueError(f"how.rank is {rank}, but must be at least 0 and below how.ranks, {ranks}")
    if every < 0:
        raise ValueError(f"how.every is {every}, but must be at least 0")
    if (begin is None) != (finish is None):
        missing, other = ("begin", "finish") if begin is None else ("finish", "begin")
        raise ValueError(f"how.{missing} is NULL, but how.{other} is not: set both or none")
