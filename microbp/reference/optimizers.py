"""Every optimizer, one entry each, as in its paper.

Letters: p parameter, g its gradient, s its slots, t the step 1, 2, ...; the other arguments are the optimizer's parameters by name. A
parameter text, "lr=0.001[0,inf) momentum=0.9[0,1)", has the name, default and range of each parameter.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Optimizer:
    """update(p, g, s, t, ...): the new p and the new slots.

    meaning: the update as a text. detail: the names of the slots, with "=parameter" if a slot starts at that parameter's value and not at
    0.

    decay: where weight decay is applied. "gradient": g includes weight_decay p. "decoupled": p - lr weight_decay p is passed as p
    (Loshchilov & Hutter 2019). "trust": update returns a direction d instead of p, and the new p is p - lr |p| / |e| e with e = d +
    weight_decay p and the norms of the whole tensor.

    loss_rose: update gets an argument loss_rose, whether the loss is larger than at the last step.

    sparse: what a step does to rows of a sparse layer that its batch does not name. "equal": what it does to a gradient of 0. "lazy": only
    the decay. "": such layers are refused. sparse_decay: whether they may have weight decay.
    """

    parameters: str
    meaning: str
    detail: str
    update: Callable[..., tuple[float, list[float]]]
    decay: str = "gradient"
    loss_rose: bool = False
    sparse: str = ""
    sparse_decay: bool = False

    @property
    def slots(self) -> dict[str, str]:
        """Name -> the parameter that the slot starts from, "" for 0."""
        return {name: start for name, _, start in (word.partition("=") for word in self.detail.split())}


def _sign(x: float) -> int:
    return (x > 0) - (x < 0)


# ---- gradient descent and momentum ----


def _sgd(p, g, s, t, lr):
    return p - lr * g, []


def _sgd_momentum(p, g, s, t, lr, momentum):
    """Polyak 1964, in the form of Sutskever et al. 2013, but lr is not part of the velocity."""
    velocity = momentum * s[0] + g
    return p - lr * velocity, [velocity]


def _sgd_nesterov(p, g, s, t, lr, momentum):
    """Nesterov 1983: the gradient step from the point that the velocity leads to."""
    velocity = momentum * s[0] + g
    return p - lr * (g + momentum * velocity), [velocity]


def _momentum(p, g, s, t, lr, momentum):
    """Rumelhart et al. 1986: lr is part of the velocity."""
    velocity = momentum * s[0] - lr * g
    return p + velocity, [velocity]


def _momentum_nesterov(p, g, s, t, lr, momentum):
    velocity = momentum * s[0] - lr * g
    return p + momentum * velocity - lr * g, [velocity]


def _asgd(p, g, s, t, lr, lambd, alpha, t0):
    """Polyak & Juditsky 1992, as in PyTorch: a decreasing rate eta. From step t0 on, the slot is the average of the parameters."""
    eta = lr / (1 + lambd * lr * (t - 1)) ** alpha
    p = p - lambd * eta * p - eta * g
    weight = 1 / max(1, t - 1 - t0)
    return p, [(1 - weight) * s[0] + weight * p]


# ---- steps divided by the gradients' size ----


def _adagrad(p, g, s, t, lr, lr_decay, initial_accumulator_value, eps):
    """Duchi et al. 2011."""
    total = s[0] + g * g
    return p - lr / (1 + (t - 1) * lr_decay) * g / (math.sqrt(total) + eps), [total]


def _adadelta(p, g, s, t, lr, rho, eps):
    """Zeiler 2012, algorithm 1."""
    v = rho * s[0] + (1 - rho) * (g * g)
    change = math.sqrt(s[1] + eps) / math.sqrt(v + eps) * g
    return p - lr * change, [v, rho * s[1] + (1 - rho) * (change * change)]


def _rmsprop(p, g, s, t, lr, alpha, eps):
    """Tieleman & Hinton 2012."""
    v = alpha * s[0] + (1 - alpha) * (g * g)
    return p - lr * g / (math.sqrt(v) + eps), [v]


def _rmsprop_momentum(p, g, s, t, lr, alpha, eps, momentum):
    v = alpha * s[0] + (1 - alpha) * (g * g)
    velocity = momentum * s[1] + g / (math.sqrt(v) + eps)
    return p - lr * velocity, [v, velocity]


def _rmsprop_centered(p, g, s, t, lr, alpha, eps):
    """Graves 2013: divided by the gradients' standard deviation."""
    v = alpha * s[0] + (1 - alpha) * (g * g)
    mean = alpha * s[1] + (1 - alpha) * g
    return p - lr * g / (math.sqrt(max(v - mean * mean, 0.0)) + eps), [v, mean]


