"""The contenders of bench/compare.py: microbp, and peers written as their users would write the same work."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

from contenders.contender import Contender


class Entry(NamedTuple):
    """The class of a contender, and the packages that it needs, by their names for pip."""

    module: str
    class_name: str
    packages: tuple[str, ...]

    def missing(self) -> list[str]:
        """The packages that are not installed."""
        return [package for package in self.packages if not _version(package)]

    def load(self) -> type[Contender]:
        """The class; importing it imports the packages."""
        found: type[Contender] = getattr(importlib.import_module(f"contenders.{self.module}"), self.class_name)
        return found


OURS, OURS_IN_C = "microbp", "microbp in C"
PEERS = {
    "numpy": Entry("by_numpy", "ByNumpy", ("numpy",)),
    "torch": Entry("by_torch", "ByTorch", ("torch",)),
    "torch.compile": Entry("by_torch", "ByTorchCompile", ("torch",)),
    "jax": Entry("by_jax", "ByJax", ("jax", "jaxlib")),
    "scikit-learn": Entry("by_sklearn", "BySklearn", ("scikit-learn",)),
    "keras": Entry("by_keras", "ByKeras", ("keras",)),
}
ENTRIES = {OURS: Entry("by_microbp", "ByMicrobp", ()), OURS_IN_C: Entry("by_c", "ByC", ()), **PEERS}


def versions() -> list[str]:
    """The installed packages of the peers with their versions, such as "torch 2.13.0"."""
    packages = dict.fromkeys(package for entry in PEERS.values() for package in entry.packages)
    return [f"{package} {_version(package)}" for package in packages if _version(package)]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
