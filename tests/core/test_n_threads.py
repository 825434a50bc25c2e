"""Threads that share the work of one network: the same bits for any number, also after fork; and limits of the number of threads."""

import copy
import hashlib
import os
import pickle
import subprocess
import sys
import threading

import graphs
import numpy as np
import pytest

import microbp as bp

COUNTS = [1, 2, 3, 4, 7, 8]  # some exceed the number of processors, so threads are preempted
PROCESSES = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE")
VARIABLES = ("MICROBP_NUM_THREADS", "OMP_NUM_THREADS", *PROCESSES)


def digest(net, t, x):
    """A hash of parameters, optimizer state, losses and predictions."""
    arrays = [net.params, *t.state.values(), np.asarray(t.history["loss"]), net.predict(x)]
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def trained(n_threads, dtype="float32", optimizer="adam"):
    """A digest after training. The net is large enough that products, gathered rows, the update and slices of the prediction are shared
    among threads."""
    net = bp.mlp([130, 300, 257, 5], activation="tanh", dtype=dtype, seed=1, n_threads=n_threads)
    t = bp.Trainer(net, "mse", optimizer)
    x = np.random.default_rng(2).normal(size=(1500, 130))
    t.fit(x, x[:, :5], epochs=1, batch_size=400, validation=0.2, progress=False)
    t.step(x[:333], x[:333, :5])
    return digest(net, t, x)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "lamb"])
def test_any_number_of_threads_gives_the_same_bits(dtype, optimizer):
    assert {trained(n, dtype, optimizer) for n in COUNTS} == {trained(1, dtype, optimizer)}


def test_every_kernel_variant_gives_the_same_bits(isa):
    assert trained(3) == trained(1)


