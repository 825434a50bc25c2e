"""Times microbp's MLPClassifier and MLPRegressor next to scikit-learn's, at scikit-learn's settings, on one thread.

    python bench/sklearn_mlp.py [--data DIR] [--runs N] [name ...]

Both train alternately for the same number of epochs, on float64 and on float32 rows; the table has the medians of the runs, and the ratio
of the medians. `predict` is one row of a fitted digits classifier; `search` is GridSearchCV of 24 settings and 5 folds on digits with
n_jobs=2, once. Without the data in DIR (mnist/, a9a/), random rows of their size.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"))  # before NumPy is imported

import numpy as np
import sklearn
import sklearn.neural_network as theirs
from sklearn.datasets import load_digits, load_svmlight_file
from sklearn.model_selection import GridSearchCV
from training.data import DEFAULT_FOLDER, mnist

from kernels import machine
from microbp import sklearn as ours

Rows = tuple[Any, Any]


def _random(rows: int, features: int, classes: int) -> Rows:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, features))
    return X, rng.integers(classes, size=rows) if classes else X[:, 0] * X[:, 1]


def _digits(_: Path) -> Rows:
    X, y = load_digits(return_X_y=True)
    return X / 16, y


def _a9a(root: Path) -> Rows:
    path = root / "a9a" / "a9a.gz"
    if not path.is_file():
        return _random(32561, 123, 2)
    X, y = load_svmlight_file(str(path), n_features=123)
    return X.toarray(), y


def _mnist(root: Path) -> Rows:
    if not (root / "mnist").is_dir():
        return _random(60000, 784, 10)
    train = mnist(root)[0]
    return np.asarray(train[0], dtype=np.float64).reshape(60000, -1), np.asarray(train[1])


# name: rows, the class, hidden layers, epochs
WORK: dict[str, tuple[Callable[[Path], Rows], str, tuple[int, ...], int]] = {
    "digits (100,)": (_digits, "MLPClassifier", (100,), 20),
    "4-500-1, 65,536 rows": (lambda _: _random(65536, 4, 0), "MLPRegressor", (500,), 1),
    "a9a (100,)": (_a9a, "MLPClassifier", (100,), 2),
    "mnist (100, 100)": (_mnist, "MLPClassifier", (100, 100), 1),
    "8 features (64, 64), 20,640 rows": (lambda _: _random(20640, 8, 0), "MLPRegressor", (64, 64), 3),
}


def seconds(function: Callable[[], object]) -> float:
    """The time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def medians(pair: list[Callable[[], object]], runs: int) -> list[float]:
    """The median time of each function, called alternately."""
    times = [[seconds(function) for function in pair] for _ in range(runs)]
    return [statistics.median(column) for column in zip(*times)]


def fit_times(name: str, dtype: str, root: Path, runs: int) -> list[float]:
    """Seconds of a fit of scikit-learn and of microbp."""
    read, cls, hidden, epochs = WORK[name]
    X, y = read(root)
    X = X.astype(dtype)
    settings = {"hidden_layer_sizes": hidden, "max_iter": epochs, "n_iter_no_change": np.inf, "random_state": 0}
    pair = [getattr(module, cls)(**settings) for module in (theirs, ours)]
    return medians([lambda one=one: one.fit(X, y) for one in pair], runs)  # type: ignore[misc]


def predict_times(dtype: str, runs: int, repeats: int = 1000) -> list[float]:
    """Seconds of a prediction of one row."""
    X, y = _digits(Path())
    X = X.astype(dtype)
    pair = [module.MLPClassifier(max_iter=1, random_state=0).fit(X, y) for module in (theirs, ours)]
    row = X[:1]
    times = medians([lambda one=one: [one.predict(row) for _ in range(repeats)] for one in pair], runs)  # type: ignore[misc]
    return [one / repeats for one in times]


def search_times(dtype: str) -> list[float]:
    """Seconds of a search of scikit-learn over settings of both."""
    X, y = _digits(Path())
    grid = {"hidden_layer_sizes": [(32,), (64,), (100,)], "alpha": [1e-5, 1e-4, 1e-3, 1e-2], "learning_rate_init": [1e-3, 1e-2]}
    models = [module.MLPClassifier(max_iter=50, random_state=0) for module in (theirs, ours)]
    searches = [GridSearchCV(model, grid, cv=5, n_jobs=2) for model in models]
    searches[0].fit(X[:50], y[:50])  # starts the processes
    return medians([lambda one=one: one.fit(X.astype(dtype), y) for one in searches], 1)  # type: ignore[misc]


def times(name: str, dtype: str, root: Path, runs: int) -> list[float]:
    """Seconds of scikit-learn and of microbp."""
    if name == "predict":
        return predict_times(dtype, runs)
    return search_times(dtype) if name == "search" else fit_times(name, dtype, root, runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("name", nargs="*", default=[*WORK, "predict", "search"])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    print(machine.describe(f"scikit-learn {sklearn.__version__}"))
    print("| work | dtype | scikit-learn | microbp | ratio |\n|---|---|---|---|---|")
    for name in options.name:
        for dtype in ("float64", "float32"):
            a, b = times(name, dtype, options.data, options.runs)
            unit, factor = ("µs", 1e6) if name == "predict" else ("ms", 1e3)
            print(f"| {name} | {dtype} | {a * factor:,.1f} {unit} | {b * factor:,.1f} {unit} | {a / b:.1f} |", flush=True)


if __name__ == "__main__":
    main()
