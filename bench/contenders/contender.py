"""The base class of contenders: the work, its timing, and the results to check."""

from __future__ import annotations

import itertools
import time
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from contenders.work import Work

CHECKED_STEPS, CHECKED_ROWS = 4, 8


class Results(NamedTuple):
    """Results to check, from the initial weights: outputs of some rows, losses of a few steps, outputs after them; loss of an epoch."""

    before: list[list[float]]
    losses: list[float]
    after: list[list[float]]
    epoch_loss: float
    probabilities: bool = False  # the outputs went through softmax


class Contender(ABC):
    """One way to train and use a net."""

    @abstractmethod
    def __init__(self, work: Work, threads: int) -> None: ...

    @abstractmethod
    def results(self, work: Work) -> Results:
        """Computes the results to check. This also warms up code that is compiled on first use."""

    @abstractmethod
    def seconds(self, work: Work, kind: str, count: int) -> float:
        """The time in seconds of `count` units of a kind of work."""

    def close(self) -> None:  # noqa: B027  # most contenders have nothing to close
        """Frees everything except memory."""


class InPython(Contender):
    """A contender in this process. It takes NumPy arrays, and returns the loss as a float and outputs as an array."""

    probabilities = False  # True if `predict` returns softmax probabilities because the library cannot return raw outputs

    @abstractmethod
    def reset(self) -> None:
        """Resets the weights and the optimizer to their initial state."""

    @abstractmethod
    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        """Forward, loss, backward, update."""

    @abstractmethod
    def epoch(self, order: np.ndarray) -> float:
        """Does a step for each minibatch of the rows in this order; returns their mean loss."""

    @abstractmethod
    def predict(self, x: np.ndarray) -> np.ndarray:
        """The outputs of these rows."""

    def results(self, work: Work) -> Results:
        self.reset()
        before = self._checked(work)
        losses = [self.step(x, y) for x, y in itertools.islice(itertools.cycle(work.batches), CHECKED_STEPS)]
        after = self._checked(work)
        self.predict(work.queries[:1])
        self.reset()
        return Results(before, losses, after, self.epoch(work.order()), self.probabilities)

    def _checked(self, work: Work) -> list[list[float]]:
        rows: list[list[float]] = np.asarray(self.predict(work.queries))[:CHECKED_ROWS].reshape(CHECKED_ROWS, -1).tolist()
        return rows

    def seconds(self, work: Work, kind: str, count: int) -> float:
        if kind in ("step", "epoch"):
            self.reset()
        start = time.perf_counter()
        if kind == "step":
            for x, y in itertools.islice(itertools.cycle(work.batches), count):
                self.step(x, y)
        elif kind == "epoch":
            draw = np.random.default_rng(2)
            for _ in range(count):
                self.epoch(draw.permutation(len(work.x)))
        else:
            x = work.queries[: work.net.rows(kind)]
            for _ in range(count):
                self.predict(x)
        return time.perf_counter() - start
