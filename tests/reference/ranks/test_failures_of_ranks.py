"""What fails in one rank ends the call of all, and nobody waits: the same errors in both backends, and equal states after them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from joined_cases import CASES, Case, cut, shares, state
from ranks_threads import RanksError, ThreadComm, hooks, run_ranks
from test_joined import assert_same_bits

ENDS = (4, 8)
FAULTY = 1
CANCELLED = f"process {FAULTY} failed or was cancelled"


def spoil_weight(data):
    data["weight"][0] = -1


def spoil_target(data):
    data["y"] = data["y"][:-1]


def spoil_input(data):
    data["x"][1, 0] = np.nan


def step(core, data):
    core.step(data["x"], data["y"], data["weight"])


def epoch(core, data):
    core.epoch(data["x"], data["y"], data["weight"], np.arange(len(data["x"])), 2, np.full(9, 0.01))


def backward(core, data):
    core.backward(data["x"], data["y"], data["weight"])


def apply_after_backward(core, data):
    """Only the faulty rank fails in backward; the others learn of it in apply."""
    core.backward(data["x"], data["y"], data["weight"])
    core.apply()


def data_of(case, rank):
    x, y, weight = case.data()
    part = shares(ENDS)[rank]
    return {"x": cut(x, part).copy(), "y": copy.deepcopy(cut(y, part)), "weight": weight[part] + 1.0}


def run_faulty(case, backend, call, spoil, every=1):
    """For each rank its error, the state before and after, the failed rank, and the state after two good steps."""

    def run(comm):
        rank = comm.Get_rank()
        core, data = case.trainer(backend), data_of(case, rank)
        core.set_reduce(*hooks(comm, every=every))
        before, error = state(core), None
        if rank == FAULTY:
            spoil(data)
        try:
            call(core, data)
        except Exception as raised:
            error = raised
        failed, after = core.failed_rank, state(core)
        data, core.steps = data_of(case, rank), int(before["steps"][0])  # with every, the others are ahead
        for _ in range(2):
            core.step(data["x"], data["y"], data["weight"])
        return error, before, after, failed, state(core)

    return run_ranks(3, run)


@pytest.mark.parametrize(
    ("name", "call", "every"),
    [(name, call, 1) for name in ("dropout", "batch_norm", "two outputs") for call in (step, epoch, backward)] + [("dropout", epoch, 2)],
)
def test_a_refused_call_is_told(name, call, every, backend):
    found = run_faulty(CASES[name], backend, call, spoil_weight, every)
    for rank, (error, before, after, failed, _) in enumerate(found):
        assert failed == FAULTY
        assert_same_bits(before, after)
        if rank == FAULTY:
            assert isinstance(error, ValueError) and "the weight of row 0 is -1" in str(error)
        elif call is epoch:
            assert error is None  # as if it had been stopped
        else:
            assert isinstance(error, RuntimeError) and str(error) == CANCELLED
    for *_, later in found:
        assert_same_bits(found[0][-1], later, but=("losses", "last_loss") if every > 1 else ())


@pytest.mark.parametrize("name", ["dropout", "two outputs"])
@pytest.mark.parametrize("call", [step, epoch])
def test_a_loss_that_is_not_finite_fails_in_all(name, call, backend):
    texts = []
    for rank, (error, before, after, _, later) in enumerate(run_faulty(CASES[name], backend, call, spoil_input)):
        assert isinstance(error, FloatingPointError)
        texts.append(str(error))
        assert texts[rank].startswith(
            "the loss of output 0 (mse) is nan" if rank == FAULTY else f"the loss of process {FAULTY} is not finite"
        )
        assert_same_bits(before, after, but=("losses",))
        assert np.isfinite(later["params"]).all()


def test_batch_norm_with_a_loss_that_is_not_finite(backend):
    """It spoils the statistics, and so the losses, of all."""
    for error, before, after, *_ in run_faulty(CASES["batch_norm"], backend, step, spoil_input):
        assert isinstance(error, FloatingPointError | RuntimeError)
        assert_same_bits(before, after, but=("losses",))


def test_a_backward_that_fails_is_told_to_apply(backend):
    errors = [error for error, *_ in run_faulty(CASES["dropout"], backend, apply_after_backward, spoil_weight)]
    assert [isinstance(error, ValueError) for error in errors] == [False, True, False]
    assert [str(error) for error in errors if isinstance(error, RuntimeError)] == [CANCELLED] * 2


def test_a_failure_between_means_is_told_in_the_next(backend):
    """The ranks step alone; who fails sends its header, and the others meet it after their second step."""

    def twice(core, data):
        step(core, data)
        step(core, data)

    found = run_faulty(Case(), backend, twice, spoil_weight, every=2)
    assert [isinstance(error, ValueError) for error, *_ in found] == [False, True, False]
    assert [failed for *_, failed, _ in found] == [FAULTY] * 3


def test_means_of_ranks_with_other_numbers_of_steps_are_refused(backend):
    """As after an error of one rank."""

    def run(comm):
        core, (x, y, weight) = CASES["dropout"].trainer(backend), CASES["dropout"].data()
        core.set_reduce(*hooks(comm, every=2))
        core.steps = 4 if comm.Get_rank() == 2 else 0
        core.step(x, y, weight)
        with pytest.raises(RuntimeError) as caught:
            core.step(x, y, weight)
        return str(caught.value), core.failed_rank

    wanted = "process 0 has made 2 steps, but process 2 6: start all of them again from one file"
    assert run_ranks(3, run) == [(wanted, -1)] * 3


def test_an_exchange_that_fails_raises_its_own_error(backend):
    """As when a connection is lost."""

    class Lost(ThreadComm):
        def post(self, name, mine, *more):
            if self.number > 4:
                raise ConnectionError("lost")
            return super().post(name, mine, *more)

    def run(comm):
        core, data = Case().trainer(backend), data_of(Case(), comm.Get_rank())
        core.set_reduce(*hooks(comm))
        for _ in range(9):
            step(core, data)

    with pytest.raises(RanksError) as caught:
        run_ranks(3, run, kind=Lost)
    assert [(type(error), str(error)) for error in caught.value.errors] == [(ConnectionError, "lost")] * 3


def test_a_step_without_rows_on_any_rank_is_refused(backend):
    def run(comm):
        core = CASES["batch_norm"].trainer(backend)
        core.set_reduce(*hooks(comm))
        x, y, _ = CASES["batch_norm"].data()
        with pytest.raises(ValueError, match="the batch has 0 rows, but needs at least 1"):
            core.step(x[:0], y[:0])
        loss = core.epoch(x[:0], y[:0], None, np.arange(0), 2, np.full(1, 0.01))
        return core.steps, loss

    assert {steps for steps, _ in run_ranks(2, run)} == {0}


def test_batch_norm_needs_two_rows_in_all_ranks_together(backend):
    def run(comm):
        rank = comm.Get_rank()
        core = CASES["batch_norm"].trainer(backend)
        core.set_reduce(*hooks(comm))
        x, y, _ = CASES["batch_norm"].data()
        with pytest.raises(ValueError, match="batch_norm .* needs at least 2 rows in training"):
            core.step(x[:rank], y[:rank])
        core.step(x[:1], y[:1])
        core.step(x[: 2 * rank], y[: 2 * rank])
        return state(core)

    assert_same_bits(*run_ranks(2, run))


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ((0, 2, None), "how.gather is NULL, but must be a function"),
        ((0, 0, max), "how.ranks is 0, but must be at least 1"),
        ((2, 2, max), "how.rank is 2, but must be at least 0 and below how.ranks, 2"),
        ((0, 2, max, None, None, None, -1), "how.every is -1, but must be at least 0"),
        ((0, 2, max, None, max), "how.finish is NULL, but how.begin is not: set both or none"),
        ((0, 2, max, None, None, max), "how.begin is NULL, but how.finish is not: set both or none"),
    ],
)
def test_what_set_reduce_refuses(how, text, backend):
    core = Case().trainer(backend)
    with pytest.raises(ValueError, match=f"^{text}$"):
        core.set_reduce(*how)
    assert core.failed_rank == -1


def test_solvers_are_refused(backend):
    core = Case(optimizer="lbfgs").trainer(backend)
    with pytest.raises(ValueError, match="training on several processes does not work with lbfgs"):
        core.set_reduce(0, 2, max)


def test_none_ends_the_exchanges(backend):
    calls = []

    def gather(mine, everyone):
        calls.append(len(mine))
        everyone[:] = mine

    core, (x, y, _) = Case().trainer(backend), Case().data()
    core.set_reduce(0, 1, gather)
    core.step(x, y)
    before = len(calls)
    core.set_reduce(None)
    core.step(x, y)
    assert before == len(calls) > 0
