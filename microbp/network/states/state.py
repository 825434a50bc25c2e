"""State: what the recurrent nodes of a network remember between calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from ...core import backend as backends
from ...core.attributes import Closed
from ...core.checks import whole_number
from ...core.text import brief


class State(Closed):
    """The states of a network's recurrent layers after the positions so far: a row for each sequence. `net.state(rows)` makes one, all 0.

    `net.predict(X, state=state)`, `t.step(X, y, state=state)` and others go on from it, and change it. It fits each network with the same
    recurrent layers and dtype, such as a copy. One call at a time may use it.

    >>> x = bp.Sequence(20, 3)
    >>> net = bp.Network(x, bp.Dense(2)(bp.Recurrent(8, cell="gru")(x)), seed=0)
    >>> X = np.random.default_rng(0).normal(size=(4, 20, 3))
    >>> state = net.state(4)
    >>> pieces = [net.predict(X[:, :15], state=state), net.predict(X[:, 15:], state=state)]
    >>> bool((np.concatenate(pieces, axis=1) == net.predict(X)).all())
    True
    """

    __slots__ = ("_backend", "_core", "_rows", "_values")

    _core: backends.CoreState

    def __init__(self, core: backends.CoreState, names: Sequence[str], backend: str) -> None:
        """core: the state of a backend. names: of its recurrent nodes, in order."""
        self._core, self._backend, self._rows = core, backend, core.rows
        views = [np.asarray(memoryview(values)).reshape(core.rows, columns) for columns, values in core.values()]
        self._values = MappingProxyType(dict(zip(names, views, strict=True)))

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self._rows

    @property
    def values(self) -> Mapping[str, np.ndarray[Any, Any]]:
        """Writable views of the numbers by the name of the layer: (rows, units); of "lstm" (rows, 2 x units): h, then c.

        >>> x = bp.Sequence(20, 3)
        >>> net = bp.Network(x, bp.Recurrent(8, cell="lstm", name="memory")(x), seed=0)
        >>> state = net.state(4)
        >>> state.values["memory"].shape
        (4, 16)
        """
        return self._values

    def reset(self, rows: Any = None) -> None:
        """Sets the rows with these numbers to 0, where new sequences begin; None: all rows.

        rows: a number, or a sequence of numbers; ValueError or TypeError for others.

        >>> x = bp.Sequence(20, 3)
        >>> net = bp.Network(x, bp.Recurrent(8, name="memory")(x), seed=0)
        >>> state = net.state(4)
        >>> _ = net.predict(np.ones((4, 20, 3)), state=state)
        >>> state.reset([0, 3])
        >>> state.values["memory"].any(axis=1)
        array([False,  True,  True, False])
        """
        if rows is None:
            self._core.reset()
            return
        given = np.asarray(rows)
        if given.ndim > 1 or (given.size and given.dtype.kind not in "iu"):
            hint = "; of a mask, pass np.flatnonzero(mask)" if given.dtype == bool else ""
            raise TypeError(f"reset: rows must be a row number, or a sequence of row numbers, not {brief(rows)}{hint}")
        numbers = [whole_number(row, "reset: rows", least=0) for row in given.reshape(-1).tolist()]
        for row in numbers:
            if row >= self.rows:
                raise ValueError(f"reset: rows has {row}, but the state has the rows 0 to {self.rows - 1}")
        self._core.reset(numbers)

    def copy(self) -> Self:
        """An independent copy. copy.copy and copy.deepcopy do the same.

        >>> x = bp.Sequence(20, 3)
        >>> net = bp.Network(x, bp.Recurrent(8)(x), seed=0)
        >>> state = net.state(4)
        >>> other = state.copy()
        >>> _ = net.predict(np.ones((4, 20, 3)), state=other)
        >>> bool(other.values["recurrent_0"].any()), bool(state.values["recurrent_0"].any())
        (True, False)
        """
        return type(self)._of(self._backend, self._core.dtype, self.rows, dict(self._values))

    @classmethod
    def _of(cls, backend: str, dtype: str, rows: int, values: Mapping[str, np.ndarray[Any, Any]]) -> Self:
        made = cls(backends.load(backend).State(dtype, rows, [array.shape[1] for array in values.values()]), list(values), backend)
        for name, array in values.items():
            made._values[name][...] = array
        return made

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        memo[id(self)] = twin = self.copy()
        return twin

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self)._of, (self._backend, self._core.dtype, self.rows, {name: array.copy() for name, array in self._values.items()})

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {array.shape[1]}" for name, array in self._values.items())
        return f"<state of {self.rows} row{'s' if self.rows != 1 else ''}: {parts}>"


def of_call(state: Any, rows: int, call: str, backend: str) -> backends.CoreState:
    """The backend's state for a call of this many rows; TypeError or ValueError if it does not fit."""
    if not isinstance(state, State):
        raise TypeError(f"{call}: state must be a state from net.state(rows), not {brief(state)}")
    if state.rows != rows:
        raise ValueError(f"{call}: state has {state.rows} row{'s' if state.rows != 1 else ''}, but X has {rows}; use net.state({rows})")
    if state._backend != backend:
        raise ValueError(f"{call}: state is of the {state._backend} backend, but the network of the {backend} backend")
    return state._core
