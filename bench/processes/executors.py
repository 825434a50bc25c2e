"""Times 64 fits of digits over two workers of several executors, and one after another in one process.

    python bench/processes/executors.py [--runs N] [--fits N] [--epochs N] [name ...]

A fit is a 64-128-10 network (ReLU, Adam, batches of 32, float32) on the 1,797 digits, on one thread. All ways take turns; the workers are
started before. The table has the medians, and the median of the ratios to one process. The networks' bits are compared too. Ways whose
package is missing are left out; the way mpi4py needs `mpiexec -n 3 python -m mpi4py.futures bench/processes/executors.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MICROBP_NUM_THREADS"), "1"))

import numpy as np
from sklearn.datasets import load_digits

import microbp as bp

WORKERS = 2


def dask(stack: contextlib.ExitStack) -> Executor:
    module: Any = importlib.import_module("dask.distributed")
    cluster = module.LocalCluster(n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None)
    client = stack.enter_context(module.Client(stack.enter_context(cluster)))
    executor: Executor = client.get_executor()
    return executor


def loky(stack: contextlib.ExitStack) -> Executor:
    module: Any = importlib.import_module("joblib.externals.loky")
    executor: Executor = module.get_reusable_executor(WORKERS)
    stack.callback(executor.shutdown)
    return executor


def mpi4py(stack: contextlib.ExitStack) -> Executor:
    if "mpi4py.futures" not in sys.modules:
        raise ImportError("not started with python -m mpi4py.futures")
    executor: Executor = stack.enter_context(sys.modules["mpi4py.futures"].MPIPoolExecutor())
    return executor


WAYS: dict[str, Callable[[contextlib.ExitStack], Executor]] = {
    "one process": lambda stack: stack.enter_context(ThreadPoolExecutor(1)),
    "2 threads": lambda stack: stack.enter_context(ThreadPoolExecutor(WORKERS)),
    "2 processes (spawn)": lambda stack: stack.enter_context(ProcessPoolExecutor(WORKERS, get_context("spawn"))),
    "2 processes (forkserver)": lambda stack: stack.enter_context(ProcessPoolExecutor(WORKERS, get_context("forkserver"))),
    "loky": loky,
    "dask": dask,
    "mpi4py": mpi4py,
}


def open_ways(names: list[str], stack: contextlib.ExitStack) -> Iterator[tuple[str, Executor]]:
    for name in names:
        try:
            yield name, WAYS[name](stack)
        except ImportError as error:
            print(f"left out: {name}: {error}")


def fit(executor: Executor, rows: tuple[Any, Any], fits: int, epochs: int) -> tuple[float, list[bytes]]:
    """Seconds, and the parameters of the trained networks."""
    trainers = [bp.Trainer(bp.mlp([64, 128, 10], seed=seed), "cross_entropy", optimizer=bp.Adam()) for seed in range(fits)]
    start = time.perf_counter()
    bp.train_many(trainers, *rows, epochs=epochs, batch_size=32, executor=executor)
    return time.perf_counter() - start, [trainer.net.params.tobytes() for trainer in trainers]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(WAYS)}")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--fits", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=100)
    options = parser.parse_args()
    digits = load_digits()
    rows = np.float32(digits.data / 16), digits.target
    names = ["one process"] + [name for name in options.names or WAYS if name != "one process"]
    seconds: dict[str, list[float]] = {}
    bits: list[bytes] = []
    with contextlib.ExitStack() as stack:
        ways = list(open_ways(names, stack))
        for turn in range(1 + options.runs):  # the first starts the workers
            for name, executor in ways:
                taken, found = fit(executor, rows, options.fits if turn else 8, options.epochs if turn else 1)
                if turn:
                    seconds.setdefault(name, []).append(taken)
                    bits = bits or found
                    assert found == bits, f"{name}: other bits"
    print(f"\n{options.fits} fits of digits, {options.epochs} epochs each; {os.cpu_count()} CPUs, Python {platform.python_version()}\n")
    print("| way | time | one process / this |\n|---|---|---|")
    for name, times in seconds.items():
        ratios = [one / own for one, own in zip(seconds["one process"], times, strict=True)]
        print(f"| {name} | {statistics.median(times):.3f} s | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) |")


if __name__ == "__main__":
    main()
