"""What training changes, kept and brought back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .trainer import Trainer


class Snapshot:
    """All that steps of a trainer change: its own state, and its network's parameters and buffers."""

    def __init__(self, trainer: Trainer) -> None:
        self._trainer = trainer
        self._own = trainer._state_now()
        self._params, self._buffers = trainer.net.params.copy(), trainer.net.buffers.copy()

    def restore(self) -> None:
        """Brings it back, bit by bit."""
        self._trainer._set_state(self._own)
        self._trainer.net.params[...] = self._params
        self._trainer.net.buffers[...] = self._buffers
