"""Every activation, loss, output activation and initializer, one entry each, written with the operations of autodiff; and the tables
of all formulas.

Only values are written here: derivatives follow from the chain rule. An entry is longer than its textbook line if it must avoid
exponentials of large numbers, or choose the branch at a kink that gives the wanted derivative.

Letters: z pre-activation, o raw output, t target, d = o - t.
A parameter text, "lr=0.001[0,inf) momentum=0.9[0,1)", has the name, default and range of each parameter. The meaning describes what the
formula computes; its source follows the last ";".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .autodiff import Matrix, concat, cos, erfc, exp, expm1, gather, log1p, maximum, minimum, power, row_sum, sin, tanh, where
from .optimizers import OPTIMIZERS
from .solvers.table import SOLVERS


@dataclass(frozen=True)
class Activation:
    """y(z): the function. init, bias_init: the initializers that "auto" chooses for a layer with this activation."""

    parameters: str
    meaning: str
    init: str
    bias_init: str
    y: Callable[..., Matrix]
    detail: str = ""


@dataclass(frozen=True)
class Loss:
    """terms(o, t): the term of each output of each row. A row's loss is the mean of its terms, or their sum if `mean` is False. targets:
    the interval of valid targets, "SIGNS" (-1 or 1) or "LABELS" (labels, or rows of probabilities). columns: how many outputs a target
    has; 0: one for each number in the list of the first parameter. apart: whether terms compares each output with one target, so that
    each output may have parameters of its own."""

    parameters: str
    meaning: str
    detail: str  # the output activation that it implies
    targets: str
    mean: bool
    terms: Callable[..., Matrix]
    columns: int = 1
    apart: bool = True


@dataclass(frozen=True)
class OutputActivation:
    """y(o): predictions from raw outputs o."""

    meaning: str
    y: Callable[[Matrix], Matrix]
    parameters: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Initializer:
    """scale(inputs, outputs): the standard deviation of "normal", half the width of "uniform", or the factor of "orthogonal". "keep"
    does not change the values."""

    parameters: str
    meaning: str
    distribution: str
    scale: Callable[..., float]
    detail: str = ""


# ---- activations ----


def _abs(z: Matrix) -> Matrix:
    """|z|, with derivative 0 at 0."""
    return maximum(z, 0.0) + maximum(-z, 0.0)


def _exp_of_minus_abs(z: Matrix) -> Matrix:
    """exp(-|z|), at most 1. At 0 it takes the branch z < 0, like maximum(z, 0), so that derivatives of their sums are consistent."""
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
    "identity": Activation("", "z", "glorot_uniform", "zeros", lambda z: z),
    "relu": Activation("", "z if z > 0, else 0; Nair & Hinton 2010", "glorot_uniform", "glorot_uniform", lambda z: maximum(z, 0.0)),
    "leaky_relu": Activation(
        "slope=0.01[0,inf)",
        "z if z > 0, else slope z; Maas et al. 2013",
        "glorot_uniform",
        "glorot_uniform",
        lambda z, slope: where(z > 0.0, z, slope * z),
    ),
    "elu": Activation(
        "alpha=1[0,inf)", "z if z > 0, else alpha (exp(z) - 1); Clevert et al. 2016", "glorot_uniform", "glorot_uniform", _elu
    ),
    "selu": Activation(
        "",
        "1.0507 elu(z) with alpha = 1.6733, which keeps mean 0 and variance 1; Klambauer et al. 2017",
        "glorot_uniform",
        "glorot_uniform",
        _selu,
    ),
    "gelu": Activation(
        "",
        "z Phi(z), Phi the normal distribution function; Hendrycks & Gimpel 2016",
        "glorot_uniform",
        "glorot_uniform",
        lambda z: z * (0.5 * erfc(-math.sqrt(0.5) * z)),
    ),
    "silu": Activation(
        "", "z / (1 + exp(-z)), also called swish; Elfwing et al. 2018", "lecun_normal", "fan_in_uniform", lambda z: z * _sigmoid(z)
    ),
    "mish": Activation("", "z tanh(log(1 + exp(z))); Misra 2019", "lecun_normal", "fan_in_uniform", lambda z: z * tanh(_softplus(z))),
    "softplus": Activation("", "log(1 + exp(z)); Dugas et al. 2001", "he_normal", "fan_in_uniform", _softplus),
    "softsign": Activation("", "z / (1 + |z|); Bergstra et al. 2009", "glorot_uniform", "glorot_uniform", lambda z: z / (1.0 + _abs(z))),
    "sigmoid": Activation("", "1 / (1 + exp(-z))", "he_normal", "fan_in_uniform", _sigmoid),
    "hard_sigmoid": Activation(
        "",
        "z / 6 + 1 / 2, but at least 0 and at most 1; Howard et al. 2019",
        "he_normal",
        "fan_in_uniform",
        lambda z: (maximum(minimum(z, 3.0), -3.0) + 3.0) / 6.0,
    ),
    "tanh": Activation("", "tanh(z)", "glorot_uniform", "fan_in_uniform", tanh),
    "scaled_tanh": Activation(
        "", "1.7159 tanh(2 z / 3); LeCun et al. 1998, section 4.4", "glorot_uniform", "fan_in_uniform", lambda z: 1.7159 * tanh(2 / 3 * z)
    ),
    "affine": Activation(
        "factor=1(-inf,inf) addend=0(-inf,inf)",
        "factor z + addend",
        "glorot_uniform",
        "zeros",
        lambda z, factor, addend: factor * z + addend,
    ),
    "abs": Activation("", "|z|", "glorot_uniform", "glorot_uniform", _abs),
    "square": Activation("", "z^2", "glorot_uniform", "fan_in_uniform", lambda z: z * z),
    "exp": Activation("", "exp(z)", "glorot_uniform", "fan_in_uniform", exp),
    "sin": Activation("", "sin(z)", "glorot_uniform", "fan_in_uniform", sin),
    "cos": Activation("", "cos(z)", "glorot_uniform", "fan_in_uniform", cos),
}


# ---- losses ----


def _huber(o: Matrix, t: Matrix, delta: float) -> Matrix:
    """d^2 / 2 if |d| <= delta; beyond it, the tangent."""
    distance = _abs(o - t)
    near = minimum(distance, delta)
    return near * (distance - 0.5 * near)


def _smooth_l1(o: Matrix, t: Matrix, beta: float) -> Matrix:
    """d^2 / (2 beta) if |d| < beta; beyond it, the tangent."""
    return _huber(o, t, beta) / beta


def _log_cosh(o: Matrix, t: Matrix) -> Matrix:
    """log(cosh(d)) = -log(1 - tanh(d)^2) / 2 near 0, and |d| + log((1 + exp(-2 |d|)) / 2) far from 0."""
    d = o - t
    distance, is_near = _abs(d), [abs(value) < 1 for value in d.data]
    log = log1p(where(is_near, -tanh(d) * tanh(d), 0.5 * expm1(-2.0 * distance)))
    return where(is_near, -0.5 * log, distance + log)


def _quantile(o: Matrix, t: Matrix, q: float) -> Matrix:
    d = o - t
    return (1.0 - q) * maximum(d, 0.0) + q * maximum(-d, 0.0)


def _smoothed(t: Matrix, label_smoothing: float, classes: int) -> Matrix:
    """Targets with label smoothing (Szegedy et al. 2016, section 7)."""
    return (1.0 - label_smoothing) * t + label_smoothing / classes


def _bce(o: Matrix, t: Matrix, label_smoothing: float, pos_weight: float, gamma: float) -> Matrix:
    """-w t log(sigmoid(o)) - (1 - t) log(1 - sigmoid(o)) = w t softplus(-o) + (1 - t) softplus(o), with w = pos_weight. gamma: each
    part has the factor (1 - its probability)^gamma, which is exp(-gamma softplus)."""
    t = _smoothed(t, label_smoothing, 2)
    if gamma:
        above, below = _softplus(o), _softplus(-o)
        return pos_weight * t * exp(-gamma * above) * below + (1.0 - t) * exp(-gamma * below) * above
    positive = [value > 0 for value in o.data]
    weight = 1.0 + (pos_weight - 1.0) * t
    return where(positive, o * (1.0 - t), -(pos_weight * t) * o) + weight * log1p(_exp_of_minus_abs(o))


def _below_largest(o: Matrix) -> Matrix:
    """o minus the maximum of its row. The maximum cancels in softmax and cross-entropy, so the derivative treats it as a constant."""
    return o - Matrix(o.rows, 1, [max(row) for row in o.row_list()])


def _cross_entropy(o: Matrix, t: Matrix, label_smoothing: float, temperature: float, gamma: float = 0.0) -> Matrix:
    """-t (1 - p)^gamma log(p) with p = softmax(o / temperature); a target of 0 adds 0, even if o = -inf. The largest exponential is 1;
    the others are summed for log1p."""
    t = _smoothed(t, label_smoothing, o.cols)
    o = _below_largest(o) / temperature
    largest = [j == row.index(max(row)) for row in o.row_list() for j in range(o.cols)]
    log_softmax = o - log1p(row_sum(where(largest, expm1(o), exp(o))))
    absent = [value == 0 for value in t.data]
    if not gamma:
        return -t * where(absent, 0.0, log_softmax)
    absent = [no_target or log == 0 for no_target, log in zip(absent, log_softmax.data)]
    log_softmax = where(absent, -1.0, log_softmax)
    return -t * where(absent, 0.0, power(-expm1(log_softmax), gamma) * log_softmax)


def _column(x: Matrix, j: int) -> Matrix:
    return gather(x, range(j, x.rows * x.cols, x.cols), x.rows, 1)


def _kl(o: Matrix, t: Matrix) -> Matrix:
    """t log(t / softmax(o)); a target of 0 adds 0."""
    log_t = Matrix(t.rows, t.cols, [math.log(value) if value > 0 else value for value in t.data])
    return t * log_t + _cross_entropy(o, t, 0.0, 1.0)


def _gaussian_nll(o: Matrix, t: Matrix) -> Matrix:
    """(v + d^2 exp(-v)) / (2 T), for the T means and then the T log-variances v in o."""
    mean, v = (concat([_column(o, first + j) for j in range(t.cols)]) for first in (0, t.cols))
    d = mean - t
    return (v + d * d * exp(-v)) / (2.0 * t.cols)


LOSSES = {
    "mse": Loss("", "mean of d^2", "identity", "(-inf,inf)", True, lambda o, t: (o - t) * (o - t)),
    "half_sse": Loss("", "sum of d^2 / 2", "identity", "(-inf,inf)", False, lambda o, t: 0.5 * ((o - t) * (o - t))),
    "mae": Loss("", "mean of |d|", "identity", "(-inf,inf)", True, lambda o, t: _abs(o - t)),
    "huber": Loss(
        "delta=1(0,inf)",
        "mean of d^2 / 2 if |d| <= delta, else delta (|d| - delta / 2); Huber 1964",
        "identity",
        "(-inf,inf)",
        True,
        _huber,
    ),
    "smooth_l1": Loss(
        "beta=1(0,inf)",
        "mean of d^2 / (2 beta) if |d| < beta, else |d| - beta / 2, which is huber / beta; Girshick 2015",
        "identity",
        "(-inf,inf)",
        True,
        _smooth_l1,
    ),
    "log_cosh": Loss("", "mean of log(cosh(d))", "identity", "(-inf,inf)", True, _log_cosh),
    "quantile": Loss(
        "q=0.5(0,1)",
        "mean of (1 - q) d if d > 0, else -q d; with a list of numbers q, a target has a column for each of them; Koenker & Bassett 1978",
        "identity",
        "(-inf,inf)",
        True,
        _quantile,
        columns=0,
    ),
    "poisson": Loss(
        "",
        "mean of exp(o) - t o, the negative log-likelihood of counts t >= 0 without its term log(t!)",
        "exp",
        "[0,inf)",
        True,
        lambda o, t: exp(o) - t * o,
    ),
    "bce": Loss(
        "label_smoothing=0[0,1) pos_weight=1[0,inf) gamma=0[0,inf)",
        "mean of -pos_weight t (1 - p)^gamma log(p) - (1 - t) p^gamma log(1 - p) with p = sigmoid(o), for targets from 0 to 1 "
        "and t = (1 - label_smoothing) target + label_smoothing / 2; gamma: Lin et al. 2017, equation 4",
        "sigmoid",
        "[0,1]",
        True,
        _bce,
    ),
    "hinge": Loss(
        "",
        "mean of max(0, 1 - t o), for t = -1 or 1; Cortes & Vapnik 1995",
        "identity",
        "SIGNS",
        True,
        lambda o, t: maximum(1.0 - t * o, 0.0),
    ),
    "cross_entropy": Loss(
        "label_smoothing=0[0,1) temperature=1(0,inf) gamma=0[0,inf)",
        "sum of -t (1 - p)^gamma log(p) with p = softmax(o / temperature), for labels 0, 1, ... or rows of probabilities as "
        "targets and t = (1 - label_smoothing) target + label_smoothing / classes; Szegedy et al. 2016, section 7; gamma: Lin et "
        "al. 2017, equation 4",
        "softmax",
        "LABELS",
        False,
        _cross_entropy,
        apart=False,
    ),
    "kl": Loss(
        "",
        "sum of t log(t / p) with p = softmax(o), for rows of probabilities t or labels 0, 1, ...; Kullback & Leibler 1951",
        "softmax",
        "LABELS",
        False,
        _kl,
        apart=False,
    ),
    "gaussian_nll": Loss(
        "",
        "mean of (v + d^2 exp(-v)) / 2, for T targets and 2 T outputs: T means m and then T log-variances v, d = m - t; Nix & Weigend 1994",
        "identity",
        "(-inf,inf)",
        False,
        _gaussian_nll,
        columns=2,
        apart=False,
    ),
}


def _terms(loss: Loss, o: Matrix, t: Matrix, parameters: dict[str, Any]) -> Matrix:
    """The terms of a loss. With lists, output j has parameters of its own and is compared with target j % T."""
    lists = {name: value for name, value in parameters.items() if isinstance(value, tuple)}
    if not lists:
        return loss.terms(o, t, **parameters)
    parts = []
    for j in range(o.cols):
        own = {name: value[j * len(value) // o.cols] for name, value in lists.items()}
        parts.append(loss.terms(_column(o, j), _column(t, j % t.cols), **(parameters | own)))
    return concat(parts)


def row_losses(loss: Loss, o: Matrix, t: Matrix, missing: float = 0, **parameters: Any) -> Matrix:
    """The loss of each row, a column. missing: see EVERY_LOSS; here all targets are there."""
    total = row_sum(_terms(loss, o, t, parameters))
    return total / float(o.cols) if loss.mean else total


def weighted_losses(
    loss: Loss, o: Matrix, t: Matrix, weights: Sequence[Sequence[float]], missing: float = 0, **parameters: Any
) -> tuple[Matrix, list[float]]:
    """The losses with a weight above 0, a column, and their weights. weights: of each row, one, or one for each column, in which case a
    loss is that of an element: a loss that is a mean over n columns is divided by n. missing: see EVERY_LOSS."""
    if len(weights[0]) > 1:
        return _element_losses(loss, o, t, weights, parameters)
    rows = [row for row, (weight,) in enumerate(weights) if weight > 0]
    outputs, targets = (gather(m, [row * m.cols + j for row in rows for j in range(m.cols)], len(rows), m.cols) for m in (o, t))
    return row_losses(loss, outputs, targets, **parameters), [weights[row][0] for row in rows]


def _element_losses(
    loss: Loss, o: Matrix, t: Matrix, weights: Sequence[Sequence[float]], parameters: dict[str, Any]
) -> tuple[Matrix, list[float]]:
    """The losses of single elements, column after column, each with the parameters of its column."""
    parts, kept = [], []
    for j in range(o.cols):
        target = j % t.cols
        rows = [row for row, of_row in enumerate(weights) if of_row[target] > 0]
        if not rows:
            continue
        own = {name: value[j * len(value) // o.cols] if isinstance(value, tuple) else value for name, value in parameters.items()}
        outputs, targets = (gather(m, [row * m.cols + k for row in rows], 1, len(rows)) for m, k in ((o, j), (t, target)))
        parts.append(loss.terms(outputs, targets, **own))
        kept += [weights[row][target] for row in rows]
    losses = gather(concat(parts) if parts else o, range(len(kept)), len(kept), 1)
    return losses / float(o.cols) if loss.mean else losses, kept


# ---- output activations ----


def _softmax(o: Matrix) -> Matrix:
    e = exp(_below_largest(o))
    return e / row_sum(e)


OUTPUT_ACTIVATIONS = {
    "identity": OutputActivation("o", lambda o: o),
    "sigmoid": OutputActivation("1 / (1 + exp(-o))", _sigmoid),
    "exp": OutputActivation("exp(o)", exp),
    "softmax": OutputActivation("exp(o) / (sum of exp(o) over the row's outputs)", _softmax),
}


# ---- initializers ----

INITIALIZERS = {
    "normal": Initializer("std=0.05[0,inf)", "normal with standard deviation std", "normal", lambda inputs, outputs, std: std),
    "uniform": Initializer("limit=0.05[0,inf)", "uniform from -limit to limit", "uniform", lambda inputs, outputs, limit: limit),
    "glorot_normal": Initializer(
        "",
        "normal with standard deviation sqrt(2 / (in + out)); Glorot & Bengio 2010",
        "normal",
        lambda inputs, outputs: math.sqrt(2 / (inputs + outputs)),
    ),
    "glorot_uniform": Initializer(
        "",
        "uniform from -a to a = sqrt(6 / (in + out)); Glorot & Bengio 2010, equation 16",
        "uniform",
        lambda inputs, outputs: math.sqrt(6 / (inputs + outputs)),
    ),
    "he_normal": Initializer(
        "",
        "normal with standard deviation sqrt(2 / in); He et al. 2015, equation 10",
        "normal",
        lambda inputs, outputs: math.sqrt(2 / inputs),
    ),
    "he_uniform": Initializer(
        "",
        "uniform from -a to a = sqrt(6 / in), with the same variance; He et al. 2015",
        "uniform",
        lambda inputs, outputs: math.sqrt(6 / inputs),
    ),
    "lecun_normal": Initializer(
        "",
        "normal with standard deviation sqrt(1 / in); LeCun et al. 1998, section 4.6",
        "normal",
        lambda inputs, outputs: math.sqrt(1 / inputs),
    ),
    "lecun_uniform": Initializer(
        "",
        "uniform from -a to a = sqrt(3 / in), with the same variance; LeCun et al. 1998",
        "uniform",
        lambda inputs, outputs: math.sqrt(3 / inputs),
    ),
    "fan_in_uniform": Initializer(
        "",
        "uniform from -a to a = sqrt(1 / in), as PyTorch's nn.Linear; Glorot & Bengio 2010, equation 1",
        "uniform",
        lambda inputs, outputs: math.sqrt(1 / inputs),
    ),
    "orthogonal": Initializer(
        "gain=1[0,inf)",
        "gain times an orthogonal matrix: orthonormal columns, or rows if there are fewer; Saxe et al. 2014",
        "orthogonal",
        lambda inputs, outputs, gain: gain,
    ),
    "zeros": Initializer("", "0", "uniform", lambda inputs, outputs: 0.0),
    "array": Initializer("", "the values that the caller writes", "keep", lambda inputs, outputs: 0.0),
}


# A parameter of every optimizer, besides those of its row: whether weight decay acts on biases too.
EVERY_LOSS = "missing=0[0,1]"  # whether targets that are NaN, and labels that are -1, are not there
EVERY_OPTIMIZER = "decay_bias=0[0,1]"

# Settings of every trainer. Gradient clipping: limits for the norm of the whole gradient, the norm of each layer's gradient, and each
# element. A factor of all dropout rates. Whether the penalties are divided by the batch's weight and are part of the loss.
TRAINER_SETTINGS = "clip_norm=inf(0,inf] clip_layer_norm=inf(0,inf] clip_value=inf(0,inf] dropout=1[0,1] penalty_per_row=0[0,1]"


def penalty(w: Matrix, l1: float, l2: float) -> Matrix:
    """The terms of l1 |w|_1 + l2 / 2 |w|_2^2, one for each weight."""
    return l1 * _abs(w) + l2 / 2 * (w * w)


TABLES: dict[str, dict[str, Any]] = {
    "activation": ACTIVATIONS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "initializer": INITIALIZERS,
    "output_activation": OUTPUT_ACTIVATIONS,
    "solver": SOLVERS,
}


def formulas(kind: str) -> list[tuple[str, str, str, str]]:
    """(name, parameter text, detail, meaning) of every formula of a kind: activation, loss, optimizer, initializer, output_activation,
    solver.

    The detail of an optimizer is the names of its slots, "m v", with "=parameter" if a slot starts at that parameter's value. The detail of
    a loss is the output activation that it implies, that of a solver the names of numbers that a trainer's `get` returns. For other kinds
    it is "".
    """
    if kind not in TABLES:
        raise ValueError(f"unknown kind {kind!r}; valid: {', '.join(TABLES)}")
    return [(name, entry.parameters, entry.detail, entry.meaning) for name, entry in TABLES[kind].items()]
