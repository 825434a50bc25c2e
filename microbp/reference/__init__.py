"""The reference backend: the same networks and the same training in plain Python floats, written to be compared with a textbook.

`autodiff` is the chain rule, `formulas` the mathematics, `graph` the network's structure, `net` the forward pass, `trainer` the
training step. The compiled backend is checked against this one.
"""

from .file import SavedNet as Net
from .formulas import formulas
from .hashing.xxh64 import hash_values
from .random import permutation
from .solvers.minimize import Function
from .solvers.minimize import minimize as _minimize
from .spec import Spec, target_columns
from .states.state import State
from .trainer import Trainer

__all__ = ["Net", "State", "Trainer", "cpus", "formulas", "hash_values", "minimize", "permutation", "target_columns"]


def cpus() -> int:
    """How many processors this backend uses: 1."""
    return 1


def minimize(
    solver: str, residuals: int, function: Function, iterations: int, goal: float, gradient_tolerance: float, x: bytearray
) -> tuple[float, bytes, int, str]:
    """As that of the compiled backend."""
    return _minimize(Spec.parse("solver", solver), residuals, function, iterations, goal, gradient_tolerance, x)