def _rmsprop_centered_momentum(p, g, s, t, lr, alpha, eps, momentum):
    v = alpha * s[0] + (1 - alpha) * (g * g)
    mean = alpha * s[1] + (1 - alpha) * g
    velocity = momentum * s[2] + g / (math.sqrt(max(v - mean * mean, 0.0)) + eps)
    return p - lr * velocity, [v, mean, velocity]


# ---- adaptive moments ----


def _eps(eps: float, eps_hat: float, beta2: float, t: int) -> float:
    """With eps_hat, eps is added before the bias correction of v: the form at the end of Kingma & Ba 2015, section 2."""
    return eps / math.sqrt(1 - beta2**t) if eps_hat else eps


def _adam(p, g, s, t, lr, beta1, beta2, eps, eps_hat):
    """Kingma & Ba 2015, algorithm 1."""
    m = beta1 * s[0] + (1 - beta1) * g
    v = beta2 * s[1] + (1 - beta2) * (g * g)
    m_unbiased = m / (1 - beta1**t)
    v_unbiased = v / (1 - beta2**t)
    return p - lr * m_unbiased / (math.sqrt(v_unbiased) + _eps(eps, eps_hat, beta2, t)), [m, v]


def _adam_amsgrad(p, g, s, t, lr, beta1, beta2, eps, eps_hat):
    """Reddi et al. 2018: the largest second moment so far, with the bias corrections of PyTorch."""
    m = beta1 * s[0] + (1 - beta1) * g
    v = beta2 * s[1] + (1 - beta2) * (g * g)
    v_max = max(s[2], v)
    return p - lr * (m / (1 - beta1**t)) / (math.sqrt(v_max / (1 - beta2**t)) + _eps(eps, eps_hat, beta2, t)), [m, v, v_max]


def _adamax(p, g, s, t, lr, beta1, beta2, eps):
    """Kingma & Ba 2015, algorithm 2, with eps as in PyTorch."""
    m = beta1 * s[0] + (1 - beta1) * g
    u = max(abs(g) + eps, beta2 * s[1])
    return p - lr / (1 - beta1**t) * m / u, [m, u]


def _nadam_momentum(t: int, beta1: float, momentum_decay: float) -> float:
    return beta1 * (1 - 0.5 * 0.96 ** (t * momentum_decay))


_SETTLED = 2**20  # after so many steps, the momentum is taken as constant


@functools.lru_cache(maxsize=4)
def _nadam_first_product(t: int, beta1: float, momentum_decay: float) -> float:
    return math.prod(_nadam_momentum(i, beta1, momentum_decay) for i in range(1, t + 1))


def _nadam_product(t: int, beta1: float, momentum_decay: float) -> float:
    first = _nadam_first_product(min(t, _SETTLED), beta1, momentum_decay)
    return first * _nadam_momentum(_SETTLED + 1, beta1, momentum_decay) ** max(0, t - _SETTLED)


def _nadam(p, g, s, t, lr, beta1, beta2, eps, momentum_decay):
    """Dozat 2016: Adam with Nesterov momentum, which grows with t."""
    m = beta1 * s[0] + (1 - beta1) * g
    v = beta2 * s[1] + (1 - beta2) * (g * g)
    now, after = (_nadam_momentum(i, beta1, momentum_decay) for i in (t, t + 1))
    product = _nadam_product(t, beta1, momentum_decay)
    ahead = (1 - now) * g / (1 - product) + after * m / (1 - product * after)
    return p - lr * ahead / (math.sqrt(v / (1 - beta2**t)) + eps), [m, v]


def _radam(p, g, s, t, lr, beta1, beta2, eps):
    """Liu et al. 2020, algorithm 2: only momentum until the variance is tractable."""
    m = beta1 * s[0] + (1 - beta1) * g
    v = beta2 * s[1] + (1 - beta2) * (g * g)
    m_unbiased = m / (1 - beta1**t)
    longest = 2 / (1 - beta2) - 1
    length = longest - 2 * t * beta2**t / (1 - beta2**t)
    if length <= 5:
        return p - lr * m_unbiased, [m, v]
    rectifier = math.sqrt((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length))
    return p - lr * rectifier * m_unbiased * math.sqrt(1 - beta2**t) / (math.sqrt(v) + eps), [m, v]


