"""What training changes, kept and brought back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .trainer import Trainer


def take(trainer: Trainer) -> dict[str, Any]:
    """A copy of all that steps of a trainer change: its own state, and its network's parameters and buffers."""
    return trainer._state_now() | {"params": trainer.net.params.copy(), "buffers": trainer.net.buffers.copy()}


def restore(trainer: Trainer, state: dict[str, Any]) -> None:
    """Brings it back, bit by bit."""
    trainer._set_state(state)
    trainer.net.params[...] = state["params"]
    trainer.net.buffers[...] = state["buffers"]
