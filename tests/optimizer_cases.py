"""The table of optimizers for tests, each with a textbook implementation of its step; and functions that solvers minimize."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

Step = Callable[[float, float, list[float], int], float]


@dataclass(frozen=True)
class Optimizer:
    """spec: used in tests; no parameter has its default.
    slots: name -> initial value for lr=0.1.
    hand: the textbook step (p, g, s, t) -> new p, for lr=0.1, weight_decay=0.1 and the other defaults. g includes the decay unless it is
    decoupled. The function updates the list s: the slots, or the state of the textbook.
    terms(p, s, h): for each slot, the size of the numbers that cancel in it; h: the optimizer's parameters by name."""

    spec: str
    slots: dict[str, float]
    hand: Step
    decoupled: bool = False
    terms: Callable[[float, list[float], dict[str, float]], Iterable[float]] = lambda p, s, h: itertools.repeat(0.0)


def _sgd(p: float, g: float, s: list[float], t: int) -> float:
    return p - 0.1 * g


def _sgd_momentum(p: float, g: float, s: list[float], t: int) -> float:
    s[0] = 0.9 * s[0] + g
    return p - 0.1 * s[0]


def _sgd_nesterov(p: float, g: float, s: list[float], t: int) -> float:
    s[0] = 0.9 * s[0] + g
    return p - 0.1 * (g + 0.9 * s[0])


def _momentum(p: float, g: float, s: list[float], t: int) -> float:
    s[0] = 0.9 * s[0] - 0.1 * g
    return p + s[0]


def _momentum_nesterov(p: float, g: float, s: list[float], t: int) -> float:
    s[0] = 0.9 * s[0] - 0.1 * g
    return p + 0.9 * s[0] - 0.1 * g


def _asgd(p: float, g: float, s: list[float], t: int) -> float:
    eta = 0.1 / (1 + 1e-5 * (t - 1)) ** 0.75
    return p * (1 - 1e-4 * eta) - eta * g


def _adagrad(p: float, g: float, s: list[float], t: int) -> float:
    s[0] += g**2
    return p - 0.1 * g / (math.sqrt(s[0]) + 1e-10)


def _adadelta(p: float, g: float, s: list[float], t: int) -> float:
    s[0] = 0.9 * s[0] + 0.1 * g**2
    change = -math.sqrt(s[1] + 1e-6) / math.sqrt(s[0] + 1e-6) * g
    s[1] = 0.9 * s[1] + 0.1 * change**2
    return p + 0.1 * change


def _rmsprop(p: float, g: float, s: list[float], t: int) -> float:
    s[0] = 0.99 * s[0] + 0.01 * g**2
    return p - 0.1 * g / (math.sqrt(s[0]) + 1e-8)


def _rmsprop_momentum(p: float, g: float, s: list[float], t: int) -> float:
    s[0] = 0.99 * s[0] + 0.01 * g**2
    s[1] = 0.9 * s[1] + g / (math.sqrt(s[0]) + 1e-8)
    return p - 0.1 * s[1]


def _rmsprop_centered(p: float, g: float, s: list[float], t: int) -> float:
    s[0], s[1] = 0.99 * s[0] + 0.01 * g**2, 0.99 * s[1] + 0.01 * g
    return p - 0.1 * g / (math.sqrt(s[0] - s[1] ** 2) + 1e-8)


def _rmsprop_centered_momentum(p: float, g: float, s: list[float], t: int) -> float:
    s[0], s[1] = 0.99 * s[0] + 0.01 * g**2, 0.99 * s[1] + 0.01 * g
    s[2] = 0.9 * s[2] + g / (math.sqrt(s[0] - s[1] ** 2) + 1e-8)
    return p - 0.1 * s[2]


def _adam_moments(g: float, s: list[float], t: int) -> tuple[float, float]:
    """m and v, with their bias corrected."""
    s[0], s[1] = 0.9 * s[0] + 0.1 * g, 0.999 * s[1] + 0.001 * g**2
    return s[0] / (1 - 0.9**t), s[1] / (1 - 0.999**t)


