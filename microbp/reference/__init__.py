"""The reference backend: the same networks and the same training in plain Python floats, to be read beside a textbook.

`autodiff` is the chain rule, `formulas` the mathematics, `graph` the network's structure, `net` the forward pass, `trainer` the
training step. The compiled backend is checked against this one.
"""

from .file import SavedNet as Net
from .formulas import formulas
from .random import permutation
from .trainer import Trainer

__all__ = ["Net", "Trainer", "cpus", "formulas", "permutation"]


def cpus() -> int:
    """How many processors compute: Python's one."""
    return 1
