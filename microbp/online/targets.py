"""What an online model predicts: a number, or a class of those that have appeared.

Both kinds have the same methods. `read` makes the trainer's target of y, and changes nothing; `keep` comes after the step.
"""

from __future__ import annotations

from math import exp
from typing import Any

import numpy as np

from ..core.checks import floating
from ..core.specs import LossName
from ..core.text import brief
from ..data.arrays import Array
from .moments import NONE, Moments, included, is_valid, moments_of, refused, restored

Label = str | int | bool
_KINDS = {str: "strings", int: "whole numbers", bool: "bools"}


class Number:
    """A number, standardised by those so far, itself included."""

    __slots__ = ("_moments",)
    name = "number"
    loss: LossName = "mse"
    labels: tuple[Label, ...] = ()

    def __init__(self) -> None:
        self._moments: Moments = NONE

    def read(self, y: Any) -> tuple[Array, Moments]:
        value = y if type(y) is float else floating("y", y)
        if not is_valid(value):
            raise refused("y", y)
        moments, standard = included(self._moments, value)
        return np.array([[standard]]), moments

    def keep(self, seen: Moments) -> None:
        self._moments = seen

    def prediction(self, outputs: list[float]) -> float:
        return restored(self._moments, outputs[0])

    def probabilities(self, outputs: list[float]) -> dict[Label, float]:
        raise ValueError("predict_proba_one: the target is a number, which has no probabilities: use predict_one")

    def state(self) -> list[float]:
        return list(self._moments)

    def restore(self, state: Any) -> None:
        self._moments = moments_of(state)


class Classes:
    """A class: the first new label has output 0, the next one output 1, ... room: the number of outputs."""

    __slots__ = ("_kind", "_numbers", "_room", "labels")
    name = "classes"
    loss: LossName = "cross_entropy"

    def __init__(self, room: int) -> None:
        self._room = room
        self._kind: type | None = None  # of all labels
        self._numbers: dict[Label, int] = {}
        self.labels: list[Label] = []

    def read(self, y: Any) -> tuple[Array, Label]:
        label = y.item() if isinstance(y, np.generic) else y
        if type(label) is not self._kind and (self.labels or type(label) not in _KINDS):
            wanted = f"so far are {_KINDS[type(self.labels[0])]}" if self.labels else "must be strings, whole numbers or bools"
            raise TypeError(f"y is {brief(y)}, but the classes {wanted}")
        number = self._numbers.get(label, len(self.labels))
        if number == self._room:
            what = f"class number {number + 1}, but the model has outputs for {self._room}"
            raise ValueError(f"y is {brief(y)}, {what}: create a model with a larger max_classes")
        return np.array([number]), label

    def keep(self, seen: Label) -> None:
        if seen not in self._numbers:
            self._numbers[seen] = len(self.labels)
            self.labels.append(seen)
            self._kind = type(seen)

    def prediction(self, outputs: list[float]) -> Label | None:
        """By the raw outputs, the most probable class of those that have appeared, of equal ones the first; None before
        the first row."""
        known = outputs[: len(self.labels)]
        return self.labels[known.index(max(known))] if known else None

    def probabilities(self, outputs: list[float]) -> dict[Label, float]:
        """The probabilities of the classes that have appeared; their sum is 1."""
        known = outputs[: len(self.labels)]
        shares = [exp(one - max(known)) for one in known]
        return {label: share / sum(shares) for label, share in zip(self.labels, shares, strict=True)}

    def state(self) -> list[Label]:
        return list(self.labels)

    def restore(self, state: Any) -> None:
        for label in state:
            self.keep(self.read(label)[1])
        if len(self.labels) < len(state):
            raise ValueError("a class is in the list of classes twice")
