"""Steps on several ranks: equal on all of them to the bit, equal to one process with the same parts, and to the other backend."""

from __future__ import annotations

import cases
import graphs
import numpy as np
import pytest
from joined_cases import CASES, OTHERS, SPLITS, cut, in_parts, joined, state, whole
from ranks_threads import run_ranks

import microbp as bp

BOUNDS = {"float32": 3e-5, "float64": 1e-12}
every_case = pytest.mark.parametrize("name", CASES)


def ends_of(name: str) -> tuple[int, ...]:
    """Each case has one of the splits."""
    return SPLITS[list(CASES).index(name) % len(SPLITS)]


def assert_same_bits(a, b, but=()):
    for key in sorted(set(a) - set(but)):
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def assert_near(a, b, dtype, but=()):
    for key in sorted(set(a) - set(but)):
        np.testing.assert_allclose(a[key], b[key], rtol=BOUNDS[dtype], atol=BOUNDS[dtype], err_msg=key)


@every_case
def test_all_ranks_are_equal_to_the_bit(name, backend):
    first, *others = joined(name, backend, ends_of(name))
    for other in others:
        assert_same_bits(first, other)


@every_case
def test_the_bits_are_those_of_the_same_parts_in_one_process(name, backend):
    if CASES[name].joined:
        pytest.skip("rows depend on those of other ranks")
    expected = in_parts(CASES[name], backend, ends_of(name))
    found = joined(name, backend, ends_of(name))[0]
    assert_same_bits(found, expected, but=("losses", "last_loss", "returned"))
    assert_near(found, expected, CASES[name].dtype, but=("losses",))


@pytest.mark.parametrize("name", OTHERS)
def test_a_step_is_that_of_all_rows(name, backend):
    assert_near(joined(name, backend, ends_of(name))[0], whole(CASES[name], backend), CASES[name].dtype)


@every_case
def test_both_backends_train_the_same(name):
    compiled, reference = (joined(name, backend, ends_of(name))[0] for backend in ("compiled", "reference"))
    assert_near(compiled, reference, CASES[name].dtype)


@pytest.mark.parametrize("name", ["batch_norm", "embedding", "dropout float32"])
def test_no_bit_depends_on_when_ranks_come(name, backend):
    for a, b in zip(joined(name, backend, (0, 4, 5)), joined(name, backend, (0, 4, 5), seed=7), strict=True):
        assert_same_bits(a, b)


@pytest.mark.parametrize("shape", graphs.SHAPES)
def test_ranks_without_rows_take_part(shape, backend):
    """Of two rows on three ranks, one has none; in a last part of the batch, no rank has any."""

    def run(comm):
        net = graphs.network(shape, dtype="float64", backend=backend)
        t = bp.Trainer(net, "mse" if len(net.outputs) == 1 else ["mse"] * len(net.outputs), "sgd", comm=comm)
        rows = slice(None) if comm is None else slice(*[(0, 1), (1, 1), (1, 2)][comm.Get_rank()])
        random = np.random.default_rng(cases.SEED)
        ys = [random.normal(size=(2, *output.row_shape)) for output in net.outputs]
        x, y = graphs.rows_of(net, 2), ys[0] if len(ys) == 1 else ys
        for part in (rows, slice(0, 0)):
            t.backward(cut(x, part), cut(y, part), total=2.0, accumulate=part != rows)
        t.apply()
        return state(t._engine._core)

    own = ("losses", "last_loss")  # of the rows of a rank
    first, *others = run_ranks(3, run)
    for other in others:
        assert_same_bits(first, other, own)
    assert_near(first, run(None), "float64", own)
