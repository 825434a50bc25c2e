"""Every activation, loss, output activation and initialiser, one entry each, written with the operations of autodiff; and the tables
of all formulas.

Only values are written here: derivatives follow from the chain rule. What makes an entry longer than its textbook line is one of
two things: no exponential of a large number is taken, and at a kink the branch with the wanted derivative is the one taken.

Letters: z pre-activation, o raw output, t target, d = o - t.
A parameter text, "lr=0.001[0,inf) momentum=0.9[0,1)", gives each name, its default and the values it may have.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .autodiff import Matrix, erfc, exp, expm1, log1p, maximum, minimum, row_sum, tanh, where
from .optimizers import OPTIMIZERS


@dataclass(frozen=True)
class Activation:
    """y from z; init: the initialiser that suits the layer below it."""

    parameters: str
    init: str
    y: Callable[..., Matrix]
    detail: str = ""


@dataclass(frozen=True)
class Loss:
    """terms(o, t): what each output of each row adds; a row's loss is their mean or their sum. targets: where t must lie."""

    parameters: str
    detail: str  # the output activation that it implies
    targets: str
    mean: bool
    terms: Callable[..., Matrix]


@dataclass(frozen=True)
class OutputActivation:
    """From raw outputs to what they mean."""

    y: Callable[[Matrix], Matrix]
    parameters: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Initialiser:
    """scale(inputs, outputs): the standard deviation of "normal", half the width of "uniform"; "keep" draws nothing."""

    parameters: str
    distribution: str
    scale: Callable[..., float]
    detail: str = ""


# ---- activations ----


def _abs(z: Matrix) -> Matrix:
    """|z|, with derivative 0 at 0."""
    return maximum(z, 0.0) + maximum(-z, 0.0)


def _exp_of_minus_abs(z: Matrix) -> Matrix:
    """exp(-|z|), never above 1. At 0 it is on the side of z < 0, as everything that goes with it must be: maximum(z, 0) is."""
    return exp(where(z > 0.0, -z, z))


def _sigmoid(z: Matrix) -> Matrix:
    """1 / (1 + exp(-z)) = exp(z) / (1 + exp(z))."""
    e = _exp_of_minus_abs(z)
    return where(z > 0.0, 1.0, e) / (1.0 + e)


def _softplus(z: Matrix) -> Matrix:
    """log(1 + exp(z)) = max(z, 0) + log(1 + exp(-|z|))."""
    return maximum(z, 0.0) + log1p(_exp_of_minus_abs(z))


def _elu(z: Matrix, alpha: float) -> Matrix:
    return where(z > 0.0, z, alpha * expm1(where(z > 0.0, 0.0, z)))


def _selu(z: Matrix) -> Matrix:
    return 1.0507009873554805 * _elu(z, alpha=1.6732632423543772)


ACTIVATIONS = {
    "identity": Activation("", "glorot_uniform", lambda z: z),
    "relu": Activation("", "he_normal", lambda z: maximum(z, 0.0)),  # Nair & Hinton 2010
    "leaky_relu": Activation("slope=0.01[0,inf)", "he_normal", lambda z, slope: where(z > 0.0, z, slope * z)),  # Maas et al. 2013
    "elu": Activation("alpha=1[0,inf)", "he_normal", _elu),  # Clevert et al. 2016
    "selu": Activation("", "lecun_normal", _selu),  # Klambauer et al. 2017: mean 0 and variance 1 are a fixed point
    "gelu": Activation("", "he_normal", lambda z: z * (0.5 * erfc(-math.sqrt(0.5) * z))),  # Hendrycks & Gimpel 2016: z Phi(z)
    "silu": Activation("", "he_normal", lambda z: z * _sigmoid(z)),  # Elfwing et al. 2018
    "mish": Activation("", "he_normal", lambda z: z * tanh(_softplus(z))),  # Misra 2019
    "softplus": Activation("", "glorot_uniform", _softplus),  # Dugas et al. 2001
    "softsign": Activation("", "glorot_uniform", lambda z: z / (1.0 + _abs(z))),  # Bergstra et al. 2009
    "sigmoid": Activation("", "glorot_uniform", _sigmoid),
    "hard_sigmoid": Activation("", "glorot_uniform", lambda z: (maximum(minimum(z, 3.0), -3.0) + 3.0) / 6.0),  # Howard et al. 2019
    "tanh": Activation("", "glorot_uniform", tanh),
    "scaled_tanh": Activation("", "glorot_uniform", lambda z: 1.7159 * tanh(2 / 3 * z)),  # LeCun et al. 1998, section 4.4
}


# ---- losses ----


def _huber(o: Matrix, t: Matrix, delta: float) -> Matrix:
    """d^2 / 2 up to delta, then the tangent."""
    distance = _abs(o - t)
    near = minimum(distance, delta)
    return near * (distance - 0.5 * near)


def _quantile(o: Matrix, t: Matrix, q: float) -> Matrix:
    d = o - t
    return (1.0 - q) * maximum(d, 0.0) + q * maximum(-d, 0.0)


def _smoothed(t: Matrix, share: float, classes: int) -> Matrix:
    """Targets of which a share is spread over all classes (Szegedy et al. 2016, section 7)."""
    return (1.0 - share) * t + share / classes


def _bce(o: Matrix, t: Matrix, label_smoothing: float) -> Matrix:
    """-t log(sigmoid(o)) - (1 - t) log(1 - sigmoid(o)) = softplus(o) - t o, the larger part of softplus joined with t o."""
    t = _smoothed(t, label_smoothing, 2)
    positive = [value > 0 for value in o.data]
    return where(positive, o * (1.0 - t), -t * o) + log1p(_exp_of_minus_abs(o))


