"""States between calls: sequences in pieces are the whole, bit for bit; what a state is and which ones fit."""

import copy
import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import microbp as bp

CELLS = ["tanh", "gru", "lstm"]
LENGTH, WIDTH = 11, 3


def nodes(cell, length=LENGTH):
    """A graph with two recurrent layers, of which one is used twice, and nodes that work on each position."""
    x = bp.Sequence(length, WIDTH)
    first = bp.Recurrent(7, cell=cell, name="first")
    h = bp.Dropout(0.3)(first(x) + bp.Dense(7, activation="relu")(x))
    h = bp.LayerNorm()(bp.concat([bp.BatchNorm()(h), bp.Scale()(x[:, 1:])]))
    return x, [bp.Dense(2)(bp.Recurrent(4, cell="gru", name="second")(h)), first(x) * 2, bp.Last()(h)]


def network(cell, dtype="float64", backend="compiled", **options):
    return bp.Network(*nodes(cell), dtype=dtype, seed=3, backend=backend, **options)


def sequences(rows=5, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, LENGTH, WIDTH))


def splits(length, seed):
    """The ends of random pieces."""
    random = np.random.default_rng(seed)
    ends = [0]
    while ends[-1] < length:
        ends.append(min(length, ends[-1] + int(random.integers(1, 5))))
    return list(itertools.pairwise(ends))


@pytest.mark.parametrize("cell", CELLS)
def test_pieces_have_the_bits_of_the_whole(cell, dtype, isa):
    net, xs = network(cell, dtype), sequences()
    whole = net.predict(xs)
    for seed in range(4):
        state = net.state(len(xs))
        pieces = [net.predict(xs[:, a:b], state=state) for a, b in splits(LENGTH, seed)]
        for i in range(2):
            np.testing.assert_array_equal(np.concatenate([piece[i] for piece in pieces], axis=1), whole[i])
        np.testing.assert_array_equal(pieces[-1][2], whole[2])
    state = net.state(len(xs))
    steps = [net.predict(xs[:, t], state=state) for t in range(LENGTH)]  # (rows, width): one position
    np.testing.assert_array_equal(np.stack([step[0] for step in steps], axis=1), whole[0])


@pytest.mark.parametrize("cell", CELLS)
def test_threads_do_not_change_bits(cell):
    xs = sequences(700)
    found = []
    for n_threads in (1, 2, 3, 8):
        net = network(cell, "float32", n_threads=n_threads)
        state = net.state(len(xs))
        found.append([net.predict(xs[:, a:b], state=state)[0] for a, b in splits(LENGTH, 5)])
        found[-1].append(state.values["first"].copy())
    for other in found[1:]:
        for one, expected in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(one, expected)


@pytest.mark.parametrize("cell", CELLS)
def test_the_reference_remembers_the_same(cell):
    nets, xs = [network(cell, backend=b) for b in ("compiled", "reference")], sequences(3)
    states = [net.state(3) for net in nets]
    for a, b in [(0, 1), (1, 5), (5, LENGTH)]:
        ours, theirs = [net.predict(xs[:, a:b], state=state) for net, state in zip(nets, states, strict=True)]
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)
    assert list(states[0].values) == list(states[1].values) == ["first", "second", f"first:{nets[0].layers[0].nodes[1]}"]
    for one, other in zip(states[0].values.values(), states[1].values.values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)


def test_ids_and_several_inputs(backend):
    words, context = bp.Ids(LENGTH, 9), bp.Input(2)
    table = bp.Unflatten(LENGTH)(bp.Embedding(9, 4)(words))
    h = bp.Recurrent(6)(bp.concat([table, bp.Repeat(LENGTH)(context)]))
    net = bp.Network([words, context], bp.Dense(9)(h), seed=1, backend=backend)
    random = np.random.default_rng(2)
    ids, given = random.integers(0, 9, (4, LENGTH)), random.normal(size=(4, 2))
    whole, state = net.predict([ids, given]), net.state(4)
    pieces = [net.predict([ids[:, a:b], given], state=state) for a, b in splits(LENGTH, 1)]
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, rtol=1e-5 if backend == "reference" else 0, atol=1e-6)

    x = bp.Ids(LENGTH, 9)
    alone = bp.Network(x, bp.Dense(9)(bp.Recurrent(6)(bp.Unflatten(LENGTH)(bp.Embedding(9, 4)(x)))), seed=1, backend=backend)
    whole, state, again = alone.predict(ids), alone.state(4), alone.state(4)
    for t in range(LENGTH):
        one = alone.predict(ids[:, t], state=state)  # (rows,): the ids of one position
        assert one.shape == (4, 9)
        np.testing.assert_array_equal(alone.predict(ids[:, t : t + 1], state=again), one[:, None])
        np.testing.assert_allclose(one, whole[:, t], rtol=1e-5 if backend == "reference" else 0, atol=1e-6)
    with pytest.raises(ValueError, match="row 0, column 0: the id is 9, but must be from 0 to 8"):
        alone.predict([9, 0, 0, 0], state=state)


