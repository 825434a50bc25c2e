"""Run by test_disk.py in a process with faults.c preloaded: after a power cut during a save, the old or the new file loads.

python power_cuts.py BACKEND FOLDER

Synced bytes are on the disk. Any part of the others may have reached it, in any order: some sectors of a write and not others, and any part
of a file's growth. A name refers to the file that it had when its folder was synced, or to any file that it was given since.
"""

import ctypes
import os
import random
import sys
from collections import defaultdict
from pathlib import Path

os.environ["MICROBP_BACKEND"] = sys.argv[1]
import microbp as bp

SECTOR = 512
STATES = 500 if "MICROBP_LONG" in os.environ else 100  # minimum number of different states

folder = Path(sys.argv[2]).resolve()
path, temp = folder / "run.safetensors", folder / ".run.safetensors.microbp-0.tmp"
shim = ctypes.CDLL(None)


# ---- the changes that a save makes ----


def record(save):
    """The calls of a save that change the disk: (call, name); for a write also the offset and the bytes, for a rename the new name."""
    trace = []

    @ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_char_p)
    def watch(call, file, data, size, to):
        name = os.fsdecode(ctypes.string_at(data)) if file < 0 else os.readlink(f"/proc/self/fd/{file}")
        step = [call.decode(), os.path.relpath(folder / name, folder)]
        if call == b"write":
            step += [os.lseek(file, 0, os.SEEK_CUR) - size, ctypes.string_at(data, size)]
        elif call == b"rename":
            step.append(os.path.relpath(folder / os.fsdecode(to), folder))
        trace.append(step)

    shim.fault_watch(watch)
    save(path)
    shim.fault_watch(None)
    return trace


# ---- the disk after a power cut ----


class File:
    """The bytes that are certainly on the disk, and the writes since the last sync: (offset, bytes)."""

    def __init__(self, synced=b""):
        self.synced, self.writes = synced, []

    def sync(self):
        self.synced, self.writes = self.reached(everything), []

    def reached(self, part):
        """The content after a power cut; sectors that did not reach the disk are zeros."""
        sure, size = len(self.synced), max(len(self.synced), *(offset + len(data) for offset, data in self.writes), 0)
        disk = bytearray(self.synced.ljust(size, b"\0"))
        for offset, data in self.writes:
            for i in range(0, len(data), SECTOR):
                sector = data[i : i + SECTOR]
                sector = sector[: part(len(sector))]
                disk[offset + i : offset + i + len(sector)] = sector
        return bytes(disk[: sure + part(size - sure)])


def power_cut(before, trace, part):
    """All files, each with its names, after a power cut at the end of the trace. Of n uncertain changes, part(n) reach the disk."""
    names = defaultdict(lambda: [None])  # all files that each name has had since the folder was synced; None: no file
    names |= {name: [File(data)] for name, data in before.items()}
    for call, name, *rest in trace:
        file = names[name][-1]
        if call == "create":
            names[name].append(File())
        elif call == "write":
            file.writes.append(rest)
        elif call == "rename":
            names[rest[0]].append(file)
        elif call == "fsync" and name == ".":
            for meanings in names.values():
                del meanings[:-1]
        elif call == "fsync":
            file.sync()
        if call in ("rename", "unlink"):
            names[name].append(None)
    found = defaultdict(list)
    for name, meanings in names.items():
        found[meanings[part(len(meanings) - 1)]].append(name)
    return frozenset((tuple(same), file.reached(part)) for file, same in found.items() if file)


def everything(n):
    return n


def nothing(n):
    return 0


def something(rng):
    """A function part(n) for one power cut: returns n, or a random number up to n, in bytes or sectors."""
    odds = rng.random()

    def part(n):
        return n if rng.random() < odds else rng.randrange(0, n + 1, rng.choice((1, SECTOR)))

    return part


def power_cuts(before, trace, draws):
    """Different states after a power cut at the end of the trace."""
    rng = random.Random(len(trace))
    return {power_cut(before, trace, part) for part in (nothing, everything, *(something(rng) for _ in range(draws)))}


# ---- loading it ----

OLD, NEW, REFUSED = "old", "new", "refused"
SYNC, RENAME, SYNC_FOLDER = ["fsync", temp.name], ["rename", temp.name, path.name], ["fsync", "."]
SYNC_RENAMED = ["fsync", path.name]

# The last system calls of a save in several orders, each call with what loads if the power fails right after it. Only the first order is
# correct; the others test that the simulation detects wrong orders.
ORDERS = [
    [(SYNC, {OLD}), (RENAME, {OLD, NEW}), (SYNC_FOLDER, {NEW})],
    [(RENAME, {OLD, NEW, REFUSED}), (SYNC_FOLDER, {NEW, REFUSED})],
    [(RENAME, {OLD, NEW, REFUSED}), (SYNC_RENAMED, {OLD, NEW}), (SYNC_FOLDER, {NEW})],
    [(RENAME, {OLD, NEW, REFUSED}), (SYNC_FOLDER, {NEW, REFUSED}), (SYNC_RENAMED, {NEW})],
    [(SYNC, {OLD}), (SYNC_FOLDER, {OLD}), (RENAME, {OLD, NEW})],
]


def outcome(state, load, generations):
    """OLD or NEW, whichever generation loads bit for bit, or REFUSED. The next save replaces it and leaves no other file."""
    for entry in folder.iterdir():
        entry.unlink()
    for (name, *others), data in state:
        (folder / name).write_bytes(data)
        for other in others:
            os.link(folder / name, folder / other)
    try:
        loaded = load(path)
    except ValueError:
        return REFUSED
    loaded.save(path)
    assert os.listdir(folder) == [path.name], state
    return generations[path.read_bytes()]


def check(save, load, change):
    """Saves over an older file, with power cuts; returns the number of states of the disk."""
    save(path)
    old = path.read_bytes()
    change()
    temp.write_bytes(old[:100])  # what an earlier power cut left
    before = {path.name: old, temp.name: old[:100]}
    trace = record(save)
    new = path.read_bytes()
    assert power_cut(before, trace, everything) == {((path.name,), new)}, "the trace is incomplete"

    def loaded(steps, draws):
        return [outcome(state, load, {old: OLD, new: NEW}) for state in power_cuts(before, steps, draws)]

    count = 0
    for i in range(len(trace) + 1):
        after = loaded(trace[:i], 2 * STATES)
        assert set(after) <= ({OLD, NEW} if i < len(trace) else {NEW}), (set(after), [step[:2] for step in trace[:i]])
        count += len(after)
    written = trace[: trace.index(SYNC)]
    for order in ORDERS:
        for i, (_, expected) in enumerate(order):
            after = loaded([*written, *(step for step, _ in order[: i + 1])], 50)
            assert set(after) == expected, (set(after), order[: i + 1])
    return count


trainer = bp.Trainer(bp.mlp([8, 8], seed=0), "mse", bp.Adam())
count = 0
for save, load in ((trainer.net.save, bp.load), (trainer.save, bp.Trainer.load)):
    count += check(save, load, lambda: trainer.step([[1] * 8], [[0] * 8]))
assert count >= STATES, count
print(count, "states ok")