def _below_largest(o: Matrix) -> Matrix:
    """o less its row's largest. What is taken off cancels in softmax and in cross entropy, so it is a constant to the derivative."""
    return o - Matrix(o.rows, 1, [max(row) for row in o.row_list()])


def _cross_entropy(o: Matrix, t: Matrix, label_smoothing: float) -> Matrix:
    """-t log(softmax(o)); a target of 0 adds 0, even where o = -inf. The sum of exponentials is 1, the largest, and an excess."""
    t = _smoothed(t, label_smoothing, o.cols)
    o = _below_largest(o)
    largest = [j == row.index(max(row)) for row in o.row_list() for j in range(o.cols)]
    log_softmax = o - log1p(row_sum(where(largest, expm1(o), exp(o))))
    absent = [value == 0 for value in t.data]
    return -t * where(absent, 0.0, log_softmax)


LOSSES = {
    "mse": Loss("", "identity", "(-inf,inf)", True, lambda o, t: (o - t) * (o - t)),
    "half_sse": Loss("", "identity", "(-inf,inf)", False, lambda o, t: 0.5 * ((o - t) * (o - t))),
    "mae": Loss("", "identity", "(-inf,inf)", True, lambda o, t: _abs(o - t)),
    "huber": Loss("delta=1(0,inf)", "identity", "(-inf,inf)", True, _huber),  # Huber 1964
    "quantile": Loss("q=0.5(0,1)", "identity", "(-inf,inf)", True, _quantile),  # Koenker & Bassett 1978
    "poisson": Loss("", "exp", "[0,inf)", True, lambda o, t: exp(o) - t * o),  # negative log-likelihood less log(t!)
    "bce": Loss("label_smoothing=0[0,1)", "sigmoid", "[0,1]", True, _bce),
    "hinge": Loss("", "identity", "SIGNS", True, lambda o, t: maximum(1.0 - t * o, 0.0)),  # Cortes & Vapnik 1995
    "cross_entropy": Loss("label_smoothing=0[0,1)", "softmax", "LABELS", False, _cross_entropy),
}


def row_losses(loss: Loss, o: Matrix, t: Matrix, **parameters: float) -> Matrix:
    """The loss of each row, a column."""
    total = row_sum(loss.terms(o, t, **parameters))
    return total / float(o.cols) if loss.mean else total


# ---- output activations ----


def _softmax(o: Matrix) -> Matrix:
    e = exp(_below_largest(o))
    return e / row_sum(e)


OUTPUT_ACTIVATIONS = {
    "identity": OutputActivation(lambda o: o),
    "sigmoid": OutputActivation(_sigmoid),
    "exp": OutputActivation(exp),
    "softmax": OutputActivation(_softmax),
}


# ---- initialisers ----

INITIALISERS = {
    "normal": Initialiser("std=0.05[0,inf)", "normal", lambda inputs, outputs, std: std),
    "uniform": Initialiser("limit=0.05[0,inf)", "uniform", lambda inputs, outputs, limit: limit),
    "glorot_normal": Initialiser("", "normal", lambda inputs, outputs: math.sqrt(2 / (inputs + outputs))),  # Glorot & Bengio 2010
    "glorot_uniform": Initialiser("", "uniform", lambda inputs, outputs: math.sqrt(6 / (inputs + outputs))),  # the same, eq. 16
    "he_normal": Initialiser("", "normal", lambda inputs, outputs: math.sqrt(2 / inputs)),  # He et al. 2015, eq. 10
    "he_uniform": Initialiser("", "uniform", lambda inputs, outputs: math.sqrt(6 / inputs)),
    "lecun_normal": Initialiser("", "normal", lambda inputs, outputs: math.sqrt(1 / inputs)),  # LeCun et al. 1998, section 4.6
    "lecun_uniform": Initialiser("", "uniform", lambda inputs, outputs: math.sqrt(3 / inputs)),
    "zeros": Initialiser("", "uniform", lambda inputs, outputs: 0.0),
    "array": Initialiser("", "keep", lambda inputs, outputs: 0.0),
}


# Besides its row's parameters every optimizer has this one: whether weight decay acts on biases too.
EVERY_OPTIMIZER = "decay_bias=0[0,1]"

# What every trainer limits, in this order: the norm of each layer's gradient, that of all of them, and each element.
TRAINER_SETTINGS = "clip_norm=inf(0,inf] clip_layer_norm=inf(0,inf] clip_value=inf(0,inf]"


def penalty(w: Matrix, l1: float, l2: float) -> Matrix:
    """l1 |w|_1 + l2 / 2 |w|_2^2, what each weight adds."""
    return l1 * _abs(w) + l2 / 2 * (w * w)


TABLES: dict[str, dict[str, Any]] = {
    "activation": ACTIVATIONS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "initialiser": INITIALISERS,
    "output_activation": OUTPUT_ACTIVATIONS,
}


def formulas(kind: str) -> list[tuple[str, str, str]]:
    """(name, parameter text, detail) of every formula of a kind: activation, loss, optimizer, initialiser or output_activation.

    The detail of an optimizer is its slots ("m v", or with the parameter that one starts from, "sum=initial_accumulator_value"), of a loss
    the output activation that it implies, else "".
    """
    if kind not in TABLES:
        raise ValueError(f"unknown kind {kind!r}; there are: {', '.join(TABLES)}")
    return [(name, entry.parameters, entry.detail) for name, entry in TABLES[kind].items()]
