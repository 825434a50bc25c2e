"""Executors: rows of every form arrive in processes and on other machines, a task that fails leaves the others, Ctrl-C ends all."""

import importlib.util
import os
import pickle
import queue
import shutil
import socket
import subprocess
import sys
import threading
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

import numpy as np
import pytest
from many.executor_tasks import Dies, fit, raise_odd, steps

import microbp as bp
from microbp.data.sparse import SparseRows
from microbp.many import workers

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 8))
Y = X[:, :2] * X[:, 1:3]
FITS = {"epochs": 3, "batch_size": 8}


def new(seed=0, kind=bp.Trainer):
    return kind(bp.mlp([8, 5, 2], seed=seed), "mse")


def of_several(seed):
    x, z = bp.Input(8), bp.Input(3)
    return bp.Trainer(bp.Network([x, z], bp.Dense(2)(bp.concat([x, z])), seed=seed), "mse")


def of_sequences(seed):
    x = bp.Sequence(4, 2)
    return bp.Trainer(bp.Network(x, bp.Dense(2)(bp.Recurrent(3)(x)), seed=seed), "mse")


def sparse_rows():
    values = np.where(X > 0.8, X, 0)
    at, columns = np.nonzero(values)
    return SparseRows(values[at, columns], columns.astype(np.int32), np.searchsorted(at, np.arange(61)).astype(np.int32), (60, 8))


CASES = {
    "arrays": (new, X, Y, {}),
    "columns of a larger array": (new, np.hstack([X, Y])[:, :8], np.hstack([X, Y])[:, 8:], {}),
    "every other row": (new, np.repeat(X, 2, axis=0)[::2], np.asfortranarray(Y), {"sample_weight": np.arange(120.0)[::2]}),
    "lists": (new, X.tolist(), Y.tolist(), {"validation": (X[:7], Y[:7])}),
    "sparse": (new, sparse_rows(), Y, {"validation": np.arange(9)}),
    "sequences": (of_sequences, X.reshape(60, 4, 2), X.reshape(60, 4, 2), {"lengths": np.arange(60) % 4 + 1}),
    "several inputs": (of_several, [X, X[:, :3]], Y, {"validation": 0.2}),
    "a row to validate with": (new, X, Y, {"validation": (X[:1], Y[:1], np.ones(1))}),
    "chunks": (new, [(X[:25], Y[:25]), (X[25:], Y[25:])], None, {}),
}


def params(trainers):
    return [trainer.net.params.tobytes() for trainer in trainers]


def alone(make, x, y, **fit):
    trainers = [make(seed) for seed in range(3)]
    for trainer in trainers:
        trainer.fit(x, y, progress=False, **FITS, **fit)
    return params(trainers)


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, get_context("spawn")) as executor:
        yield executor


@pytest.mark.parametrize("name", CASES)
def test_rows_of_every_form_arrive_in_processes(processes, name):
    make, x, y, fit = CASES[name]
    trainers = [make(seed) for seed in range(3)]
    bp.train_many(trainers, x, y, executor=processes, **FITS, **fit)
    assert params(trainers) == alone(make, x, y, **fit)
    (trainer,) = trainers[:1]
    assert len(trainer.history["loss"]) == 3 and trainer.epoch == 3


