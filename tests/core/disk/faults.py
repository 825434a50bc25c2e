"""Run by test_disk.py in a process with faults.c preloaded: what saves leave behind, and what loads raise, when their system calls fail.

python faults.py BACKEND FOLDER
"""

import ctypes
import importlib
import os
import re
import sys
from errno import EDQUOT, EINTR, EIO, EMFILE, ENOSPC
from pathlib import Path

FAIL, FAIL_FOREVER, KILL, TEAR, SHORTEN = range(5)
MUST_FAIL = ("write", "fsync", "rename")  # if one of these fails, the save fails, except for an interruption
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
    """Returns the errno that the action raised (0: no error), and its calls. It must close its files even after an error."""
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
    """SIGKILL at each system call in turn: the file is the old one or the new one, and at most one temporary file is left."""
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
    """Each call fails in turn: either the save raises that error and the old file is intact, or it succeeds. Permissions stay, and no other
    file is left."""
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


def failing_forever():
    """The n-th call and all later ones fail, including the cleanup. At most one temporary file is left, which the next save removes."""
    for nth in range(1, 30):
        start()
        failed, calls = save("", nth, FAIL_FOREVER, EIO)
        assert generation() == (2 if "rename" in calls[: nth - 1] else 1), (nth, calls)
        assert failed or nth > calls.index("rename"), (nth, calls)
        assert len(os.listdir(folder)) <= 2


def short_writes():
    start()
    failed, calls = save("write", 1, SHORTEN)
    assert not failed and generation() == 2 and calls.count("write") == 2, calls


def loads():
    """Each call of a load fails in turn, or reads less: the load raises that error. Interruptions and short reads change nothing."""
    start()
    for error in (0, *ERRORS):
        at, hit = 0, ""
        while hit is not None:
            failed, calls = attempt(module.Net.load, "", at + 1, FAIL if error else SHORTEN, error)
            hit, case = calls[at] if at < len(calls) else None, (at, error, calls)
            survived = hit in ("close", None) or not error or error == EINTR
            assert failed == (0 if survived else error) or (error == EINTR and hit == "stat"), (
                failed,
                case,
            )  # a real stat is never interrupted, so an EINTR may be reported here
            assert calls.count("read") == 3 or hit != "read" or not survived, case
            at += 1
        assert at > 3, case


for test in (order_of_calls, killed, failing, failing_forever, short_writes, loads):
    test()
    print(test.__name__, "ok")