def _adam(p: float, g: float, s: list[float], t: int) -> float:
    m, v = _adam_moments(g, s, t)
    return p - 0.1 * m / (math.sqrt(v) + 1e-8)


def _amsgrad(p: float, g: float, s: list[float], t: int) -> float:
    m, _ = _adam_moments(g, s, t)
    s[2] = max(s[2], s[1])
    return p - 0.1 * m / (math.sqrt(s[2] / (1 - 0.999**t)) + 1e-8)


def _adamax(p: float, g: float, s: list[float], t: int) -> float:
    s[0], s[1] = 0.9 * s[0] + 0.1 * g, max(0.999 * s[1], abs(g) + 1e-8)
    return p - 0.1 / (1 - 0.9**t) * s[0] / s[1]


def _nadam(p: float, g: float, s: list[float], t: int) -> float:
    mu = [0.9 * (1 - 0.5 * 0.96 ** (0.004 * i)) for i in range(1, t + 2)]
    _, v = _adam_moments(g, s, t)
    m = mu[t] * s[0] / (1 - math.prod(mu)) + (1 - mu[t - 1]) * g / (1 - math.prod(mu[:t]))
    return p - 0.1 * m / (math.sqrt(v) + 1e-8)


def _radam(p: float, g: float, s: list[float], t: int) -> float:
    return p - 0.1 * _adam_moments(g, s, t)[0]  # correct in the first 5 steps only


def _adabelief(p: float, g: float, s: list[float], t: int) -> float:
    s[0] = 0.9 * s[0] + 0.1 * g
    s[1] = 0.999 * s[1] + 0.001 * (g - s[0]) ** 2 + 1e-16
    return p - 0.1 * s[0] / (1 - 0.9**t) / (math.sqrt(s[1] / (1 - 0.999**t)) + 1e-16)


def _lion(p: float, g: float, s: list[float], t: int) -> float:
    update = 0.9 * s[0] + 0.1 * g
    s[0] = 0.99 * s[0] + 0.01 * g
    return p - math.copysign(0.1, update)


def _lamb(p: float, g: float, s: list[float], t: int) -> float:
    m, v = _adam_moments(g, s, t)
    direction = m / (math.sqrt(v) + 1e-6) + 0.1 * p
    return p - 0.1 * abs(p) * direction / abs(direction)  # a tensor of one number


def _ftrl(p: float, g: float, s: list[float], t: int) -> float:
    sigma = (math.sqrt(s[1] + g**2) - math.sqrt(s[1])) / 0.1
    s[0], s[1] = s[0] + g - sigma * p, s[1] + g**2
    return -s[0] * 0.1 / math.sqrt(s[1])


def _rprop(p: float, g: float, s: list[float], t: int) -> float:
    s[1] *= 1 if s[0] == 0 else 1.2 if s[0] * g > 0 else 0.5
    s[0] = g
    return p - math.copysign(s[1], g)


def _irprop(p: float, g: float, s: list[float], t: int) -> float:
    if s[0] * g < 0:
        s[0], s[1] = 0, 0.5 * s[1]
        return p
    return _rprop(p, g, s, t)


_MOMENTUM = "lr=0.05,momentum=0.8,weight_decay=0.1"
_RMSPROP = "lr=0.02,alpha=0.9,eps=0.0001,weight_decay=0.1"
_ADAM = "lr=0.02,beta1=0.8,beta2=0.95,eps=0.0001,weight_decay=0.1"
_RPROP = "lr=0.02,eta_minus=0.4,eta_plus=1.5,step_min=0.001,step_max=0.025,weight_decay=0.1"
_VELOCITY, _MOMENTS, _STEP_SIZE = {"velocity": 0.0}, {"m": 0.0, "v": 0.0}, {"prev": 0.0, "step_size": 0.1}