def _adabelief(p, g, s, t, lr, beta1, beta2, eps, eps_root):
    """Zhuang et al. 2020: the variance around the mean instead of the second moment."""
    m = beta1 * s[0] + (1 - beta1) * g
    v = beta2 * s[1] + (1 - beta2) * ((g - m) * (g - m)) + eps_root
    return p - lr * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + eps), [m, v]


def _lion(p, g, s, t, lr, beta1, beta2):
    """Chen et al. 2023, algorithm 2."""
    return p - lr * _sign(beta1 * s[0] + (1 - beta1) * g), [beta2 * s[0] + (1 - beta2) * g]


def _lamb(p, g, s, t, lr, beta1, beta2, eps):
    """You et al. 2020, algorithm 2: Adam's direction."""
    m = beta1 * s[0] + (1 - beta1) * g
    v = beta2 * s[1] + (1 - beta2) * (g * g)
    return m / (1 - beta1**t) / (math.sqrt(v / (1 - beta2**t)) + eps), [m, v]


# ---- follow the regularized leader ----


def _ftrl(p, g, s, t, lr, initial_accumulator_value, l1, l2, beta):
    """McMahan et al. 2013, algorithm 1."""
    z, n = s
    sigma = (math.sqrt(n + g * g) - math.sqrt(n)) / lr
    z, n = z + g - sigma * p, n + g * g
    over = z - max(-l1, min(z, l1))
    return -over / ((beta + math.sqrt(n)) / lr + l2) if over else 0.0, [z, n]


# ---- resilient propagation ----


def _rprop_size(turn: int, size: float, eta_minus: float, eta_plus: float, step_min: float, step_max: float) -> float:
    return min(max(size * {1: eta_plus, 0: 1.0, -1: eta_minus}[turn], step_min), step_max)


def _rprop_minus(p, g, s, t, lr, **sizes):
    """Riedmiller 1994, without weight backtracking."""
    size = _rprop_size(_sign(g) * _sign(s[0]), s[1], **sizes)
    return p - _sign(g) * size, [g, size]


def _irprop_minus(p, g, s, t, lr, **sizes):
    """Igel & Huesken 2000: after a change of sign the weight does not change in this step."""
    turn = _sign(g) * _sign(s[0])
    size = _rprop_size(turn, s[1], **sizes)
    if turn < 0:
        return p, [0.0, size]
    return p - _sign(g) * size, [g, size]


def _irprop_plus(p, g, s, t, lr, loss_rose, **sizes):
    """Igel & Huesken 2000: after a change of sign the last step is undone if the loss increased."""
    turn = _sign(g) * _sign(s[0])
    size = _rprop_size(turn, s[1], **sizes)
    if turn < 0:
        change = -s[2] if loss_rose else 0.0
        return p + change, [0.0, size, change]
    change = -_sign(g) * size
    return p + change, [g, size, change]


_MOMENTUM = "lr=0.001[0,inf) momentum=0.9[0,1)"
_RMSPROP = "lr=0.01[0,inf) alpha=0.99[0,1) eps=1e-08(0,inf)"
_BETAS = "beta1=0.9[0,1) beta2=0.999[0,1)"
_ADAM = f"lr=0.001[0,inf) {_BETAS} eps=1e-08(0,inf)"
_ADAM_HAT = f"{_ADAM} eps_hat=0[0,1]"
_RPROP = "lr=0.01[0,inf) eta_minus=0.5(0,1) eta_plus=1.2(1,inf) step_min=1e-06[0,inf) step_max=50(0,inf)"
_DECAY = "weight_decay=0[0,inf)"

