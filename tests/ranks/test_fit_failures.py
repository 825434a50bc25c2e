"""Where one rank fails in a fit, all leave it together, with the same state, and can train again. Nobody waits for another."""

import threading

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from ranks_threads import run_ranks

import microbp as bp
from microbp.training.loop.records.callbacks import interrupt

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3))
Y = (X[:, 0] > 0).astype(int)


class BrokenError(Exception):
    pass


def at(call, error=BrokenError, then=None):
    """A function that raises this error when it is called for the n-th time."""
    calls = iter(range(1, 10**6))

    def function(*_, **__):
        if next(calls) == call:
            raise error("no more")
        return then

    return function


def chunks():
    yield X[:9], Y[:9]
    raise BrokenError("no more")


def interrupted(rank):
    """After a while, wherever the fit is then."""
    event = threading.Event()
    interrupt.set(event)
    threading.Timer(0.04 + 0.01 * rank, event.set).start()
    return {"epochs": 10**6, "batch_size": 2}


PLACES = {  # what the rank that fails passes to fit, and what the others pass
    "an argument": ({"epochs": -1}, {}),
    "an unknown metric": ({"metrics": "no_metric"}, {}),
    "other arguments": ({"epochs": 7}, {}),
    "rows that do not fit": ({"sample_weight": -np.ones(24)}, {}),
    "chosen rows": ({"rows": [99]}, {"rows": [1, 2, 3]}),
    "validation rows": ({"validation": (X, Y[:3])}, {"validation": (X, Y)}),
    "class weights": ({"class_weight": {5: 1.0}}, {"class_weight": {1: 1.0}}),
    "a target": ({"y": Y + 7}, {}),
    "a metric": ({"metrics": lambda: {"own": at(2, then=1.0)}}, {"metrics": {"own": lambda y, p: 1.0}}),
    "a callback": ({"callback": lambda: at(2)}, {}),
    "a callback after the last epoch": ({"callback": lambda: at(4)}, {}),
    "a callback with early stopping": ({"callback": lambda: at(3), "validation": 0.25, "patience": 5}, {"validation": 0.25, "patience": 5}),
    "a batch callback": ({"batch_callback": lambda: at(5)}, {}),
    "a schedule": ({"schedule": lambda: at(8, then=0.1)}, {"schedule": lambda: at(0, then=0.1)}),
    "schedules": (
        {"schedules": lambda: {"weight_decay": at(2, then=0.1)}},
        {"schedules": lambda: {"weight_decay": at(0, then=0.1)}},
    ),
    "a stream": ({"chunks": chunks}, {"chunks": lambda: [(X, Y)]}),
    "a chunk": ({"chunks": lambda: [(X, Y), (X, Y[:2])]}, {"chunks": lambda: [(X, Y)] * 3}),
    "Ctrl-C": ({"callback": lambda: at(2, KeyboardInterrupt)}, {}),
    "Ctrl-C in an update": ({"batch_callback": lambda: at(9, KeyboardInterrupt)}, {}),
    "exit": ({"callback": lambda: at(1, SystemExit)}, {}),
    "Ctrl-C in an epoch": ({"special": interrupted}, {"epochs": 10**6, "batch_size": 2}),
}
CALLED = ("metrics", "callback", "batch_callback", "schedule", "schedules")


def state_of(t):
    history = {name: values for name, values in t.history.items() if name != "seconds"}
    return repr((t.steps, t.epoch, t.lr, t.weight_decay, t.stop_reason, history))


def fit(t, y=Y, chunks=None, special=None, **options):
    options = {name: value() if name in CALLED and callable(value) else value for name, value in options.items()}
    if special:
        options |= special(t.comm.Get_rank())
    data = (X, y) if chunks is None else (chunks,)
    t.fit(*data, **({"epochs": 4, "batch_size": 8} | options))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("failing", [0, 1])
