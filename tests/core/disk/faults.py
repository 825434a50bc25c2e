"""Run by test_disk.py in a process with faults.c preloaded: what saves leave behind, and loads answer, when their system
calls go wrong.

python faults.py BACKEND FOLDER
"""

import ctypes
import importlib
import os
import re
import sys
from errno import EDQUOT, EINTR, EIO, EMFILE, ENOSPC
from pathlib import Path

FAIL, FAIL_FOR_EVER, KILL, TEAR, SHORTEN = range(5)
MUST_FAIL = ("write", "fsync", "rename")  # these are not survived, but for an interruption
ERRORS = (ENOSPC, EIO, EDQUOT, EMFILE, EINTR)
SURVIVED = 99

shim = ctypes.CDLL(None)
shim.fault_calls.restype = ctypes.c_char_p
module = importlib.import_module(sys.argv[1])
folder = Path(sys.argv[2])
path = folder / "net.safetensors"
graph = "input 60\ndense 0 units=60\noutput 1\n"
old, new = module.Net(graph, "float32", 1), module.Net(graph, "float32", 2)


def attempt(action, call, nth, mode, error=0):
    """The errno that the action raised, 0 if none, and the calls it made; whatever goes wrong, it closes its files."""
    files = len(os.listdir("/proc/self/fd"))
    shim.fault_arm(call.encode(), nth, mode, error)
    failed = 0
    try:
        action(str(path))
    except OSError as raised:
        failed = raised.errno
    calls = shim.fault_calls().decode().split()
    assert len(os.listdir("/proc/self/fd")) == files, calls
    return failed, calls


def save(call, nth, mode, error=0):
    """Saves the new net over the old one."""
    return attempt(new.save, call, nth, mode, error)


def start():
    old.save(str(path))
    path.chmod(0o640)
    assert os.listdir(folder) == [path.name], os.listdir(folder)


def generation():
    return module.Net.load(str(path)).seed


def order_of_calls():
    start()
    failed, calls = save("", 0, FAIL)
    assert not failed
    changing = [call for call in calls if call not in ("stat", "flock", "fchmod", "close")]
    assert re.fullmatch(r"(open )+(write )+fsync rename fsync", " ".join(changing)), calls
    assert calls.index("rename") < calls.index("close"), "closing gives up the lock on the temporary name"


def killed():
    """One SIGKILL at each system call: the file is the old one or the new one, and at most one temporary file is left."""
    for mode in (KILL, TEAR):
        nth, status = 0, 0
        while os.waitstatus_to_exitcode(status) != SURVIVED:
            nth += 1
            start()
            child = os.fork()
            if child == 0:
                save("" if mode == KILL else "write", nth, mode)
                os._exit(SURVIVED)
            _, status = os.waitpid(child, 0)
            seen = generation()
            assert seen in (1, 2), nth
            assert len(os.listdir(folder)) <= 2
        assert seen == 2 and nth > (9 if mode == KILL else 1), nth
    start()


def failing():
    """Each call fails in turn: the save raises that, and the old file is there, or it gets by; permissions stay, nothing else is left."""
    for error in ERRORS:
        at, hit = 0, ""
        while hit is not None:
            start()
            failed, calls = save("", at + 1, FAIL, error)
            hit, case = calls[at] if at < len(calls) else None, (at, error, calls)
            renamed = any(one == "rename" for i, one in enumerate(calls) if i != at)
            assert generation() == (2 if renamed else 1) and (failed or renamed), case
            assert failed in (0, error), (failed, case)
            assert failed or hit not in MUST_FAIL or (error == EINTR and hit != "rename"), case
            assert os.listdir(folder) == [path.name], case
            assert path.stat().st_mode & 0o777 == 0o640 or hit == "fchmod", case
            at += 1
        assert at > 9, case


def failing_for_ever():
    """All calls fail from the n-th on, those that tidy up too: then a temporary file may be left, and the next save removes it."""
    for nth in range(1, 30):
        start()
        failed, calls = save("", nth, FAIL_FOR_EVER, EIO)
        assert generation() == (2 if "rename" in calls[: nth - 1] else 1), (nth, calls)
        assert failed or nth > calls.index("rename"), (nth, calls)
        assert len(os.listdir(folder)) <= 2


def short_writes():
    start()
    failed, calls = save("write", 1, SHORTEN)
    assert not failed and generation() == 2 and calls.count("write") == 2, calls


def loads():
    """Each call of a load fails in turn, or reads less: the load raises that, or an interruption or a short read changes nothing."""
    start()
    for error in (0, *ERRORS):
        at, hit = 0, ""
        while hit is not None:
            failed, calls = attempt(module.Net.load, "", at + 1, FAIL if error else SHORTEN, error)
            hit, case = calls[at] if at < len(calls) else None, (at, error, calls)
            survived = hit in ("close", None) or not error or error == EINTR
            assert failed == (0 if survived else error) or (error == EINTR and hit == "stat"), (failed, case)  # which is never interrupted
            assert calls.count("read") == 2 or hit != "read" or not survived, case
            at += 1
        assert at > 3, case


for test in (order_of_calls, killed, failing, failing_for_ever, short_writes, loads):
    test()
    print(test.__name__, "ok")
