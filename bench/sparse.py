"""Learning from rows with a few of very many columns, beside a plain C loop, PyTorch, scikit-learn and dense rows.

    python bench/sparse.py [--quick] [--data DIR] [--picture FILE] [section ...]

step: 133,466-300-100-1, AdamW, 100 rows of 16 ones in fresh random columns; as sparse rows and as ids. The loop (wide/loop.c) only reads
and updates the same rows of the first weight; torch: EmbeddingBag and SparseAdam; scikit-learn: MLPClassifier.partial_fit, which changes
all rows.
epoch: 100,000 rows x 100,000 columns, 30 ones a row, 32 hidden units, batches of 128, Adam; 3 epochs from the same first weights, and the
AUC on 20,000 other rows. scikit-learn's epoch is estimated from its first 20 batches.
memory: 10,000,000 columns x 32 units, after steps that name every column, in a process of its own: what has become resident, divided by the
parameters, the slots of the optimizer and 4 bytes per row.
flat: a step on 100 rows of 16 ones, 32 and 1 units, by the number of columns.
single: a step of one row.
files: a9a and w8a, which are libsvm text in DIR: the accuracy of bp.fit_table(budget="fast"), and an epoch of 300-100-1 on w8a, batches
of 200, Adam, sparse and dense.

All on one thread, in CPU time; contenders take turns on the same rows. Medians of the turns; single rows: the least.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import multiprocessing
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ.update(
    dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "MICROBP_NUM_THREADS"), "1")
)  # must be set before NumPy is imported

import numpy as np
from benchmarks.common import Batch, csr, fresh
from training.data import DEFAULT_FOLDER
from wide import loop, timing

import microbp as bp
from kernels import machine

UNITS = 32
OPTIMIZERS: dict[str, Callable[[], bp.Optimizer]] = {"sgd": bp.SGD, "adagrad": bp.Adagrad, "adamw": bp.AdamW}
SLOTS = {"sgd": 0, "adagrad": 1, "adamw": 2}


def peers() -> tuple[Any, Any]:
    """The module wide.by_torch, and scikit-learn's; None, after a line, for one that is not installed."""
    found: list[Any] = []
    for name, module in (("torch", "wide.by_torch"), ("scikit-learn", "sklearn.neural_network")):
        try:
            found.append(importlib.import_module(module))
        except ImportError:
            print(f"{name} is skipped: it is not installed")
            found.append(None)
    return found[0], found[1]


def table(*head: str) -> None:
    """Prints the first lines of a table."""
    print(f"\n| {' | '.join(head)} |\n{'|---' * len(head)}|", flush=True)