OPTIMIZERS = {
    "sgd": Optimizer("sgd(lr=0.05,weight_decay=0.1)", {}, _sgd),
    "sgd_momentum": Optimizer(f"sgd_momentum({_MOMENTUM},decay_bias=1)", _VELOCITY, _sgd_momentum),
    "sgd_nesterov": Optimizer(f"sgd_nesterov({_MOMENTUM})", _VELOCITY, _sgd_nesterov),
    "momentum": Optimizer(f"momentum({_MOMENTUM})", _VELOCITY, _momentum),
    "momentum_nesterov": Optimizer(f"momentum_nesterov({_MOMENTUM})", _VELOCITY, _momentum_nesterov),
    "asgd": Optimizer("asgd(lr=0.05,lambd=0.3,alpha=0.5,t0=0,weight_decay=0.1)", {"average": 0.0}, _asgd),
    "adagrad": Optimizer(
        "adagrad(lr=0.05,lr_decay=0.3,initial_accumulator_value=0.01,eps=0.0001,weight_decay=0.1)", {"sum": 0.0}, _adagrad
    ),
    "adadelta": Optimizer("adadelta(lr=0.7,rho=0.8,eps=0.001,weight_decay=0.1)", {"v": 0.0, "u": 0.0}, _adadelta),
    "rmsprop": Optimizer(f"rmsprop({_RMSPROP})", {"v": 0.0}, _rmsprop),
    "rmsprop_momentum": Optimizer(f"rmsprop_momentum({_RMSPROP},momentum=0.8)", {"v": 0.0, "velocity": 0.0}, _rmsprop_momentum),
    "rmsprop_centered": Optimizer(f"rmsprop_centered({_RMSPROP})", {"v": 0.0, "mean": 0.0}, _rmsprop_centered),
    "rmsprop_centered_momentum": Optimizer(
        f"rmsprop_centered_momentum({_RMSPROP},momentum=0.8)", {"v": 0.0, "mean": 0.0, "velocity": 0.0}, _rmsprop_centered_momentum
    ),
    "adam": Optimizer(f"adam({_ADAM})", _MOMENTS, _adam),
    "adam_amsgrad": Optimizer(f"adam_amsgrad({_ADAM},eps_hat=1)", _MOMENTS | {"v_max": 0.0}, _amsgrad),
    "adamw": Optimizer(f"adamw({_ADAM},eps_hat=1)", _MOMENTS, _adam, decoupled=True),
    "adamw_amsgrad": Optimizer(f"adamw_amsgrad({_ADAM},decay_bias=1)", _MOMENTS | {"v_max": 0.0}, _amsgrad, decoupled=True),
    "adamax": Optimizer(f"adamax({_ADAM})", {"m": 0.0, "u": 0.0}, _adamax),
    "nadam": Optimizer(f"nadam({_ADAM},momentum_decay=0.5)", _MOMENTS, _nadam),
    "radam": Optimizer(f"radam({_ADAM})", _MOMENTS, _radam),
    "adabelief": Optimizer(f"adabelief({_ADAM},eps_root=0.0001)", _MOMENTS, _adabelief),
    "lion": Optimizer("lion(lr=0.02,beta1=0.8,beta2=0.95,weight_decay=0.1)", {"m": 0.0}, _lion, decoupled=True),
    "ftrl": Optimizer(
        "ftrl(lr=0.05,initial_accumulator_value=0.2,l1=0.01,l2=0.2,beta=0.3,weight_decay=0.1)",
        {"z": 0.0, "n": 0.1},
        _ftrl,
        terms=lambda p, s, h: [abs(p) * math.sqrt(s[1]) / h["lr"], 0.0],
    ),
    "rprop_minus": Optimizer(f"rprop_minus({_RPROP})", _STEP_SIZE, _rprop),
    "irprop_minus": Optimizer(f"irprop_minus({_RPROP})", _STEP_SIZE, _irprop),
    "irprop_plus": Optimizer(f"irprop_plus({_RPROP})", _STEP_SIZE | {"change": 0.0}, _irprop),
    "lamb": Optimizer(f"lamb({_ADAM},decay_bias=1)", _MOMENTS, _lamb, decoupled=True),
}