def test_python_threads_that_find_the_pool_busy_work_alone():
    expected, got = trained(1), []
    workers = [threading.Thread(target=lambda: got.append(trained(4))) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert got == [expected] * 3


# ---- fork ----

CHILD = """
import hashlib, multiprocessing, os, sys, threading, time
import numpy as np
import microbp as bp

x = np.random.default_rng(0).normal(size=(256, 128)).astype(np.float32)

def make(n_threads):
    net = bp.mlp([128, 256, 256, 4], seed=3, n_threads=n_threads)
    return bp.Trainer(net, "mse")

def train(t, steps=3):
    for _ in range(steps):
        t.step(x, x[:, :4])
    return hashlib.sha256(t.net.params.tobytes()).hexdigest()

def job(i):
    return train(make(4))

def in_child(work, limit=10):
    "Whether work() is true in a forked child, in time."
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.001)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return False
"""

FORKS = """
alone = make(1)
train(alone)
expected = train(alone)
t = make(4)
train(t)
assert all(in_child(lambda: train(t) == expected) for _ in range(100 if "MICROBP_LONG" in os.environ else 25))
assert train(t) == expected
"""

FORKS_DURING_STEPS = """
expected, stop = job(0), []

def busy():
    t = make(4)
    while not stop:
        t.step(x, x[:, :4])

worker = threading.Thread(target=busy)
worker.start()
try:
    assert all(in_child(lambda: job(0) == expected) for _ in range(50 if "MICROBP_LONG" in os.environ else 12))
finally:
    stop.append(1)
    worker.join()
"""

POOLS = """
if __name__ == "__main__":
    expected = train(make(1))
    assert job(0) == expected
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map_async(job, range(4)).get(60) == [expected] * 4, method
"""


def run(script, tmp_path, **environment):
    """The output of a script in a new process: the process of the tests must not be forked."""
    path = tmp_path / "script.py"
    path.write_text(script, encoding="utf-8")
    clean = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", path], env=clean | environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="os.fork is missing")
@pytest.mark.parametrize("script", [FORKS, FORKS_DURING_STEPS, POOLS], ids=["after training", "while a step runs", "multiprocessing"])
def test_children_train(script, tmp_path):
    run(CHILD + script, tmp_path)


# ---- the number of threads ----


@pytest.fixture
def without_variables(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_the_number_is_an_upper_limit_that_may_change(backend):
    net = bp.mlp([2, 3], backend=backend)
    assert net.n_threads is None
    net.n_threads = 8
    assert net.n_threads == 8
    assert bp.mlp([2, 3], backend=backend, n_threads=np.int64(2)).n_threads == 2
    x = bp.Input(2)
    assert bp.Network(x, bp.Dense(1)(x), backend=backend, n_threads=3).n_threads == 3


def test_an_explicit_number_may_exceed_the_processors():
    assert bp.mlp([2, 3], n_threads=8)._core.threads == 8
    assert bp.mlp([2, 3], n_threads=10**9)._core.threads == 255


@pytest.mark.parametrize("wrong", [0, -1])
def test_a_number_below_one_is_refused(backend, wrong, tmp_path):
    net = bp.mlp([2, 3], backend=backend, n_threads=2)
    net.save(tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match="at least 1"):
        bp.mlp([2, 3], backend=backend, n_threads=wrong)
    with pytest.raises(ValueError, match="at least 1"):
        bp.load(tmp_path / "net.safetensors", n_threads=wrong)
    with pytest.raises(ValueError, match="at least 1"):
        net.n_threads = wrong
    assert net.n_threads == 2


@pytest.mark.parametrize("wrong", ["2", 2.0, [2]])
def test_a_value_that_is_not_a_whole_number_is_refused(wrong):
    with pytest.raises(TypeError, match="n_threads must be a whole number"):
        bp.mlp([2, 3], n_threads=wrong)


def test_copies_keep_the_number_and_files_do_not(backend, tmp_path):
    net = bp.mlp([2, 3], backend=backend, n_threads=3)
    assert [other.n_threads for other in (net.copy(), copy.deepcopy(net), pickle.loads(pickle.dumps(net)))] == [3, 3, 3]
    net.save(tmp_path / "net.safetensors")
    assert bp.load(tmp_path / "net.safetensors", backend=backend).n_threads is None
    assert bp.load(tmp_path / "net.safetensors", backend=backend, n_threads=4).n_threads == 4


@pytest.mark.usefixtures("without_variables")
def test_the_environment_limits_the_default(monkeypatch):
    cpus = bp.mlp([2, 3])._core.threads
    assert 1 <= cpus <= (os.cpu_count() or 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1,4")
    assert bp.mlp([2, 3])._core.threads == 1
    assert bp.mlp([2, 3], n_threads=2)._core.threads == 2
    monkeypatch.setenv("MICROBP_NUM_THREADS", "100000")
    assert bp.mlp([2, 3])._core.threads == cpus
    monkeypatch.setenv("MICROBP_NUM_THREADS", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "nonsense")
    assert bp.mlp([2, 3])._core.threads == 1
    monkeypatch.setenv("MICROBP_NUM_THREADS", "")
    assert bp.mlp([2, 3])._core.threads == cpus


@pytest.mark.usefixtures("without_variables")
@pytest.mark.parametrize("variable", PROCESSES)
def test_processes_of_one_machine_share_its_processors(monkeypatch, variable):
    cpus = bp.mlp([2, 3])._core.threads
    for told, threads in (("1", cpus), ("2", max(1, cpus // 2)), ("100000", 1), ("nonsense", cpus), ("0", cpus)):
        monkeypatch.setenv(variable, told)
        assert bp.mlp([2, 3])._core.threads == threads
    monkeypatch.setenv("MICROBP_NUM_THREADS", "100000")
    assert bp.mlp([2, 3])._core.threads == cpus


@pytest.mark.usefixtures("without_variables")
@pytest.mark.parametrize("wrong", ["0", "-2", "two", "1.5"])
def test_a_wrong_variable_is_named(monkeypatch, wrong):
    monkeypatch.setenv("MICROBP_NUM_THREADS", wrong)
    with pytest.raises(ValueError, match="MICROBP_NUM_THREADS must be"):
        bp.mlp([2, 3])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="os.sched_setaffinity is missing")
def test_the_affinity_limits_the_default(tmp_path):
    script = (
        "import os\nos.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\nimport microbp as bp\nprint(bp.mlp([2, 3])._core.threads)\n"
    )
    assert run(script, tmp_path) == "1\n"


# ---- threadpoolctl ----

LIMITS = """
def entries():
    return [entry["num_threads"] for entry in threadpoolctl.threadpool_info() if entry["internal_api"] == "microbp"]

default = bp.mlp([2, 3])._core.threads
assert entries() == [default], threadpoolctl.threadpool_info()
net = bp.mlp([2, 3], n_threads=8)
with threadpoolctl.threadpool_limits(1):
    assert entries() == [1] and net._core.threads == 1
assert entries() == [default] and net._core.threads == 8
with threadpoolctl.threadpool_limits(1, user_api="blas"):
    assert entries() == [default] and net._core.threads == 8
"""


@pytest.mark.parametrize(
    "imports",
    [
        "import threadpoolctl\nimport microbp as bp\nassert 'microbp' in str(threadpoolctl.threadpool_info())",
        "import microbp as bp\nimport threadpoolctl\nthreadpoolctl.threadpool_info()",
        "import microbp as bp\nimport threadpoolctl\nbp.threads.register()\nbp.threads.register()\n"
        "assert 'microbp' in str(threadpoolctl.threadpool_info())",
    ],
    ids=["before", "after", "registered"],
)
def test_threadpoolctl_sees_and_limits_the_threads(imports, tmp_path):
    pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")
    run(imports + LIMITS, tmp_path)


def test_limits_of_threadpoolctl_change_no_bit():
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")
    net = bp.mlp([64, 300, 8], seed=0, n_threads=4)
    x = graphs.rows_of(net, 1000)
    expected = net.predict(x)
    with threadpoolctl.threadpool_limits(1):
        np.testing.assert_array_equal(net.predict(x), expected)
    np.testing.assert_array_equal(net.predict(x), expected)


def test_microbp_does_not_import_threadpoolctl(tmp_path):
    script = "import sys\nimport microbp as bp\nbp.mlp([2, 3])\nprint('threadpoolctl' in sys.modules)\n"
    assert run(script, tmp_path) == "False\n"
