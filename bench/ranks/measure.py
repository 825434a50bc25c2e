"""Measures what steps, exchanges and their parts take on 1 to 4 ranks: the numbers for model.py.

    python bench/ranks/measure.py ranks.json [--ranks 1 2 3 4] [--quick] [--tcp]

Needs mpi4py and mpiexec. --tcp: each rank is in a network namespace of its own, as on a machine of its own, and they talk over TCP and
virtual Ethernet; needs root, and MPICH with UCX, as the package mpich has it. Every rank has one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["MICROBP_NUM_THREADS"] = "1"
os.environ.setdefault("UCX_WARN_UNUSED_ENV_VARS", "n")

import numpy as np

import microbp as bp

NETS = {"20-64-64-2": 5_634, "784-128-10": 101_770, "784-512-512-10": 669_706, "784-2048-2048-10": 5_824_522}  # and their parameters
ROWS = 1, 4, 16, 64, 128, 256, 1024  # of a rank
MOST = 700_000_000  # rows x parameters of the largest step
BYTES = 24, 1 << 10, 1 << 14, 1 << 16, 1 << 18, 1 << 19, 1 << 20  # that a rank gives to an exchange
MOST_CALLS = 300  # more updates without a gradient make Adam's means so small that arithmetic becomes slow
SECONDS = 0.1  # of each measurement
QUICK = 2  # nets of --quick
NAMESPACES = [f"microbp{rank}" for rank in range(4)]


def times(seconds: float, work: Callable[..., object], *arguments: Any) -> list[float]:
    """The times of calls for about this many seconds, but of at least 5 calls. All ranks make the same number of calls."""
    from mpi4py import MPI

    for _ in range(2):
        work(*arguments)
    MPI.COMM_WORLD.Barrier()
    begin = time.perf_counter()
    work(*arguments)
    count = MPI.COMM_WORLD.bcast(min(MOST_CALLS, max(5, int(seconds / (time.perf_counter() - begin)))))
    found = []
    for _ in range(count):
        begin = time.perf_counter()
        work(*arguments)
        found.append(time.perf_counter() - begin)
    return found


def trainer(net: str, comm: Any) -> bp.Trainer:
    return bp.Trainer(bp.mlp([*map(int, net.split("-"))], seed=0), "cross_entropy", bp.Adam(lr=1e-4), comm=comm)


def of_nets(comm: Any, seconds: float) -> dict[str, Any]:
    """Steps by rows, and updates (t.apply), which are an exchange and an update."""
    found: dict[str, Any] = {"step": {}, "apply": {}}
    for net, parameters in list(NETS.items())[: None if seconds else QUICK]:
        t, widths = trainer(net, comm), [*map(int, net.split("-"))]
        random = np.random.default_rng(0)
        found["step"][net] = {}
        for rows in ROWS:
            if rows * parameters <= MOST:
                X, y = random.normal(size=(rows, widths[0])).astype("float32"), random.integers(0, widths[-1], rows)  # noqa: N806
                found["step"][net][rows] = times(seconds, t.step, X, y)
        t.grads[...] = 0  # sums over ranks stay 0
        found["apply"][net] = times(seconds, t.apply)
    return found


def of_exchanges(comm: Any, seconds: float) -> dict[str, Any]:
    """What the network does, without microbp; and additions of pieces that are in the cache."""
    found: dict[str, Any] = {"gather": {}, "swap": {}, "allreduce": {}}
    for size in BYTES:
        mine, ours = np.ones(size // 4, "float32"), np.empty((comm.size, size // 4), "float32")
        part = mine[: size // 4 // comm.size * comm.size]
        found["gather"][size] = times(seconds, comm.Allgather, mine, ours)
        found["swap"][size] = times(seconds, comm.Alltoall, part, part.copy())
    for parameters in NETS.values():
        vector = np.ones(parameters, "float32")
        found["allreduce"][4 * parameters] = times(seconds, comm.Allreduce, vector, vector.copy())
    pieces = np.ones((2, 1 << 17), "float32")
    found["add"] = {pieces[0].nbytes: times(seconds, np.add, pieces[0], pieces[1], pieces[0])}
    return found


def rank(seconds: float) -> None:
    """Of the ranks, number 0 prints."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    found = of_nets(comm, seconds) | of_exchanges(comm, seconds)
    if comm.rank == 0:
        print(json.dumps(found), flush=True)


@contextmanager
def hosts() -> Iterator[None]:
    """Network namespaces on one bridge."""

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    try:
        ip("link", "add", "microbp", "type", "bridge")
        ip("link", "set", "microbp", "up")
        for number, name in enumerate(NAMESPACES):
            ip("netns", "add", name)
            ip("link", "add", f"{name}v", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", f"{name}v", "master", "microbp", "up")
            ip("-n", name, "addr", "add", f"10.99.0.{number + 1}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        for name in NAMESPACES:
            subprocess.run(["ip", "netns", "del", name], check=False)
        subprocess.run(["ip", "link", "del", "microbp"], check=False)


def run(ranks: int, is_tcp: bool, seconds: float) -> dict[str, Any]:
    program = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
    assert program, "mpiexec is not installed: python -m pip install mpi4py mpich"
    inside = ["sh", "-c", 'exec ip netns exec microbp$PMI_RANK "$@"', "sh"] if is_tcp else []
    bound = ["-bind-to", "core"] if ranks <= len(os.sched_getaffinity(0)) else []
    words = [program, *bound, "-n", str(ranks), *inside, sys.executable, __file__, "--seconds", str(seconds)]
    env = os.environ | ({"UCX_TLS": "tcp", "MPIR_CVAR_NOLOCAL": "1"} if is_tcp else {})
    found: dict[str, Any] = json.loads(subprocess.run(words, env=env, stdout=subprocess.PIPE, check=True).stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("json", nargs="?", type=Path)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--quick", action="store_true", help="5 times each, and the small nets only")
    parser.add_argument("--tcp", action="store_true")
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)  # of a rank
    options = parser.parse_args()
    if options.seconds is not None:
        rank(options.seconds)
        return
    if options.json is None:
        parser.error("where to write the numbers?")
    seconds = 0.0 if options.quick else SECONDS
    found: dict[str, Any] = {"cores": len(os.sched_getaffinity(0)), "tcp": options.tcp}
    if options.tcp:
        with hosts():
            found["ranks"] = {ranks: run(ranks, True, seconds) for ranks in options.ranks}
    else:
        found["ranks"] = {ranks: run(ranks, False, seconds) for ranks in options.ranks}
    options.json.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