# ---- functions that solvers minimize: half the sums of squares of More, Garbow & Hillstrom 1981, by their residuals ----

Numbers = Sequence[float]
Residuals = tuple[list[float], list[list[float]]]  # and their derivatives, a row for each


@dataclass(frozen=True)
class Flat:
    """near: how near to the minimum it comes, as a part of |x|, at least of 1."""

    residuals: Callable[[Numbers], Residuals]
    start: Numbers
    minimum: Numbers
    near: float = 1e-7

    def __call__(self, x: Numbers) -> tuple[float, list[float]]:
        """Value and gradient."""
        values, rows = self.residuals(x)
        return sum(r * r for r in values) / 2, [sum(r * row[i] for r, row in zip(values, rows)) for i in range(len(x))]


def _rosenbrock(x: Numbers) -> Residuals:
    return [10 * (x[1] - x[0] ** 2), 1 - x[0]], [[-20 * x[0], 10], [-1, 0]]


def _beale(x: Numbers) -> Residuals:
    values = [given - x[0] * (1 - x[1] ** i) for i, given in enumerate((1.5, 2.25, 2.625), 1)]
    return values, [[x[1] ** i - 1, x[0] * i * x[1] ** (i - 1)] for i in (1, 2, 3)]


def _powell(x: Numbers) -> Residuals:
    a, b = x[1] - 2 * x[2], x[0] - x[3]
    five, ten = math.sqrt(5), math.sqrt(10)
    values = [x[0] + 10 * x[1], five * (x[2] - x[3]), a * a, ten * b * b]
    return values, [[1, 10, 0, 0], [0, 0, five, -five], [0, 2 * a, -4 * a, 0], [2 * ten * b, 0, 0, -2 * ten * b]]


def _wood(x: Numbers) -> Residuals:
    root, ten = math.sqrt(90), math.sqrt(10)
    values = [10 * (x[1] - x[0] ** 2), 1 - x[0], root * (x[3] - x[2] ** 2), 1 - x[2], ten * (x[1] + x[3] - 2), (x[1] - x[3]) / ten]
    rows = [
        [-20 * x[0], 10, 0, 0],
        [-1, 0, 0, 0],
        [0, 0, -2 * root * x[2], root],
        [0, 0, -1, 0],
        [0, ten, 0, ten],
        [0, 1 / ten, 0, -1 / ten],
    ]
    return values, [[float(one) for one in row] for row in rows]


def _brown(x: Numbers) -> Residuals:
    return [x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2], [[1, 0], [0, 1], [x[1], x[0]]]


def _helical(x: Numbers) -> Residuals:
    square = x[0] ** 2 + x[1] ** 2
    length, turn = math.sqrt(square), 2 * math.pi * square
    angle = math.atan2(x[1], x[0]) / (2 * math.pi)  # the paper's, from -1/4 to 3/4
    values = [10 * (x[2] - 10 * (angle if angle >= -0.25 else angle + 1)), 10 * (length - 1), x[2]]
    return values, [[100 * x[1] / turn, -100 * x[0] / turn, 10], [10 * x[0] / length, 10 * x[1] / length, 0], [0, 0, 1]]


FLAT = {
    "rosenbrock": Flat(_rosenbrock, (-1.2, 1), (1, 1)),
    "beale": Flat(_beale, (1, 1), (3, 0.5)),
    "powell singular": Flat(_powell, (3, -1, 0, 1), (0, 0, 0, 0), 1e-2),
    "wood": Flat(_wood, (-3, -1, -3, -1), (1, 1, 1, 1)),
    "brown badly scaled": Flat(_brown, (1, 1), (1e6, 2e-6)),
    "helical valley": Flat(_helical, (-1, 0, 0), (1, 0, 0)),
}
