"""Ensemble: predictions of several networks as one."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any, Self, overload

import numpy as np

from ..core.attributes import Closed
from ..core.backend import BackendName
from ..core.checks import flag, floating
from ..core.text import brief, counted
from ..data.arrays import Array, as_array
from ..data.ids import as_inputs
from ..network import nets_file
from ..network import notes as json_notes
from ..network.network import Network
from ..network.predicting import Prediction
from ..network.records import InputInfo, OutputInfo

_SHOWN = 20  # members in `print(ensemble)`


class Ensemble(Closed):
    """Several networks that predict together: the mean of their predictions, their spread and quantiles.

    nets: networks with equal dtypes, input widths, output widths and output activations; their hidden layers may differ. The ensemble keeps
    these networks, not copies: if one is trained on, the predictions change. copy.copy has the same members, copy.deepcopy has copies.
    weights: of the members in the mean, the spread and the quantiles: a finite number of at least 0 for each, not all 0; only their
    ratios matter, and a member of weight 0 does not count, even if it predicts NaN. None: all count alike.

    Networks that are trained from different seeds err differently, so their mean is usually better than each of them, and their
    spread shows where they do not know (deep ensembles, Lakshminarayanan et al. 2017).

    >>> X = np.linspace(-1, 1, 40).reshape(-1, 1)
    >>> trainers = [bp.Trainer(bp.mlp([1, 8, 1], seed=seed), loss="mse") for seed in range(5)]
    >>> histories = bp.train_many(trainers, X, np.sin(X), epochs=5)
    >>> ensemble = bp.Ensemble([t.net for t in trainers])
    >>> ensemble.predict(X).shape, ensemble.std(X).shape
    ((40, 1), (40, 1))
    >>> bp.Ensemble(ensemble[:2], weights=[3, 1]).weights
    (3.0, 1.0)
    """

    __slots__ = ("__weakref__", "_members", "_notes", "_weights")

    def __init__(self, nets: Sequence[Network], weights: Sequence[float] | None = None) -> None:
        if isinstance(nets, Network):
            raise TypeError("Ensemble: nets must be a list of networks, not a single one; write bp.Ensemble([net])")
        if not hasattr(nets, "__iter__"):
            raise TypeError(f"Ensemble: nets must be a list of networks, not {brief(nets)}")
        members = tuple(nets)
        for i, net in enumerate(members):
            if not isinstance(net, Network):
                advice = "; pass its net" if hasattr(net, "net") else ""
                raise TypeError(f"Ensemble: nets[{i}] must be a bp.Network, not {type(net).__name__}{advice}")
        if not members:
            raise ValueError("Ensemble: nets is empty; pass at least one network")
        _check_alike(members)
        self._members = members
        self._weights = None if weights is None else _checked_weights(weights, len(members))
        self._notes = ""

    # ---- parts ----

    @property
    def members(self) -> tuple[Network, ...]:
        """The networks. `ensemble[0]`, `len(ensemble)` and `for net in ensemble` work too."""
        return self._members

    @property
    def weights(self) -> tuple[float, ...] | None:
        """The weights of the members, as they were given; None if all count alike."""
        return self._weights

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the members and of their predictions."""
        return self._members[0].dtype

    @property
    def inputs(self) -> list[InputInfo]:
        """The inputs of the first member, with node and width. All members have the same widths."""
        return self._members[0].inputs

    @property
    def outputs(self) -> list[OutputInfo]:
        """The outputs of the first member, with node, width and activation. All members have the same widths and activations."""
        return self._members[0].outputs

    @property
    def notes(self) -> json_notes.Notes:
        """A JSON object for your own use, as `net.notes`. Copies and files keep it, and the notes of each member.

        >>> ensemble = bp.Ensemble([bp.mlp([2, 1], seed=seed) for seed in range(3)])
        >>> ensemble.notes = {"columns": ["age", "weight"]}
        >>> ensemble.notes["columns"]
        ['age', 'weight']
        """
        return json_notes.read(self._notes)

    @notes.setter
    def notes(self, notes: Mapping[str, Any]) -> None:
        self._notes = json_notes.write(notes)

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Network]:
        return iter(self._members)

    @overload
    def __getitem__(self, index: int) -> Network: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Network, ...]: ...
    def __getitem__(self, index: int | slice) -> Network | tuple[Network, ...]:
        return self._members[index]

    def __repr__(self) -> str:
        widths = [", ".join(str(one.width) for one in ends) for ends in (self.inputs, self.outputs)]
        lines = [f"microbp.Ensemble: {counted(len(self), 'network')}, {self.dtype}, {widths[0]} -> {widths[1]}"]
        for i, net in enumerate(self._members[:_SHOWN]):
            layers = counted(len(net.layers), "layer")
            weight = "" if self._weights is None else f", weight {self._weights[i]:.4g}"
            lines.append(f"[{i}] {layers}, {net._records.parameters:,} parameters, seed {net.seed}, {net.backend} backend{weight}")
        return "\n".join(lines + [f"... and {len(self) - _SHOWN} more"] * (len(self) > _SHOWN))

    # ---- predicting ----

    def predict(self, X: Any, raw: bool = False) -> Prediction:  # noqa: N803
        """The mean of the members' predictions for each row of X, with their weights: of probabilities, rates or numbers.

        X: as in `net.predict`. raw: if True, returns the mean of the raw outputs, before the output activations.
        Returns what `net.predict` returns: shape (rows, outputs), and a list of such arrays for several outputs. The sum is computed in
        float64, in the order of the members. ValueError or TypeError if X does not fit.

        >>> ensemble = bp.Ensemble([bp.mlp([2, 3], seed=seed) for seed in range(3)])
        >>> bool(np.allclose(ensemble.predict([1.0, 2.0]), np.mean([net.predict([1.0, 2.0]) for net in ensemble], axis=0)))
        True
        """
        each, weights = self._each(X, self._voters, flag("predict: raw", raw)), self._votes or [1.0] * len(self)
        sums = [np.multiply(array, weights[0], dtype=np.float64) for array in next(each)]
        for weight, arrays in zip(weights[1:], each, strict=True):
            for total, array in zip(sums, arrays, strict=True):
                total += np.multiply(array, weight, dtype=np.float64)
        return _one_or_list([np.asarray(total / sum(weights), self.dtype) for total in sums])

    def predict_each(self, X: Any) -> Prediction:  # noqa: N803
        """The predictions of each member, of shape (members, rows, outputs); a list of such arrays for several outputs. X: as in `predict`.

        >>> bp.Ensemble([bp.mlp([2, 3], seed=seed) for seed in range(5)]).predict_each(np.zeros((4, 2))).shape
        (5, 4, 3)
        """
        return _one_or_list([np.stack(arrays) for arrays in zip(*self._each(X, self._members), strict=True)])

    def majority(self, X: Any) -> Prediction:  # noqa: N803
        """The label that most members give to each row, with their weights: for softmax outputs the class, of shape (rows,); for sigmoid
        outputs whether more than half say yes (1) or not (0), of shape (rows,) for one column, else (rows, columns).

        X: as in `predict`. If labels have equally many votes, the one with the highest mean probability wins. A member that predicts NaN
        does not vote; without any votes the label is -1. Returns int64; a list of arrays for several outputs. ValueError: an output has no
        probabilities.

        >>> ensemble = bp.Ensemble([bp.mlp([2, 3], seed=seed) for seed in range(5)])
        >>> for net in ensemble:
        ...     net.set_output(0, activation="softmax")
        >>> ensemble.majority(np.zeros((4, 2))).shape
        (4,)
        """
        for i, output in enumerate(self.outputs):
            if output.activation not in ("softmax", "sigmoid"):
                raise ValueError(
                    f"majority: output {i} has no probabilities: its activation is {output.activation}, not softmax or sigmoid"
                )
        each = [np.stack(arrays).astype(np.float64) for arrays in zip(*self._each(X, self._voters), strict=True)]
        weights = np.array(self._votes or [1.0] * len(self))
        kinds = [output.activation == "softmax" for output in self.outputs]
        return _one_or_list([_majority(array, weights, is_classes) for array, is_classes in zip(each, kinds, strict=True)])

    def std(self, X: Any) -> Prediction:  # noqa: N803
        """The spread of the members' predictions: their standard deviation, in float64. The squares of the distances from `predict` are
        averaged with the weights of the members (ddof=0).

        X and the shape of the result: as in `predict`. It shows where the members disagree, and not how much a target varies by itself.

        >>> bp.Ensemble([bp.mlp([2, 1], seed=0), bp.mlp([2, 1], seed=0)]).std([1.0, 2.0])
        array([0.], dtype=float32)
        """
        return self._over_voters(X, lambda each: _std(each, self._votes))

    def quantile(self, X: Any, q: float | Sequence[float]) -> Prediction:  # noqa: N803
        """Quantiles of the members' predictions, linear between two members, in float64: without weights as np.quantile defines them.

        With weights, sort the predictions; the place of one is the weight of those below it plus half of its own. Places are scaled so that
        the lowest prediction is the 0-quantile and the highest the 1-quantile. Members of weight 0 do not count. With equal weights this
        is what np.quantile computes.

        X: as in `predict`. q: a number in [0,1], or a list of them; for a list, the result has one more axis, the first: (quantiles, rows,
        outputs).

        >>> ensemble = bp.Ensemble([bp.mlp([2, 1], seed=seed) for seed in range(10)])
        >>> low, high = ensemble.quantile(np.ones((4, 2)), [0.1, 0.9])
        >>> low.shape, bool((low <= high).all())
        ((4, 1), True)
        """
        levels = as_array(q, "quantile: q").astype(np.float64)
        if levels.ndim > 1 or not levels.size or not ((levels >= 0) & (levels <= 1)).all():
            raise ValueError(f"quantile: q must be a number in [0,1] or a list of them, not {brief(q)}")
        return self._over_voters(X, lambda each: _quantile(each, levels, self._votes))

    @property
    def _voters(self) -> list[Network]:
        """The members whose weight is not 0."""
        return [net for net, weight in zip(self._members, self._weights or [1.0] * len(self), strict=True) if weight]

    @property
    def _votes(self) -> list[float] | None:
        """The weights of `_voters`, times a power of 2 so that products with them do not underflow; None if all count alike."""
        if self._weights is None:
            return None
        _, exponent = math.frexp(max(self._weights))
        return [math.ldexp(weight, -exponent) for weight in self._weights if weight]

    def _over_voters(self, X: Any, function: Callable[[Array], Array]) -> Prediction:  # noqa: N803
        """The function of the voters' predictions as float64, of shape (voters, ...), for each output."""
        each = [np.stack(arrays).astype(np.float64) for arrays in zip(*self._each(X, self._voters), strict=True)]
        return _one_or_list([np.asarray(function(array), self.dtype) for array in each])

    def _each(self, X: Any, nets: Sequence[Network], raw: bool = False) -> Iterator[list[Array]]:  # noqa: N803
        """The outputs of each of some members. X is converted only once."""
        if not raw:
            _check_alike(self._members)  # an output activation may have been set since
        arrays = as_inputs(X, self._members[0]._ids)
        for net in nets:
            found = net.predict(arrays[0] if len(arrays) == 1 else arrays, raw)
            yield found if isinstance(found, list) else [found]

    # ---- files ----

    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves the members, their weights and the notes to one safetensors file, which bp.Ensemble.load reads, completely or not at all.

        OSError if it cannot be written or is read-only. The tensors have the number of their member in front: "0.dense_0.weight".

        >>> bp.Ensemble([bp.mlp([2, 1], seed=seed) for seed in range(3)]).save("ensemble.safetensors")
        >>> [net.seed for net in bp.Ensemble.load("ensemble.safetensors")]
        [0, 1, 2]
        """
        nets_file.write(path, self._members, self._notes, self._weights)

    @classmethod
    def load(cls, path: str | os.PathLike[str], backend: BackendName | None = None, n_threads: int | None = None) -> Self:
        """Loads an ensemble that `save` wrote; its predictions have the same bits. backend, n_threads: as in bp.load.

        OSError if the file cannot be read, ValueError if it is damaged or contains something else.

        >>> bp.Ensemble([bp.mlp([2, 1], seed=7)]).save("ensemble.safetensors")
        >>> len(bp.Ensemble.load("ensemble.safetensors"))
        1
        """
        nets, notes, weights = nets_file.read(path, backend, n_threads)
        try:
            ensemble = cls(nets, weights)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{os.fsdecode(path)}: {error}") from None
        ensemble._notes = notes
        return ensemble


def _checked_weights(weights: Sequence[float], count: int) -> tuple[float, ...]:
    if isinstance(weights, str | bytes | Mapping | Set) or not hasattr(weights, "__iter__"):
        raise TypeError(f"Ensemble: weights must be a list of numbers, not {brief(weights)}")
    found = tuple(floating(f"Ensemble: weights[{i}]", weight) for i, weight in enumerate(weights))
    if len(found) != count:
        raise ValueError(f"Ensemble: weights has {counted(len(found), 'number')} for {counted(count, 'network')}; give one for each")
    if not all(0 <= weight < math.inf for weight in found) or not 0 < sum(found) < math.inf:
        raise ValueError(f"Ensemble: weights must be finite numbers of at least 0, with a finite sum above 0, not {brief(list(found))}")
    return found


def _std(each: Array, weights: list[float] | None) -> Array:
    """The standard deviation over the first axis."""
    if weights is None:
        return np.asarray(np.std(each, axis=0))
    return np.asarray(np.sqrt(np.average((each - np.average(each, axis=0, weights=weights)) ** 2, axis=0, weights=weights)))


def _majority(each: Array, weights: Array, is_classes: bool) -> Array:
    """The label with the most votes, over the first axis. each: probabilities, (members, ..., columns). is_classes: a column per class."""
    if not is_classes:
        labels = _majority(np.stack([1 - each, each], axis=-1), weights, True)
        return labels[..., 0] if labels.shape[-1] == 1 else labels
    votes = weights.reshape(-1, *[1] * (each.ndim - 1)) * ~np.isnan(each).any(axis=-1, keepdims=True)
    chances = np.nan_to_num(each)
    chosen = chances.argmax(axis=-1)[..., None] == np.arange(each.shape[-1])
    counts, sums = (votes * chosen).sum(axis=0), (votes * chances).sum(axis=0)
    labels = np.where(counts == counts.max(axis=-1, keepdims=True), sums, -1.0).argmax(axis=-1)
    return np.where(votes.sum(axis=0)[..., 0] > 0, labels, -1)


def _quantile(each: Array, levels: Array, weights: list[float] | None) -> Array:
    """Quantiles over the first axis, as `Ensemble.quantile` defines them."""
    if weights is None:
        return np.asarray(np.quantile(each, levels, axis=0))
    order = np.argsort(each, axis=0, kind="stable")
    own, ordered = np.array(weights)[order], np.take_along_axis(each, order, axis=0)
    places = np.cumsum(own, axis=0) - own / 2
    places -= places[0].copy()
    found = [_between(ordered, places, level * places[-1]) for level in levels.reshape(-1)]
    return np.stack(found).reshape(*levels.shape, *each.shape[1:])


def _between(ordered: Array, places: Array, at: Array) -> Array:
    """The values at places between those of `ordered`, along the first axis. at: without this axis."""
    if len(ordered) == 1:
        return np.asarray(ordered[0])
    above = np.clip((places < at).sum(axis=0), 1, len(places) - 1)[None]
    (left, right), (low, high) = ([np.take_along_axis(a, above - 1 + i, axis=0)[0] for i in (0, 1)] for a in (places, ordered))
    return np.asarray(low + (high - low) * (at - left) / (right - left))


def _check_alike(nets: Sequence[Network]) -> None:
    """Raises ValueError for the first network whose predictions cannot be averaged with those of the first one."""
    first = _form(nets[0])
    for i, net in enumerate(nets):
        for (what, expected), found in zip(first.items(), _form(net).values(), strict=True):
            if found != expected:
                raise ValueError(f"Ensemble: nets[{i}] has {what} {_shown(found)}, but nets[0] has {_shown(expected)}; they must be equal")


def _form(net: Network) -> dict[str, list[Any]]:
    outputs = net.outputs
    return {
        "dtype": [str(net.dtype)],
        "input widths": [one.width for one in net.inputs],
        "output widths": [one.width for one in outputs],
        "output activations": [one.activation for one in outputs],
    }


def _shown(values: list[Any]) -> str:
    return str(values[0] if len(values) == 1 else values)


def _one_or_list(arrays: list[Array]) -> Prediction:
    return arrays[0] if len(arrays) == 1 else arrays
