"""Streams of single rows: bp.OnlineModel with its defaults beside models of scikit-learn. Each predicts a row, then learns it.

    python bench/online.py [--data DIR] [--rows N] [--contenders NAME ...] [stream ...]

Streams, in random order: a9a and w8a, where a row is the names of its features, and tables of tabular/sets.py.
linear: OnlineModel without hidden units. SGD: SGDClassifier with the logistic loss, or SGDRegressor. MLP: MLPClassifier or MLPRegressor
with 32 units. Both learn by partial_fit with their defaults. They get the same standardised values, in columns without collisions, and
know all columns and classes from the start.

Score: the fraction of right predictions, or r2, over all rows of the stream, each predicted before it was learnt. us: CPU time in
microseconds per row, for prediction and learning, in the second half of the stream, when memory is in use; those of peers do not
contain the making of rows.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import os
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.update(
    dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
)  # must be set before NumPy is imported

import numpy as np
import sklearn
from scipy.sparse import csr_matrix
from sklearn.linear_model import SGDClassifier, SGDRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from tabular import sets
from training.data import DEFAULT_FOLDER

import microbp as bp
from kernels import machine
from microbp.online.features import Features

Row = dict[str, Any]
BAGS = ("a9a", "w8a")
STREAMS = (*BAGS, "magic", "digits", "california", "elevators")
WIDE = 2**31 - 1  # columns without collisions
UNITS: dict[str, Any] = {"hidden_layer_sizes": 32, "random_state": 0}


class Stream(NamedTuple):
    """Rows and their targets: strings, or floats."""

    rows: list[Row]
    targets: list[Any]

    @property
    def is_number(self) -> bool:
        return isinstance(self.targets[0], float)


def read(name: str, root: Path) -> Stream:
    """A stream of BAGS, or a table."""
    if name in BAGS:
        with gzip.open(root / name / f"{name}.gz", "rt") as file:
            lines = [line.split() for line in file if line.strip()]
        rows, targets = [{f"has {word.partition(':')[0]}": True for word in words} for _, *words in lines], [line[0] for line in lines]
    else:
        table = sets.read(name, root)
        rows, targets = table.columns.to_dict("records"), table.target.tolist()
    order = np.random.default_rng(0).permutation(len(rows))
    return Stream([rows[i] for i in order], [targets[i] for i in order])


def score(stream: Stream, predictions: list[Any]) -> float:
    """Accuracy, or r2."""
    if not stream.is_number:
        return float(np.mean([one == other for one, other in zip(predictions, stream.targets, strict=True)]))
    return bp.r2(np.array(stream.targets), np.array(predictions))


def online(**options: Any) -> Callable[[Stream], tuple[list[Any], float]]:
    """The predictions of an OnlineModel, and the seconds that it takes per row."""

    def run(stream: Stream) -> tuple[list[Any], float]:
        m = bp.OnlineModel("number" if stream.is_number else "classes", seed=0, **options)
        predictions, pairs, half = [], list(zip(stream.rows, stream.targets, strict=True)), len(stream.rows) // 2
        for part in (pairs[:half], pairs[half:]):
            start = time.process_time()
            predictions += [m.learn_one(x, y) for x, y in part]
        return predictions, (time.process_time() - start) / (len(pairs) - half)

    return run


def encoded(stream: Stream) -> Iterator[csr_matrix]:
    """The rows as OnlineModel standardises them, in columns of their own."""
    features, numbers = Features(WIDE, None, {}), dict[int, int]()
    found = []
    for x in stream.rows:
        row, moments = features.row(x)
        features.moments.update(moments)
        found.append((row.data, [numbers.setdefault(int(column), len(numbers)) for column in row.indices]))
    for data, columns in found:
        yield csr_matrix((data, columns, [0, len(columns)]), (1, len(numbers)))


def peer(classifier: Callable[[], Any], regressor: Callable[[], Any]) -> Callable[[Stream], tuple[list[Any], float]]:
    """The same of an estimator. A number is standardised by those before."""

    def run(stream: Stream) -> tuple[list[Any], float]:
        model, seconds, predictions = (regressor if stream.is_number else classifier)(), 0.0, []
        how = {} if stream.is_number else {"classes": sorted(set(stream.targets))}
        total, squares, half = 0.0, 0.0, len(stream.rows) // 2
        for i, (x, y) in enumerate(zip(encoded(stream), stream.targets, strict=True)):
            mean = total / i if i else 0.0
            spread = max(squares / i - mean**2, 0.0) ** 0.5 if i > 1 else 0.0
            target = ((y - mean) / spread if spread else 0.0) if stream.is_number else y
            start = time.process_time()
            found = model.predict(x)[0] if i else 0.0
            model.partial_fit(x, [target], **how)
            seconds += (time.process_time() - start) * (i >= half)
            predictions.append(mean + spread * found if stream.is_number else found)
            if stream.is_number:
                total, squares = total + y, squares + y**2
        return predictions, seconds / (len(predictions) - half)

    return run


CONTENDERS = {
    "microbp": online(),
    "linear": online(hidden=()),
    "SGD": peer(lambda: SGDClassifier(loss="log_loss", random_state=0), lambda: SGDRegressor(random_state=0)),
    "MLP": peer(lambda: MLPClassifier(**UNITS), lambda: MLPRegressor(**UNITS)),
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = sorted({*BAGS, *sets.READERS})
    parser.add_argument(
        "streams", nargs="*", default=STREAMS, metavar="stream", help=f"of {', '.join(names)} (default: {' '.join(STREAMS)})"
    )
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME", help="default: all")
    parser.add_argument("--data", type=Path, default=DEFAULT_FOLDER, help="folder of the data sets (default: %(default)s)")
    parser.add_argument("--rows", type=int, help="only the first rows of each stream")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    warnings.simplefilter("ignore")
    print(machine.describe(f"scikit-learn {sklearn.__version__}"))
    print("| stream | rows |", *(f"{name} | us |" for name in given.contenders))
    print("|---" * (2 + 2 * len(given.contenders)) + "|")
    for name in given.streams:
        stream = Stream(*(part[: given.rows] for part in read(name, given.data)))
        gc.freeze()  # the rows, which a stream would not keep
        cells = [f"| {name} | {len(stream.rows):,} |"]
        for contender in given.contenders:
            predictions, seconds = CONTENDERS[contender](stream)
            cells.append(f"{score(stream, predictions):.4f} | {seconds * 1e6:.0f} |")
        print(*cells, flush=True)


if __name__ == "__main__":
    main()
