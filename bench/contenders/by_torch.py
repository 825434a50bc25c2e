"""PyTorch, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from contenders.contender import InPython
from contenders.work import LR, Work


class ByTorch(InPython):
    """Eager: `nn.Sequential`, tensors that share memory with the arrays, fused Adam (the fastest on a CPU)."""

    def __init__(self, work: Work, threads: int) -> None:
        torch.set_num_threads(threads)
        self.work = work
        self.linears = [torch.nn.Linear(i, o) for i, o in work.net.shapes]
        parts = [part for linear in self.linears[:-1] for part in (linear, torch.nn.ReLU())]
        self.net = torch.nn.Sequential(*parts, self.linears[-1])
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=LR, fused=True)
        self.loss_of = torch.nn.functional.mse_loss if work.net.loss == "mse" else torch.nn.functional.cross_entropy
        self.loss: Callable[[Any, Any], Any] = lambda x, y: self.loss_of(self.net(x), y)
        self.outputs: Callable[[Any], Any] = self.net
        self.x, self.y = torch.from_numpy(work.x), torch.from_numpy(work.y)

    def reset(self) -> None:
        with torch.no_grad():
            for linear, layer in zip(self.linears, self.work.layers, strict=True):
                linear.weight.copy_(torch.from_numpy(layer.weight).T)
                linear.bias.copy_(torch.from_numpy(layer.bias))
            for state in self.optimizer.state.values():
                for slot in state.values():
                    slot.zero_()

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        return float(self._step(torch.from_numpy(x), torch.from_numpy(y)).item())

    def _step(self, x: Any, y: Any) -> Any:
        self.optimizer.zero_grad()
        loss = self.loss(x, y)
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def epoch(self, order: np.ndarray) -> float:
        total = torch.zeros(())
        for rows in torch.from_numpy(order).split(self.work.net.batch):
            total += self._step(self.x[rows], self.y[rows])
        return float(total.item()) / self.work.net.steps

    def predict(self, x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(self.outputs(torch.from_numpy(x)).numpy())


class ByTorchCompile(ByTorch):
    """Forward, loss and backward, and the prediction, with torch.compile; fused Adam is faster uncompiled."""

    def __init__(self, work: Work, threads: int) -> None:
        super().__init__(work, threads)
        torch.compiler.reset()  # otherwise the previous net counts towards a limit of recompilations
        self.loss = torch.compile(self.loss, dynamic=False)
        self.outputs = torch.compile(self.net, dynamic=False)
