"""Shared by the benchmarks: nets, rows, and the tables of the installed library."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

import microbp as bp
from microbp.core import _core

DTYPES = ["float32", "float64"]
ISAS = [name for name, runs in _core.isas().items() if runs]

# Name -> widths and rows per step.
NETS = {
    "4-8-2": ([4, 8, 2], 1),
    "4-32-32-2": ([4, 32, 32, 2], 1),
    "8-64-64-1": ([8, 64, 64, 1], 32),
    "64-128-10": ([64, 128, 10], 64),
    "100-256-256-256-1": ([100, 256, 256, 256, 1], 512),
    "784-512-512-10": ([784, 512, 512, 10], 128),
}

Kind = Literal["activation", "loss", "optimizer", "initializer", "output_activation"]
Name = Any  # the name of a formula or dtype; Any, because the API accepts only literals


def names(kind: Kind) -> list[Name]:
    """Every formula of a kind."""
    return [name for name, *_ in _core.formulas(kind)]


def normal(rows: int, cols: int, dtype: str = "float32") -> np.ndarray:
    """Rows to train on, the same on every call."""
    return np.random.default_rng(0).standard_normal((rows, cols)).astype(dtype)


def targets(net: bp.Network, rows: int) -> np.ndarray:
    """Numbers for one output, else labels."""
    width = net.outputs[0].width
    return normal(rows, 1, str(net.dtype)) if width == 1 else np.random.default_rng(1).integers(0, width, rows)


def trainer(widths: list[int], dtype: Name = "float32", **options: Any) -> bp.Trainer:
    """A trainer for a chain of layers, with Adam."""
    return bp.Trainer(bp.mlp(widths, dtype=dtype, seed=0, **options), "mse" if widths[-1] == 1 else "cross_entropy")


def threads(count: int) -> dict[str, Any]:
    """The option for this number of threads. For older versions without it, benchmarks with several threads are skipped."""
    if "n_threads" in inspect.signature(bp.mlp).parameters:
        return {"n_threads": count}
    if count > 1:
        raise NotImplementedError("this version has no n_threads")
    return {}


class Batch(NamedTuple):
    """The columns of the ones of each row, ascending, and a target per row, 0 or 1."""

    ids: npt.NDArray[np.int32]
    y: npt.NDArray[np.float32]


def fresh(columns: int, rows: int, ones: int, count: int, seed: int = 0) -> list[Batch]:
    """Batches of random rows. The columns are split into `ones` fields of equal size, and a row has one column of each."""
    rng, field = np.random.default_rng(seed), columns // ones
    firsts = field * np.arange(ones, dtype=np.int32)
    return [
        Batch(firsts + rng.integers(0, field, (rows, ones), dtype=np.int32), rng.integers(0, 2, (rows, 1)).astype(np.float32))
        for _ in range(count)
    ]


def csr(ids: npt.NDArray[np.int32], columns: int) -> Any:
    """The rows in CSR; SciPy is not needed."""
    indptr = np.arange(0, ids.size + 1, ids.shape[1], dtype=np.int32)
    return SimpleNamespace(data=np.ones(ids.size, np.float32), indices=ids.ravel(), indptr=indptr, shape=(len(ids), columns))
