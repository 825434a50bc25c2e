"""The choice between the two backends, and the interface of both.

`compiled` is the extension module `microbp.core._core`. `reference` is the package `microbp.reference`: the same in pure Python.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect  # noqa: F401  # before the extension imports it, where Ctrl-C would cause a crash (Cython 3.3)
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, cast

from .checks import one_of

if TYPE_CHECKING:
    from . import _core

_MODULES = {"compiled": "microbp.core._core", "reference": "microbp.reference"}
_BUILD = 'build it with "python -m pip install ." in the source tree, or set MICROBP_BACKEND=reference for the slow pure-Python backend'

BackendName: TypeAlias = Literal["compiled", "reference"]
# What a permutation is for. One seed gives different permutations for different purposes.
SHUFFLE, SPLIT = 2, 5

# A backend's network and trainer. The stub of the extension lists their methods, for both backends.
CoreNet: TypeAlias = "_core.Net"
CoreTrainer: TypeAlias = "_core.Trainer"
CoreState: TypeAlias = "_core.State"


class Backend(Protocol):
    """The interface of a backend module."""

    @property
    def Net(self) -> type[CoreNet]: ...  # noqa: N802
    @property
    def Trainer(self) -> type[CoreTrainer]: ...  # noqa: N802
    @property
    def Int8(self) -> type[_core.Int8]: ...  # noqa: N802
    @property
    def State(self) -> type[CoreState]: ...  # noqa: N802
    def formulas(self, kind: str) -> list[tuple[str, str, str, str]]: ...
    def target_columns(self, loss: str, columns: int) -> int: ...
    def cpus(self) -> int: ...
    def permutation(self, seed: int, purpose: int, instance: int, n: int) -> Any: ...
    def minimize(
        self,
        solver: str,
        residuals: int,
        function: Callable[[bytes], tuple[bytes, bytes]],
        iterations: int,
        goal: float,
        gradient_tolerance: float,
        x: bytearray,
    ) -> tuple[float, bytes, int, str]: ...
    def hash_values(self, values: Any, levels: int, seed: int, out: Any) -> int: ...


def resolve(name: str | None) -> str:
    """The backend's name: the given one, else MICROBP_BACKEND, else "compiled"."""
    chosen = name if name is not None else os.environ.get("MICROBP_BACKEND") or "compiled"
    checked: str = one_of(*_MODULES)("backend" if name is not None else "MICROBP_BACKEND", chosen)
    return checked


def load(name: str | None = None) -> Backend:
    """The backend module of that name. If the extension is missing, ImportError explains how to build it."""
    chosen = resolve(name)
    try:
        return cast(Backend, importlib.import_module(_MODULES[chosen]))
    except ImportError as error:
        if chosen == "reference":
            raise
        raise ImportError(f"microbp's compiled extension cannot be imported ({error}): {_BUILD}") from error


def _installed() -> Path:
    """The folder of the installed package, which contains the header and the library."""
    spec = importlib.util.find_spec(_MODULES["compiled"])
    if spec is None or spec.origin is None:
        raise ImportError(f"microbp's compiled extension is not installed: {_BUILD}")
    return Path(spec.origin).parent.parent


def get_include() -> str:
    """The directory of microbp.h, for a C compiler's -I. ImportError if the extension is not installed.

    >>> from pathlib import Path
    >>> sorted(path.name for path in Path(bp.get_include()).iterdir())
    ['microbp.h', 'microbp.hpp', 'microbp_base.h', 'microbp_file.h', 'microbp_net.h', 'microbp_train.h']
    """
    return str(_installed() / "include")


def get_library_dir() -> str:
    """The directory of the static library libmicrobp.a, for a linker's -L. ImportError if the extension is not installed.

    >>> from pathlib import Path
    >>> (Path(bp.get_library_dir()) / "libmicrobp.a").is_file()
    True
    """
    return str(_installed() / "lib")
