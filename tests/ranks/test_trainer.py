"""Trainers of several ranks, threads of this process: the same bits on all of them, and those of one process that adds their parts."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from ranks_threads import RanksError, run_ranks

import microbp as bp

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(3, 11, 3)), RNG.normal(size=(3, 11, 2))  # three batches
WEIGHT = RNG.choice([0.0, 0.5, 2.0], size=(3, 11))
WEIGHT[:, 0] = 1
CUTS = {2: (slice(0, 4), slice(4, 11)), 3: (slice(0, 8), slice(8, 8), slice(8, 11))}  # the rows of each rank


def mlp(dtype, seed=0):
    x = bp.Input(3)
    return bp.Network(x, bp.Dense(2)(bp.Dropout(0.4)(bp.Dense(5, activation="tanh")(x))), dtype=dtype, seed=seed)


SETTINGS = {
    "adam": {"optimizer": bp.Adam(lr=0.01)},
    "clips": {"optimizer": bp.Momentum(lr=0.1), "clip_norm": 0.3, "clip_layer_norm": 0.2, "clip_value": 0.1},
    "average": {"optimizer": "sgd", "average": bp.EMA(0.9)},
    "lamb": {"optimizer": bp.Lamb(lr=0.01)},
}
settings = pytest.mark.parametrize("name", SETTINGS)


def state_of(t):
    vectors = [t.net.params, *t.state.values()] + ([] if t.average_params is None else [t.average_params])
    return np.concatenate([np.ravel(vector) for vector in vectors])


def trainer(comm, name, dtype="float64", **more):
    """Each rank has another network and seed, until those of rank 0 come."""
    return bp.Trainer(mlp(dtype, 0 if comm is None else comm.Get_rank()), "mse", **SETTINGS[name], comm=comm, **more)


def batches(rank, n, weighted):
    for x, y, weight in zip(X, Y, WEIGHT, strict=True):
        rows = CUTS[n][rank]
        yield x[rows], y[rows], weight[rows] if weighted else None


def oracle(n, name, dtype, weighted):
    """One process that computes the gradient of each part, and adds them in rank order."""
    t, losses = trainer(None, name, dtype), []
    for parts in zip(*(batches(rank, n, weighted) for rank in range(n)), strict=True):
        total = float(sum(len(x) if weight is None else weight.sum() for x, _, weight in parts))
        first, grads, loss = 0, [], 0.0
        for x, y, weight in parts:
            loss += t.backward(x, y, weight, total=total, first_row=first)
            first += len(x) if weight is None else int((weight > 0).sum())
            grads.append(t.grads.copy())
        for other in grads[1:]:
            grads[0] += other
        t.grads = grads[0]
        t.apply()
        losses.append(loss)
    return state_of(t), losses


@pytest.mark.parametrize(("n", "few", "weighted"), [(2, False, False), (3, False, True), (3, True, False)])
@settings
def test_steps_have_the_bits_of_a_process_that_adds_the_parts(dtype, name, n, few, weighted):
    def body(comm, apart):
        t, losses = trainer(comm, name, dtype), []
        for x, y, weight in batches(comm.Get_rank(), n, weighted):
            losses.append(t.backward(x, y, weight) if apart else t.step(x, y, weight))
            if apart:
                t.apply()
        return state_of(t), losses

    state, losses = oracle(n, name, dtype, weighted)
    for found, same_losses in run_ranks(n, lambda comm: body(comm, False), few=few, seed=n):
        assert found.tobytes() == state.tobytes() and same_losses == losses
    apart = run_ranks(n, lambda comm: body(comm, True), few=few)
    assert all(found.tobytes() == state.tobytes() for found, _ in apart)
    assert np.allclose(np.sum([parts for _, parts in apart], axis=0), losses, rtol=1e-6)


def normed(comm):
    x = bp.Input(3)
    net = bp.Network(x, bp.Dense(2)(bp.BatchNorm()(bp.Dense(5, activation="tanh")(x))), dtype="float64", seed=0)
    return bp.Trainer(net, "mse", "adam", comm=comm, shard=comm is not None)


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("is_sparse", [False, True])
def test_normalized_and_sparse_batches_are_those_of_all(n, is_sparse):
    """Of batches of three rows, some ranks have none."""
    rows = [x[:3] for x in X] if not is_sparse else [scipy_sparse().csr_array(x[:3] * (x[:3] > 0)) for x in X]

    def body(comm):
        t = normed(comm)
        losses = [t.step(x, y[:3]) for x, y in zip(rows, Y, strict=True)]
        return np.concatenate([state_of(t), t.net.buffers]), losses

    state, losses = body(None)
    for found, same_losses in run_ranks(n, body):
        assert np.abs(found - state).max() < 1e-12 and np.allclose(same_losses, losses, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3])
@settings
def test_shards_give_what_one_process_gives(name, n):
    def body(comm):
        t = trainer(comm, name, shard=comm is not None)
        losses = [t.step(x, y, weight) for x, y, weight in zip(X, Y, WEIGHT, strict=True)]
        return state_of(t), losses

    state, losses = body(None)
    for found, same_losses in run_ranks(n, body):
        assert np.abs(found - state).max() < 1e-12 and np.allclose(same_losses, losses, rtol=0, atol=1e-12)
        assert n > 1 or found.tobytes() == state.tobytes()


@settings
def test_local_steps_become_their_means(name):
    """After every second step."""

    def alone(rank):
        t = bp.Trainer(bp.mlp([3, 2], dtype="float64", seed=0), "mse", **SETTINGS[name])
        for x, y, _ in list(batches(rank, 2, False))[:2]:
            t.step(x, y)
        return state_of(t)

    def body(comm):
        t, found = bp.Trainer(bp.mlp([3, 2], dtype="float64", seed=0), "mse", **SETTINGS[name], comm=comm, sync_every=2), []
        for x, y, _ in batches(comm.Get_rank(), 2, False):
            t.step(x, y)
            found.append(state_of(t))
        return found

    first, second = run_ranks(2, body)
    assert [(a == b).all() for a, b in zip(first, second, strict=True)] == [False, True, False]
    assert np.abs(first[1] - (alone(0) + alone(1)) / 2).max() < 1e-15


def test_gradients_of_the_caller_are_added(backend):
    def body(comm):
        t = bp.Trainer(bp.mlp([3, 2], dtype="float64", seed=0, backend=backend), None, bp.SGD(lr=0.1), comm=comm)
        rows = slice(None) if comm is None else CUTS[2][comm.Get_rank()]
        t.backward_from(2 * (t.forward(X[0][rows]) - Y[0][rows]) / Y[0].size)
        t.apply()
        return t.net.params

    alone = body(None)
    first, second = run_ranks(2, body)
    assert first.tobytes() == second.tobytes() and np.abs(first - alone).max() < 1e-15


def test_what_is_of_this_process_alone():
    """Rank 1 does nothing meanwhile."""

    def body(comm):
        t = trainer(comm, "adam")
        before = state_of(t)
        if comm.Get_rank() == 0:
            assert t.evaluate(X[0], Y[0]) == trainer(None, "adam").evaluate(X[0], Y[0])
            t.predict(X[0])
            t.check_gradients(X[0], Y[0])
            bp.lr_find(t, X[0], Y[0], num_it=10, start_lr=1e-3, stop_div=False)
            assert state_of(t).tobytes() == before.tobytes()
            for twin in (copy.copy(t), copy.deepcopy(t), pickle.loads(pickle.dumps(t))):
                assert twin.comm is None and twin.shard is False and twin.sync_every == 1
                twin.step(X[0], Y[0])
            with pytest.raises(ValueError, match="loss_and_gradient is of one process"):
                t.loss_and_gradient(t.net.params, X[0], Y[0])
        return t.step(X[0], Y[0])

    assert len(set(run_ranks(2, body))) == 1


def test_attributes_and_print():
    def body(comm):
        t = trainer(comm, "adam", shard=True, sync_every=8)
        assert t.comm is comm and t.shard is True and t.sync_every == 8
        with pytest.raises(AttributeError, match="comm="):
            t.comm = None
        return str(t)

    assert "  rank       1 of 2, shard, sync_every 8\n" in run_ranks(2, body)[1]
    t = trainer(None, "adam")
    assert t.comm is None and t.shard is False and t.sync_every == 1 and "rank" not in str(t)


def test_a_file_has_no_communicator_and_goes_on_with_one(tmp_path):
    """Bit for bit."""

    def body(comm):
        t = trainer(comm, "average", shard=True)
        t.step(X[0], Y[0])
        if comm.Get_rank() == 0:
            t.save(tmp_path / "t.safetensors")
        comm.Bcast(np.zeros(1), 0)
        again = bp.Trainer.load(tmp_path / "t.safetensors", comm=comm, shard=True)
        assert again.step(X[1], Y[1]) == t.step(X[1], Y[1]) and again.seed == t.seed
        return state_of(again).tobytes(), state_of(t).tobytes()

    assert len({state for pair in run_ranks(2, body) for state in pair}) == 1
    assert bp.Trainer.load(tmp_path / "t.safetensors").comm is None

    def differs(comm):
        path = tmp_path / f"{comm.Get_rank()}.safetensors"
        trainer(None, "average" if comm.Get_rank() else "adam").save(path)
        bp.Trainer.load(path, comm=comm)

    assert "hash of the contents" in errors_of(2, differs)[0]


def errors_of(n, body):
    with pytest.raises(RanksError) as raised:
        run_ranks(n, body)
    return [f"{type(error).__name__}: {error}" for error in raised.value.errors]


def scipy_sparse():
    return pytest.importorskip("scipy.sparse")


def own_loss(outputs, targets, weight):
    return 0.0, np.zeros_like(outputs)


REFUSED = {  # the arguments of ranks 0 and 1, and what both say
    "optimizer": (
        [{}, {"optimizer": "sgd"}],
        "ValueError: Trainer: all ranks must pass the same arguments, but optimizer is adam on rank 0, and sgd on rank 1",
    ),
    "clip": ([{}, {"clip_norm": 1.0}], "clip_norm is None on rank 0, and 1.0 on rank 1"),
    "shard": ([{}, {"shard": True}], "shard is False on rank 0, and True on rank 1"),
    "sync_every": ([{"sync_every": 2}, {}], "sync_every is 2 on rank 0, and 1 on rank 1"),
    "loss": ([{}, {"loss": "mae"}], "loss is ['mse'] on rank 0, and ['mae'] on rank 1"),
    "network": ([{}, {"net": bp.mlp([3, 4, 2], seed=0)}], "network of rank 1 is another than that of rank 0"),
    "custom": ([{"loss": own_loss}] * 2, "ValueError: Trainer: comm works with named losses only; for a loss of your own, pass loss=None"),
    "solver": ([{"optimizer": bp.LBFGS()}] * 2, "ValueError: Trainer: comm does not work with an optimizer that uses all rows at once"),
    "every": ([{"sync_every": 0}] * 2, "ValueError: Trainer: sync_every"),
    "flag": ([{"shard": 2}] * 2, "TypeError: Trainer: shard"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_arguments_that_differ_or_cannot_work_are_refused_on_all_ranks(name):
    arguments, text = REFUSED[name]

    def body(comm):
        mine = {"net": mlp("float32"), "loss": "mse", "optimizer": "adam"} | arguments[comm.Get_rank()]
        bp.Trainer(**mine, comm=comm)

    found = errors_of(2, body)
    assert all(text in one for one in found), found


@pytest.mark.parametrize("arguments", [{"shard": True}, {"sync_every": 4}])
def test_arguments_without_comm_are_refused(arguments):
    with pytest.raises(ValueError, match=r"needs a communicator, such as comm=mpi4py.MPI.COMM_WORLD"):
        bp.Trainer(mlp("float32"), "mse", **arguments)


FAILURES = {  # what rank 1 does instead of a step, and the start of its error
    "rows": (lambda t: t.step(X[1][:, :2], Y[1]), "ValueError: X"),
    "weights": (lambda t: t.step(X[1], Y[1], -np.ones(11)), "ValueError: sample_weight"),
    "not finite": (lambda t: t.step(X[1] * np.nan, Y[1]), "FloatingPointError: "),
    "state": (lambda t: t.step(X[1], Y[1], state=3), "TypeError: "),
    "backward": (lambda t: t.backward(X[1], Y[1], total=-1), "ValueError: backward: total"),
    "forward": (lambda t: t.forward(X[1][:, :2]), "ValueError: X"),
    "apply": (lambda t: t.backward_from(0), "ValueError: "),
}


@pytest.mark.parametrize("guilty", [0, 1])
@pytest.mark.parametrize("name", FAILURES)
def test_a_rank_that_is_refused_stops_the_others_and_changes_nothing(name, guilty):
    fails, text = FAILURES[name]

    def body(comm):
        t = trainer(comm, "adam")
        t.step(X[0], Y[0])
        before, is_guilty = state_of(t), comm.Get_rank() == guilty
        with pytest.raises((ValueError, TypeError, FloatingPointError, RuntimeError)) as raised:
            fails(t) if is_guilty else t.step(X[1], Y[1])
        assert state_of(t).tobytes() == before.tobytes()
        t.step(X[2], Y[2])
        return f"{type(raised.value).__name__}: {raised.value}", state_of(t).tobytes()

    found = run_ranks(2, body)
    mine, other = found[guilty][0], found[1 - guilty][0]
    assert mine.startswith(text) and found[0][1] == found[1][1]
    assert other == f"RuntimeError: rank {guilty} failed: {mine}" or (name == "not finite" and other.startswith(text))
