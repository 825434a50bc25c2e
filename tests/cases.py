"""Tables for tests: all formulas, kernel variants, dtypes, tolerances, widths.

A formula is one row here, one row in src/formulas/formulas.def and one entry in microbp/reference/formulas.py; test_formulas.py checks that
the three are the same.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from optimizer_cases import OPTIMIZERS

from microbp.core import _core

INF = math.inf
Array = np.ndarray

# The seed of random tests; MICROBP_SEED=n repeats a run.
SEED = int(os.environ.get("MICROBP_SEED", "0"))
LONG = "MICROBP_LONG" in os.environ  # set by tests/long: all sizes, many repetitions

EPS = {"float32": 2.0**-23, "float64": 2.0**-52}
TINY = {"float32": 2.0**-126, "float64": 2.0**-1022}  # the smallest normal number: smaller results may be flushed to zero
DTYPES = tuple(EPS)
ISAS = tuple(name for name, runs in _core.isas().items() if runs)
WITHOUT_FMA = ("sse2",)  # this variant rounds each product before adding it
FMA_ISAS = tuple(name for name in ISAS if name not in WITHOUT_FMA)

# Tolerances, in units of eps times the scale that the tests multiply them by.
# DIFFERENTIAL: times the error scale of rounding_bounds.py, which counts one rounding per operation. The n roundings of a sum add up to
# about sqrt(n), and functions have errors of 2 or 3 units in the last place. The largest ratio in 2,300 graphs was 4.
DIFFERENTIAL = 16
ORACLE = 1e-12 / EPS["float64"]  # reference against NumPy in float64: sums in NumPy's order against exactly rounded sums
LOSS_ERROR = 8  # times the loss: one exp and one log with an error of 2 ulp each, and three roundings
ROW_SUM_ERROR = 4  # softmax: errors from the sum of exponentials and from one division per element

WIDTHS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65)  # around every vector width and tile
BATCHES = (1, 2, 3, 7, 8, 33)


# ---- activations ----


@dataclass(frozen=True)
class Activation:
    """spec: used in tests; points: (z, y, dy/dz) by hand; kinks: each z where dy/dz jumps; slope, bend: bounds of |dy/dz|, |d2y/dz2|,
    as numbers or functions of z."""

    spec: str
    points: list[tuple[float, float, float]]
    kinks: tuple[float, ...] = ()
    slope: float | Callable[[Array], Array] = 1
    bend: float | Callable[[Array], Array] = 0

    def bounds(self, z: Array) -> tuple[Array | float, Array | float]:
        """The bounds of |dy/dz| and |d2y/dz2| at z."""
        slope, bend = (bound(z) if callable(bound) else bound for bound in (self.slope, self.bend))
        return slope, bend


_SCALE, _ALPHA = 1.0507009873554805, 1.6732632423543772  # selu
_SIGMOID_1 = 1 / (1 + math.exp(-1))
_PHI_1, _DENSITY_1 = 0.8413447460685429, 0.24197072451914337  # of the normal distribution at 1

ACTIVATIONS = {
    "identity": Activation("identity", [(-2, -2, 1), (INF, INF, 1)]),
    "relu": Activation("relu", [(2, 2, 1), (-2, 0, 0), (0, 0, 0), (INF, INF, 1)], kinks=(0,)),
    "leaky_relu": Activation("leaky_relu(slope=0.2)", [(2, 2, 1), (-2, -0.4, 0.2), (0, 0, 0.2)], kinks=(0,)),
    "elu": Activation(
        "elu(alpha=2)",
        [(3, 3, 1), (-1, 2 * (math.exp(-1) - 1), 2 * math.exp(-1)), (0, 0, 2), (1000, 1000, 1), (-1000, -2, 0)],
        kinks=(0,),
        slope=2,
        bend=2,
    ),
    "selu": Activation("selu", [(2, 2 * _SCALE, _SCALE), (0, 0, _SCALE * _ALPHA), (-1000, -_SCALE * _ALPHA, 0)], (0,), 1.8, 1.8),
    "gelu": Activation(
        "gelu", [(0, 0, 0.5), (1, _PHI_1, _PHI_1 + _DENSITY_1), (-1, _PHI_1 - 1, 1 - _PHI_1 - _DENSITY_1), (100, 100, 1)], (), 1.2, 0.8
    ),
    "silu": Activation("silu", [(0, 0, 0.5), (1, _SIGMOID_1, _SIGMOID_1 * (2 - _SIGMOID_1)), (1000, 1000, 1), (-1000, 0, 0)], (), 1.1, 0.5),
    "mish": Activation("mish", [(0, 0, 0.6), (1, 0.8650983882673103, 1.0490362200997922), (1000, 1000, 1), (-1000, 0, 0)], (), 1.1, 0.65),
    "softplus": Activation(
        "softplus", [(0, math.log(2), 0.5), (1000, 1000, 1), (-1000, 0, 0), (-40, math.exp(-40), math.exp(-40))], (), 1, 0.25
    ),
    "softsign": Activation("softsign", [(1, 0.5, 0.25), (-3, -0.75, 1 / 16), (0, 0, 1)], (), 1, 2),
    "sigmoid": Activation(
        "sigmoid",
        [(0, 0.5, 0.25), (1, _SIGMOID_1, _SIGMOID_1 * (1 - _SIGMOID_1)), (-40, math.exp(-40), math.exp(-40)), (1000, 1, 0), (-1000, 0, 0)],
        bend=0.1,
    ),
    "hard_sigmoid": Activation("hard_sigmoid", [(0, 0.5, 1 / 6), (3, 1, 0), (-3, 0, 0), (9, 1, 0), (2.7, 0.95, 1 / 6)], kinks=(-3, 3)),
    "tanh": Activation("tanh", [(0, 0, 1), (1, math.tanh(1), 1 / math.cosh(1) ** 2), (1000, 1, 0)], bend=0.8),
    "scaled_tanh": Activation("scaled_tanh", [(1.5, 1.7159 * math.tanh(1), 1.7159 * 2 / 3 / math.cosh(1) ** 2)], (), 1.2, 0.6),
    "affine": Activation("affine(factor=-2,addend=0.5)", [(3, -5.5, -2), (0, 0.5, -2), (INF, -INF, -2)], slope=2),
    "abs": Activation("abs", [(2, 2, 1), (-3, 3, -1), (0, 0, 0), (-INF, INF, -1)], kinks=(0,)),
    "square": Activation("square", [(3, 9, 6), (-0.5, 0.25, -1), (0, 0, 0)], (), lambda z: 2 * abs(z), 2),
    "exp": Activation("exp", [(0, 1, 1), (1, math.e, math.e), (-1000, 0, 0)], (), np.exp, np.exp),
    "sin": Activation("sin", [(0, 0, 1), (1, math.sin(1), math.cos(1)), (-1000, math.sin(-1000), math.cos(1000))], bend=1),
    "cos": Activation("cos", [(0, 1, 0), (1, math.cos(1), -math.sin(1)), (-1000, math.cos(1000), math.sin(1000))], bend=1),
}


# ---- losses ----


@dataclass(frozen=True)
class Loss:
    """points: (raw outputs, targets, the row's loss, its gradient) by hand; draw(random, rows, width) draws valid targets. columns: how
    many outputs a target has.

    For error bounds, per output: terms(o, t), the sum of |terms| of the value; slope_terms(o, t), the same for the derivative;
    bend(o, t), a bound of the second derivative. kink(o, t): the distance to the jump of the derivative.
    """

    spec: str
    points: list[tuple[list[float], list[float], float, list[float]]]
    draw: Callable[[np.random.Generator, int, int], Array]
    terms: Callable[[Array, Array], Array]
    slope_terms: Callable[[Array, Array], Array]
    bend: Callable[[Array, Array], Array | float]
    kink: Callable[[Array, Array], Array | float] = lambda o, t: INF
    columns: int = 1

    def targets(self, random: np.random.Generator, rows: int, outputs: int) -> Array:
        """Valid targets for this many outputs."""
        return self.draw(random, rows, outputs // self.columns)


def _normal(random: np.random.Generator, rows: int, width: int) -> Array:
    return 2 * random.normal(size=(rows, width))


def _probability_rows(random: np.random.Generator, rows: int, width: int) -> Array:
    t = random.dirichlet(np.ones(width), rows)
    t[::2] = np.eye(width)[random.integers(width, size=len(t[::2]))]
    return t


def _probabilities(random: np.random.Generator, rows: int, width: int) -> Array:
    return np.where(random.random((rows, width)) < 0.5, random.random((rows, width)), random.integers(2, size=(rows, width)))


def _signs(random: np.random.Generator, rows: int, width: int) -> Array:
    return random.choice([-1.0, 1.0], (rows, width))


def _difference(o: Array, t: Array) -> Array:
    return abs(o - t)


def _one(o: Array, t: Array) -> Array:
    return np.ones_like(o)


def _below_largest(o: Array) -> Array:
    return o.max(axis=1, keepdims=True) - o


def _softmax(o: Array) -> Array:
    e = np.exp(-_below_largest(o))
    return e / e.sum(axis=1, keepdims=True)


def _log_variances(o: Array) -> Array:
    return o[:, o.shape[1] // 2 :]


def _scaled_squares(o: Array, t: Array) -> Array:
    return (o[:, : t.shape[1]] - t) ** 2 * np.exp(-_log_variances(o))


LOSSES = {
    "mse": Loss("mse", [([1, 4], [3, 1], 6.5, [-2, 3])], _normal, lambda o, t: (o - t) ** 2, lambda o, t: 2 * abs(o - t), lambda o, t: 2),
    "half_sse": Loss("half_sse", [([1, 4], [3, 1], 6.5, [-2, 3])], _normal, lambda o, t: (o - t) ** 2 / 2, _difference, lambda o, t: 1),
    "mae": Loss(
        "mae",
        [([1, 4], [3, 1], 2.5, [-0.5, 0.5]), ([1, 4], [1, 4], 0, [0, 0])],
        _normal,
        _difference,
        _one,
        lambda o, t: 0,
        kink=_difference,
    ),
    "huber": Loss(
        "huber(delta=2)",
        [([1, 5], [0, 0], (0.5 + 8) / 2, [0.5, 1]), ([-2], [0], 2, [-2]), ([0], [0], 0, [0])],
        _normal,
        lambda o, t: 2 * abs(o - t),
        _difference,
        lambda o, t: 1,
    ),
    "smooth_l1": Loss(
        "smooth_l1(beta=2)",
        [([1, 5], [0, 0], (0.25 + 4) / 2, [0.25, 0.5]), ([-2], [0], 1, [-1]), ([0], [0], 0, [0])],
        _normal,
        _difference,
        lambda o, t: abs(o - t) / 2,
        lambda o, t: 0.5,
    ),
    "log_cosh": Loss(
        "log_cosh",
        [
            ([3, 1], [2, 3], math.log(math.cosh(1) * math.cosh(2)) / 2, [math.tanh(1) / 2, -math.tanh(2) / 2]),
            ([1000], [0], 1000 - math.log(2), [1]),
            ([1e-9], [0], 5e-19, [1e-9]),
        ],
        _normal,
        lambda o, t: 2 * abs(o - t),
        _difference,
        lambda o, t: 1,
    ),
    "quantile": Loss(
        "quantile(q=0.9)",
        [([1, 4], [3, 1], (1.8 + 0.3) / 2, [-0.45, 0.05]), ([1], [1], 0, [0])],
        _normal,
        _difference,
        _one,
        lambda o, t: 0,
        kink=_difference,
    ),
    "poisson": Loss(
        "poisson",
        [([0, 1], [2, 3], (1 + math.e - 3) / 2, [-0.5, (math.e - 3) / 2])],
        lambda random, rows, width: random.poisson(2, (rows, width)).astype(float),
        lambda o, t: np.exp(o) + abs(t * o),
        lambda o, t: np.exp(o) + t,
        lambda o, t: np.exp(o),
    ),
    "bce": Loss(
        "bce(label_smoothing=0.2,pos_weight=3)",
        [
            ([0, 0], [1, 0.25], (2.8 + 1.6) / 2 * math.log(2), [-1.3 / 2, -0.1 / 2]),
            ([math.log(3)], [1], 2.8 * math.log(4) - 2.7 * math.log(3), [0.75 * 2.8 - 2.7]),
            ([1000], [1], 100, [0.1]),
            ([-1000], [1], 2700, [-2.7]),
        ],
        _probabilities,
        lambda o, t: abs(o) + 3 * abs(o * t) + 3,
        lambda o, t: 3 + 3 * (t + 0.1),
        lambda o, t: 0.75,
    ),
    "hinge": Loss(
        "hinge",
        [([0.5, 3], [1, -1], (0.5 + 4) / 2, [-0.5, 0.5]), ([1, -2], [1, -1], 0, [0, 0])],
        _signs,
        lambda o, t: 1 + abs(o),
        _one,
        lambda o, t: 0,
        kink=lambda o, t: abs(1 - t * o),
    ),
    "cross_entropy": Loss(
        "cross_entropy(label_smoothing=0.1,temperature=2)",
        [
            ([0, 2 * math.log(3)], [1, 0], math.log(4) - 0.05 * math.log(3), [-0.35, 0.35]),
            ([0, 0, 0], [0.5, 0.5, 0], math.log(3), [0.15 - 0.225, 0.15 - 0.225, 0.15]),
            ([1000, 0], [0, 1], 475, [0.475, -0.475]),
        ],
        _probability_rows,
        lambda o, t: (0.9 * t + 0.1 / o.shape[1]) * (abs(o) + abs(o).max(axis=1, keepdims=True) + math.log(o.shape[1])),
        lambda o, t: _softmax(o / 2) + t + 0.1 / o.shape[1],
        lambda o, t: 0.125,  # a quarter of the sum of |derivatives| of p_j by all o: 2 p_j (1 - p_j)
    ),
    "kl": Loss(
        "kl",
        [
            ([0, math.log(3)], [1, 0], math.log(4), [-0.75, 0.75]),
            ([0, 0], [0.25, 0.75], 0.25 * math.log(0.5) + 0.75 * math.log(1.5), [0.25, -0.25]),
            ([0, 0, 0], [0.5, 0.5, 0], math.log(1.5), [-1 / 6, -1 / 6, 1 / 3]),
        ],
        _probability_rows,
        lambda o, t: t * (abs(o) + abs(o).max(axis=1, keepdims=True) + math.log(o.shape[1]) + 1),
        lambda o, t: _softmax(o) + t,
        lambda o, t: 0.5,  # as of cross_entropy
    ),
    "gaussian_nll": Loss(
        "gaussian_nll",
        [
            ([1, 0], [3], 2, [-2, -1.5]),
            ([1, 4, math.log(4), 0], [3, 3], (math.log(4) / 2 + 0.5 + 0.5) / 2, [-0.25, 0.5, 0, 0]),
        ],
        _normal,
        lambda o, t: np.hstack([_scaled_squares(o, t), abs(_log_variances(o))]) / o.shape[1],
        lambda o, t: np.hstack([np.sqrt(_scaled_squares(o, t) * np.exp(-_log_variances(o))), 1 + _scaled_squares(o, t)]) / t.shape[1],
        lambda o, t: np.tile((1 + _scaled_squares(o, t)) * (1 + np.exp(-_log_variances(o))), 2),
        columns=2,
    ),
}

# With gamma, whose factors make no term larger, and the derivatives at most 1 + gamma / e times as large.
FOCAL = {
    name: replace(LOSSES[name], spec=spec, points=[], slope_terms=lambda o, t, name=name: 2 * LOSSES[name].slope_terms(o, t))
    for name, spec in {
        "bce": "bce(label_smoothing=0.2,pos_weight=3,gamma=2)",
        "cross_entropy": "cross_entropy(label_smoothing=0.1,temperature=2,gamma=1.5)",
    }.items()
}
LOSS_CASES = LOSSES | {f"{name} with gamma": case for name, case in FOCAL.items()}

# More points, for losses with default parameters, so without label smoothing. Some outputs are so large that the prediction is 0 or 1.
HARD_POINTS = {
    "bce": [
        ([0, 0], [1, 0.25], math.log(2), [-0.25, 0.125]),
        ([1000], [1], 0, [0]),
        ([-1000], [1], 1000, [-1]),
        ([40], [1], math.exp(-40), [-math.exp(-40)]),
    ],
    "cross_entropy": [
        ([0, math.log(3)], [1, 0], math.log(4), [-0.75, 0.75]),
        ([0, 0, 0], [0.5, 0.5, 0], math.log(3), [-1 / 6, -1 / 6, 1 / 3]),
        ([1000, 0], [0, 1], 1000, [1, -1]),
        ([2, -INF], [1, 0], 0, [0, 0]),
    ],
    "bce(gamma=2)": [
        ([0, 0], [1, 0.25], math.log(2) / 4, [-(1 + math.log(4)) / 16, (1 + math.log(4)) / 32]),
        ([math.log(3)], [1], math.log(4 / 3) / 16, [-(1 + 6 * math.log(4 / 3)) / 64]),
        ([1000], [1], 0, [0]),
        ([-1000], [1], 1000, [-1]),
    ],
    "cross_entropy(gamma=2)": [
        ([0, math.log(3)], [1, 0], 9 / 16 * math.log(4), [-(27 + 18 * math.log(4)) / 64, (27 + 18 * math.log(4)) / 64]),
        ([0, 0, 0], [0.5, 0.5, 0], 4 / 9 * math.log(3), [(1 + math.log(3)) * x / 27 for x in (-2, -2, 4)]),
        ([1000, 0], [0, 1], 1000, [1, -1]),
        ([2, -INF], [1, 0], 0, [0, 0]),
        ([40, 0], [1, 0], math.exp(-120), [-3 * math.exp(-120), 3 * math.exp(-120)]),
    ],
}


def own_mse(outputs: Array, targets: Array, weight: Array | None) -> tuple[float, Array]:
    """mse as a custom loss."""
    share = (np.ones(len(outputs)) if weight is None else weight)[:, None]
    share = share / share.sum() / outputs.shape[1]
    difference = outputs - targets
    return (share * difference**2).sum(), 2 * share * difference


INITIALIZERS = {  # name -> (spec, function (in, out) -> standard deviation of a weight or bias)
    "normal": ("normal(std=0.3)", lambda i, o: 0.3),
    "uniform": ("uniform(limit=0.3)", lambda i, o: 0.3 / math.sqrt(3)),
    "glorot_normal": ("glorot_normal", lambda i, o: math.sqrt(2 / (i + o))),
    "glorot_uniform": ("glorot_uniform", lambda i, o: math.sqrt(2 / (i + o))),
    "he_normal": ("he_normal", lambda i, o: math.sqrt(2 / i)),
    "he_uniform": ("he_uniform", lambda i, o: math.sqrt(2 / i)),
    "lecun_normal": ("lecun_normal", lambda i, o: math.sqrt(1 / i)),
    "lecun_uniform": ("lecun_uniform", lambda i, o: math.sqrt(1 / i)),
    "fan_in_uniform": ("fan_in_uniform", lambda i, o: math.sqrt(1 / (3 * i))),
    "orthogonal": ("orthogonal(gain=1.5)", lambda i, o: 1.5 / math.sqrt(max(i, o))),
    "zeros": ("zeros", lambda i, o: 0.0),
    "array": ("array", lambda i, o: 0.0),
}

AUTO_INITIALIZERS = {  # activation -> initializers of weight and bias that "auto" chooses
    "identity": ("glorot_uniform", "zeros"),
    "relu": ("glorot_uniform", "glorot_uniform"),
    "leaky_relu": ("glorot_uniform", "glorot_uniform"),
    "elu": ("glorot_uniform", "glorot_uniform"),
    "selu": ("glorot_uniform", "glorot_uniform"),
    "gelu": ("glorot_uniform", "glorot_uniform"),
    "silu": ("lecun_normal", "fan_in_uniform"),
    "mish": ("lecun_normal", "fan_in_uniform"),
    "softplus": ("he_normal", "fan_in_uniform"),
    "softsign": ("glorot_uniform", "glorot_uniform"),
    "sigmoid": ("he_normal", "fan_in_uniform"),
    "hard_sigmoid": ("he_normal", "fan_in_uniform"),
    "tanh": ("glorot_uniform", "fan_in_uniform"),
    "scaled_tanh": ("glorot_uniform", "fan_in_uniform"),
    "affine": ("glorot_uniform", "zeros"),
    "abs": ("glorot_uniform", "glorot_uniform"),
    "square": ("glorot_uniform", "fan_in_uniform"),
    "exp": ("glorot_uniform", "fan_in_uniform"),
    "sin": ("glorot_uniform", "fan_in_uniform"),
    "cos": ("glorot_uniform", "fan_in_uniform"),
}

OUTPUT_ACTIVATION_POINTS = {  # the values for the raw outputs 1 and 1001
    "identity": [1, 1001],
    "sigmoid": [_SIGMOID_1, 1],
    "exp": [math.e, INF],
    "softmax": [0, 1],
}

SOLVERS = {  # name -> spec
    "lbfgs": "lbfgs(history=10)",
    "scg": "scg(sigma=5e-5, lambda=5e-7)",
    "levenberg_marquardt": "levenberg_marquardt(mu=0.001,geodesic=1)",
    "bayesian_regularization": "bayesian_regularization(mu=0.001)",
}

TABLES = {
    "activation": ACTIVATIONS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "initializer": INITIALIZERS,
    "output_activation": OUTPUT_ACTIVATION_POINTS,
    "solver": SOLVERS,
}
