"""A fit over MPI has the bits of the same fit over threads, of one process where that is promised, and of one that went on from a file."""

from __future__ import annotations

import numpy as np
import pytest
from ranks_threads import run_ranks

import microbp as bp

NEAR = {"rtol": 1e-7, "atol": 1e-8}  # Adam makes steps of about 1 of rounding errors too: of a bias before batch_norm, whose gradient is 0


def drawn(seed, rows):
    random = np.random.default_rng(seed)
    x = random.normal(3, 2, (rows, 4))
    return x, (x[:, 0] * x[:, 1] > 9).astype(int)


def shard(rank):
    """Rows of a rank: each has more than the one before. No step has a single row, which batch_norm refuses."""
    return drawn(rank, 24 + 8 * rank)


def joined():
    return drawn(9, 61)


def made(comm, dtype="float64", **options):
    x = bp.Input(4)
    h = bp.Dropout(0.2)(bp.Dense(12, "relu")(bp.Standardize()(x)))
    net = bp.Network(x, bp.Dense(2)(bp.BatchNorm()(bp.Dense(8)(h))), dtype=dtype, seed=3)
    return bp.Trainer(net, "cross_entropy", bp.Adam(lr=0.01), comm=comm, **options)


def outcome(t):
    """The parameters and statistics, and each record without its time."""
    records = {name: values for name, values in t.history.items() if name != "seconds"}
    return [t.net.params.tobytes(), *(v.tobytes() for v in t.net.tensors.values()), repr(records)]


FITS = {
    "own rows": {},
    "a part for validation": {"validation": 0.25, "metrics": ["accuracy", "f1"], "patience": 2},
    "rows for validation": {"validation": joined(), "metrics": "accuracy"},
    "a schedule": {"schedule": "cosine(lr=0.01)", "class_weight": "balanced"},
    "accumulate": {"accumulate": 2, "batch_size": 8},
    "large batches": {"batch_size": 1000},
}


def fitted(comm, options, whole=False, **made_with):
    t = made(comm, shard=whole, **made_with)
    t.fit(*(joined() if whole else shard(comm.Get_rank())), epochs=4, **{"batch_size": 16, "progress": False, **options})
    return outcome(t)


@pytest.mark.parametrize("whole", [False, True], ids=["shards", "shard=True"])
@pytest.mark.parametrize("name", FITS)
def test_bits_are_those_of_threads(comm, name, whole):
    dtype = "float64" if whole else "float32"
    ours = fitted(comm, FITS[name], whole, dtype=dtype)
    threads = run_ranks(comm.size, lambda thread: fitted(thread, FITS[name], whole, dtype=dtype))
    assert ours == threads[0] == threads[-1]


@pytest.mark.parametrize("every", [3])
def test_means_after_steps_of_own_rows_have_the_bits_of_threads(comm, every, dtype):
    ours = fitted(comm, {}, sync_every=every, dtype=dtype)
    assert ours == run_ranks(comm.size, lambda thread: fitted(thread, {}, sync_every=every, dtype=dtype))[-1]


@pytest.mark.parametrize("name", FITS)
def test_cut_batches_give_the_fit_of_one_process(comm, name):
    ours = fitted(comm, FITS[name], whole=True)
    t = made(None)
    t.fit(*joined(), epochs=4, **{"batch_size": 16, "progress": False, **FITS[name]})
    np.testing.assert_allclose(np.frombuffer(ours[0]), t.net.params, **NEAR)


@pytest.mark.parametrize("every", [1, 3])
def test_a_fit_goes_on_from_its_checkpoint(comm, every, tmp_path_factory):
    """With the same bits on as many ranks; as one process with all rows, if rows are cut."""
    path = comm.bcast(tmp_path_factory.mktemp("fit") / "run.safetensors" if comm.rank == 0 else None)
    how = {"batch_size": 16, "progress": False, "validation": 0.25}

    def run(t, epochs, whole, **more):
        t.fit(*(joined() if whole else shard(comm.rank)), epochs=epochs - t.epoch, **how, **more)
        return t

    for whole in (False, True):
        straight = run(made(comm, shard=whole, sync_every=every), 6, whole)
        run(made(comm, shard=whole, sync_every=every), 3, whole, checkpoint=path)
        comm.Barrier()
        again = bp.Trainer.load(path, comm=comm, shard=whole, sync_every=every)
        assert again.epoch == 3
        assert outcome(run(again, 6, whole)) == outcome(straight)
        if whole and every == 1:
            alone = bp.Trainer.load(path)
            assert alone.comm is None and alone.shard is False and alone.sync_every == 1
            run(alone, 6, whole)
            np.testing.assert_allclose(alone.net.params, straight.net.params, **NEAR)
        comm.Barrier()
