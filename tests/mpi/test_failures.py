"""A rank that fails tells the others; all are at the same step afterwards, and may go on."""

from __future__ import annotations

import re

import numpy as np
import pytest

import microbp as bp

X, Y = np.random.default_rng(0).normal(size=(40, 3)), np.random.default_rng(1).normal(size=40)


@pytest.fixture
def last(comm):
    """The rank that fails."""
    return comm.size - 1


@pytest.fixture
def t(comm):
    return bp.Trainer(bp.mlp([3, 5, 1], seed=comm.rank), loss="mse", optimizer=bp.Adam(lr=0.01), comm=comm)


def test_all_begin_with_the_parameters_of_rank_0(comm, t):
    assert np.array_equal(t.net.params, bp.mlp([3, 5, 1], seed=0).params)


def fails(comm, last, call, error):
    """The rank that fails has its own error, the others are told."""
    if comm.rank == last:
        with pytest.raises(type(error), match=re.escape(str(error))):
            call()
    else:
        told = rf"rank {last} failed: {type(error).__name__}: .*{re.escape(str(error))}"
        with pytest.raises(RuntimeError, match=told):
            call()


@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize("kind", ["callback", "batch_callback"])
def test_a_callback_that_raises_ends_all(comm, last, t, kind, after):
    calls = []

    def callback(_):
        calls.append(1)
        if comm.rank == last and len(calls) > after:
            raise LookupError("no disk")

    fails(comm, last, lambda: t.fit(X, Y, epochs=20, progress=False, **{kind: callback}), LookupError("no disk"))
    assert len({(steps, params) for steps, params in comm.allgather((t.steps, t.net.params.tobytes()))}) == 1
    t.fit(X, Y, epochs=1, progress=False)  # and goes on


def test_a_loss_that_is_not_finite_is_so_for_all(comm, last, t):
    before = t.net.params.copy()
    with pytest.raises(FloatingPointError):
        t.step(X, np.full(40, 1e30 if comm.rank != last else 1e300))
    assert np.array_equal(before, t.net.params) and t.steps == 0
    t.step(X, Y)


@pytest.mark.parametrize("call", ["step", "fit"])
def test_data_that_one_rank_refuses_end_all(comm, last, t, call):
    weight = np.ones(40)
    if comm.rank == last:
        weight[3] = -1
    how = {"epochs": 2, "progress": False} if call == "fit" else {}
    fails(comm, last, lambda: getattr(t, call)(X, Y, sample_weight=weight, **how), ValueError("-1"))
    assert t.steps == 0
    t.step(X, Y)


def test_trainers_that_differ_are_refused(comm, last):
    if comm.size > 1:
        with pytest.raises((ValueError, RuntimeError), match=f"rank {last}"):
            bp.Trainer(bp.mlp([3, 5, 1], seed=0), "mse", bp.Adam(lr=0.1 if comm.rank == last else 0.2), comm=comm)


def test_a_stop_of_one_rank_ends_all(comm, last, t):
    t.fit(X, Y, epochs=20, progress=False, callback=lambda record: comm.rank == last and record.epoch == 3)
    assert t.epoch == 3
