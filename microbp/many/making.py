"""Trainers that a function of the caller makes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from ..core.text import brief, counted
from ..network.network import Network
from ..training.trainer import Trainer


def make(what: str, make_trainer: Callable[[Any], Trainer], values: Iterable[Any]) -> list[Trainer]:
    """The trainer of each value, each with a network of its own. what: the function that needs them."""
    if isinstance(make_trainer, Network) or not callable(make_trainer):  # a network can be called, with nodes
        raise TypeError(f"{what}: make_trainer must be a function that returns a bp.Trainer, not {brief(make_trainer)}")
    trainers: list[Trainer] = []
    for value in values:
        trainer = make_trainer(value)
        if not isinstance(trainer, Trainer):
            raise TypeError(f"{what}: make_trainer must return a bp.Trainer, not {brief(trainer)}")
        if any(trainer.net is other.net for other in trainers):
            raise ValueError(
                f"{what}: make_trainer returned a trainer of the same network twice; it must create a new network in each call"
            )
        trainers.append(trainer)
    return trainers


def copier(what: str, trainer: Trainer) -> Callable[[Any], Trainer]:
    """A function that returns copies of a trainer that has not been trained yet."""
    if trainer.steps:
        steps = counted(trainer.steps, "update")
        raise ValueError(
            f"{what}: the trainer has made {steps}, so its network knows the rows; pass a new one, or a function that makes one"
        )
    return lambda value: copy.deepcopy(trainer)
