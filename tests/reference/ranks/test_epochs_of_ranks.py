"""Epochs of several ranks, steps in parts, means of parameters, large vectors, and ranks that differ in the form of their rows."""

from __future__ import annotations

import functools
import time
from dataclasses import replace

import numpy as np
import pytest
from joined_cases import CASES, OTHERS, ROWS, SPLITS, Case, cut, shares, state, steps, totals_of
from ranks_threads import ThreadComm, hooks, run_ranks
from test_joined import assert_near, assert_same_bits

import microbp as bp

BATCH = 2


def equal_ranks(found, but=()):
    """The first, after a check that the others have its bits."""
    for other in found[1:]:
        assert_same_bits(found[0], other, but)
    return found[0]


def joined_batches(weight, ends):
    """The rows of each step of an epoch: the next BATCH rows of every rank that have a weight above 0."""
    rows = [[row for row in range(*part.indices(ROWS)) if weight[row]] for part in shares(ends)]
    count = max(-(-len(own) // BATCH) for own in rows)
    return [[row for own in rows for row in own[step * BATCH : (step + 1) * BATCH]] for step in range(count)]


@pytest.mark.parametrize("ends", SPLITS, ids=str)
@pytest.mark.parametrize("name", ["dropout", "two outputs", "batch_norm", "penalties per row", "embedding"])
def test_an_epoch_ends_when_all_ranks_are_out_of_rows(name, ends, backend):
    case = CASES[name]
    x, y, weight = case.data()
    if case.joined:
        weight[:] = 1  # each step has two rows
    rates = np.linspace(0.01, 0.03, ROWS)

    def run(comm):
        core, part = case.trainer(backend), shares(ends)[comm.Get_rank()]
        core.set_reduce(*hooks(comm))
        index = np.arange(*part.indices(ROWS))
        returned = core.epoch(x, y, weight, index, BATCH, rates)
        return state(core) | {"returned": np.array(returned)}

    found = equal_ranks(run_ranks(len(ends) + 1, run))
    core, sums = case.trainer(backend), np.zeros(2)
    for rate, index in zip(rates, joined_batches(weight, ends), strict=False):
        rows = np.array(index)
        loss = core.epoch(x, y, weight, rows, len(rows), rate[None])
        total = weight[rows].sum()
        sums += loss * total, total
    assert_near(found, state(core), case.dtype, but=("losses", "returned"))
    np.testing.assert_allclose(found["returned"], sums[0] / sums[1], rtol=1e-12)


class SlowComm(ThreadComm):
    """C calls `stop` every 50 ms."""

    def delay(self):
        time.sleep(0.01)


def test_one_rank_that_stops_ends_the_epoch_of_all(backend):
    x, y, _ = CASES["dropout"].data()
    calls = [0, 0, 0]

    def run(comm):
        core, rank = CASES["dropout"].trainer(backend), comm.Get_rank()
        core.set_reduce(*hooks(comm))

        def stop():
            calls[rank] += 1
            return rank == 1 and core.steps >= 2

        core.epoch(x, y, None, np.arange(ROWS), 1, np.full(ROWS, 0.01), stop)
        return state(core), core.failed_rank

    found = run_ranks(3, run, kind=SlowComm)
    assert equal_ranks([one for one, _ in found])["steps"] in range(2, ROWS)
    assert {rank for _, rank in found} == {1}


@pytest.mark.parametrize("name", ["plain", "average"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ranks_that_step_alone_take_means(name, dtype, backend):
    case = replace(CASES["average"] if name == "average" else Case(), dtype=dtype)
    every, count = 2, 5
    ends = (4, 7)

    def run(comm):
        core, part = case.trainer(backend), shares(ends)[comm.Get_rank()]
        core.set_reduce(*hooks(comm, every=every))
        for step in range(count - 1):
            x, y, _ = case.data(step)
            core.step(x[part], y[part])
        after = state(core)
        x, y, _ = case.data(count)
        returned = core.epoch(x[part], y[part], None, None, ROWS, None)
        return {key: after[key] for key in ("params", *core.slots, "average")}, state(core) | {"returned": np.array(returned)}

    found = run_ranks(len(ends) + 1, run)
    equal_ranks([after for after, _ in found])
    ended = equal_ranks([one for _, one in found], but=("losses", "last_loss"))
    cores = [case.trainer(backend) for _ in shares(ends)]
    losses = 0.0
    for step in range(count):
        x, y, _ = case.data(step if step < count - 1 else count)
        own = [core.step(x[part], y[part]) for core, part in zip(cores, shares(ends), strict=True)]
        losses = sum(loss * (part.stop - part.start) for loss, part in zip(own, shares(ends), strict=True))
        if (step + 1) % every == 0 or step == count - 1:
            vectors = [[core.net.params, *core.slots.values(), *([core.average] if name == "average" else [])] for core in cores]
            for parts in zip(*vectors, strict=True):
                parts = [np.asarray(part) for part in parts]
                mean = functools.reduce(np.add, parts) / np.dtype(dtype).type(len(parts))
                for part in parts:
                    part[:] = mean
    assert_same_bits(state(cores[0]), ended, but=("losses", "last_loss"))
    np.testing.assert_allclose(ended["returned"], losses / ROWS, rtol=1e-6 if dtype == "float32" else 1e-14)


def test_ranks_without_rows_count_steps_between_means(backend):
    case = Case()
    x, y, _ = case.data()

    def run(comm):
        core, rank = case.trainer(backend), comm.Get_rank()
        core.set_reduce(*hooks(comm, every=3))
        rows = slice(0, 0 if rank == 1 else 4 + rank)
        core.step(x[rows], y[rows])
        core.epoch(x[rows], y[rows], None, np.arange(len(x[rows])), 1, np.full(ROWS, 0.01))
        return state(core)

    assert equal_ranks(run_ranks(3, run), but=("losses", "last_loss"))["steps"] == 1 + 6


def test_masks_of_ranks_that_step_alone_differ(backend):
    def run(comm):
        core = CASES["dropout"].trainer(backend)
        core.set_reduce(*hooks(comm, every=9))
        return np.array(core.forward(CASES["dropout"].data()[0])[0])

    a, b = run_ranks(2, run)
    assert (a != b).any()


@pytest.mark.parametrize("name", ["dropout", "batch_norm", "penalties", "embedding"])
def test_losses_of_your_own_join_in_apply(name, backend):
    case = CASES[name]
    ends = (4, 5)

    def run(comm):
        core, (x, y, _) = case.trainer(backend), case.data()
        part = slice(None)
        if comm:
            core.set_reduce(*hooks(comm))
            part = shares(ends)[comm.Get_rank()]
        for _ in range(2):
            outputs = np.array(core.forward(x[part])[0])
            core.backward_from([(outputs - y[part]) / ROWS])
            core.apply()
        return state(core)

    assert_near(equal_ranks(run_ranks(len(ends) + 1, run)), run(None), case.dtype)


@pytest.mark.parametrize("name", ["dropout", "batch_norm", "missing targets"])
@pytest.mark.parametrize("gives_total", [False, True])
def test_backward_in_parts_on_ranks(name, gives_total, backend):
    """Each rank has its rows in two parts, which all compute together."""
    case = CASES[name]
    ends = (3, 7)

    def run(comm):
        core, (x, y, _), first = case.trainer(backend), case.data(), 0
        parts = shares(ends) if comm is None else [shares(ends)[comm.Get_rank()]]
        if comm:
            core.set_reduce(*hooks(comm))
        for half in (0, 1):
            rows = np.concatenate([np.arange(part.start, part.stop)[half * 2 :][: None if half else 2] for part in parts])
            total = totals_of(case, y, np.ones(ROWS)) if gives_total else 0.0
            core.backward(x[rows], cut(y, rows), None, accumulate=half == 1, total=total, first_row=first)
            first += len(rows)
        core.apply()
        return state(core)

    assert_near(equal_ranks(run_ranks(len(ends) + 1, run), but=("losses",)), run(None), case.dtype, but=("losses",))


def big() -> tuple[bp.Input, bp.Node]:
    x = bp.Input(3)
    return x, bp.Dense(2)(bp.Dense(55, "tanh")(bp.Dense(75, "tanh")(x)))


def test_large_vectors_have_the_same_bits_in_blocks(backend):
    """Added by everybody, in pieces, or while the rest is computed."""
    case = Case(big, optimizer="sgd_momentum")

    def run(comm, **how):
        core = case.trainer(backend)
        core.set_reduce(*hooks(comm, **how))
        x, y, _ = case.data()
        part = shares((0, 1, 1, 2, 2, 2, 3), 3)[comm.Get_rank()]
        core.step(x[part], y[part])
        return state(core) | {"swaps": np.array(comm.counts.get("Ialltoall", 0) > 0)}

    gathered, swapped, begun = (
        equal_ranks(run_ranks(8, functools.partial(run, swap=swap, begin=begin), seed=1))
        for swap, begin in ((False, False), (True, False), (True, True))
    )
    assert_same_bits(gathered, swapped, but=("swaps",))
    assert_same_bits(gathered, begun, but=("swaps",))
    assert [one["swaps"] for one in (gathered, swapped, begun)] == [False, True, True]


class Csr:
    """Compressed sparse rows."""

    def __init__(self, rows):
        rows = np.asarray(rows)
        self.shape, self.format = rows.shape, "csr"
        self.data = rows[rows != 0]
        self.indices = np.nonzero(rows)[1].astype(np.int32)
        self.indptr = np.concatenate([[0], np.cumsum((rows != 0).sum(axis=1))]).astype(np.int32)


@pytest.mark.parametrize("sparse", [(True, True, True), (True, False, True), (False, False, True)], ids=str)
@pytest.mark.parametrize("ends", [(4, 7), (0, 7)], ids=str)
def test_a_layer_that_is_sparse_on_one_rank_is_sparse_on_all(sparse, ends, backend):
    case = Case(optimizer="adam(lr=0.02)")

    def run(comm):
        core = case.trainer(backend)
        part, is_sparse = slice(None), all(sparse)
        if comm:
            core.set_reduce(*hooks(comm))
            part, is_sparse = shares(ends)[comm.Get_rank()], sparse[comm.Get_rank()]
        for step in range(3):
            x, y, _ = case.data(step)
            x[:, step] = 0
            core.step(Csr(x[part]) if is_sparse else x[part], y[part])
        return state(core) | {"sparse": np.array([core.sparse_grad(name) is not None for name, *_ in core.net.layers()])}

    found = equal_ranks(run_ranks(3, run))
    assert found["sparse"].tolist() == [True, False]
    assert_near(found, run(None), case.dtype, but=("sparse",))


def test_one_rank_of_one_is_alone(backend):
    for name in OTHERS:
        case = CASES[name]

        def run(comm, case=case):
            core = case.trainer(backend)
            if comm:
                core.set_reduce(*hooks(comm))
            returned = steps(case, core, slice(None))
            return state(core) | {"returned": np.array(returned)}

        assert_same_bits(run_ranks(1, run)[0], run(None))
