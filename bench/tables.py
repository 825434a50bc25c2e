"""Races `microbp train` without options against scikit-learn's models, on tables.

    python bench/tables.py [--data DIR] [--contenders NAME ...] [--splits N] [--workers N] [--lines FILE] [set ...]

A set is one of those below, or PATH:TARGET: a CSV file and its target column. Contenders: microbp's `fit_table`, and HistGradientBoosting,
RandomForest, linear (Ridge, LogisticRegression) and MLP of scikit-learn with their defaults, on one thread. On each split all get the same
training rows, columns and seed, and are tested on the same rows: a random fifth, or published splits (concrete, energy, yacht) or test part
(a9a, mnist; only the seed differs). By default 20 splits of sets with fewer than 2000 rows, else 5; published ones: all; 3 seeds.

Error: RMSE if the target is a number, else the fraction of wrong classes. Log loss: of classes only. The report gives means with a 95 %
interval over the splits (Student's t, which takes the splits for independent, though they share rows). A ratio compares the mean errors on
the splits that both were tested on; its interval comes from the paired differences. CPU seconds: one training, from table to model.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import shlex
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
os.environ.update(dict.fromkeys(THREADS, "1"))  # must be set before NumPy is imported

import numpy as np
import pandas
import sklearn
from tabular import sets
from tabular.contenders import LINEAR, OURS, PEERS, REFERENCE, ours
from tabular.report import Line, Report, load, save
from training.data import DEFAULT_FOLDER

from kernels import machine

COSTS = {REFERENCE: 1, LINEAR: 1, "MLP": 8}  # of training, roughly, to start the longest jobs first; 3: of the others


class Job(NamedTuple):
    """A training. set: its name on the command line."""

    set: str
    contender: str
    split: int


@lru_cache(maxsize=1)
def _read(name: str, root: Path) -> sets.Set:
    return sets.read(name, root)


def measure(job: Job, root: Path, budget: str | None, end: float) -> Line | None:
    """Trains and tests a contender; None after the end of the time."""
    if time.time() > end:
        return None
    warnings.simplefilter("ignore")  # of convergence, and of categories that training did not have
    table = _read(job.set, root)
    (x, y), (test_x, test_y) = (
        (table.columns.iloc[rows].reset_index(drop=True), table.target.iloc[rows].reset_index(drop=True)) for rows in table.split(job.split)
    )
    train = PEERS.get(job.contender) or ours(budget)
    start = time.process_time()
    predict = train(x, y, job.split)
    seconds = time.process_time() - start
    error, log_loss = errors(predict(test_x), test_y.to_numpy(), sorted(set(y)) if table.classes else [])
    versions = f"NumPy {np.__version__}, scikit-learn {sklearn.__version__}, pandas {pandas.__version__}"
    return Line(sets.title(job.set), job.contender, job.split, len(table.target), error, log_loss, seconds, machine.describe(versions))


def errors(outputs: np.ndarray, target: np.ndarray, classes: list[str]) -> tuple[float, float]:
    """RMSE and NaN, or the fraction of wrong classes and the log loss. classes: the meaning of the columns of the outputs."""
    if not classes:
        return float(np.sqrt(np.mean((outputs - target) ** 2))), math.nan
    at = {kind: i for i, kind in enumerate(classes)}
    columns = np.array([at.get(kind, -1) for kind in target])
    likelihood = np.where(columns < 0, 0, outputs[np.arange(len(target)), columns])
    return float(np.mean(outputs.argmax(axis=1) != columns)), float(-np.log(likelihood.clip(np.finfo(np.float32).eps, 1)).mean())


def race(jobs: list[Job], workers: int, root: Path, budget: str | None, end: float) -> Iterator[Line]:
    """The results in the order of their end. What fails is printed."""
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(measure, job, root, budget, end): job for job in jobs}
        for done in as_completed(running):
            try:
                line = done.result()
            except Exception as failed:
                print(f"{' '.join(map(str, running[done]))}: {type(failed).__name__}: {failed}", file=sys.stderr, flush=True)
            else:
                if line:
                    yield line


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = list(sets.READERS)
    parser.add_argument("sets", nargs="*", default=known, metavar="set", help=f"{', '.join(known)}, or PATH:TARGET (default: these)")
    names = [OURS, *PEERS]
    parser.add_argument("--contenders", nargs="+", choices=names, default=names, metavar="NAME", help=f"{', '.join(names)} (default: all)")
    parser.add_argument("--without", nargs="+", choices=known, default=[], metavar="SET", help="sets to leave out, such as mnist")
    parser.add_argument("--budget", help="microbp's budget; it becomes part of the contender's name (default: microbp's default)")
    parser.add_argument("--data", type=Path, default=DEFAULT_FOLDER, help="folder of the data sets (default: %(default)s)")
    parser.add_argument("--splits", type=int, help="splits of each set, or seeds (default: see above)")
    parser.add_argument("--workers", type=int, default=1, help="processes, of one thread each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=math.inf, help="start no training after this time (default: no limit)")
    parser.add_argument("--lines", type=Path, metavar="FILE", help="append a line for each training to this CSV file; do none twice")
    parser.add_argument(
        "--known", type=Path, nargs="+", default=[], metavar="FILE", help="use also the lines of these files; do none of them again"
    )
    return parser.parse_args()


def jobs(options: argparse.Namespace, names: list[str]) -> tuple[list[Job], list[str]]:
    """The trainings, the longest first, and the sets that can be read."""
    costs: dict[Job, int] = {}
    found = []
    for name in options.sets:
        if name in options.without:
            continue
        try:
            table = sets.read(name, options.data)
        except (OSError, ValueError, SystemExit) as missing:
            print(f"{name} is skipped: {missing}", file=sys.stderr)
            continue
        found.append(name)
        for contender in names:
            cost = table.columns.size * COSTS.get(contender, 3)
            costs |= {Job(name, contender, split): cost for split in range(options.splits or table.splits)}
    return sorted(costs, key=costs.__getitem__, reverse=True), found


def main() -> None:
    options = arguments()
    end = time.time() + options.seconds
    mine = OURS if options.budget is None else f"{OURS} {options.budget}"
    planned, names = jobs(options, [mine if name == OURS else name for name in options.contenders])
    titles = list(map(sets.title, names))
    lines = {Job(*line[:3]): line for path in [*options.known, *filter(None, [options.lines])] for line in load(path)}
    open_jobs = [job for job in planned if job._replace(set=sets.title(job.set)) not in lines]
    for line in race(open_jobs, options.workers, options.data, options.budget, end):
        lines[Job(*line[:3])] = line
        if options.lines:
            save(line, options.lines)
    shown = sorted((line for line in lines.values() if line.set in titles), key=lambda line: (titles.index(line.set), line.split))
    print(f"`{shlex.join(['python', 'bench/tables.py', *sys.argv[1:]])}`\n\n{Report(shown).text()}")


if __name__ == "__main__":
    main()
