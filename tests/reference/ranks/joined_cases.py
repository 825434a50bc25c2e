"""Networks that threads train as ranks, each with its own rows: cases, their data, and one process that does the same."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import cases
import numpy as np
import optimizer_cases
from ranks_threads import hooks, run_ranks

import microbp as bp

ROWS, STEPS = 11, 3
SPLITS = [(5, 5), (0, 4, 5), (3, 3)]  # where the rows of rank 1, 2, ... begin: unequal shards, and empty ones


def plain() -> tuple[Any, Any]:
    x = bp.Input(3)
    return x, bp.Dense(2)(bp.Dense(4, "tanh")(x))


def dropout() -> tuple[Any, Any]:
    x = bp.Input(3)
    return x, bp.Dense(2)(bp.Dropout(0.4)(bp.GaussianNoise(0.3)(bp.Dense(6, "tanh")(x))))


def norms() -> tuple[Any, Any]:
    x = bp.Input(3)
    h = bp.BatchNorm()(bp.Dense(4, "tanh")(x))
    return x, bp.Dense(2)(bp.BatchNorm(momentum=0.3)(bp.Dense(3)(h)) + bp.Dense(3)(h))


def penalized() -> tuple[Any, Any]:
    x = bp.Input(3)
    return x, bp.Dense(2, l1=0.01)(bp.Dense(4, "tanh", l2=0.1, max_norm=0.9)(x))


def heads() -> tuple[Any, Any]:
    x = bp.Input(3)
    h = bp.Dense(4, "tanh")(x)
    return x, [bp.Dense(2)(h), bp.Dense(2)(h)]


def embedded() -> tuple[Any, Any]:
    ids = bp.Ids(2, 9)
    return ids, bp.Dense(2)(bp.Embedding(9, 2, name="e")(ids))


@dataclass(frozen=True)
class Case:
    """settings: of the trainer, by name. average: of parameters. joined: whether rows depend on the others of a step, so that a step has no
    parts. missing: whether some targets are."""

    build: Callable[[], tuple[Any, Any]] = plain
    loss: str = "mse"
    optimizer: str = "adam(lr=0.01)"
    dtype: str = "float64"
    settings: dict[str, float] = field(default_factory=dict)
    average: bool = False
    joined: bool = False
    missing: bool = False

    def trainer(self, backend: str) -> Any:
        inputs, outputs = self.build()
        net = bp.Network(inputs, outputs, dtype=self.dtype, seed=3, backend=backend)
        losses = [self.loss] * len(net.outputs)
        core = bp.Trainer(net, losses, self.optimizer, [1.0, 0.5][: len(losses)])._engine._core
        for name, value in self.settings.items():
            core.set(name, value)
        if self.average:
            core.set_average(0.9, 1, 1)
        return core

    def data(self, step: int = 0, rows: int = ROWS) -> tuple[Any, Any, Any]:
        """Inputs, targets and weights of a step's rows."""
        random = np.random.default_rng((cases.SEED, step))
        loss = cases.LOSSES[self.loss.partition("(")[0]]
        count = 2 if self.build is heads else 1
        ys = [loss.targets(random, rows, 2).astype(self.dtype) for _ in range(count)]
        if self.missing:
            ys[0][::3, 0] = np.nan
        x = random.integers(0, 9, (rows, 2)) if self.build is embedded else random.normal(size=(rows, 3)).astype(self.dtype)
        return x, ys if count > 1 else ys[0], random.choice([0.0, 0.5, 1.0, 3.0], rows, p=[0.1, 0.3, 0.3, 0.3])


