"""PyTorch, as it learns from sparse rows: EmbeddingBag and SparseAdam, on one thread."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from benchmarks.common import Batch

import microbp as bp

torch.set_num_threads(1)


def tensors(batch: Batch) -> tuple[Any, Any]:
    """The ids and targets of a batch."""
    return torch.tensor(batch.ids, dtype=torch.int64), torch.tensor(batch.y)


def dense_step(widths: Sequence[int], x: npt.NDArray[np.float32], y: npt.NDArray[np.float32]) -> Callable[[], None]:
    """A step of a dense relu chain by Adam, with the squared error."""
    layers = [part for a, b in itertools.pairwise(widths) for part in (torch.nn.Linear(a, b), torch.nn.ReLU())]
    net, inputs, targets = torch.nn.Sequential(*layers[:-1]), torch.from_numpy(x), torch.from_numpy(y)
    optimizer, loss = torch.optim.Adam(net.parameters()), torch.nn.MSELoss()

    def step() -> None:
        optimizer.zero_grad()
        loss(net(inputs), targets).backward()
        optimizer.step()

    return step


class Bag:
    """A relu chain whose first layer adds rows of a table; the others learn by Adam. net: a microbp.mlp to copy the first weights from."""

    def __init__(self, widths: Sequence[int], net: bp.Network | None = None) -> None:
        nn = torch.nn
        self.table = nn.EmbeddingBag(widths[0], widths[1], mode="sum", sparse=True)
        self.bias = nn.Parameter(torch.zeros(widths[1]))
        dense = [nn.Linear(a, b) for a, b in itertools.pairwise(widths[1:])]
        self.rest = nn.Sequential(*(part for layer in dense for part in (nn.ReLU(), layer)))
        if net is not None:
            self._start(list(net.tensors.values()), dense)
        self.optimizers = [torch.optim.SparseAdam(self.table.parameters()), torch.optim.Adam([self.bias, *self.rest.parameters()])]
        self.loss = nn.BCEWithLogitsLoss()

    def _start(self, tensors: list[Any], dense: list[Any]) -> None:
        """tensors: the weight (out, in) and the bias of each layer."""
        with torch.no_grad():
            self.table.weight.copy_(torch.tensor(np.array(tensors[0])).T)
            self.bias.copy_(torch.tensor(np.array(tensors[1])))
            for layer, weight, bias in zip(dense, tensors[2::2], tensors[3::2], strict=True):
                layer.weight.copy_(torch.tensor(np.array(weight)))
                layer.bias.copy_(torch.tensor(np.array(bias)))

    def raw(self, ids: Any) -> Any:
        return self.rest(self.table(ids) + self.bias)

    def step(self, ids: Any, y: Any) -> None:
        """ids: an int64 tensor (rows, ones). y: a float32 tensor (rows, 1)."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        self.loss(self.raw(ids), y).backward()
        for optimizer in self.optimizers:
            optimizer.step()

    def epoch(self, ids: Any, y: Any, rows: int) -> None:
        """Shuffled minibatches of this many rows."""
        for chosen in torch.randperm(len(ids)).split(rows):
            self.step(ids[chosen], y[chosen])

    def predict(self, ids: Any) -> npt.NDArray[np.float32]:
        with torch.no_grad():
            return np.asarray(self.raw(ids).numpy(), np.float32)
