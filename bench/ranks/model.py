"""The cost of a step on many ranks: its formula, the fit of its constants, and a simulation that replays measured steps.

A step of `rows` rows in all on N ranks takes compute(rows / N) + exchange(N). All times are in seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from measure import NETS

SMALL = 1 << 18  # bytes: shorter vectors of all ranks together are gathered whole, longer ones go in blocks
BLOCK = 1 << 20  # bytes of a block; as in src/train/steps


@dataclass(frozen=True)
class Compute:
    """A step of one rank: call + update x parameters + row x parameters x rows."""

    call: float
    update: float
    row: float

    def seconds(self, parameters: int, rows: float) -> float:
        return self.call + parameters * (self.update + self.row * rows)


@dataclass(frozen=True)
class Network:
    """latency: of a message. overhead: of each further message of a rank that sends many at once. byte: of a byte that a rank receives.
    add: of a byte that a rank adds. switch: of an exchange, if a core has more than one rank, because they must take turns. call: of a
    step from Python, which calls mpi4py for each exchange. apart: of a parameter, because gradient and update are passes of their own over
    memory, which a step of one process does as one."""

    latency: float
    overhead: float
    byte: float
    add: float
    switch: float = 0.0
    call: float = 0.0
    apart: float = 0.0
    cores: float = math.inf

    def shared(self, ranks: int) -> float:
        """How many ranks a core has."""
        return max(1.0, ranks / self.cores)

    def gather(self, ranks: int, size: float) -> float:
        """Each rank gets `size` bytes of every other one, in messages that double in size."""
        if ranks == 1:
            return 0.0
        own = math.ceil(math.log2(ranks)) * self.latency + (ranks - 1) * size * self.byte
        return own * self.shared(ranks) + (ranks > self.cores) * self.switch

    def swap(self, ranks: int, size: float) -> float:
        """Each rank sends a piece of its `size` bytes to every other one."""
        if ranks == 1:
            return 0.0
        own = self.latency + (ranks - 2) * self.overhead + (ranks - 1) / ranks * size * self.byte
        return own * self.shared(ranks) + (ranks > self.cores) * self.switch

    def sum(self, ranks: int, size: float) -> float:
        """The ordered sum of vectors of `size` bytes."""
        if ranks == 1:
            return 0.0
        if ranks * size <= SMALL:
            return self.gather(ranks, size) + ranks * size * self.add * self.shared(ranks)
        whole, rest = divmod(size, BLOCK)
        return sum(
            self.swap(ranks, block) + block * self.add * self.shared(ranks) + self.gather(ranks, block / ranks)
            for block in [BLOCK] * int(whole) + [rest] * (rest > 0)
        )

    def exchange(self, ranks: int, parameters: int) -> float:
        """Of a step: the header, the losses and the gradient, of 4 bytes each."""
        if ranks == 1:
            return 0.0
        own = (self.call + self.apart * parameters) * self.shared(ranks)
        return own + self.gather(ranks, 24) + self.gather(ranks, 32) + self.sum(ranks, 4 * parameters)


def step(compute: Compute, network: Network, parameters: int, rows: float, ranks: int, every: int = 1, vectors: int = 3) -> float:
    """every: sync_every. vectors: how many are averaged: the parameters and the slots (Adam: 3)."""
    own = compute.seconds(parameters, rows / ranks) * network.shared(ranks)
    if every == 1:
        return own + network.exchange(ranks, parameters)
    return own + (network.gather(ranks, 24) + vectors * network.sum(ranks, 4 * parameters)) / every


# Between two nodes, as others have measured with the OSU benchmarks: 0.9 us and 11.6 GB/s with Open MPI and InfiniBand of 100 Gbit/s, 25 us
# with MPICH over TCP (https://gist.github.com/jfgrimm/3af692a5475bdd4ed836b5a18197a209). 10 Gbit/s are 1.18 GB/s of data in frames of 1,500
# bytes. Each further message: 1.4 million a second (https://gist.github.com/hppritcha/200bc7a2d4dfde709245d6ffa7b2b971); over TCP about 2
# us, a call of the kernel.
TYPICAL = {
    "Ethernet 10 Gbit/s": Network(25e-6, 2e-6, 1 / 1.18e9, 0),
    "InfiniBand 100 Gbit/s": Network(0.9e-6, 0.7e-6, 1 / 11.6e9, 0),
}


def typical(measured: Network) -> dict[str, Network]:
    """Additions and calls are as fast as measured. Shared memory has a core for each rank."""
    here = {"shared memory": replace(measured, cores=math.inf)}
    return here | {name: replace(network, add=measured.add, call=measured.call, apart=measured.apart) for name, network in TYPICAL.items()}


# ---- the fit ----


def least_squares(rows: list[list[float]], seconds: list[float], known: list[float] | None = None) -> list[float]:
    """Factors of at least 0 with the smallest squared relative errors. known: a part of the seconds that has no factor."""
    a, b = np.array(rows) / np.array(seconds)[:, None], np.ones(len(seconds))
    if known is not None:
        b -= np.array(known) / np.array(seconds)
    kept = list(range(a.shape[1]))
    while kept:
        found = np.linalg.lstsq(a[:, kept], b, rcond=None)[0]
        if (found >= 0).all():
            return [float(found[kept.index(i)]) if i in kept else 0.0 for i in range(a.shape[1])]
        del kept[int(found.argmin())]
    return [0.0] * a.shape[1]


def usual(samples: list[float]) -> float:
    """A fifth of the samples are faster. The slow ones are those of a machine that does other work as well."""
    return float(np.quantile(samples, 0.2))


def fit_compute(one: dict[str, Any]) -> Compute:
    """one: what measure.py found on one rank."""
    points = [(NETS[net], int(rows), usual(found)) for net, by_rows in one["step"].items() for rows, found in by_rows.items()]
    return Compute(*least_squares([[1, p, p * rows] for p, rows, _ in points], [seconds for *_, seconds in points]))


def fit_network(measured: dict[str, Any]) -> Network:
    """measured: what measure.py found on 1 and more ranks."""
    cores, rows, seconds = measured["cores"], [], []
    units = [replace(Network(0, 0, 0, 0, cores=cores), **{name: 1.0}) for name in ("latency", "overhead", "byte", "switch")]
    for ranks, found in measured["ranks"].items():
        for kind in ("gather", "swap") if int(ranks) > 1 else ():
            for size, samples in found[kind].items():
                rows.append([getattr(unit, kind)(int(ranks), int(size)) for unit in units])
                seconds.append(usual(samples))
    latency, overhead, byte, switch = least_squares(rows, seconds)
    ((size, samples),) = measured["ranks"]["1"]["add"].items()
    network = Network(latency, overhead, byte, usual(samples) / int(size), switch, cores=cores)
    one, two, left, seconds = measured["ranks"]["1"]["step"], measured["ranks"]["2"]["step"], [], []
    known = []
    for net in two:  # what is left of steps on two ranks belongs to calls and to passes that are apart
        for rows_of_rank in set(two[net]) & set(one[net]):
            known.append(usual(one[net][rows_of_rank]) + network.exchange(2, NETS[net]))
            left.append([1.0, NETS[net]])
            seconds.append(usual(two[net][rows_of_rank]))
    call, apart = least_squares(left, seconds, known)
    return replace(network, call=call, apart=apart)


# ---- the simulation ----


def simulate(samples: list[float], network: Network, parameters: int, ranks: int, steps: int = 60, seed: int = 0) -> float:
    """The usual step of ranks that each replay a measured one, drawn from `samples`, and then exchange message by message: a rank goes on
    when its own part and the message that it waits for are there."""
    random, clock, ends = np.random.default_rng(seed), np.zeros(ranks), [0.0]
    everyone = np.arange(ranks)

    def gather(size: float) -> None:
        share = network.shared(ranks)
        for power in range(math.ceil(math.log2(ranks))):
            received = min(1 << power, ranks - (1 << power)) * size
            sender = clock[(everyone + (1 << power)) % ranks]
            clock[:] = np.maximum(clock, sender) + (network.latency + received * network.byte) * share
        clock[:] += (ranks > network.cores) * network.switch

    def swap(size: float) -> None:
        clock[:] = clock.max() + network.swap(ranks, size)

    for _ in range(steps):
        clock += (random.choice(samples, ranks) + (network.call + network.apart * parameters) * (ranks > 1)) * network.shared(ranks)
        gather(24)
        if ranks > 1:
            rest = 4 * parameters
            if ranks * rest <= SMALL:
                gather(rest)
                clock += ranks * rest * network.add * network.shared(ranks)
            while rest > 0 and ranks * 4 * parameters > SMALL:
                block = min(rest, BLOCK)
                swap(block)
                clock += block * network.add * network.shared(ranks)
                gather(block / ranks)
                rest -= block
        gather(32)
        ends.append(float(clock.max()))
    return usual(np.diff(ends).tolist())