OPTIMIZERS = {
    "sgd": Optimizer(f"lr=0.001[0,inf) {_DECAY}", "p -= lr g", "", _sgd, sparse="equal", sparse_decay=True),
    "sgd_momentum": Optimizer(
        f"{_MOMENTUM} {_DECAY}",
        "velocity = momentum velocity + g, p -= lr velocity; Polyak 1964, Sutskever et al. 2013",
        "velocity",
        _sgd_momentum,
        sparse="equal",
        sparse_decay=True,
    ),
    "sgd_nesterov": Optimizer(
        f"{_MOMENTUM} {_DECAY}",
        "velocity = momentum velocity + g, p -= lr (g + momentum velocity); Nesterov 1983, Sutskever et al. 2013",
        "velocity",
        _sgd_nesterov,
        sparse="equal",
        sparse_decay=True,
    ),
    "momentum": Optimizer(
        f"{_MOMENTUM} {_DECAY}",
        "velocity = momentum velocity - lr g, p += velocity; Rumelhart et al. 1986",
        "velocity",
        _momentum,
        sparse="equal",
        sparse_decay=True,
    ),
    "momentum_nesterov": Optimizer(
        f"{_MOMENTUM} {_DECAY}",
        "velocity = momentum velocity - lr g, p += momentum velocity - lr g; Nesterov 1983",
        "velocity",
        _momentum_nesterov,
        sparse="equal",
        sparse_decay=True,
    ),
    "asgd": Optimizer(
        f"lr=0.01[0,inf) lambd=0.0001[0,inf) alpha=0.75[0,inf) t0=1000000[0,inf) {_DECAY}",
        "p -= r (g + lambd p) with r = lr / (1 + lambd lr (t - 1))^alpha, and the average of p from step t0 on; Polyak & Juditsky 1992",
        "average",
        _asgd,
    ),
    "adagrad": Optimizer(
        f"lr=0.01[0,inf) lr_decay=0[0,inf) initial_accumulator_value=0[0,inf) eps=1e-10(0,inf) {_DECAY}",
        "sum += g^2, p -= lr / (1 + lr_decay (t - 1)) g / (sqrt(sum) + eps); Duchi et al. 2011",
        "sum=initial_accumulator_value",
        _adagrad,
        sparse="equal",
    ),
    "adadelta": Optimizer(
        f"lr=1[0,inf) rho=0.9[0,1) eps=1e-06(0,inf) {_DECAY}",
        "v = rho v + (1 - rho) g^2, c = g sqrt(u + eps) / sqrt(v + eps), p -= lr c, u = rho u + (1 - rho) c^2; Zeiler 2012, algorithm 1",
        "v u",
        _adadelta,
        sparse="equal",
    ),
    "rmsprop": Optimizer(
        f"{_RMSPROP} {_DECAY}",
        "v = alpha v + (1 - alpha) g^2, p -= lr g / (sqrt(v) + eps); Tieleman & Hinton 2012",
        "v",
        _rmsprop,
        sparse="equal",
    ),
    "rmsprop_momentum": Optimizer(
        f"{_RMSPROP} momentum=0.9[0,1) {_DECAY}",
        "rmsprop with velocity = momentum velocity + g / (sqrt(v) + eps), p -= lr velocity",
        "v velocity",
        _rmsprop_momentum,
        sparse="equal",
    ),
    "rmsprop_centered": Optimizer(
        f"{_RMSPROP} {_DECAY}",
        "rmsprop with mean = alpha mean + (1 - alpha) g and sqrt(v - mean^2) in place of sqrt(v); Graves 2013",
        "v mean",
        _rmsprop_centered,
        sparse="equal",
    ),
    "rmsprop_centered_momentum": Optimizer(
        f"{_RMSPROP} momentum=0.9[0,1) {_DECAY}",
        "rmsprop_centered with the velocity of rmsprop_momentum; Graves 2013",
        "v mean velocity",
        _rmsprop_centered_momentum,
        sparse="equal",
    ),
    "adam": Optimizer(
        f"{_ADAM_HAT} {_DECAY}",
        "m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2, "
        "p -= lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps), "
        "with eps_hat=1 eps / sqrt(1 - beta2^t) in place of eps; Kingma & Ba 2015, algorithm 1",
        "m v",
        _adam,
        sparse="lazy",
    ),
    "adam_amsgrad": Optimizer(
        f"{_ADAM_HAT} {_DECAY}", "adam with v_max = max(v_max, v) in place of v in the step; Reddi et al. 2018", "m v v_max", _adam_amsgrad
    ),
    "adamw": Optimizer(
        f"{_ADAM_HAT} weight_decay=0.01[0,inf)",
        "adam after p -= lr weight_decay p; Loshchilov & Hutter 2019",
        "m v",
        _adam,
        decay="decoupled",
        sparse="lazy",
        sparse_decay=True,
    ),
    "adamw_amsgrad": Optimizer(
        f"{_ADAM_HAT} weight_decay=0.01[0,inf)",
        "adam_amsgrad after p -= lr weight_decay p; Loshchilov & Hutter 2019",
        "m v v_max",
        _adam_amsgrad,
        decay="decoupled",
    ),
    "adamax": Optimizer(
        f"lr=0.002[0,inf) {_BETAS} eps=1e-08(0,inf) {_DECAY}",
        "m of adam, u = max(beta2 u, |g| + eps), p -= lr m / ((1 - beta1^t) u); Kingma & Ba 2015, algorithm 2",
        "m u",
        _adamax,
    ),
    "nadam": Optimizer(
        f"lr=0.002[0,inf) {_BETAS} eps=1e-08(0,inf) momentum_decay=0.004[0,inf) {_DECAY}",
        "adam with Nesterov momentum and beta1 (1 - 0.96^(t momentum_decay) / 2) in place of beta1; Dozat 2016",
        "m v",
        _nadam,
    ),
    "radam": Optimizer(
        f"{_ADAM} {_DECAY}",
        "adam with a rate that grows to lr as v becomes reliable, without v in the first steps; Liu et al. 2020, algorithm 2",
        "m v",
        _radam,
    ),
    "adabelief": Optimizer(
        f"lr=0.001[0,inf) {_BETAS} eps=1e-16(0,inf) eps_root=1e-16[0,inf) {_DECAY}",
        "adam with v = beta2 v + (1 - beta2) (g - m)^2 + eps_root; Zhuang et al. 2020",
        "m v",
        _adabelief,
    ),
    "lion": Optimizer(
        f"lr=0.0001[0,inf) beta1=0.9[0,1) beta2=0.99[0,1) {_DECAY}",
        "p -= lr sign(beta1 m + (1 - beta1) g) after p -= lr weight_decay p, "
        "then m = beta2 m + (1 - beta2) g; Chen et al. 2023, algorithm 2",
        "m",
        _lion,
        decay="decoupled",
    ),
    "ftrl": Optimizer(
        f"lr=0.001(0,inf) initial_accumulator_value=0.1[0,inf) l1=0[0,inf) l2=0[0,inf) beta=0[0,inf) {_DECAY}",
        "s = sqrt(n + g^2) - sqrt(n), z += g - s p / lr, n += g^2, p = 0 if |z| <= l1, "
        "else (sign(z) l1 - z) / ((beta + sqrt(n)) / lr + l2); McMahan et al. 2013, algorithm 1",
        "z n=initial_accumulator_value",
        _ftrl,
        sparse="equal",
    ),
    "rprop_minus": Optimizer(
        f"{_RPROP} {_DECAY}",
        "p -= sign(g) step_size, where step_size is multiplied by eta_plus if g keeps its sign, and by eta_minus if not; Riedmiller 1994",
        "prev step_size=lr",
        _rprop_minus,
    ),
    "irprop_minus": Optimizer(
        f"{_RPROP} {_DECAY}", "rprop_minus without a step after a change of sign; Igel & Huesken 2000", "prev step_size=lr", _irprop_minus
    ),
    "irprop_plus": Optimizer(
        f"{_RPROP} {_DECAY}",
        "irprop_minus that undoes the last step after a change of sign if the loss increased; Igel & Huesken 2000",
        "prev step_size=lr change",
        _irprop_plus,
        loss_rose=True,
    ),
    "lamb": Optimizer(
        f"lr=0.001[0,inf) {_BETAS} eps=1e-06(0,inf) {_DECAY}",
        "p -= lr |p| / |d| d with the norms of the tensor, d = adam's step for lr = 1 plus weight_decay p; You et al. 2020, algorithm 2",
        "m v",
        _lamb,
        decay="trust",
    ),
}


