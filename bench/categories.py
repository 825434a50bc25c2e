"""Embeddings of categories with many values in `bp.fit_table`, beside what other categories get: features for the 100 most frequent values.

    python bench/categories.py [--data DIR] [--seeds N] [--budget NAME ...] [set ...]

A set is one of those below, or PATH:TARGET: a CSV file and its target column. The made-up ones have 20,000 rows: "few rows" 2,000
levels, each with an effect; "many rows" 300 levels, each with an effect and a slope; "zipf" 5,000 levels with frequencies 1 / rank, and 2
classes; "ratings" products of 2 hidden numbers of 500 users and 300 films, and no other column; "noise" 1,000 levels that tell nothing;
"new levels" 800 levels, and the rows of a tenth of them are test rows. "places" is the California table with longitude and latitude as a
text, rounded to 0.1.

Error: the RMSE, or the log loss of classes, on a random fifth of the rows; mean and standard deviation over the seeds of split and
training. Seconds: of a processor core, for the training and the report.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(
    dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
)  # must be set before NumPy is imported

import numpy as np
from training.data import DEFAULT_FOLDER

import microbp as bp
from kernels import machine
from microbp.tables import recipe

ROWS = 20_000
NUMBERS = ("age", "rooms", "bedrooms", "population", "households", "income", "y")  # of the California table
Columns = dict[str, Any]


def _table(random: np.random.Generator, levels: np.ndarray, of_levels: Callable[[np.ndarray], np.ndarray]) -> Columns:
    """Three numbers and a category. of_levels: its part of the target, for the first number."""
    a, b, c = random.normal(size=(3, ROWS))
    y = of_levels(a) + np.sin(2 * b) + b * c / 2 + random.normal(size=ROWS) / 2
    return {"a": a, "b": b, "c": c, "level": np.char.add("v", levels.astype(str)), "y": y}


def few_rows(random: np.random.Generator, count: int = 2_000) -> Columns:
    levels, effects = random.integers(0, count, ROWS), random.normal(size=count)
    return _table(random, levels, lambda _: effects[levels])


def many_rows(random: np.random.Generator) -> Columns:
    levels, (effects, slopes) = random.integers(0, 300, ROWS), random.normal(size=(2, 300))
    return _table(random, levels, lambda a: effects[levels] + slopes[levels] * a)


def zipf(random: np.random.Generator) -> Columns:
    shares, effects = 1 / np.arange(1, 5_001), random.normal(size=5_000)
    levels = random.choice(5_000, ROWS, p=shares / shares.sum())
    table = _table(random, levels, lambda a: 1.5 * effects[levels] + a)
    table["y"] = np.where(random.random(ROWS) < 1 / (1 + np.exp(-table["y"])), "yes", "no")
    return table


def ratings(random: np.random.Generator) -> Columns:
    users, films = random.integers(0, 500, ROWS), random.integers(0, 300, ROWS)
    tastes, styles = random.normal(size=(500, 2)), random.normal(size=(300, 2))
    y = (tastes[users] * styles[films]).sum(axis=1) + tastes[users, 0] + styles[films, 1] + random.normal(size=ROWS) / 2
    return {"user": np.char.add("u", users.astype(str)), "film": np.char.add("f", films.astype(str)), "y": y}


def noise(random: np.random.Generator) -> Columns:
    return _table(random, random.integers(0, 1_000, ROWS), lambda a: np.sin(2 * a))


MADE: dict[str, Callable[[np.random.Generator], Columns]] = {
    "few rows": few_rows, "many rows": many_rows, "zipf": zipf, "ratings": ratings, "noise": noise,
    "new levels": lambda random: few_rows(random, 800),
}  # fmt: skip


def read(name: str, root: Path, seed: int) -> Columns:
    """The columns of a set, with the target y."""
    if name in MADE:
        return MADE[name](np.random.default_rng(seed))
    if name == "places":
        cells = np.loadtxt(root / "tables" / "cal_housing.data.gz", delimiter=",")
        (east, north), numbers = np.round(cells[:, :2].T, 1).astype(str), dict(zip(NUMBERS, cells[:, 2:].T, strict=True))
        return {"place": np.char.add(np.char.add(east, "/"), north), **numbers}
    path, _, target = name.rpartition(":")
    with open(path, newline="", encoding="utf-8") as file:
        names, *rows = csv.reader(file)
    columns = dict(zip(names, map(_column, zip(*rows, strict=True)), strict=True))
    return {**columns, "y": columns.pop(target)}


def _column(cells: tuple[str, ...]) -> np.ndarray:
    try:
        return np.array(cells, float)
    except ValueError:
        return np.array(cells)


def split(name: str, columns: Columns, seed: int) -> tuple[Columns, Columns]:
    """The training and the test rows."""
    random = np.random.default_rng([seed, 1])
    test = random.random(len(columns["y"])) < 0.2
    if name == "new levels":
        levels = np.unique(columns["level"])
        test |= np.isin(columns["level"], random.choice(levels, len(levels) // 10, replace=False))
    return {key: cells[~test] for key, cells in columns.items()}, {key: cells[test] for key, cells in columns.items()}


def measure(name: str, root: Path, seed: int, budget: Any, units: int) -> tuple[float, float]:
    """The error, and the seconds of a processor core. units: of the embeddings; 0: none."""
    train, test = split(name, read(name, root, seed), seed)
    recipe.EMBEDDED = units
    start = time.process_time()
    scores = bp.fit_table(train, target="y", test_file=test, budget=budget, seed=seed, threads=1, progress=False).scores["test"]
    return scores.get("log_loss") or scores["rmse"], time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", default=[*MADE, "places"], metavar="set", help="sets (default: all)")
    parser.add_argument("--data", type=Path, default=DEFAULT_FOLDER, help="folder of the data sets (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="seeds (default: %(default)s)")
    parser.add_argument(
        "--budget", nargs="+", choices=list(recipe.BUDGETS), default=["fast", "normal"], help="budgets (default: fast, normal)"
    )
    options = parser.parse_args()
    units = recipe.EMBEDDED
    print(machine.describe(f"NumPy {np.__version__}"))
    print("| set | budget | features | embedding | ratio | seconds | with embedding |\n|---|---|---|---|---|---|---|", flush=True)
    for name in options.sets:
        for budget in options.budget:
            found = np.array([[measure(name, options.data, seed, budget, of) for of in (0, units)] for seed in range(options.seeds)])
            (before, was), (after, now) = found.mean(axis=0)
            errors = " | ".join(f"{mean:.4g} +- {std:.2g}" for mean, std in zip((before, after), found[..., 0].std(axis=0)))
            ratio = after / before
            print(f"| {name.rpartition('/')[2]} | {budget} | {errors} | {ratio:.3f} | {was:.2f} | {now:.2f} |", flush=True)


if __name__ == "__main__":
    main()
