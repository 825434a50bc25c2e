"""Loads a network or an ensemble, whichever a file contains."""

from __future__ import annotations

import os

from ..network import nets_file, network
from ..network.network import Network
from .ensemble import Ensemble


def load(path: str | os.PathLike[str], *, n_threads: int | None = None) -> Network | Ensemble:
    """The network or ensemble in a file. OSError if it cannot be read, ValueError if it is damaged or contains something else."""
    if nets_file.has_several(path):
        return Ensemble.load(path, n_threads=n_threads)
    return network.load(path, n_threads=n_threads)