def test_all_ranks_leave_together(place, failing):
    trainers = [None, None]

    def run(comm):
        rank = comm.Get_rank()
        t = bp.Trainer(bp.mlp([3, 4, 2], seed=0, dtype="float64"), "cross_entropy", optimizer=bp.Momentum(lr=0.1), comm=comm)
        trainers[rank] = t
        error = None
        try:
            fit(t, **PLACES[place][rank != failing])
        except BaseException as raised:
            error = raised
        interrupt.set(None)
        found = error, t.net.params.copy(), state_of(t)
        t.fit(X, Y, epochs=1)
        return *found, t.net.params.copy()

    results = run_ranks(2, run, timeout=5)
    (mine, params, state, later), (others, *rest) = results[failing], results[1 - failing]
    if place == "other arguments":
        assert type(mine) is type(others) is ValueError
    else:
        assert mine is not None and type(others) is RuntimeError
        assert str(others).startswith(f"rank {failing} failed: {type(mine).__name__}: {mine}".removesuffix(": "))
    assert_array_equal(params, rest[0])
    assert state == rest[1]
    assert_array_equal(later, rest[2])


def test_numbers_that_are_not_finite_are_an_error_in_all_ranks():
    def run(comm):
        x = X.copy()
        x[5] = np.nan if comm.Get_rank() else 1.0
        t = bp.Trainer(bp.mlp([3, 4, 2], seed=0), "cross_entropy", comm=comm)
        with pytest.raises(FloatingPointError, match="epoch 1, step"):
            t.fit(x, Y, epochs=4, batch_size=8)
        return t.steps

    assert len({*run_ranks(2, run)}) == 1


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("options", [{}, {"batch_callback": lambda record: None}, {"accumulate": 2}, {"chunks": True}, {"sync_every": 3}])
def test_max_time_of_one_rank_ends_the_fit_of_all(rank, options):
    def run(comm):
        every = options.get("sync_every", 1)
        t = bp.Trainer(bp.mlp([3, 4, 2], seed=0), "cross_entropy", comm=comm, sync_every=every)
        data = ([(X, Y)],) if options.get("chunks") else (X, Y)
        time = 0.1 if comm.Get_rank() == rank else 1000.0
        more = {name: value for name, value in options.items() if name not in ("chunks", "sync_every")}
        t.fit(*data, epochs=10**6, batch_size=2, max_time=time, **more)
        return t.stop_reason, state_of(t), t.net.params.tobytes()

    results = run_ranks(2, run)
    assert results[0] == results[1] and results[0][0] == "max_time"


@pytest.mark.parametrize("name", ["callback", "batch_callback"])
def test_a_callback_of_one_rank_ends_the_fit_of_all(name):
    def run(comm):
        t = bp.Trainer(bp.mlp([3, 4, 2], seed=0), "cross_entropy", comm=comm)
        calls = iter(range(1, 100))
        t.fit(X, Y, epochs=9, batch_size=8, **({name: lambda record: next(calls) == 5} if comm.Get_rank() else {}))
        return t.stop_reason, t.steps, t.net.params.tobytes()

    results = run_ranks(2, run)
    assert results[0] == results[1]
    assert results[0][:2] == ("callback", 30 if name == "callback" else 5)


def test_ranks_that_have_parted_are_told():
    def run(comm):
        t = bp.Trainer(bp.mlp([3, 4, 2], seed=0), "cross_entropy", comm=comm)

        def part(record):
            if comm.Get_rank() == 1 and record.epoch == 2:
                t.net.params[0] += 1

        with pytest.raises(
            RuntimeError, match="^the ranks have parted: after epoch 3 the parameters of rank 1 differ from those of rank 0$"
        ):
            t.fit(X, Y, epochs=9, callback=part)
        return t.epoch

    assert run_ranks(3, run) == [2, 2, 2]


# ---- checkpoints ----

STOP = bp.EarlyStopping(patience=3)


def run_fit(comm, path, epochs=8, callback=None, **options):
    options = {"comm": comm, "shard": True} | options
    net = bp.mlp([3, 4, 2], seed=0, dtype="float64")
    t = bp.Trainer.load(path, **options) if path.exists() else bp.Trainer(net, "cross_entropy", optimizer=bp.Adam(lr=0.05), **options)
    schedule = t.schedule or "reduce_on_plateau(lr=0.1, patience=1)"
    fixed = {"batch_size": 7, "validation": 0.25, "stop": STOP}
    t.fit(X, Y, epochs=epochs - t.epoch, schedule=schedule, checkpoint=path, callback=callback, **fixed)
    return t.net.params.copy(), state_of(t)