def test_arguments_of_predict(backend):
    net, xs = network("gru", backend=backend), sequences()
    state, other = net.state(5), net.state(5)
    one, raw = net.predict(xs[:, :1], state=state), net.predict(xs[:, 0], raw=True, state=other)
    assert [a.shape for a in one] == [(5, 1, 2), (5, 1, 7), (5, 9)]
    assert [a.shape for a in raw] == [(5, 2), (5, 7), (5, 9)]
    outs = [np.empty(shape) for shape in ((5, 1, 2), (5, 1, 7), (5, 9))]
    state.reset()
    assert net.predict(xs[:, :1], out=outs, state=state)[0] is outs[0]
    for ours, expected in zip(outs, one, strict=True):
        np.testing.assert_array_equal(ours, expected)
    state.reset()
    at = net.predict(xs[:, :1], at="second", state=state)  # all recurrent layers go on
    assert at.shape == (5, 1, 4) and all(values.any() for values in state.values.values())
    np.testing.assert_array_equal(net.predict(xs[:, :2].tolist(), state=state)[0], net.predict(xs[:, :2], state=other)[0])
    drawn = [net.predict(xs[:, :2], training=True, seed=seed, state=net.state(5))[0] for seed in (1, 1, 2)]
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()
    single = net.state(1)
    assert [a.shape for a in net.predict(xs[0, 0], state=single)] == [(2,), (7,), (9,)]


def test_settings_of_outputs_and_parameters_follow(backend):
    x = bp.Sequence(4, 2)
    net = bp.Network(x, bp.Dense(3)(bp.Recurrent(5)(x)), seed=0, backend=backend)
    xs, state = np.ones((2, 2)), net.state(2)
    raw = net.predict(xs, state=state)
    t = bp.Trainer(net, loss="cross_entropy")  # sets the output activation
    state.reset()
    assert net.predict(xs, state=state).sum(axis=1) == pytest.approx([1, 1], abs=1e-6)
    net.set_output(0, None)
    state.reset()
    np.testing.assert_array_equal(net.predict(xs, state=state), raw)
    t.step(np.ones((2, 4, 2)), np.ones((2, 4), int))
    state.reset()
    assert (net.predict(xs, state=state) != raw).all()
    last = bp.Network(x, bp.Last()(bp.Recurrent(5)(x)), seed=0, backend=backend)
    state = last.state(2)
    unscaled = last.predict(xs, state=state)
    last.set_output(0, "identity", mean=1.0, std=2.0)
    state.reset()
    np.testing.assert_allclose(last.predict(xs, state=state), 1 + 2 * unscaled, rtol=1e-6)
    last.set_output(0, "identity")
    state.reset()
    np.testing.assert_array_equal(last.predict(xs, state=state), unscaled)


def test_many_lengths():
    net = network("gru")
    xs, state = np.random.default_rng(1).normal(size=(2, 200, WIDTH)), net.state(2)
    found, at = [], 0
    for length in [*range(1, 15), 1, 3, 70, 2]:
        found.append(net.predict(xs[:, at : at + length], state=state)[0])
        at += length
    again, state = [], net.state(2)
    for t in range(at):
        again.append(net.predict(xs[:, t], state=state)[0])
    np.testing.assert_array_equal(np.concatenate(found, axis=1), np.stack(again, axis=1))


def in_pieces(net, xs, lengths, ends, axis=True):
    """The predictions of pieces with lengths, joined, and the last state."""
    state, found = net.state(len(xs)), []
    for a, b in ends:
        piece = xs[:, a] if b == a + 1 and not axis else xs[:, a:b]
        outs = net.predict(piece, state=state, lengths=np.clip(lengths - a, 0, b - a))
        found.append([one[:, None] if i < 2 and b == a + 1 and not axis else one for i, one in enumerate(outs)])
    return [np.concatenate([piece[i] for piece in found], axis=1) for i in range(2)], state


