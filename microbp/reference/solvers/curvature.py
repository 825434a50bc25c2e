"""Losses whose second derivatives by the raw outputs are a matrix H that is never negative, as a product: H = F^T F."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Row = list[float]


@dataclass(frozen=True)
class Curvature:
    """Of a row of outputs o with the targets t and the loss's parameters of each output, for the sum over the outputs: slopes: the
    derivatives by o; factor: the rows of F."""

    slopes: Callable[[Row, Row, Sequence[dict[str, Any]]], Row]
    factor: Callable[[Row, Row, Sequence[dict[str, Any]]], list[Row]]


def _of_elements(slope: Callable[..., float], second: Callable[..., float]) -> Curvature:
    """A loss of each element: F is diagonal."""

    def factor(o: Row, t: Row, parameters: Sequence[dict[str, Any]]) -> list[Row]:
        roots = [math.sqrt(second(a, b, **own)) for a, b, own in zip(o, t, parameters)]
        return [[root * (j == k) for k in range(len(o))] for j, root in enumerate(roots)]

    return Curvature(lambda o, t, parameters: [slope(a, b, **own) for a, b, own in zip(o, t, parameters)], factor)


def _sigmoid(o: float) -> float:
    return 1 / (1 + math.exp(-o)) if o >= 0 else math.exp(o) / (1 + math.exp(o))


def _positive(t: float, label_smoothing: float, pos_weight: float, **_: Any) -> tuple[float, float]:
    """The weights of log(p) and of log(1 - p)."""
    t = (1 - label_smoothing) * t + label_smoothing / 2
    return pos_weight * t, 1 - t


def _bce_slope(o: float, t: float, **parameters: Any) -> float:
    yes, no = _positive(t, **parameters)
    return no * _sigmoid(o) - yes * _sigmoid(-o)


def _bce_second(o: float, t: float, **parameters: Any) -> float:
    return sum(_positive(t, **parameters)) * _sigmoid(o) * _sigmoid(-o)


def _softmax(o: Row, temperature: float) -> Row:
    e = [math.exp((one - max(o)) / temperature) for one in o]
    return [one / math.fsum(e) for one in e]


def _smoothed(t: Row, label_smoothing: float) -> Row:
    return [(1 - label_smoothing) * one + label_smoothing / len(t) for one in t]


def _cross_entropy_slopes(o: Row, t: Row, parameters: Sequence[dict[str, Any]]) -> Row:
    temperature, t = parameters[0]["temperature"], _smoothed(t, parameters[0]["label_smoothing"])
    return [(math.fsum(t) * p - one) / temperature for p, one in zip(_softmax(o, temperature), t)]


def _cross_entropy_factor(o: Row, t: Row, parameters: Sequence[dict[str, Any]]) -> list[Row]:
    """H = (diag(p) - p p^T) sum(t) / temperature^2, and the sum of p_j (e_j - p) (e_j - p)^T is diag(p) - p p^T."""
    temperature, t = parameters[0]["temperature"], _smoothed(t, parameters[0]["label_smoothing"])
    p = _softmax(o, temperature)
    return [[math.sqrt(math.fsum(t) * one) / temperature * ((j == k) - p[k]) for k in range(len(p))] for j, one in enumerate(p)]


CURVATURES = {
    "mse": _of_elements(lambda o, t, **_: 2 * (o - t), lambda o, t, **_: 2.0),
    "half_sse": _of_elements(lambda o, t, **_: o - t, lambda o, t, **_: 1.0),
    "bce": _of_elements(_bce_slope, _bce_second),
    "cross_entropy": Curvature(_cross_entropy_slopes, _cross_entropy_factor),
}