@pytest.mark.parametrize(("ranks", "every"), [(2, 1), (3, 1), (2, 3)])
def test_a_fit_goes_on_bit_for_bit(tmp_path, ranks, every):
    """On another number of ranks, up to rounding."""

    def killed(comm):
        def callback(record):
            if record.epoch == 3 and comm.Get_rank() == ranks - 1:
                raise BrokenError

        with pytest.raises((BrokenError, RuntimeError)):
            run_fit(comm, tmp_path / "cut", callback=callback, sync_every=every)

    whole = run_ranks(ranks, lambda comm: run_fit(comm, tmp_path / "whole", sync_every=every))
    run_ranks(ranks, killed)
    (tmp_path / "other").write_bytes((tmp_path / "cut").read_bytes())
    again = run_ranks(ranks, lambda comm: run_fit(comm, tmp_path / "cut", sync_every=every))
    for (params, state), (wanted, of_whole) in zip(again, whole, strict=True):
        assert_array_equal(params, wanted)
        assert state == of_whole
    if every == 1:
        [alone] = run_ranks(1, lambda comm: run_fit(comm, tmp_path / "other", shard=False))
        assert np.allclose(alone[0], whole[0][0], rtol=1e-9, atol=1e-9)


def test_only_rank_0_writes_and_its_error_is_told(tmp_path):
    places = [tmp_path / "rank 0", tmp_path / "no directory" / "rank 1"]
    places[0].mkdir()

    def run(comm):
        run_fit(comm, places[comm.Get_rank()] / "run", epochs=2)

    run_ranks(2, run)
    assert [path.name for path in tmp_path.iterdir()] == ["rank 0"]
    (places[0] / "run").unlink()

    def fails(comm):
        def remove(record):
            if comm.Get_rank() == 0 and record.epoch == 2:
                (places[0] / "run").unlink()
                places[0].rmdir()

        t = bp.Trainer(bp.mlp([3, 4, 2], seed=0), "cross_entropy", comm=comm)
        with pytest.raises(OSError if comm.Get_rank() == 0 else RuntimeError) as raised:
            t.fit(X, Y, epochs=5, checkpoint=places[comm.Get_rank()] / "run", callback=remove)
        return str(raised.value), t.epoch

    results = run_ranks(2, fails)
    assert results[1][0].startswith("rank 0 failed: ") and [epoch for _, epoch in results] == [3, 3]


def test_progress_is_shown_by_rank_0(capsys):
    run_ranks(2, lambda comm: bp.Trainer(bp.mlp([3, 2], seed=0), "cross_entropy", comm=comm).fit(X, Y, epochs=3, progress=True))
    assert capsys.readouterr().err.count("epoch 3/3") == 1


@pytest.mark.parametrize("guilty", [(1,), (0, 1)])
def test_one_call_of_a_communicator_at_a_time(guilty):
    """A callback that trains another trainer would exchange what the others do not expect."""

    def run(comm):
        t, other = (bp.Trainer(bp.mlp([3, 2], seed=0), "cross_entropy", comm=comm) for _ in range(2))

        def trains(record):
            if comm.Get_rank() in guilty:
                other.step(X, Y)

        with pytest.raises(RuntimeError, match="another trainer's call with this comm"):
            t.fit(X, Y, epochs=2, callback=trains)
        return t.step(X, Y), other.step(X, Y), t.steps, other.steps, t.net.params.tobytes()

    first, second = run_ranks(2, run)
    assert first == second and first[3] == 1


@pytest.mark.parametrize("shard", [False, True])
def test_a_last_batch_of_one_row_is_refused_before_the_first(shard):
    def run(comm):
        x = bp.Input(3)
        net = bp.Network(x, bp.Dense(2)(bp.BatchNorm()(bp.Dense(4)(x))), seed=0)
        t = bp.Trainer(net, "cross_entropy", comm=comm, shard=shard)
        rows = slice(13) if shard else [slice(0, 4), slice(4, 13)][comm.Get_rank()]
        before = t.net.params.tobytes()
        with pytest.raises((ValueError, RuntimeError), match="batch_norm .* needs at least 2 rows"):
            t.fit(X[rows], Y[rows], epochs=1, batch_size=6 if shard else 5)  # of its own: 2 + 4 rows, the last 0 + 1
        assert t.net.params.tobytes() == before
        return t.steps, t.step(X, Y)

    first, second = run_ranks(2, run)
    assert first == second and first[0] == 0
