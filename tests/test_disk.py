"""Saving and loading: a save is all or nothing whatever happens, and a load touches nothing but its file."""

import importlib
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from array import array
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from file_cases import BACKENDS, GRAPHS, SMALL, make, state

import microbp as bp

HERE = Path(__file__).parent


@pytest.fixture
def module(backend):
    return importlib.import_module(BACKENDS[backend])


@pytest.fixture
def rng():
    seed = int(os.environ.get("MICROBP_SEED", random.randrange(2**32)))
    print(f"MICROBP_SEED={seed}")
    return random.Random(seed)


def generation(net):
    """The number that all parameters of a writer's net have."""
    (value,) = set(memoryview(net.params).tolist())
    return int(value)


def set_generation(net, value):
    numbers = memoryview(net.params).cast("B")
    one = memoryview(array("f", [value])).cast("B")
    numbers[:] = bytes(one) * (len(numbers) // 4)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_killed_writer(module, tmp_path, rng):
    """A writer saves generation after generation until it is killed: the file is that of the last finished save, or the next one."""
    path = tmp_path / "net.safetensors"
    net = module.Net("input 60\ndense 0 units=60\noutput 1\n")
    set_generation(net, 0)
    net.save(path)
    last = 0
    for _ in range(int(os.environ.get("MICROBP_KILLS", "20"))):
        progress, report = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                for value in range(last + 1, last + 10_000):
                    set_generation(net, value)
                    net.save(path)
                    os.write(report, b".")
            finally:
                os._exit(1)
        os.close(report)
        time.sleep(rng.uniform(0.001, 0.04))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with open(progress, "rb") as file:
            saved = last + len(file.read())
        last = generation(module.Net.load(path))
        assert last in (saved, saved + 1)
        assert len(os.listdir(tmp_path)) <= 2, "stale temporary files pile up"
    assert last > 0
    net.save(path)
    assert os.listdir(tmp_path) == [path.name]


def test_writers_at_once(module, tmp_path):
    path = tmp_path / "net.safetensors"

    def writer(number):
        net = module.Net(GRAPHS["branches"])
        set_generation(net, number)
        for _ in range(10):
            net.save(path)
            assert generation(module.Net.load(path)) < 4

    with ThreadPoolExecutor() as threads:
        list(threads.map(writer, range(4)))
    assert os.listdir(tmp_path) == [path.name]


def test_stale_temporary_file_is_removed(module, tmp_path):
    for name in ("net.safetensors.0.tmp", "net.safetensors.1.tmp"):
        (tmp_path / name).write_text("what a killed process left")
    module.Net(SMALL).save(tmp_path / "net.safetensors")
    assert sorted(os.listdir(tmp_path)) == ["net.safetensors", "net.safetensors.1.tmp"]


def test_saving_where_it_cannot(module, tmp_path):
    net, directory = module.Net(SMALL), tmp_path / "directory"
    directory.mkdir()
    os.mkfifo(tmp_path / "pipe")
    os.symlink("nowhere", tmp_path / "dangling")
    before = sorted(os.listdir(tmp_path))
    for path in (
        tmp_path / "missing" / "net",
        directory,
        tmp_path / "pipe",
        tmp_path / "dangling",
        tmp_path / ("n" * 300),
        Path("/proc/net1"),
    ):
        with pytest.raises(OSError, match=re.escape(str(path)[-100:])):
            net.save(path)
    assert sorted(os.listdir(tmp_path)) == before
    assert os.listdir(directory) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_saving_into_a_read_only_directory(module, tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OSError, match="net.safetensors"):
            module.Net(SMALL).save(tmp_path / "net.safetensors")
        assert os.listdir(tmp_path) == []
    finally:
        tmp_path.chmod(0o700)


def test_loading_what_cannot_be_loaded(module, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "pipe"):
        with pytest.raises(OSError, match=re.escape(str(path)[-100:])):
            module.Net.load(path)
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="empty: this is not a microbp file"):
        module.Net.load(tmp_path / "empty")


