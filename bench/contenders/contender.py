"""What a contender offers, how it is timed, and the answers by which it shows that it does the same work."""

from __future__ import annotations

import itertools
import time
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from contenders.work import Work

CHECKED_STEPS, CHECKED_ROWS = 4, 8


class Answers(NamedTuple):
    """From the initial weights: outputs of some rows, losses of a few steps, the outputs after them; and the mean loss of an epoch."""

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
    def answers(self, work: Work) -> Answers:
        """For the check; its calls also warm up whatever compiles on first use."""

    @abstractmethod
    def seconds(self, work: Work, kind: str, count: int) -> float:
        """The time of so many units of a kind of work."""

    def close(self) -> None:  # noqa: B027  # most hold nothing but memory
        """Lets go of what is not memory."""


class InPython(Contender):
    """A contender in this process. It takes NumPy arrays, and returns the loss as a float and outputs as an array."""

    probabilities = False  # whether `predict` gives the softmax of the outputs, as it can do nothing else

    @abstractmethod
    def reset(self) -> None:
        """Back to the initial weights and an optimizer that has not seen anything."""

    @abstractmethod
    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        """Forward, loss, backward, update."""

    @abstractmethod
    def epoch(self, order: np.ndarray) -> float:
        """A step for each minibatch of the rows in this order; the mean of their losses."""

    @abstractmethod
    def predict(self, x: np.ndarray) -> np.ndarray:
        """The outputs of these rows."""

    def answers(self, work: Work) -> Answers:
        self.reset()
        before = self._checked(work)
        losses = [self.step(x, y) for x, y in itertools.islice(itertools.cycle(work.batches), CHECKED_STEPS)]
        after = self._checked(work)
        self.predict(work.queries[:1])
        self.reset()
        return Answers(before, losses, after, self.epoch(work.order()), self.probabilities)

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