BY_OPTIMIZER = {
    f"{name} {dtype}": Case(optimizer=case.spec, dtype=dtype)
    for i, (name, case) in enumerate(optimizer_cases.OPTIMIZERS.items())
    for dtype in [cases.DTYPES[i % 2]]
}
BY_LOSS = {
    f"{name}": Case(loss=case.spec, dtype=cases.DTYPES[i % 2]) for i, (name, case) in enumerate(cases.LOSSES.items()) if case.columns <= 2
}
OTHERS = {
    "dropout": Case(dropout),
    "dropout float32": Case(dropout, dtype="float32"),
    "batch_norm": Case(norms, optimizer="sgd_momentum(momentum=0.8)", joined=True),  # where adam would divide rounding errors by others
    "batch_norm float32": Case(norms, optimizer="sgd", dtype="float32", joined=True),
    "penalties": Case(penalized, optimizer="adam(lr=0.02)"),
    "penalties per row": Case(penalized, settings={"penalty_per_row": 1}),
    "two outputs": Case(heads),
    "missing targets": Case(heads, loss="mse(missing=1)", missing=True),
    "clipping": Case(settings={"clip_norm": 0.05, "clip_value": 0.02}),
    "clipping by layer": Case(dtype="float32", settings={"clip_layer_norm": 0.03}),
    "average": Case(average=True),
    "embedding": Case(embedded),
    "embedding float32": Case(embedded, dtype="float32", optimizer="sgd_momentum(momentum=0.8)"),
}
CASES = BY_OPTIMIZER | BY_LOSS | OTHERS


def cut(data: Any, part: slice) -> Any:
    return [one[part] for one in data] if isinstance(data, list) else data[part]


def shares(ends: Sequence[int], rows: int = ROWS) -> list[slice]:
    """The rows of each rank."""
    return [slice(a, b) for a, b in zip([0, *ends], [*ends, rows], strict=True)]


def state(core: Any) -> dict[str, Any]:
    """All that training has changed."""
    found = {"params": core.net.params, "buffers": core.net.buffers, **core.slots, "average": core.average or ()}
    found |= {name: [core.get(name)] for name in ("last_loss", "average_count")} | {"steps": [core.steps], "losses": core.output_losses}
    return {name: np.array(value) for name, value in found.items()}


def steps(case: Case, core: Any, part: slice) -> list[float]:
    """Some steps, each on a part of the rows."""
    losses = []
    for step in range(STEPS):
        x, y, weight = case.data(step)
        losses.append(core.step(cut(x, part), cut(y, part), weight[part]))
    return losses


@functools.cache
def joined(case: str, backend: str, ends: tuple[int, ...], seed: int | None = None) -> list[dict[str, Any]]:
    """The states of all ranks after these steps, with what `step` has returned."""

    def run(comm: Any) -> dict[str, Any]:
        core = CASES[case].trainer(backend)
        core.set_reduce(*hooks(comm))
        returned = steps(CASES[case], core, shares(ends)[comm.Get_rank()])
        return state(core) | {"returned": np.array(returned)}

    return run_ranks(len(ends) + 1, run, seed=seed)


def whole(case: Case, backend: str) -> dict[str, Any]:
    """One process with all rows."""
    core = case.trainer(backend)
    returned = steps(case, core, slice(None))
    return state(core) | {"returned": np.array(returned)}


def in_parts(case: Case, backend: str, ends: Sequence[int]) -> dict[str, Any]:
    """One process that computes the gradients of the ranks' rows one after the other, and adds them in this order."""
    core = case.trainer(backend)
    losses, tables = [], [name for name, kind, *_ in core.net.layers() if kind == "embedding"]
    for step in range(STEPS):
        x, y, weight = case.data(step)
        totals, first, loss, parts, named = totals_of(case, y, weight), 0, 0.0, [], set()
        for part in shares(ends):
            loss += core.backward(cut(x, part), cut(y, part), weight[part], total=totals, first_row=first)
            first += int(np.count_nonzero(weight[part]))
            for table in tables:
                named |= set(np.array(core.sparse_grad(table)[0]).tolist()) if core.sparse_grad(table) else set()
            core.set_sparse(None)
            parts.append(np.array(core.grads))
        np.asarray(core.grads)[:] = functools.reduce(np.add, parts)
        for table in tables:
            core.set_sparse(table, np.array(sorted(named), np.int32).tobytes())
        core.set("loss", loss)
        core.apply()
        losses.append(loss)
    return state(core) | {"returned": np.array(losses)}


def totals_of(case: Case, y: Any, weight: Any) -> np.ndarray:
    """The divisor of each output."""
    ys = y if isinstance(y, list) else [y]
    there = [~np.isnan(one) if case.missing else np.ones(one.shape) for one in ys]
    return np.array([np.sum(weight * one.mean(axis=1)) for one in there])
