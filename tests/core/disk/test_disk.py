"""Saving and loading: a save is always all or nothing, and a load touches only its file."""

import operator
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from array import array
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cases
import pytest
from file_cases import GRAPHS, SMALL, make, state

import microbp as bp
from microbp.core.whole_file import replacing

HERE = Path(__file__).parent


def generation(net):
    """The number that all parameters of a writer's net are set to."""
    (value,) = set(memoryview(net.params).tolist())
    return int(value)


def set_generation(net, value):
    numbers = memoryview(net.params).cast("B")
    one = memoryview(array("f", [value])).cast("B")
    numbers[:] = bytes(one) * (len(numbers) // 4)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_killed_writer(module, tmp_path, rng):
    """A writer saves one generation after another until it is killed: the file is from the last finished save, or from the next one."""
    path = tmp_path / "net.safetensors"
    net = module.Net("input 60\ndense 0 units=60\noutput 1\n")
    set_generation(net, 0)
    net.save(path)
    last = 0
    for _ in range(1000 if cases.LONG else 20):
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
        with open(progress, "rb", buffering=0) as file:
            saved = last + len(file.read(1))  # the first save may take long on a busy disk
            time.sleep(rng.uniform(0, 0.04))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            saved += len(file.read())
        last = generation(module.Net.load(path))
        assert last in (saved, saved + 1)
        assert len(os.listdir(tmp_path)) <= 2, "stale temporary files pile up"
    assert last > 0
    net.save(path)
    assert os.listdir(tmp_path) == [path.name]


def test_threads_that_save_the_same_file(module, tmp_path):
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


def test_an_interrupt_after_the_rename_is_raised(tmp_path, monkeypatch):
    rename = os.rename

    def interrupted(*paths):
        rename(*paths)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bp.mlp([2, 1], backend="reference").save(tmp_path / "net.safetensors")
    assert os.listdir(tmp_path) == ["net.safetensors"]


def temporary(name, number):
    return f".{name}.microbp-{number}.tmp"


def test_stale_temporary_files_are_removed_and_no_others(module, tmp_path):
    """A killed writer leaves the start of a file, in which a power cut may leave zeros. Whatever else has a temporary name stays."""
    net, path = module.Net(SMALL), tmp_path / "net.safetensors"
    data = net.write()
    torn = [bytes(8) + data[8:60], data[:8] + bytes(60), data[:20] + bytes(5) + data[25:]]
    for left in (b"", data, data[:1], data[:100], bytes(100), *torn):
        (tmp_path / temporary(path.name, 0)).write_bytes(left)
        net.save(path)
        assert os.listdir(tmp_path) == [path.name], left
    user = [*(f"{path.name}.{i}.tmp" for i in range(32)), f".{path.name}", temporary(path.name, 0), temporary(path.name, 2)]
    for name in user:
        (tmp_path / name).write_text("mine" if "microbp" not in name else "my only copy, 20 years old")
    os.mkfifo(tmp_path / temporary(path.name, 1))
    (tmp_path / temporary(path.name, 3)).symlink_to(f".{path.name}")
    before = sorted([*os.listdir(tmp_path)])
    net.save(path)
    assert sorted(os.listdir(tmp_path)) == before
    assert all((tmp_path / name).read_text().startswith("m") for name in user)


def test_saving_to_paths_that_cannot_be_written(module, tmp_path):
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


@contextmanager
def as_anyone():
    """Runs as the user `nobody`, because root may write anywhere."""
    user = os.geteuid()
    os.seteuid(user or 65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_saving_into_a_read_only_directory(module):
    old, new = make(module), make(module, seed=1)
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path, which other users cannot enter
        path = os.path.join(folder, "net.safetensors")
        old.save(path)
        os.chmod(folder, 0o555)
        with as_anyone(), pytest.raises(PermissionError, match="net.safetensors"):
            new.save(path)
        assert os.listdir(folder) == ["net.safetensors"]
        assert state(module.Net.load(path)) == state(old)


def savers(backend):
    """Everything that writes a file: what writes it, and its name."""
    net = bp.mlp([3, 2], seed=0, backend=backend)
    trainer = bp.Trainer(net, "mse", bp.Adam())

    def fit(path):
        trainer.fit([[1, 2, 3]], [[4, 5]], epochs=1, checkpoint=path)

    def history(path):
        bp.save_history({"loss": [0.5]}, path)

    def write(path):
        with replacing(path) as temporary:
            temporary.write_text("new")

    return {"net.safetensors": net.save, "run": trainer.save, "checkpoint": fit, "h.csv": history, "h.json": history, "text": write}


SAVERS = ["net.safetensors", "run", "checkpoint", "h.csv", "h.json", "text"]


@pytest.mark.parametrize("name", SAVERS)
def test_a_read_only_file_is_refused_and_kept(backend, name, tmp_path):
    """Also for root. A link to it does not help."""
    path, save = tmp_path / name, savers(backend)[name]
    path.write_text("the only copy")
    path.chmod(0o444)
    (tmp_path / f"link{path.suffix}").symlink_to(name)
    for target in (path, tmp_path / f"link{path.suffix}"):
        with pytest.raises(PermissionError, match=r"read-only; make it writable \(chmod u\+w\) or remove it first") as raised:
            save(target)
        assert str(target) in str(raised.value)
    assert path.read_text() == "the only copy" and path.stat().st_mode & 0o777 == 0o444 and len(os.listdir(tmp_path)) == 2
    path.unlink()
    save(path)
    path.chmod(0o640)
    save(path)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may make files of other users")
@pytest.mark.parametrize("name", SAVERS)
def test_owner_and_group(backend, name):
    """Root saves over files of others, which stay theirs. Others cannot replace a file that they may not write, though they may write
    the folder; a file that they may write becomes theirs, because only root may give files away."""
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path, which other users cannot enter
        os.chmod(folder, 0o777)
        path, save = Path(folder, name), savers(backend)[name]
        path.write_text("old")
        path.chmod(0o604)
        os.chown(path, 12345, 54321)
        save(path)
        status = path.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (12345, 54321, 0o604)
        saved = path.read_bytes()
        with as_anyone(), pytest.raises(PermissionError, match="read-only"):
            save(path)
        assert path.read_bytes() == saved and os.listdir(folder) == [name]
        path.chmod(0o666)
        with as_anyone():
            save(path)
        assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (65534, 0o666) and os.listdir(folder) == [name]


@pytest.mark.parametrize("load", ["load", "Trainer.load"])
def test_saving_over_the_file_that_was_loaded(load, backend, tmp_path):
    path = tmp_path / "run.safetensors"
    trainer = bp.Trainer(bp.mlp([3, 2], seed=0, backend=backend), "mse", bp.Adam())
    trainer.step([[1, 2, 3]], [[4, 5]])
    trainer.save(path) if load == "Trainer.load" else trainer.net.save(path)
    before, loaded = path.read_bytes(), operator.attrgetter(load)(bp)(path, backend=backend)
    for _ in range(2):
        loaded.save(path)
        assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_loading_paths_that_cannot_be_read(module, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "pipe"):
        with pytest.raises(OSError, match=re.escape(str(path)[-100:])):
            module.Net.load(path)
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="empty: not a microbp file"):
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
        os.mkdir("folder")
        os.symlink("../link", "folder/link")
        make(module, seed=1).save("folder/link")
    finally:
        os.umask(umask)
    assert os.readlink("link") == "net" and os.readlink("folder/link") == "../link"
    assert os.stat("net").st_mode & 0o777 == 0o604
    assert state(module.Net.load("net")) == state(module.Net.load("folder/link")) == state(make(module, seed=1))
    assert len(os.listdir()) == 4 and os.listdir("folder") == ["link"]


# ---- system calls ----


def run(module, script, path, *prefix):
    """Runs the script in a new process, with the variables `module` (the backend), `net` and `path`."""
    begin = f"import importlib, os, sys\nmodule = importlib.import_module({module.__name__!r})\npath = {str(path)!r}\n"
    begin += f"net = module.Net({SMALL!r}, 'float32', 1)\n"
    return subprocess.run([*prefix, sys.executable, "-P", "-c", begin + script], check=False, capture_output=True, text=True, timeout=60)


# Python's audit hooks see only files that Python opens. The system calls below also show what C opens.
LOADS = ["module.Net.load", "module.Net.load_with", "bp.load", "bp.Trainer.load", "bp.mlp([3, 2]).load_tensors"]


@pytest.mark.parametrize("load", LOADS)
def test_loading_opens_one_file_and_runs_nothing(backend, module, load, tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    bp.Trainer(bp.mlp([3, 2], seed=0), "mse", bp.Adam()).save(path)
    monkeypatch.setenv("MICROBP_BACKEND", backend)
    script = f"""
import microbp as bp
load = {load}
load(path)
seen, armed = [], True
sys.addaudithook(lambda event, args: seen.append((event, args)) if armed else None)
load(path)
armed = False
print([(args[0], args[2] & os.O_ACCMODE) for event, args in seen if event == "open"])
code = ("import", "exec", "compile", "marshal", "pickle", "subprocess", "socket", "os")
print([event for event, _ in seen if event.split(".")[0] in code])
"""
    done = run(module, script, path)
    opened, ran = done.stdout.splitlines()
    assert opened == str([(str(path), os.O_RDONLY)] if backend == "reference" or "load_tensors" in load else [])
    assert ran == "[]"


@pytest.fixture
def strace(tmp_path):
    command = shutil.which("strace")
    if not command or subprocess.run([command, "-o", os.devnull, "true"], check=False, capture_output=True).returncode:
        pytest.skip("strace is not installed or not allowed")
    return command, "-f", "-o", str(tmp_path / "trace")


# Creating a network reads the number of processors.
PROCESSORS = ("/proc/self/cgroup", "/sys/fs/cgroup/", "/sys/devices/system/cpu/")
HARMLESS = re.compile("open|openat|fstat|newfstatat|statx|read|lseek|close|fcntl|ioctl|brk|mmap|munmap|sched_getaffinity|exit_group")


def test_system_calls_of_a_load(backend, module, strace, tmp_path, monkeypatch):
    """The file is opened once, for reading; nothing is written, started or connected."""
    path = tmp_path / "net.safetensors"
    bp.Trainer(bp.mlp([3, 2], seed=0), "mse", bp.Adam()).save(path)
    monkeypatch.setenv("MICROBP_BACKEND", backend)
    # Twice, because the first call of some loads imports modules.
    script = f"import microbp as bp\nfor load in [{', '.join(LOADS)}] * 2:\n    load(path)\nos._exit(0)\n"
    done = run(module, script, path, *strace)
    assert done.returncode == 0, done.stderr
    calls = re.findall(r"^\d+ +((\w+)\(.*)$", (tmp_path / "trace").read_text(), re.MULTILINE)
    opens = [i for i, (line, call) in enumerate(calls) if call in ("open", "openat") and f'"{path}", O_RDONLY' in line]
    assert len(opens) == 2 * len(LOADS)
    for line, call in calls[opens[len(LOADS)] :]:
        assert HARMLESS.fullmatch(call), line
        assert not call.startswith("open") or str(path) in line or line.split('"')[1].startswith(PROCESSORS), line


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
    """The library that makes system calls fail."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler or no LD_PRELOAD")
    library = tmp_path_factory.mktemp("shim") / "faults.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, HERE / "faults.c", "-ldl"], check=True, timeout=60)
    return library


def run_preloaded(shim, script, *arguments):
    done = subprocess.run(
        [sys.executable, "-P", HERE / script, *arguments],
        env={**os.environ, "LD_PRELOAD": str(shim)},
        check=False,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_failing_system_calls(module, shim, tmp_path):
    """The order of the calls; and SIGKILL, a failure, a short write or read at each call: see faults.py."""
    run_preloaded(shim, "faults.py", module.__name__, tmp_path)


def test_power_cuts(backend, shim):
    """Any part of a save may have reached the disk: see power_cuts.py. The folder is in memory, where hundreds of saves sync fast."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        run_preloaded(shim, "power_cuts.py", backend, folder)


def test_full_disk(module, tmp_path):
    """A limit on the size of files acts like a full disk: the first write is short, the second fails."""
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


FILL_UP = """
import errno
folder, big = os.path.dirname(path), module.Net("input 60\\ndense 0 units=60\\noutput 1\\n", "float32", 2)
net.save(path)
for pages in range(3):
    with open(f"{folder}/filler", "wb", 0) as filler:
        try:
            while filler.write(bytes(4096)):
                pass
        except OSError:
            filler.truncate(filler.tell() - 4096 * pages)
    try:
        big.save(path)
        raise SystemExit(f"saving into {pages} pages did not fail")
    except OSError as error:
        assert error.errno == errno.ENOSPC and path in str(error), error
    assert module.Net.load(path).seed == 1
    os.remove(f"{folder}/filler")
    assert os.listdir(folder) == [os.path.basename(path)]
big.save(path)
assert module.Net.load(path).seed == 2
"""


def test_full_tmpfs(module, tmp_path):
    """A file system of 64 KiB with zero, one or two free pages: the old file stays, and the new one is saved when there is space again."""
    mount = "unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=64k tmpfs "$0" && exec "$@"', str(tmp_path)
    if not shutil.which("unshare") or subprocess.run([*mount, "true"], check=False, capture_output=True).returncode:
        pytest.skip("tmpfs cannot be mounted here")
    done = run(module, FILL_UP, tmp_path / "net.safetensors", *mount)
    assert done.returncode == 0, done.stderr


def test_a_missing_file_is_a_file_not_found_error(module, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        module.Net.load(tmp_path / "nowhere.safetensors")
