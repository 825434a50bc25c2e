"""Files of numbers without column names: NumPy's .npz and .npy, and libsvm text; and the digits of scikit-learn."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...data.arrays import Array
from .opening import mappable, opened
from .table import Table, Whole, clean

MOST_BYTES = 2e9  # of a libsvm file as a dense matrix


def digits() -> Table:
    """The 1797 images of handwritten digits in scikit-learn, with 64 pixels each."""
    try:
        from sklearn.datasets import load_digits  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        raise ImportError("the digits data set needs scikit-learn, which is not installed: python -m pip install scikit-learn") from None
    x, labels = load_digits(return_X_y=True)
    columns = _places(x) | {"digit": np.array([str(label) for label in labels], dtype=object)}
    return Table("digits", columns, len(x), is_positional=True, target="digit")


def _places(x: Array) -> dict[str, Array]:
    return {f"x{i}": x[:, i] for i in range(x.shape[1])}


# ---- .npz and .npy ----


def read_npz(path: Path) -> Whole:
    """Rows from X and y, or from x_train and y_train and, if the file contains them, test rows from x_test and y_test."""
    with opened(path) as file, np.load(file, allow_pickle=False) as archive:
        arrays = {name.lower(): archive[name] for name in archive.files}
    if "x" in arrays:
        return Whole(_arrays(path, arrays, "x", "y"))
    if {"x_train", "y_train"} <= arrays.keys():
        test = _arrays(path, arrays, "x_test", "y_test") if {"x_test", "y_test"} <= arrays.keys() else None
        return Whole(_arrays(path, arrays, "x_train", "y_train"), test)
    raise ValueError(
        f"{path}: contains {', '.join(arrays) or 'no arrays'}; it must contain X and y, or x_train, y_train, x_test and y_test"
    )


def _arrays(path: Path, arrays: dict[str, Array], x: str, y: str) -> Table:
    """A table from the arrays `x` (rows) and `y` (targets, may be absent)."""
    features = arrays[x].reshape(len(arrays[x]), -1) if arrays[x].ndim > 1 else arrays[x].reshape(-1, 1)
    if features.dtype.kind not in "biuf":
        raise ValueError(f"{path}: {x} contains {features.dtype} values, not numbers")
    columns = _places(features)
    if y in arrays:
        target = arrays[y].reshape(-1) if arrays[y].ndim == 2 and arrays[y].shape[1] == 1 else arrays[y]
        if target.ndim != 1 or len(target) != len(features):
            raise ValueError(f"{path}: {y} has shape {arrays[y].shape}; it must have one value per row of {x}, shape ({len(features)},)")
        if target.dtype.kind not in "biufUS":
            raise ValueError(f"{path}: {y} contains {target.dtype} values, which are neither numbers nor strings")
        texts = np.char.decode(target, "utf-8") if target.dtype.kind == "S" else target
        columns["y"] = clean(texts.tolist()) if texts.dtype.kind == "U" else texts
    return Table(str(path), columns, len(features), is_positional=True, target="y")


def read_npy(path: Path) -> Whole:
    """All rows of a 2-D array."""
    values = _load(path)
    return Whole(_npy_rows(path, values, 0, len(values)))


def npy_pieces(path: Path, most: int) -> Iterator[Table]:
    """The rows of a memory-mapped 2-D array, in tables of at most `most` rows."""
    values = _load(path)
    for first in range(0, len(values), most):
        yield _npy_rows(path, values, first, most)


def _load(path: Path) -> Array:
    source = mappable(path)
    values = np.asarray(np.load(source, mmap_mode="r" if isinstance(source, Path) else None, allow_pickle=False))
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise ValueError(
            f"{path}: contains {values.dtype} values of shape {values.shape}; it must be a 2-D array of numbers, one row per example"
        )
    return values


def _npy_rows(path: Path, values: Array, first: int, most: int) -> Table:
    rows = values[first : first + most]
    return Table(str(path), _places(rows), len(rows), first, is_positional=True)


# ---- libsvm text ----


def read_libsvm(path: Path) -> Whole:
    """All rows, from lines of `label index:value ...`; lines without labels have no target. Columns are named by their index; the value of
    an index missing from a line is 0.
    """
    labels, counts, places, values = array("d"), array("q"), array("q"), array("d")
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            words = line.decode("utf-8", "replace").partition("#")[0].split()
            if not words:
                continue
            label, pairs = _parsed(f"{path}, line {number}", words)
            labels.append(label)
            counts.append(len(pairs))
            places.extend(pairs)
            values.extend(pairs.values())
    indices, column = np.unique(np.array(places), return_inverse=True)
    _require_memory(path, len(labels), len(indices))
    x = np.zeros((len(indices), len(labels)), np.float32)
    with np.errstate(over="ignore"):
        x[column, np.repeat(np.arange(len(labels)), counts)] = values
    columns: dict[str, Array] = {str(index): x[i] for i, index in enumerate(indices)}
    if not np.isnan(labels).all():
        columns["label"] = np.array(labels)
    return Whole(Table(str(path), columns, len(labels), is_sparse=True, target="label"))


def _parsed(where: str, words: list[str]) -> tuple[float, dict[int, float]]:
    """The label of a line, NaN if there is none, and its values by index."""
    first = 0 if ":" in words[0] else 1
    try:
        label = float(words[0]) if first else np.nan
        pairs = [(int(place), float(value)) for place, _, value in (word.partition(":") for word in words[first:])]
    except ValueError:
        raise ValueError(f"{where}: {' '.join(words[:4])[:60]!r} is not in the format `label index:value ...`") from None
    found = dict(pairs)
    if any(place < 0 for place in found):
        raise ValueError(f"{where}: an index is negative; it must be at least 0")
    if len(found) < len(pairs):
        twice = next(place for place, count in Counter(place for place, _ in pairs).items() if count > 1)
        raise ValueError(f"{where}: index {twice} has two values; remove one")
    return label, found


def _require_memory(path: Path, rows: int, columns: int) -> None:
    """Refuses a table that would be too large, because networks need the zeros too."""
    size = 4 * rows * columns
    if size > MOST_BYTES:
        what = f"{path}: {rows:,} rows of {columns:,} columns take {size / 1e9:.1f} GB with their zeros, more than {MOST_BYTES / 1e9:g} GB"
        raise ValueError(f"{what}; use fewer rows or columns, or reduce the columns first, for example by scikit-learn's TruncatedSVD")
