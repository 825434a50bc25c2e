"""Files of numbers without column names: NumPy's .npz and .npy, and libsvm text; and the digits of scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...data.arrays import Array
from .opening import mappable, opened
from .table import Table, Whole, clean


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
    array = _load(path)
    return Whole(_npy_rows(path, array, 0, len(array)))


def npy_pieces(path: Path, most: int) -> Iterator[Table]:
    """The rows of a memory-mapped 2-D array, in tables of at most `most` rows."""
    array = _load(path)
    for first in range(0, len(array), most):
        yield _npy_rows(path, array, first, most)


def _load(path: Path) -> Array:
    array = np.asarray(np.load(mappable(path), mmap_mode="r" if path.is_file() else None, allow_pickle=False))
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        raise ValueError(
            f"{path}: contains {array.dtype} values of shape {array.shape}; it must be a 2-D array of numbers, one row per example"
        )
    return array


def _npy_rows(path: Path, array: Array, first: int, most: int) -> Table:
    rows = array[first : first + most]
    return Table(str(path), _places(rows), len(rows), first, is_positional=True)


# ---- libsvm text ----


def read_libsvm(path: Path) -> Whole:
    """All rows, from lines of `label index:value ...`. Columns are named by their index; the value of an index missing from a line is 0."""
    labels, rows, places, values = [], [], [], []
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            words = line.decode("utf-8", "replace").partition("#")[0].split()
            if not words:
                continue
            try:
                labels.append(float(words[0]))
                pairs = [(int(place), float(value)) for place, _, value in (word.partition(":") for word in words[1:])]
            except ValueError:
                raise ValueError(
                    f"{path}, line {number}: {' '.join(words[:4])[:60]!r} is not in the format `label index:value ...`"
                ) from None
            if any(place < 0 for place, _ in pairs):
                raise ValueError(f"{path}, line {number}: an index is negative; it must be at least 0")
            rows += [len(labels) - 1] * len(pairs)
            places += [place for place, _ in pairs]
            values += [value for _, value in pairs]
    indices, column = np.unique(np.array(places, dtype=np.int64), return_inverse=True)
    x = np.zeros((len(indices), len(labels)))
    x[column, rows] = values
    columns = {str(index): x[i] for i, index in enumerate(indices)} | {"label": np.array(labels)}
    return Whole(Table(str(path), columns, len(labels), is_sparse=True))
