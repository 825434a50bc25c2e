"""Penalties of weights; clips gradients before the optimizer's step, limits the norms of weights after it, and averages parameters."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

from .autodiff import Matrix, dot
from .formulas import penalty
from .layers import Tensor
from .net import Net
from .spec import number_text


def penalties_of(net: Net, tensors: Sequence[Matrix], reached: Set[Matrix]) -> list[Matrix]:
    """The penalties of the weights that are trained and that the loss depends on. tensors: the matrices of net.layout in a pass."""
    found = []
    for tensor, matrix in zip(net.layout, tensors):
        layer = net.graph.layers[tensor.layer]
        if (
            tensor.is_matrix
            and not layer.frozen
            and matrix in reached
            and not tensor.is_table
            and (layer.settings["l1"] or layer.settings["l2"])
        ):
            found.append(penalty(matrix, layer.settings["l1"], layer.settings["l2"]))
    return found


def clipped(net: Net, grads: array, clip_norm: float, clip_layer_norm: float, clip_value: float) -> list[float]:
    """The gradients that the optimizer gets. First the gradient of each layer is clipped to the norm clip_layer_norm, then the whole
    gradient to the norm clip_norm (Pascanu et al. 2013, algorithm 1), then each element to clip_value. The gradients of frozen layers are
    0."""
    found = [0.0] * len(grads)
    for name, tensors in groupby(net.layout, key=attrgetter("layer")):
        places = [tensor.place for tensor in tensors if not net.graph.layers[name].frozen]
        factor = _shrink([g for place in places for g in grads[place]], clip_layer_norm)
        for place in places:
            found[place] = [factor * g for g in grads[place]]
    factor = _shrink(found, clip_norm)
    return [max(-clip_value, min(clip_value, factor * g)) for g in found]


def limit_norms(net: Net, named: Mapping[str, Iterable[int]]) -> None:
    """If the norm of a unit's incoming weights exceeds max_norm, scales them down to max_norm (Srivastava et al. 2014, section 5.1).
    Of an embedding, that of a row that the step names. named: the rows of sparse layers that the step names."""
    for tensor in net.layout:
        layer = net.graph.layers[tensor.layer]
        if not tensor.is_matrix or layer.frozen or not layer.settings["max_norm"]:
            continue
        for place in _vectors(tensor, named.get(tensor.layer, range(tensor.rows))):
            weights = net.params[place].tolist()
            factor = _shrink(weights, layer.settings["max_norm"])
            if factor < 1:
                scaled = [factor * w for w in weights]
                net.params[place] = array(net.format, scaled)


def follow_statistics(net: Net, batches: Iterable[Any], pending: array) -> None:
    """Moves the running statistics in `pending`, which has the buffers, towards those of the batches."""
    places = {(tensor.layer, tensor.name): tensor.place for tensor in net.buffer_layout}
    for batch in batches:
        momentum, unbiased = batch.layer.settings["momentum"], batch.rows / (batch.rows - 1)
        found = {"running_mean": batch.mean, "running_var": [unbiased * variance for variance in batch.variance]}
        for name, values in found.items():
            place = places[batch.layer.name, name]
            moved = [(1 - momentum) * old + momentum * new for old, new in zip(pending[place], values)]
            pending[place] = array(net.format, moved)


def commit_statistics(net: Net, pending: array | None) -> None:
    """The running statistics in `pending` become those of the net, except in frozen layers. None: there are none."""
    for tensor in net.buffer_layout:
        if pending is not None and tensor.name.startswith("running") and not net.graph.layers[tensor.layer].frozen:
            net.buffers[tensor.place] = pending[tensor.place]


def _vectors(tensor: Tensor, rows: Iterable[int]) -> list[slice]:
    """The places of the weights of each unit, or of these rows of an embedding."""
    if tensor.is_table:
        return [slice(tensor.offset + row * tensor.cols, tensor.offset + (row + 1) * tensor.cols) for row in rows]
    return [slice(tensor.offset + unit, tensor.place.stop, tensor.cols) for unit in range(tensor.cols)]


def _shrink(vector: Sequence[float], limit: float) -> float:
    """The factor that clips a vector to a norm of at most `limit`."""
    norm = math.sqrt(dot(vector, vector))
    return limit / norm if norm > limit else 1.0


@dataclass
class Average:
    """A running mean of the states after update number `start`, `start + every`, `start + 2 every`, ...

    Each of these states changes it: vector += rate (state - vector). The rate is 1 - decay (Polyak & Juditsky 1992), or 1 / count if decay
    is 1 (Izmailov et al. 2018, equation 2). The first state is copied.
    """

    vector: array
    decay: float
    start: int
    every: int
    count: int = 0  # the number of states in the mean

    def update(self, steps: int, state: Sequence[float]) -> None:
        """Adds the state after update number `steps` to the mean, if `steps` is one of start, start + every, ..."""
        if steps >= self.start and (steps - self.start) % self.every == 0:
            self.count += 1
            rate = 1 - self.decay if self.decay < 1 else 1 / self.count
            mixed = [s if self.count == 1 else a + rate * (s - a) for a, s in zip(self.vector, state)]
            self.vector[:] = array(self.vector.typecode, mixed)


class Averaging:
    """The part of a Trainer that belongs to its average of [parameters, buffers]."""

    net: Any
    _refuse: Any
    _average: Average | None

    def set_average(self, decay: float, start: int, every: int) -> None:
        """Keeps an average of the states after the updates start, start + every, ... decay=1: all states have the same weight."""
        if not 0 <= decay <= 1:
            raise ValueError(f"decay must be in [0,1], not {number_text(decay)}")
        for name, value, least in (("start", start, 0), ("every", every, 1)):
            if value < least:
                raise ValueError(f"{name} is {value}, but must be at least {least}")
        self._refuse("an average")
        zeros = array(self.net.format, [0.0] * (len(self.net.params) + len(self.net.buffers)))
        self._average = Average(zeros, float(decay), start, every)

    @property
    def average(self) -> array | None:
        """The average: parameters, then buffers; None if there is none."""
        return self._average.vector if self._average else None

    @property
    def average_count(self) -> int:
        """The number of states in the average."""
        return self._average.count if self._average else 0

    def _set_average_count(self, count: float) -> None:
        if self._average:
            self._average.count = int(count)
        elif count:
            raise ValueError(f"average_count cannot be {number_text(count)}: the trainer has no average")