class Machines(Executor):
    """Workers on several machines that share no memory: threads that take turns, each with a name and rows of its own. Counts the bytes."""

    def __init__(self, count, change=lambda: None):
        self.calls, self.turn, self.change, self.received = queue.SimpleQueue(), threading.Lock(), change, {}
        self.threads = [threading.Thread(target=self.work, args=(f"machine {i}",)) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def submit(self, function, /, *arguments):
        self.calls.put((future := Future(), pickle.dumps((function, arguments))))
        self.change()
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        for _ in self.threads:
            self.calls.put(None)
        for thread in self.threads:
            thread.join()

    def work(self, name):
        kept = None
        while (call := self.calls.get()) is not None:
            with self.turn, pytest.MonkeyPatch.context() as patch:
                patch.setattr(workers, "_kept", kept)
                patch.setattr(workers, "_mapped", lambda place: (None, None))
                patch.setattr(socket, "gethostname", lambda: name)
                future, data = call
                self.received.setdefault(name, []).append(len(data))
                function, arguments = pickle.loads(data)
                answer = pickle.loads(pickle.dumps(function(*arguments)))
                kept = workers._kept
            future.set_result(answer)


def test_a_worker_on_another_machine_gets_the_rows_once():
    rows = np.tile(X, (200, 1)), np.tile(Y, (200, 1))
    with Machines(2) as machines:
        for _ in range(2):
            machines.received.clear()
            trainers = [new(seed) for seed in range(8)]
            bp.train_many(trainers, *rows, executor=machines, **FITS)
            assert params(trainers)[:3] == alone(new, *rows)
            large = [size for sizes in machines.received.values() for size in sizes if size > rows[0].nbytes]
            assert 1 <= len(large) <= 3  # one of the first two may come to the machine that has them


def test_rows_that_the_caller_changes_meanwhile_do_not_matter():
    own = X.copy(), Y.copy()

    def change():
        own[0][:] = own[1][:] = np.nan

    expected, trainers = alone(new, X, Y), [new(seed) for seed in range(3)]
    with Machines(1, change) as machines:
        bp.train_many(trainers, *own, executor=machines, **FITS)
    assert params(trainers) == expected


def test_where_there_are_no_files_in_memory_the_bytes_are_sent(monkeypatch, processes):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    trainers = [new(seed) for seed in range(3)]
    bp.train_many(trainers, X, Y, executor=processes, **FITS)
    assert params(trainers) == alone(new, X, Y)


# ---- failures ----


def test_rows_of_a_class_of_the_main_program_are_refused_in_words(processes):
    rows = type("Rows", (), {"__module__": "__main__", "__array__": lambda self, *_, **__: X})()
    with pytest.raises(pickle.PicklingError, match=r"Rows is in the main program, which workers .* pass arrays, such as np.asarray\(X\)"):
        bp.train_many([new()], rows, Y, epochs=1, executor=processes)


def test_an_error_that_cannot_be_sent_is_told_in_words(processes):
    with pytest.raises(RuntimeError, match=r"^trainers\[0\]: OddError: 1 and 2; 1 other failed too: 1$"):
        bp.train_many([new(), new()], X, Y, executor=processes, callback=raise_odd, **FITS)
    assert processes.submit(int, "3").result() == 3


def test_a_worker_that_dies_is_named_and_the_others_are_kept():
    trainers = [new(0), new(1), new(2, Dies), new(3)]
    before = params(trainers)
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        with pytest.raises(BrokenExecutor, match=r"^trainers\[2\]: its worker ended, or was cut off, .*; 1 other failed too: 3$"):
            bp.train_many(trainers, X, Y, executor=executor, **FITS)
        assert params(trainers) == [*alone(new, X, Y)[:2], *before[2:]]
        with pytest.raises(BrokenExecutor, match=r"^trainers\[0\]: its worker ended"):  # the executor can no longer be used
            bp.train_many(trainers, X, Y, executor=executor, **FITS)


class Broken(Executor):
    """Loses the second task."""

    count = 0

    def submit(self, function, /, *arguments):
        future, self.count = Future(), self.count + 1
        if self.count == 2:
            future.set_exception(BrokenExecutor("gone"))
        else:
            future.set_result(function(*arguments))
        return future


def test_searches_keep_what_was_trained():
    with pytest.warns(RuntimeWarning, match=r"^sweep: seed=5 failed: BrokenExecutor: its worker ended") as caught:
        found = bp.sweep(lambda seed: new(seed), [4, 5, 6], X, Y, executor=Broken(), **FITS)
    assert caught[0].filename == __file__
    assert np.isnan(found.scores).tolist() == [False, True, False] and list(found.errors) == [1] and found.best != 5
    with pytest.warns(RuntimeWarning, match=r"^cross_validate: fold 1 failed: BrokenExecutor") as caught:
        folds = bp.cross_validate(new, X, Y, cv=3, executor=Broken(), **FITS)
    assert caught[0].filename == __file__
    assert np.isnan(folds.scores["loss"]).tolist() == [False, True, False] and len(folds.ensemble) == 2


def stops(number, _):
    raise KeyboardInterrupt


def test_ctrl_c_ends_the_fits_in_processes(processes):
    tasks = [(new(i), {"epochs": 1 if i == 0 else 10**9, "progress": False}) for i in range(4)]
    with pytest.raises(KeyboardInterrupt):
        workers.run(processes, fit, {"X": X, "y": Y}, tasks, steps, stops)
    assert [processes.submit(int, "3").result(timeout=30) for _ in range(4)] == [3] * 4


# ---- executors of others ----


@contextmanager
def loky():
    module = pytest.importorskip("loky", reason="loky is not installed")
    executor = module.get_reusable_executor(2)
    yield executor
    executor.shutdown()


@contextmanager
def dask():
    module = pytest.importorskip("dask.distributed", reason="dask.distributed is not installed")
    with module.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, module.Client(cluster) as client:
        yield client.get_executor()


@pytest.mark.parametrize("opened", [loky, dask])
@pytest.mark.filterwarnings("ignore")  # of their own
def test_executors_of_others(opened):
    with opened() as executor:
        trainers = [new(seed) for seed in range(3)]
        bp.train_many(trainers, X, Y, executor=executor, **FITS)
        assert params(trainers) == alone(new, X, Y)
        trainers = [bp.Trainer(trainer.net, lambda p, t, w: (float(((p - t) ** 2).mean()), (p - t) / t.size)) for trainer in trainers]
        bp.train_many(trainers, X, Y, executor=executor, schedule=lambda step: 0.01, **FITS)  # they can send lambdas
        assert [trainer.epoch for trainer in trainers] == [3] * 3
        with pytest.raises(Exception, match=r"(?s)trainers\[1\]|its worker ended") as caught:
            bp.train_many([new(0), new(1, Dies)], X, Y, executor=executor, **FITS)
        assert isinstance(caught.value, BrokenExecutor)


POOL = """
import numpy as np
import microbp as bp
from mpi4py.futures import MPIPoolExecutor

if __name__ == "__main__":
    X = np.random.default_rng(0).normal(size=(60, 8))
    one, two = ([bp.Trainer(bp.mlp([8, 5, 2], seed=seed), "mse") for seed in range(4)] for _ in range(2))
    with MPIPoolExecutor() as executor:
        bp.train_many(one, X, X[:, :2], epochs=3, executor=executor)
    bp.train_many(two, X, X[:, :2], epochs=3)
    print(all(np.array_equal(a.net.params, b.net.params) for a, b in zip(one, two)))
"""


def test_a_pool_of_mpi_processes(tmp_path):
    beside = os.path.join(os.path.dirname(sys.executable), "mpiexec")
    mpiexec = beside if os.path.exists(beside) else shutil.which("mpiexec")
    if importlib.util.find_spec("mpi4py") is None or mpiexec is None:
        pytest.skip("mpi4py or mpiexec is not installed")
    if subprocess.run([sys.executable, "-c", "from mpi4py import MPI"], capture_output=True, check=False).returncode:
        pytest.skip("mpi4py finds no MPI library")
    (tmp_path / "pool.py").write_text(POOL, "utf-8")
    command = [mpiexec, "-n", "3", sys.executable, "-m", "mpi4py.futures", str(tmp_path / "pool.py")]
    own = os.environ | {"PYTHONSAFEPATH": ""}  # with which mpi4py.run replaces the first folder of PYTHONPATH
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=own)
    assert done.stdout.strip() == "True", done.stderr