def test_links_permissions_and_relative_paths(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    net = module.Net(SMALL)
    umask = os.umask(0o027)
    try:
        net.save("n\u00e9t " + "x" * 240)
        net.save("net")
        assert os.stat("net").st_mode & 0o777 == 0o640
        os.chmod("net", 0o604)
        os.symlink("net", "link")
        make(module, seed=1).save("link")
    finally:
        os.umask(umask)
    assert os.path.islink("link")
    assert os.stat("net").st_mode & 0o777 == 0o604
    assert state(module.Net.load("net")) == state(make(module, seed=1))
    assert len(os.listdir()) == 3


# ---- what the system sees ----


def run(module, script, path, *prefix):
    """The script in a new process, with the backend `module`, `net` and `path` at hand."""
    begin = f"import importlib, os, sys\nmodule = importlib.import_module({module.__name__!r})\npath = {str(path)!r}\n"
    begin += f"net = module.Net({SMALL!r}, 'float32', 1)\n"
    return subprocess.run([*prefix, sys.executable, "-P", "-c", begin + script], check=False, capture_output=True, text=True, timeout=60)


LOADS = ["module.Net.load", "module.Net.load_with", "bp.load", "bp.Trainer.load", "bp.mlp([3, 2]).load_tensors"]


@pytest.mark.parametrize("load", LOADS)
def test_loading_opens_one_file_and_runs_nothing(module, load, tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    bp.Trainer(bp.mlp([3, 2], seed=0), "mse", bp.Adam()).save(path)
    monkeypatch.setenv("MICROBP_BACKEND", next(name for name, value in BACKENDS.items() if value == module.__name__))
    script = f"""
import microbp as bp
load = {load}
load(path)
seen, armed = [], True
sys.addaudithook(lambda event, args: seen.append((event, args)) if armed else None)
load(path)
armed = False
print([args[0] for event, args in seen if event == "open"])
code = ("import", "exec", "compile", "marshal", "pickle", "subprocess", "socket", "os")
print([event for event, _ in seen if event.split(".")[0] in code])
"""
    done = run(module, script, path)
    opened, ran = done.stdout.splitlines()
    assert opened in (f"[{str(path)!r}]", "[]")  # Python's hooks do not see what C opens: the test below does
    assert ran == "[]"


@pytest.fixture
def strace(tmp_path):
    command = shutil.which("strace")
    if not command or subprocess.run([command, "-o", os.devnull, "true"], check=False, capture_output=True).returncode:
        pytest.skip("strace is not installed, or may not trace here")
    return command, "-f", "-o", str(tmp_path / "trace")


def test_loading_makes_one_system_call_open(module, strace, tmp_path):
    path = tmp_path / "net.safetensors"
    module.Net(SMALL).save(path)
    done = run(module, "for _ in range(3):\n    module.Net.load(path)\nos._exit(0)\n", path, *strace, "-e", "trace=open,openat")
    assert done.returncode == 0, done.stderr
    opened = [str(path) in line for line in (tmp_path / "trace").read_text().splitlines() if "open" in line]
    assert opened.count(True) == 3
    assert all(opened[opened.index(True) + 1 :]), "something else is opened between the loads"


def test_order_of_a_save(module, strace, tmp_path):
    """write, fsync of the file, rename, fsync of the directory: only in this order is it durable."""
    path = tmp_path / "net.safetensors"
    done = run(module, "net.save(path)\nos._exit(0)\n", path, *strace, "-e", "trace=openat,write,fsync,rename,renameat,renameat2")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "trace").read_text().splitlines()
    begin = next(i for i, line in enumerate(lines) if ".tmp" in line)
    calls = [re.search(r"(\w+?)(?:at2?)?\(", line)[1] for line in lines[begin:] if "(" in line]
    assert re.fullmatch(r"open( write)+ fsync rename fsync", " ".join(calls)), calls


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    """The library that lets system calls go wrong."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler or not sys.platform.startswith("linux"):
        pytest.skip("there is no C compiler here, or no LD_PRELOAD")
    library = tmp_path_factory.mktemp("shim") / "faults.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, HERE / "faults.c", "-ldl"], check=True, timeout=60)
    return library


def test_system_calls_that_go_wrong(module, shim, tmp_path):
    """Their order; a SIGKILL, a failure, a short write at each of them: see faults.py."""
    done = subprocess.run(
        [sys.executable, "-P", HERE / "faults.py", module.__name__, tmp_path],
        env={**os.environ, "LD_PRELOAD": str(shim)},
        check=False,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_full_disk(module, tmp_path):
    """A limit on the size of files, like a disk that fills up: the first write is a short one, the second fails."""
    path, before = tmp_path / "net.safetensors", resource.getrlimit(resource.RLIMIT_FSIZE)
    old, new = make(module), make(module, seed=1)
    old.save(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError, match="net.safetensors"):
            new.save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert state(module.Net.load(path)) == state(old)
    assert os.listdir(tmp_path) == [path.name]


def test_a_missing_file_is_a_file_not_found_error(module, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        module.Net.load(tmp_path / "nowhere.safetensors")