@pytest.mark.parametrize("axis", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_pieces_with_lengths_have_the_bits_of_the_whole(cell, dtype, axis):
    """Pieces of several positions and of one, of which some rows have none: these rows keep their state."""
    net, xs = network(cell, dtype), sequences(7)
    lengths = np.array([11, 0, 1, 5, 8, 11, 4])
    for row, length in zip(xs, lengths, strict=True):
        row[length:] = np.nan
    whole = net.predict(xs, lengths=lengths)
    for ends in ([(t, t + 1) for t in range(LENGTH)], splits(LENGTH, 1)):
        found, state = in_pieces(net, xs, lengths, ends, axis)
        for a, b in zip(found, whole, strict=False):
            np.testing.assert_array_equal(a, b)
        for row, length in enumerate(lengths):
            alone = net.state(1)
            if length:
                last = net.predict(xs[row : row + 1, :length], state=alone)[2]
                np.testing.assert_array_equal(last, whole[2][row : row + 1])
            for name, values in alone.values.items():
                np.testing.assert_array_equal(state.values[name][row], values[0], err_msg=name)


def test_one_position_with_lengths(backend):
    """Arrays to write to, chosen nodes, ids that are not there, and what is refused."""
    net, xs = network("gru", backend=backend), sequences(3)
    lengths, state = np.array([1, 0, 1]), net.state(3)
    expected, twin = net.predict(xs[:, 0], state=state, lengths=lengths), net.state(3)
    assert (
        [one.shape for one in expected] == [(3, 2), (3, 7), (3, 9)] and not expected[0][1].any() and expected[0][[0, 2]].any(axis=1).all()
    )
    outs = [np.empty((3, 1, 2)), np.empty((3, 1, 7)), np.empty((3, 9))]
    assert net.predict(xs[:, :1], state=twin, lengths=lengths, out=outs)[0] is outs[0]
    for mine, one in zip(outs, expected, strict=True):
        np.testing.assert_array_equal(mine.reshape(one.shape), one)
    at = net.predict(xs[:, :1], at="second", state=net.state(3), lengths=lengths)
    assert at.shape == (3, 1, 4) and not at[1].any() and at[0].any()
    before = state.copy()
    for wrong, text in (
        ([2, 0, 1], r"lengths\[0\] is 2, but must be from 0 to 1"),
        ([1, 0], r"lengths has shape \(2,\); it must be \(3,\)"),
    ):
        with pytest.raises(ValueError, match=text):
            net.predict(xs[:, 0], state=state, lengths=wrong)
    with pytest.raises(ValueError, match="out"):
        net.predict(xs[:, 0], state=state, lengths=lengths, out=outs)
    with pytest.raises(ValueError, match="state has 3 rows, but X has 2"):
        net.predict(xs[:2, 0], state=state, lengths=[1, 1])
    for name, values in state.values.items():
        np.testing.assert_array_equal(values, before.values[name])
    ids = bp.Ids(4, 5)
    writer = bp.Network(ids, bp.Recurrent(3)(bp.Unflatten(4)(bp.Embedding(5, 2)(ids))), seed=0, backend=backend)
    for piece in (np.array([1, -1, 4]), np.array([[1, -1], [-1, -1], [3, 9]])):
        state = writer.state(3)
        y = writer.predict(piece, state=state, lengths=lengths)
        assert y[[0, 2]].any() and not y[1].any() and not state.values["recurrent_0"][1].any()
        with pytest.raises(ValueError, match="the id is -1"):
            writer.predict(piece, state=state)


def test_what_a_state_is(backend, dtype):
    net = network("lstm", dtype, backend)
    state = net.state(4)
    assert [values.shape for values in state.values.values()] == [(4, 14), (4, 4), (4, 14)]
    assert state.rows == 4 and all(values.dtype == dtype and not values.any() for values in state.values.values())
    xs = sequences(4)
    net.predict(xs, state=state)
    twins = [state.copy(), copy.copy(state), copy.deepcopy(state), pickle.loads(pickle.dumps(state))]
    expected = net.predict(xs, state=state)[0]
    for twin in twins:
        np.testing.assert_array_equal(net.predict(xs, state=twin)[0], expected)
        assert repr(twin) == repr(state)
    state.reset([1, 3])
    for values in state.values.values():
        assert (values.any(axis=1) == [True, False, True, False]).all()
    state.reset(0)
    state.reset(np.array([], int))
    assert [bool(row) for row in state.values["first"].any(axis=1)] == [False, False, True, False]
    state.values["first"][:] = 0.25
    twin = network("lstm", dtype, backend)
    other = twin.state(4)
    other.values["first"][:] = 0.25
    for name in ("second", list(state.values)[2]):
        other.values[name][:] = state.values[name]
    np.testing.assert_array_equal(net.predict(xs, state=state)[0], twin.predict(xs, state=other)[0])


def test_the_memory_of_a_state_outlives_its_network():
    values = network("gru").state(3).values["first"]
    values += 1
    assert (values == 1).all()


def test_states_that_do_not_fit(backend):
    net, xs = network("gru", backend=backend), sequences()
    state = net.state(5)
    for wrong, kind, text in [
        (3, TypeError, r"predict: state must be a state from net.state\(rows\), not 3"),
        (net.state(2), ValueError, r"state has 2 rows, but X has 5; use net.state\(5\)"),
        (network("lstm", backend=backend).state(5), ValueError, "state has 14 numbers for node 2, but the node has 7: make a state"),
        (network("gru", "float32", backend).state(5), ValueError, "state is of float32, but the net is of float64: make a state"),
        (network("gru", backend="compiled" if backend == "reference" else "reference").state(5), ValueError, "backend"),
    ]:
        with pytest.raises(kind, match=text):
            net.predict(xs, state=wrong)
    for shape in ((5, 7), (5, 2, 2), (5, 0, 3), (5, 1, 1, 3)):
        with pytest.raises(ValueError, match=r"X has shape .*; with a state it must be \(rows, positions, 3\), or \(rows, 3\) for one"):
            net.predict(np.zeros(shape), state=state)
    for rows, kind in ((5, ValueError), (-1, ValueError), ([0, 5], ValueError), ([0.5], TypeError), ("a", TypeError), ([True], TypeError)):
        with pytest.raises(kind, match="reset: rows"):
            state.reset(rows)
    with pytest.raises(ValueError, match="state: rows must be at least 1, not 0"):
        net.state(0)
    assert not any(values.any() for values in state.values.values())


def test_a_state_is_for_one_call_at_a_time():
    net = network("gru", "float32")
    xs, state = sequences(4000), net.state(4000)

    def predict():
        try:
            net.predict(xs, state=state)
        except RuntimeError as error:
            return str(error)

    with ThreadPoolExecutor(4) as threads:
        found = {call.result() for call in [threads.submit(predict) for _ in range(12)]}
    assert None in found and found <= {None, "another thread uses the state"}
    state.reset()
    net.predict(xs, state=state)


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (lambda x: bp.Recurrent(3)(bp.Conv(4, 3)(x)), r"node 2 \(window\) sees several positions at once"),
        (lambda x: bp.Pool(2)(bp.Recurrent(3)(x)), r"node 3 \(pool\) sees several positions at once"),
        (lambda x: bp.Dense(2)(bp.Flatten()(bp.Recurrent(3)(x))), r"node 3 \(grid\) sees all positions at once"),
    ],
)
def test_networks_that_see_several_positions(node, text, backend):
    x = bp.Sequence(6, 2)
    net = bp.Network(x, node(x), seed=0, backend=backend)
    with pytest.raises(ValueError, match=text):
        net.predict(np.zeros((2, 2)), state=net.state(2))
    t = bp.Trainer(net, loss="mse")  # but batch by batch they go on
    state, xs = net.state(2), np.ones((2, 6, 2))
    assert t.step(xs, net.predict(xs), state=state) == pytest.approx(0, abs=1e-12) and state.values["recurrent_0"].any()


def test_networks_without_states(backend):
    x, start = bp.Sequence(6, 2), bp.Input(3)
    backwards = bp.Network(x, bp.Recurrent(3, reverse=True)(x), seed=0, backend=backend)
    with pytest.raises(ValueError, match="node 2 runs in reverse, from the last position to the first"):
        backwards.state(2)
    for net in (
        bp.Network([x, start], bp.Recurrent(3)(x, state=start), seed=0, backend=backend),
        bp.Network(x, bp.Dense(2)(x), seed=0, backend=backend),
    ):
        with pytest.raises(ValueError, match="no recurrent node that starts from zeros"):
            net.state(2)
    both = bp.Network([x, start], bp.concat([bp.Recurrent(3)(x, state=start), bp.Recurrent(4)(x)]), seed=0, backend=backend)
    state = both.state(2)
    assert [values.shape for values in state.values.values()] == [(2, 4)]
    with pytest.raises(ValueError, match=r"node 3 \(recurrent\) starts from the state of another node in each call"):
        both.predict([np.zeros((2, 2)), np.zeros((2, 3))], state=state)