def line(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


# ---- step ----


def all_columns(columns: int, ones: int) -> Iterator[Batch]:
    """Batches of 100 rows that name every column: after them, no memory is used for the first time."""
    for first in range(0, columns, 100 * ones):
        ids = np.arange(first, first + 100 * ones, dtype=np.int32).reshape(100, ones)
        yield Batch(np.minimum(ids, columns - 1), np.zeros((100, 1), np.float32))


def by_ids(columns: int, ones: int, hidden: Sequence[int]) -> bp.Network:
    """A relu chain behind the sum of the rows of a table."""
    ids = bp.Ids(ones, columns)
    h = bp.Activation("relu")(bp.Embedding(columns, hidden[0], combine="sum")(ids))
    for units in hidden[1:]:
        h = bp.Dense(units, "relu")(h)
    return bp.Network(ids, bp.Dense(1)(h), seed=0)


def step(options: argparse.Namespace) -> None:
    """A step of a wide net beside the loop and the peers."""
    columns, count, ones = (2000, 4, 16) if options.quick else (133_466, 160, 16)
    hidden = [300, 100]
    torch, sklearn = peers()
    batches = fresh(columns, 100, ones, count)
    by_rows = bp.Trainer(bp.mlp([columns, *hidden, 1], seed=0), "bce", bp.AdamW())
    by_id = bp.Trainer(by_ids(columns, ones, hidden), "bce", bp.AdamW())
    steps: dict[str, Callable[[Any], Any]] = {"sparse rows": functools.partial(_step, by_rows), "ids": functools.partial(_step, by_id)}
    given: dict[str, Sequence[Any]] = {"sparse rows": [(csr(batch.ids, columns), batch.y) for batch in batches], "ids": batches}
    every = list(all_columns(columns, ones))
    for batch in every:  # memory of the slots is used for the first time
        by_rows.step(csr(batch.ids, columns), batch.y)
        by_id.step(batch.ids, batch.y)
    if loop.has_compiler():
        plain = loop.Loop(columns, hidden[0])
        steps["loop"], given["loop"] = plain.step, batches
    if torch:
        bag = torch.Bag([columns, *hidden, 1])
        for batch in every:
            bag.step(*torch.tensors(batch))
        steps["torch"], given["torch"] = functools.partial(_step, bag), [torch.tensors(batch) for batch in batches]
    found = timing.turns(steps, given, max(1, count // 8))
    if sklearn:
        found["scikit-learn"] = _partial_fit(sklearn, columns, hidden, batches)
    table("step", "ms", "/ sparse rows", "/ ids")
    for name, seconds in found.items():
        line(name, f"{1e3 * seconds:.3f}", f"{seconds / found['sparse rows']:.2f}", f"{seconds / found['ids']:.2f}")


def _partial_fit(sklearn: Any, columns: int, hidden: Sequence[int], batches: list[Batch]) -> float:
    """The seconds of a step, the median of three after the first, which allocates."""
    model = sklearn.MLPClassifier(hidden_layer_sizes=hidden, batch_size=100)
    data = [(_scipy(batch.ids, columns), batch.y.ravel()) for batch in batches[:4]]
    times = [timing.seconds(model.partial_fit, x, y, classes=[0, 1]) for x, y in data]
    return statistics.median(times[1:])


def _scipy(ids: Any, columns: int) -> Any:
    from scipy.sparse import csr_matrix

    found = csr(ids, columns)
    return csr_matrix((found.data, found.indices, found.indptr), found.shape)


def _step(trainer: Any, batch: tuple[Any, Any]) -> None:
    trainer.step(*batch)


# ---- epoch ----


def clicks(columns: int, count: int, seed: int) -> Batch:
    """Rows whose target is drawn by a logistic model of their 30 columns."""
    (batch,) = fresh(columns, count, 30, 1, seed)
    effects = np.random.default_rng(1).normal(size=columns)
    logits = effects[batch.ids].sum(axis=1) * 2 / 30**0.5
    drawn = np.random.default_rng([seed, 1]).random(count) < 1 / (1 + np.exp(-logits))
    return Batch(batch.ids, drawn.astype(np.float32)[:, None])


def epoch(options: argparse.Namespace) -> None:
    """Epochs and the AUC, by seed."""
    columns, count, seeds, size, epochs = (3000, 2000, 1, 128, 1) if options.quick else (100_000, 100_000, 3, 128, 3)
    torch, sklearn = peers()
    test = clicks(columns, count // 5, 999)
    times: dict[str, list[float]] = {"microbp": [], "torch": []}
    aucs: dict[str, list[float]] = {"microbp": [], "torch": []}
    for seed in range(seeds):
        train = clicks(columns, count, seed)
        x = csr(train.ids, columns)
        net = bp.mlp([columns, UNITS, 1], seed=seed)
        t = bp.Trainer(net, "bce", bp.Adam())
        bag = torch and torch.Bag([columns, UNITS, 1], net)
        tensors = torch and torch.tensors(train)
        for _ in range(epochs):
            times["microbp"].append(timing.seconds(t.fit, x, train.y, epochs=1, batch_size=size, progress=False))
            if bag:
                times["torch"].append(timing.seconds(bag.epoch, *tensors, size))
        aucs["microbp"].append(bp.auc(test.y.ravel(), t.predict(csr(test.ids, columns)).ravel()))
        if bag:
            aucs["torch"].append(bp.auc(test.y.ravel(), bag.predict(torch.tensors(test)[0]).ravel()))
    ours = statistics.median(times["microbp"])
    table("epoch", "s", "/ microbp", "AUC by seed")
    for name in times:
        if times[name]:
            seconds = statistics.median(times[name])
            line(name, f"{seconds:.3f}", f"{seconds / ours:.2f}", ", ".join(f"{auc:.4f}" for auc in aucs[name]))
    if sklearn:
        part = 20 * size
        model = sklearn.MLPClassifier(hidden_layer_sizes=UNITS, batch_size=size)
        some, y = _scipy(train.ids[:part], columns), train.y[:part].ravel()
        model.partial_fit(some[:size], y[:size], classes=[0, 1])
        seconds = timing.seconds(model.partial_fit, some, y) * count / len(y)
        line("scikit-learn, estimated", f"{seconds:.3g}", f"{seconds / ours:.3g}", "")


# ---- memory and flat ----


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def wide_trainer(columns: int, optimizer: str) -> bp.Trainer:
    """A chain with a first layer of zeros, which takes no time to create."""
    x = bp.Input(columns)
    h = bp.Dense(UNITS, "tanh", init="zeros")(x)
    return bp.Trainer(bp.Network(x, bp.Dense(1)(h), seed=0), "bce", OPTIMIZERS[optimizer]())


def share(columns: int, optimizer: str) -> float:
    """What a trainer of this many columns takes, divided by what it must take."""
    wide_trainer(1000, optimizer).step(csr(np.zeros((1, 1), np.int32), 1000), [[1.0]])  # code that is read for the first time
    before = resident()
    t = wide_trainer(columns, optimizer)
    for batch in all_columns(columns, 250):
        t.step(csr(batch.ids, columns), batch.y)
    t.net.flush()
    parameters = 4 * len(t.net.params)
    return (resident() - before) / (parameters * (1 + SLOTS[optimizer]) + 4 * columns)


def memory(options: argparse.Namespace) -> None:
    """The memory of a wide layer, by optimizer."""
    if not sys.platform.startswith("linux"):
        print("memory is skipped: it is read from /proc, which only Linux has")
        return
    columns = 1_000_000 if options.quick else 10_000_000
    table("memory", "columns x units", "resident / needed")
    for name in OPTIMIZERS:
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            line(name, f"{columns:,} x {UNITS}", f"{pool.submit(share, columns, name).result():.4f}")


def flat(options: argparse.Namespace) -> None:
    """A step by the number of columns."""
    sizes = [10**4, 10**5] if options.quick else [10**4, 10**5, 10**6, 10**7]
    found: dict[str, list[float]] = {}
    for columns in sizes:
        batches = fresh(columns, 100, 16, 15 if options.quick else 150)
        given = [(csr(batch.ids, columns), batch.y) for batch in batches]
        for name in OPTIMIZERS:
            t = wide_trainer(columns, name)
            for batch in all_columns(columns, 1000):
                t.step(csr(batch.ids, columns), batch.y)
            found.setdefault(name, []).append(timing.turns({name: functools.partial(_step, t)}, {name: given}, len(given) // 5)[name])
            del t
        if loop.has_compiler():
            plain = loop.Loop(columns, UNITS)
            found.setdefault("loop", []).append(timing.turns({"loop": plain.step}, {"loop": batches}, len(batches) // 5)["loop"])
            del plain
    table("flat: µs of a step", *(f"{columns:,}" for columns in sizes))
    for name, seconds in found.items():
        line(name, *(f"{1e6 * second:.0f}" for second in seconds))
    if options.picture:
        draw(sizes, found, options.picture)


def draw(sizes: list[int], found: dict[str, list[float]], path: Path) -> None:
    """Saves a picture of the times by the number of columns."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, colour in zip(found, ("#4d77cf", "#2a9d8f", "#c8102e", "#7f7f7f"), strict=False):
        axes.loglog(sizes, [1e6 * second for second in found[name]], "o-", color=colour, label="the C loop" if name == "loop" else name)
    axes.set_ylim(10, 10_000)
    axes.set_xlabel("columns")
    axes.set_ylabel("microseconds per step")
    axes.set_title("100 rows of 16 ones, 32 and 1 units", loc="left", fontsize=11)
    axes.grid(color="#e4e4e4")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


# ---- single ----


def single(options: argparse.Namespace) -> None:
    """Steps of one row, dense and sparse."""
    calls, rounds = (20, 2) if options.quick else (2000, 9)
    torch, sklearn = peers()
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1, 20)).astype(np.float32), rng.normal(size=(1, 2)).astype(np.float32)
    few = csr(np.array([[3, 400, 5000, 60_000, 99_999]], np.int32), 100_000)
    table("single row", "µs")
    for name, row in (("20-64-64-2", x), ("100000-64-64-2, 5 columns", few)):
        for optimizer in (bp.SGD(), bp.Adam()):
            t = bp.Trainer(bp.mlp([row.shape[1], 64, 64, 2], seed=0), "mse", optimizer)
            line(f"{name}, {type(optimizer).__name__}", f"{1e6 * timing.least(t.step, row, y, calls=calls, rounds=rounds):.2f}")
    if torch:
        learn = torch.dense_step([20, 64, 64, 2], x, y)
        line("torch, 20-64-64-2, Adam", f"{1e6 * timing.least(learn, calls=max(1, calls // 10), rounds=rounds):.0f}")
    if sklearn:
        model = sklearn.MLPRegressor(hidden_layer_sizes=(64, 64)).partial_fit(x, y)
        line(
            "scikit-learn, 20-64-64-2, Adam", f"{1e6 * timing.least(model.partial_fit, x, y, calls=max(1, calls // 20), rounds=rounds):.0f}"
        )


# ---- files ----


def files(options: argparse.Namespace) -> None:
    """The accuracy on two known sets, and an epoch on one of them."""
    root = options.data
    for name in ("a9a", "w8a"):
        path, test = root / name / f"{name}.gz", root / name / f"{name}.t.gz"
        if not path.exists():
            print(f"files is skipped: there is no {path}")
            return
        if not options.quick:
            model = bp.fit_table(path, test_file=test if test.exists() else None, budget="fast")
            print(f"{name}: accuracy {100 * model.scores['test']['accuracy']:.2f} %", flush=True)
    x, labels = bp.read_sparse(path, columns=300)
    y = (np.asarray(labels) > 0).astype(np.float32)
    count = 2000 if options.quick else len(y)
    x, y = x[:count], y[:count]
    times: dict[str, list[float]] = {"sparse": [], "dense": []}
    for name, seconds in _epochs({"sparse": x, "dense": x.toarray()}, y, 1 if options.quick else 7):
        times[name].append(seconds)
    table("epoch of w8a", "s, median", "s, least", "/ sparse")
    for name, found in times.items():
        ratio = statistics.median(a / b for a, b in zip(found, times["sparse"], strict=True))
        line(name, f"{statistics.median(found):.4f}", f"{min(found):.4f}", f"{ratio:.2f}")


def _epochs(data: dict[str, Any], y: Any, rounds: int) -> Iterator[tuple[str, float]]:
    """The seconds of epochs on each form of the rows, in turns, after a first epoch."""
    trainers = {name: bp.Trainer(bp.mlp([x.shape[1], 300, 100, 1], seed=0), "bce", bp.Adam()) for name, x in data.items()}
    for turn in range(rounds + 1):
        for name, x in data.items():
            t = trainers[name]
            seconds = timing.seconds(t.fit, x, y, epochs=1, batch_size=200, progress=False)
            if turn:
                yield name, seconds


SECTIONS: dict[str, Callable[[argparse.Namespace], None]] = {
    "step": step,
    "epoch": epoch,
    "memory": memory,
    "flat": flat,
    "single": single,
    "files": files,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS], default=[], metavar="section", help="default: all")
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it runs")
    parser.add_argument("--data", type=Path, default=os.environ.get("MICROBP_DATA", DEFAULT_FOLDER), help="folder of a9a and w8a")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the section flat to FILE (needs matplotlib)")
    options = parser.parse_args()
    print(machine.describe())
    for name in options.sections or SECTIONS:
        SECTIONS[name](options)


if __name__ == "__main__":
    main()
