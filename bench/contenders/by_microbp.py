"""microbp from Python."""

from __future__ import annotations

import time

import numpy as np

import microbp as bp
from contenders.contender import InPython
from contenders.work import LR, Work


class ByMicrobp(InPython):
    """`bp.mlp` and a `Trainer`. With several threads, microbp decides which products use them."""

    def __init__(self, work: Work, threads: int) -> None:
        self.work = work
        self.net = bp.mlp(work.net.widths, "relu", seed=0, n_threads=threads)
        self.trainer = bp.Trainer(self.net, work.net.loss, bp.Adam(lr=LR))
        self.initial = np.concatenate([layer.weight.ravel() for layer in work.layers] + [layer.bias for layer in work.layers])

    def reset(self) -> None:
        self.net.params[:] = self.initial
        self.trainer.reset()

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        return self.trainer.step(x, y)

    def epoch(self, order: np.ndarray) -> float:
        record = next(self.trainer.epochs(self.work.x, self.work.y, batch_size=self.work.net.batch, order=order))
        return float(record.loss)

    def seconds(self, work: Work, kind: str, count: int) -> float:
        """As InPython, and "apply", the update alone."""
        if kind != "apply":
            return super().seconds(work, kind, count)
        self.step(*work.batches[0])  # computes the gradients
        start = time.perf_counter()
        for _ in range(count):
            self.trainer.apply()
        return time.perf_counter() - start

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.net.predict(x, raw=True))