def updated(
    entry: Optimizer,
    params: list[float],
    grads: list[float],
    slots: list[list[float]],
    unnamed: list[int],
    t: int,
    decay: float,
    hyper: dict[str, float],
) -> list[list[float]]:
    """The new parameters and slots of a tensor. unnamed: the places of those in rows of a sparse layer that no batch named."""
    start = [p - hyper["lr"] * decay * p if entry.decay == "decoupled" else p for p in params]
    seen = [g + decay * p if entry.decay == "gradient" else g for g, p in zip(grads, params)]
    found = [entry.update(p, g, s, t, **hyper) for p, g, *s in zip(start, seen, *slots)]
    for i in unnamed if entry.sparse == "lazy" else ():
        found[i] = start[i], [slot[i] for slot in slots]
    moved = [p for p, _ in found]
    if entry.decay == "trust":
        moved = trusted(params, [d + decay * p for d, p in zip(moved, params)], hyper["lr"])
    return [moved, *map(list, zip(*(s for _, s in found)))]


def trusted(params: list[float], direction: list[float], lr: float) -> list[float]:
    """p - lr |p| / |d| d for a tensor p and its direction d; p - lr d if one of the norms is 0."""
    norm, direction_norm = math.hypot(*params), math.hypot(*direction)
    ratio = norm / direction_norm if norm and direction_norm else 1.0
    return [p - lr * ratio * d for p, d in zip(params, direction)]
