"""Histograms: how the activations and weights of each layer are distributed, epoch after epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...core.checks import whole_number
from ...core.text import counted
from ...data.arrays import Array
from ...network.network import Network
from .measure import values_of

_MOST = 200  # epochs that are kept
_LARGEST = 1e300  # beyond, the ends of bins might be infinite


class Histogram:
    """Counts of some values in bins of equal width, which are the same for all epochs: counts (epochs, bins), int64, and edges (bins + 1,).

    Values that are NaN or infinite are not counted.
    """

    def __init__(self, bins: int) -> None:
        self._low, self._width = 0.0, 1 / bins  # of the first bin
        self.counts: Array = np.zeros((0, bins), np.int64)

    @property
    def edges(self) -> Array:
        """The ends of the bins, ascending."""
        return self._low + self._width * np.arange(self.counts.shape[1] + 1)

    def add(self, values: Array) -> None:
        """Appends the counts of an epoch."""
        values = values.ravel().astype(np.float64)
        values = values[np.abs(values) < _LARGEST]
        bins = self.counts.shape[1]
        if len(values):
            self._make_room(float(values.min()), float(values.max()))
        counts, _ = np.histogram(values, bins, (self._low, self._low + bins * self._width))
        self.counts = np.vstack([self.counts, counts])

    def keep(self, chosen: Array) -> None:
        """Keeps the epochs at these places."""
        self.counts = self.counts[chosen]

    def _make_room(self, low: float, high: float) -> None:
        """Makes the bins contain this range: they become twice as wide, each two of them one, until they do. No count is lost."""
        bins = self.counts.shape[1]
        if not self.counts.any():
            if high - low <= 1e-12 * max(abs(low), abs(high)):  # all values are the same
                low, high = low - max(abs(low), 1.0) / 2, high + max(abs(high), 1.0) / 2
            self._low, self._width = low, (high - low) / bins * (1 + 1e-12)  # more than enough, after rounding
        while low < self._low or high > self._low + bins * self._width:
            pairs = self.counts.reshape(len(self.counts), bins // 2, 2).sum(axis=2)
            empty = np.zeros_like(pairs)
            is_left = low < self._low
            self._low -= is_left * bins * self._width
            self._width *= 2
            self.counts = np.hstack([empty, pairs] if is_left else [pairs, empty])


class Histograms:
    """A callback of `fit` that counts the activations and weights of each layer after each epoch.

    net: the network that is trained. X: the rows whose activations are counted, as in `net.predict`; about 100 are enough, and each epoch
    takes a prediction of them. bins: an even number. every: counts every this many epochs, the first one too. lengths: as in `net.predict`;
    positions beyond a length are left out. ValueError or TypeError: the rows do not fit the network. The training is not changed.

    epochs: the numbers of the epochs that were counted. activations, weights: a Histogram for each layer by name, in the order of
    `net.layers`, with `counts` (epochs, bins) and `edges` (bins + 1,). Activations are the layer's output over rows, units and positions,
    in all nodes where it is used; weights are its parameters without biases: layers without such are not in `weights`.
    The edges are the same for all epochs: when values leave them, neighbouring bins are joined, and no count is lost.

    At most 200 epochs are kept: then every second one is removed, and `every` doubles. Each layer so takes at most 16 x 200 x bins bytes,
    160 kB with 50 bins. If a later fit goes back to an earlier epoch, the epochs from there on are replaced.

    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> t = bp.Trainer(bp.mlp([2, 8, 1], activation="tanh", seed=0), loss="mse")
    >>> h = bp.Histograms(t.net, X[:100], bins=20)
    >>> history = t.fit(X, X.prod(axis=1), epochs=5, callback=h)
    >>> found = h.activations["dense_0"]
    >>> h.epochs, found.edges.shape, found.counts.shape
    ([1, 2, 3, 4, 5], (21,), (5, 20))
    >>> found.counts.sum(axis=1)  # 100 rows and 8 units in each epoch
    array([800, 800, 800, 800, 800])
    """

    def __init__(self, net: Network, X: Any, bins: int = 50, every: int = 1, lengths: Any = None) -> None:  # noqa: N803
        if not isinstance(net, Network):
            raise TypeError(f"Histograms: net must be the bp.Network that is trained, not {type(net).__name__}")
        bins = whole_number(bins, "Histograms: bins", least=2)
        if bins % 2:
            raise ValueError(f"Histograms: bins must be an even number, because neighbouring bins are joined, not {bins}")
        self.every = whole_number(every, "Histograms: every")
        self._net, self._x, self._lengths = net, X, lengths
        values_of(net, X, lengths)  # raises the error for rows that do not fit
        self.epochs: list[int] = []
        self.activations: dict[str, Histogram] = {layer.name: Histogram(bins) for layer in net.layers}
        self.weights: dict[str, Histogram] = {name: Histogram(bins) for name in self._weights()}

    def __call__(self, record: Mapping[str, float]) -> None:
        """Counts after the epoch of this record, if it is one of those that are counted."""
        if (int(record["epoch"]) - 1) % self.every == 0:
            self.count(int(record["epoch"]))

    def count(self, epoch: int) -> None:
        """Counts now, as this epoch: 0 is before the training.

        >>> net = bp.mlp([2, 8, 1], seed=0)
        >>> h = bp.Histograms(net, np.zeros((10, 2)))
        >>> h.count(0)
        >>> h.epochs, h.activations["dense_0"].counts.shape
        ([0], (1, 50))
        """
        if any(before >= epoch for before in self.epochs):
            self._keep([i for i, before in enumerate(self.epochs) if before < epoch])
        weights = self._weights()
        for name, values in values_of(self._net, self._x, self._lengths).items():
            self.activations[name].add(np.concatenate([one.ravel() for one in values]))
        for name, histogram in self.weights.items():
            histogram.add(weights[name])
        self.epochs.append(epoch)
        if len(self.epochs) > _MOST:
            self.every *= 2
            self._keep(list(range(0, len(self.epochs), 2)))

    def _keep(self, chosen: list[int]) -> None:
        self.epochs = [self.epochs[i] for i in chosen]
        for histogram in (*self.activations.values(), *self.weights.values()):
            histogram.keep(np.array(chosen, np.int64))

    def _weights(self) -> dict[str, Array]:
        tensors = self._net.tensors
        names = [layer.name for layer in self._net.layers if f"{layer.name}.weight" in tensors]
        return {name: tensors[f"{name}.weight"] for name in names}

    def __repr__(self) -> str:
        return f"Histograms({counted(len(self.epochs), 'epoch')}, {counted(len(self.activations), 'layer')})"
