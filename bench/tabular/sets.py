"""Tables that the race knows, tables of the user, and their splits."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from training import data

Rows = npt.NDArray[np.int64]
Split = tuple[Rows, Rows]  # (training rows, test rows)

FEW_ROWS, SPLITS, SPLITS_OF_FEW_ROWS, SEEDS = 2000, 5, 20, 3
TEST = 0.2


class Set(NamedTuple):
    """A table without its target, and the target: float64, or str for classes. given: published splits, or none."""

    columns: pd.DataFrame
    target: pd.Series
    given: tuple[Split, ...] = ()

    @property
    def classes(self) -> list[str]:
        """The classes, sorted; none if the target is a number."""
        return [] if self.target.dtype == np.float64 else sorted(set(self.target))

    @property
    def splits(self) -> int:
        """How many splits show the difference; with a given test part, how many seeds."""
        few = SPLITS_OF_FEW_ROWS if len(self.target) < FEW_ROWS else SPLITS
        return SEEDS if len(self.given) == 1 else len(self.given) or few

    def split(self, number: int) -> Split:
        """A published split, else a random one: a fifth of the rows for the test, of classes a fifth of each."""
        if self.given:
            return self.given[number % len(self.given)]
        random, test = np.random.default_rng(number), np.zeros(len(self.target), bool)
        for alike in [self.target == kind for kind in self.classes] or [np.ones(len(test), bool)]:
            rows = random.permutation(np.flatnonzero(alike))
            test[rows[: round(TEST * len(rows))]] = True
        return np.flatnonzero(~test), np.flatnonzero(test)


class Goal(NamedTuple):
    """The highest error that is good enough, or the highest ratio of microbp's error to HistGradientBoosting's."""

    error: float | None = None
    ratio: float | None = None


GOALS = {
    "california": Goal(ratio=0.99),
    "pol": Goal(ratio=0.6),
    "elevators": Goal(ratio=0.92),
    "magic": Goal(ratio=0.99),
    "concrete": Goal(4.57),
    "energy": Goal(0.49),
    "yacht": Goal(0.485),
    "a9a": Goal(0.155),
    "digits": Goal(0.03),
    "cancer": Goal(0.04),
    "wine": Goal(0.05),
    "mnist": Goal(0.022),
}


def read(name: str, root: Path) -> Set:
    """Reads a set of READERS from the folder of the data sets, or PATH:TARGET. OSError, ValueError: it cannot be read."""
    if name in READERS:
        return READERS[name](root)
    path, _, target = name.rpartition(":")
    table = pd.read_csv(path)
    if target not in table:
        raise ValueError(f"{path}: there is no column {target!r}; the columns are {', '.join(table)}")
    table = table.dropna(subset=target, ignore_index=True)
    return Set(table.drop(columns=target), _typed(table[target]))


def title(name: str) -> str:
    """The name that the report shows: of a file of the user, its stem."""
    return name if name in READERS else Path(name.rpartition(":")[0]).stem


def _typed(target: pd.Series) -> pd.Series:
    """Classes if the target is text or has at most 20 different whole numbers, as `microbp train` decides; else numbers."""
    if pd.api.types.is_numeric_dtype(target) and not pd.api.types.is_bool_dtype(target):
        numbers = target.astype(np.float64)
        if numbers.nunique() > 20 or (numbers % 1).any():
            return numbers
        target = numbers.astype(np.int64)
    return target.astype(str)


def _frame(x: npt.NDArray[np.generic]) -> pd.DataFrame:
    return pd.DataFrame(x, columns=[f"column {i}" for i in range(x.shape[1])])


def _numbers(path: str) -> Callable[[Path], Set]:
    """The reader of a file of numbers without a header, with the target last."""

    def reader(root: Path) -> Set:
        table = pd.read_csv(root / "tables" / path, header=None).add_prefix("column ")
        return Set(table.iloc[:, :-1], table.iloc[:, -1].astype(np.float64))

    return reader


def _uci(name: str) -> Callable[[Path], Set]:
    def reader(root: Path) -> Set:
        table = data.uci(root, name)
        return Set(_frame(table.x), pd.Series(table.y), tuple(table.splits))

    return reader


def _scikit(name: str) -> Callable[[Path], Set]:
    def reader(_: Path) -> Set:
        from sklearn import datasets

        columns, target = getattr(datasets, f"load_{name}")(return_X_y=True, as_frame=True)
        return Set(columns, _typed(target))

    return reader


def _magic(root: Path) -> Set:
    table = pd.concat([pd.read_csv(root / "tables" / f"magic_{part}.csv.gz") for part in ("train", "test")], ignore_index=True)
    return Set(table.drop(columns="class"), _typed(table["class"]))


def _a9a(root: Path) -> Set:
    from sklearn.datasets import load_svmlight_file

    parts = []
    for name in ("a9a.gz", "a9a.t.gz"):
        with gzip.open(root / "a9a" / name) as file:
            parts.append(load_svmlight_file(file, n_features=123, dtype=np.float32))
    columns = np.concatenate([x.toarray() for x, _ in parts]).astype(np.uint8)
    labels = pd.Series(np.concatenate([y for _, y in parts]))
    return Set(_frame(columns), _typed(labels), (_cut(len(parts[0][1]), len(labels)),))


def _mnist(root: Path) -> Set:
    parts = data.mnist(root)
    pixels = np.concatenate([np.round(part.x * 255).astype(np.uint8) for part in parts])
    labels = pd.Series(np.concatenate([part.labels for part in parts]))
    return Set(_frame(pixels), _typed(labels), (_cut(len(parts[0].labels), len(labels)),))


def _cut(train: int, rows: int) -> Split:
    return np.arange(train), np.arange(train, rows)


READERS: dict[str, Callable[[Path], Set]] = {
    "california": _numbers("cal_housing.data.gz"),
    "pol": _numbers("pol.data.csv.gz"),
    "elevators": _numbers("elevators.data.csv.gz"),
    "magic": _magic,
    "concrete": _uci("concrete"),
    "energy": _uci("energy"),
    "yacht": _uci("yacht"),
    "a9a": _a9a,
    "digits": _scikit("digits"),
    "cancer": _scikit("breast_cancer"),
    "wine": _scikit("wine"),
    "diabetes": _scikit("diabetes"),
    "mnist": _mnist,
}
