"""The choice between the two backends, and what both of them offer.

`compiled` is the extension module `microbp._core`; `reference` is the package `microbp.reference`, the same mathematics in pure Python.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect  # noqa: F401  # which the extension asks for while it loads, where an interruption would crash it (Cython 3.3)
import os
from pathlib import Path
from typing import Any, Protocol, cast

_MODULES = {"compiled": "microbp._core", "reference": "microbp.reference"}
_BUILD = 'build it with "python -m pip install ." in the source tree, or set MICROBP_BACKEND=reference for the slow pure-Python backend'

# What a backend takes as a matrix: anything with the buffer protocol. It says in which places arrays cross into a backend.
Matrix = Any
Matrices = Any  # one Matrix, or a list of them when the net has several inputs or outputs


class CoreNet(Protocol):
    """A network as a backend holds it."""

    threads: int
    notes: str

    @property
    def dtype(self) -> str: ...
    @property
    def seed(self) -> int: ...
    @property
    def params(self) -> Any: ...
    @property
    def buffers(self) -> Any: ...
    def text(self) -> str: ...
    def tensors(self) -> list[tuple[str, str, int, int, int]]: ...
    def buffer_tensors(self) -> list[tuple[str, str, int, int, int]]: ...
    def init(self, seed: int) -> None: ...
    def freeze(self, layer: str | None, frozen: bool) -> None: ...
    def set_layer(self, layer: str | None, name: str, value: float) -> None: ...
    def set_output(self, i: int, activation: str | None) -> None: ...
    def predict(self, xs: Matrices, outs: Matrices, raw: bool, node: int) -> None: ...
    def write(self) -> bytes: ...
    def save(self, path: str) -> None: ...
    def save_with(self, path: str, text: str, vectors: dict[str, bytes]) -> None: ...


class CoreNetType(Protocol):
    """The class of such networks."""

    def __call__(self, text: str, dtype: str = "float32", seed: int = 0) -> CoreNet: ...
    def read(self, data: bytes) -> CoreNet: ...
    def load(self, path: str) -> CoreNet: ...
    def load_with(self, path: str) -> tuple[CoreNet, tuple[str, dict[str, bytes]] | None]: ...


class CoreTrainer(Protocol):
    """A trainer as a backend holds it."""

    steps: int

    @property
    def grads(self) -> Any: ...
    @property
    def slots(self) -> dict[str, Any]: ...
    @property
    def average(self) -> Any | None: ...
    @property
    def average_count(self) -> int: ...
    def step(self, x: Matrices, y: Matrices, weight: Matrix | None = None) -> float: ...
    def backward(
        self,
        x: Matrices,
        y: Matrices,
        weight: Matrix | None = None,
        accumulate: bool = False,
        total: float = 0.0,
        first_row: int = 0,
        input_grads: bool = False,
    ) -> float: ...
    def apply(self) -> None: ...
    def forward(self, x: Matrices) -> list[Matrix]: ...
    def backward_from(self, gradients: list[Matrix], accumulate: bool = False, input_grads: bool = False) -> None: ...
    def evaluate(self, x: Matrices, y: Matrices, weight: Matrix | None = None) -> float: ...
    def epoch(self, x: Matrices, y: Matrices, weight: Matrix | None, index: Matrix | None, batch_rows: int, lr: Matrix | None) -> float: ...
    def input_grads(self) -> list[Matrix]: ...
    def get(self, name: str) -> float: ...
    def set(self, name: str, value: float) -> None: ...
    def set_average(self, decay: float, start: int, every: int) -> None: ...
    def reset(self) -> None: ...


class CoreTrainerType(Protocol):
    """The class of such trainers."""

    def __call__(self, net: CoreNet, losses: list[str | None], loss_weights: list[float], optimizer: str, seed: int) -> CoreTrainer: ...


class Backend(Protocol):
    """A backend module."""

    @property
    def Net(self) -> CoreNetType: ...  # noqa: N802
    @property
    def Trainer(self) -> CoreTrainerType: ...  # noqa: N802
    def formulas(self, kind: str) -> list[tuple[str, str, str]]: ...
    def cpus(self) -> int: ...
    def permutation(self, seed: int, purpose: int, instance: int, n: int) -> Any: ...


def resolve(name: str | None) -> str:
    """The backend's name: the given one, else MICROBP_BACKEND, else "compiled"."""
    chosen = name if name is not None else os.environ.get("MICROBP_BACKEND") or "compiled"
    if chosen not in _MODULES:
        where = "backend" if name is not None else "MICROBP_BACKEND"
        raise ValueError(f"{where} is {chosen!r}; it must be one of {', '.join(map(repr, _MODULES))}")
    return chosen


def load(name: str | None = None) -> Backend:
    """The backend module of that name; ImportError says how to build the extension where it is missing."""
    chosen = resolve(name)
    try:
        return cast(Backend, importlib.import_module(_MODULES[chosen]))
    except ImportError as error:
        if chosen == "reference":
            raise
        raise ImportError(f"microbp's compiled extension cannot be imported ({error}): {_BUILD}") from error


def _installed() -> Path:
    """The directory of the compiled extension, beside which its header and library are installed."""
    spec = importlib.util.find_spec(_MODULES["compiled"])
    if spec is None or spec.origin is None:
        raise ImportError(f"microbp's compiled extension is not installed: {_BUILD}")
    return Path(spec.origin).parent


def get_include() -> str:
    """The directory that holds microbp.h."""
    return str(_installed() / "include")


def get_library_dir() -> str:
    """The directory that holds the static library."""
    return str(_installed() / "lib")
