"""The reference backend: the same networks and the same training in plain Python floats, written to be compared with a textbook.

`autodiff` is the chain rule, `formulas` the mathematics, `graph` the network's structure, `net` the forward pass, `trainer` the
training step. The compiled backend is checked against this one.
"""

from .autodiff import Matrix
from .file import SavedNet as Net
from .formulas import formulas
from .hashing.xxh64 import hash_values
from .integers.chain import Chain, Floats, Of
from .random import permutation
from .solvers.minimize import Function
from .solvers.minimize import minimize as _minimize
from .spec import Spec, target_columns
from .states.state import State
from .trainer import Trainer

__all__ = ["Int8", "Net", "State", "Trainer", "cpus", "formulas", "hash_values", "minimize", "permutation", "target_columns"]


class Int8(Chain):
    """A network of whole numbers."""

    def activation(self, text: str) -> Of:
        """The activation of this SPEC."""
        spec = Spec.parse("activation", text or "identity")
        return lambda row: list(spec.entry.y(Matrix(1, len(row), row), *spec.values.values()).data)

    def output_values(self, name: str, row: Floats) -> Floats:
        """An output activation of a row."""
        return list(Spec.parse("output_activation", name).entry.y(Matrix(1, len(row), row)).data)


def cpus() -> int:
    """How many processors this backend uses: 1."""
    return 1


def minimize(
    solver: str, residuals: int, function: Function, iterations: int, goal: float, gradient_tolerance: float, x: bytearray
) -> tuple[float, bytes, int, str]:
    """As that of the compiled backend."""
    return _minimize(Spec.parse("solver", solver), residuals, function, iterations, goal, gradient_tolerance, x)
