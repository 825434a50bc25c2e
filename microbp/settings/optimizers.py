"""Optimizers: immutable settings. Their state is in the trainer.

Names and defaults are those of PyTorch, if it has them. In the formulas of the docstrings, p is a parameter, g its gradient, and t the
number of the step, starting at 1; `a <- b` assigns b to a. Each parameter is updated independently of the others, except in Lamb.
"""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Annotated, Literal

from ..core.checks import real, two
from ..core.specs import OptimizerSpec, table
from ..core.text import brief
from .base import Settings

# Settings that are pairs, and the two parameter names in the backend's table.
_PAIRS = {"betas": ("beta1", "beta2"), "etas": ("eta_minus", "eta_plus"), "step_sizes": ("step_min", "step_max")}

Betas = Annotated[tuple[float, float], two((0.9, 0.999))]

# The meaning of settings, for classes whose docstring does not explain them.
_MEANINGS = {
    "lr": "the learning rate, in [0, inf); {} by default. `Trainer.lr` and a schedule of fit can change it at any time.",
    "betas": "the fractions of the running means m and v that a step keeps, both in [0, 1); {} by default. A mean covers about\n"
    "1 / (1 - beta) steps.",
    "eps": "keeps the divisor above 0, in (0, inf); {} by default.",
    "weight_decay": "pulls weights towards 0, in [0, inf); {} by default. It is an L2 penalty: g <- g + weight_decay p.",
    "decay_bias": "{} by default: weight_decay applies to weights only. True: also to biases and to the scales and shifts of norms, as in\n"
    "PyTorch.",
    "eps_hat": "{} by default. True: eps is added before the bias correction of v, as in scikit-learn and Keras: the divisor is\n"
    "sqrt(v') + eps / sqrt(1 - beta2^t), so that the first steps are smaller (Kingma & Ba 2015, end of section 2).",
}


class Optimizer(Settings):
    """The base class of optimizers: bp.Adam(lr=0.01), bp.SGD(lr=0.1, momentum=0.9), ...

    A lower-case name such as "adam" uses the default settings: Trainer(net, loss="mse", optimizer="adam"). Text may set parameters:
    "adam(lr=0.01)". In text, betas are beta1 and beta2, and variants have names such as "adam_amsgrad".

    The list below has every optimizer, with its settings and their defaults, its formula under the defaults, and its state, which
    `Trainer.state` contains. Here p is a parameter of the network, g its gradient (with weight_decay p added, unless noted), and t the
    number of the step, starting at 1. State starts at 0, or at the setting after "=". help(bp.Adam) explains the settings of Adam.

    >>> bp.Adam(lr=0.01)
    Adam(lr=0.01)
    >>> t = bp.Trainer(bp.mlp([2, 8, 1], seed=0), loss="mse", optimizer=bp.Adam(lr=0.01))
    >>> isinstance(bp.Adam(), bp.Optimizer)
    True
    """

    def __init_subclass__(cls) -> None:
        """Adds the meanings of settings that the docstring does not explain, before its paragraph about PyTorch."""
        super().__init_subclass__()
        text, peer, rest = inspect.cleandoc(cls.__doc__ or "").partition("\n\nPyTorch")
        open_ones = {field.name: field.default for field in fields(cls) if f"\n{field.name}: " not in text}
        meanings = [f"{name}: {_MEANINGS[name].format(default)}" for name, default in open_ones.items() if name in _MEANINGS]
        cls.__doc__ = "\n".join([f"{text}\n", *meanings]) + peer + rest

    @property
    def spec(self) -> OptimizerSpec:
        """These settings as an entry of the backend's table of optimizers."""
        row = self._row()
        valid = table("optimizer")[row].parameters
        return OptimizerSpec(row, **{name: value for name, value in self._numbers().items() if name in valid})

    def _row(self) -> str:
        return type(self).__name__.lower()

    def _numbers(self) -> dict[str, float]:
        """The settings, named like the parameters of the table. Also contains the settings that choose the row."""
        numbers: dict[str, float] = {}
        for name, value in vars(self).items():
            numbers |= zip(_PAIRS[name], value, strict=True) if name in _PAIRS else {name: int(value) if isinstance(value, bool) else value}
        return numbers

    def __post_init__(self) -> None:
        valid = table("optimizer")[self._row()].parameters
        for name, value in self._numbers().items():
            if name in valid:
                real(valid[name].text)(f"{type(self).__name__}: {name}", value)


# ---- gradient descent and momentum ----


class SGD(Optimizer):
    """Stochastic gradient descent: p <- p - lr g.

    With momentum (Polyak 1964): v <- momentum v + g, p <- p - lr v, where v starts at 0. With nesterov=True:
    p <- p - lr (g + momentum v) (Nesterov 1983; Sutskever et al. 2013, section 2, but with lr outside of v).

    momentum: the fraction of v that a step keeps, in [0, 1); 0.0 by default.
    nesterov: False by default; True needs momentum > 0.

    PyTorch: torch.optim.SGD, without its dampening.

    >>> bp.SGD(lr=0.1, momentum=0.9, nesterov=True)
    SGD(lr=0.1, momentum=0.9, nesterov=True)
    """

    lr: float = 1e-3
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    decay_bias: bool = False

    def _row(self) -> str:
        if self.nesterov and self.momentum == 0:
            raise ValueError("SGD: nesterov=True needs momentum > 0, for example momentum=0.9")
        return "sgd" if self.momentum == 0 else "sgd_nesterov" if self.nesterov else "sgd_momentum"


class Momentum(Optimizer):
    """Momentum with the rate inside the velocity: v <- momentum v - lr g, p <- p + v (Rumelhart et al. 1986), where v starts at 0.

    With nesterov=True: p <- p + momentum v - lr g. With a constant lr, the steps equal those of SGD with the same momentum. After a change
    of lr, SGD scales earlier gradients with the new rate; here each gradient keeps the rate of its own step.

    momentum: the fraction of v that a step keeps, in [0, 1); 0.9 by default.
    nesterov: False by default.

    PyTorch has no equivalent. The same as Keras' SGD, scikit-learn's "sgd" and FANN's incremental training.

    >>> bp.Momentum(lr=0.1, momentum=0.8)
    Momentum(lr=0.1, momentum=0.8)
    """

    lr: float = 1e-3
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    decay_bias: bool = False

    def _row(self) -> str:
        return "momentum_nesterov" if self.nesterov else "momentum"


class ASGD(Optimizer):
    """Averaged gradient descent (Polyak & Juditsky 1992): p <- (1 - lambd eta) p - eta g with eta = lr / (1 + lambd lr (t - 1))^alpha.

    `Trainer.state["average"]` is p before step t0, then the mean of p since t0.

    lambd: how fast the rate falls and parameters shrink, in [0, inf); 0.0001 by default.
    alpha: the exponent in the formula of eta, in [0, inf); 0.75 by default.
    t0: the step at which the average starts, in [0, inf); 1000000.0 by default.

    PyTorch: torch.optim.ASGD.

    >>> bp.ASGD(lr=0.1, t0=1000)
    ASGD(lr=0.1, t0=1000.0)
    """

    lr: float = 0.01
    lambd: float = 1e-4
    alpha: float = 0.75
    t0: float = 1e6
    weight_decay: float = 0.0
    decay_bias: bool = False


# ---- steps divided by the size of the gradients ----


class Adagrad(Optimizer):
    """Gradients divided by the root of the sum of their squares: s <- s + g^2, p <- p - eta g / (sqrt(s) + eps) (Duchi et al. 2011).

    The rate is eta = lr / (1 + lr_decay (t - 1)).

    lr_decay: how fast the rate falls, in [0, inf); 0.0 by default.
    initial_accumulator_value: the initial value of s, in [0, inf); 0.0 by default.

    PyTorch: torch.optim.Adagrad.

    >>> bp.Adagrad(lr=0.1, initial_accumulator_value=0.1)
    Adagrad(lr=0.1, initial_accumulator_value=0.1)
    """

    lr: float = 0.01
    lr_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10
    decay_bias: bool = False


class Adadelta(Optimizer):
    """Scales the gradient by the RMS of earlier steps divided by the RMS of gradients (Zeiler 2012, algorithm 1).

    v <- rho v + (1 - rho) g^2, d = g sqrt(u + eps) / sqrt(v + eps), u <- rho u + (1 - rho) d^2, p <- p - lr d; u and v start at 0.

    lr: a factor of all steps, in [0, inf); 1.0 by default, as in the paper. `Trainer.lr` and a schedule of fit can change it at any time.
    rho: the fraction of the means u and v that a step keeps, in [0, 1); 0.9 by default.
    eps: sets the size of the first steps, in (0, inf); 1e-06 by default.

    PyTorch: torch.optim.Adadelta.

    >>> bp.Adadelta(rho=0.95)
    Adadelta(rho=0.95)
    """

    lr: float = 1.0
    rho: float = 0.9
    eps: float = 1e-6
    weight_decay: float = 0.0
    decay_bias: bool = False


class RMSprop(Optimizer):
    """Gradients divided by their running root mean square: v <- alpha v + (1 - alpha) g^2, d = g / (sqrt(v) + eps), p <- p - lr d.

    Tieleman & Hinton 2012, lecture 6.5. With momentum: u <- momentum u + d, p <- p - lr u. With centered=True, g is divided by the
    running standard deviation instead: sqrt(v - m^2), with m <- alpha m + (1 - alpha) g (Graves 2013, equations 38 to 41).

    alpha: the fraction of the means m and v that a step keeps, in [0, 1); 0.99 by default.
    momentum: the fraction of u that a step keeps, in [0, 1); 0.0 by default.
    centered: False by default.

    PyTorch: torch.optim.RMSprop. If rounding makes v - m^2 negative, microbp uses 0; PyTorch returns NaN.

    >>> bp.RMSprop(lr=0.001, momentum=0.9)
    RMSprop(lr=0.001, momentum=0.9)
    """

    lr: float = 0.01
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False
    decay_bias: bool = False

    def _row(self) -> str:
        return "rmsprop" + "_centered" * self.centered + "_momentum" * (self.momentum != 0)


# ---- adaptive moments ----


class Adam(Optimizer):
    """The running mean of gradients divided by the root of the running mean of their squares (Kingma & Ba 2015, algorithm 1).

    m <- beta1 m + (1 - beta1) g, v <- beta2 v + (1 - beta2) g^2, p <- p - lr m' / (sqrt(v') + eps). m and v start at 0;
    m' = m / (1 - beta1^t) and v' = v / (1 - beta2^t) correct their bias towards 0.

    amsgrad: if True, uses the largest v so far instead of v (Reddi et al. 2018, algorithm 2, with v' as above); False by default.

    PyTorch: torch.optim.Adam; see decay_bias.

    >>> bp.Adam(lr=0.01, betas=(0.9, 0.99))
    Adam(lr=0.01, betas=(0.9, 0.99))
    """

    lr: float = 1e-3
    betas: Betas = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False
    decay_bias: bool = False
    eps_hat: bool = False

    def _row(self) -> str:
        return type(self).__name__.lower() + "_amsgrad" * self.amsgrad


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2): p <- p - lr weight_decay p, then Adam's step.

    weight_decay: pulls weights towards 0, in [0, inf); 0.01 by default. It is applied to the weights and not added to g: all weights shrink
    at the same rate, regardless of their gradients.
    amsgrad: if True, uses the largest v so far instead of v (Reddi et al. 2018, algorithm 2); False by default.

    PyTorch: torch.optim.AdamW; see decay_bias.

    >>> bp.AdamW(lr=0.01, weight_decay=0.1)
    AdamW(lr=0.01, weight_decay=0.1)
    """

    weight_decay: float = 0.01


class Adamax(Optimizer):
    """Adam with the largest gradient instead of the root mean square: u <- max(beta2 u, |g| + eps), p <- p - lr m' / u.

    Kingma & Ba 2015, algorithm 2. m <- beta1 m + (1 - beta1) g and m' = m / (1 - beta1^t), as in Adam.

    betas: the fractions of m and u that a step keeps, both in [0, 1); (0.9, 0.999) by default.

    PyTorch: torch.optim.Adamax.

    >>> bp.Adamax(lr=0.01)
    Adamax(lr=0.01)
    """

    lr: float = 2e-3
    betas: Betas = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decay_bias: bool = False


class NAdam(Optimizer):
    """Adam with Nesterov momentum (Dozat 2016).

    m and v are Adam's. The momentum of step t is b(t) = beta1 (1 - 0.96^(t momentum_decay) / 2), and B(t) = b(1) b(2) ... b(t):
    p <- p - lr d / (sqrt(v / (1 - beta2^t)) + eps) with d = (1 - b(t)) g / (1 - B(t)) + b(t + 1) m / (1 - B(t + 1)).

    momentum_decay: how fast the momentum grows from beta1 / 2 to beta1, in [0, inf); 0.004 by default.

    PyTorch: torch.optim.NAdam, without its decoupled_weight_decay.

    >>> bp.NAdam(lr=0.01)
    NAdam(lr=0.01)
    """

    lr: float = 2e-3
    betas: Betas = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum_decay: float = 4e-3
    decay_bias: bool = False


class RAdam(Optimizer):
    """Rectified Adam (Liu et al. 2020, algorithm 2): uses only m' while v is unreliable, then Adam with a rate that grows to lr.

    m, v and m' are Adam's. Let n = 2 / (1 - beta2) - 1 and n(t) = n - 2 t beta2^t / (1 - beta2^t). While n(t) <= 5 (in the paper: 4), which
    by default is in the first 5 steps, p <- p - lr m'. After that, p <- p - lr r m' sqrt(1 - beta2^t) / (sqrt(v) + eps), with
    r^2 = (n(t) - 4) (n(t) - 2) n / ((n - 4) (n - 2) n(t)).

    PyTorch: torch.optim.RAdam, without its decoupled_weight_decay.

    >>> bp.RAdam(lr=0.01)
    RAdam(lr=0.01)
    """

    lr: float = 1e-3
    betas: Betas = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decay_bias: bool = False


class AdaBelief(Optimizer):
    """Adam, with g - m in place of g in the second moment (Zhuang et al. 2020, algorithm 2).

    m <- beta1 m + (1 - beta1) g, then v <- beta2 v + (1 - beta2) (g - m)^2 + eps_root, then p <- p - lr m' / (sqrt(v') + eps), as in Adam.

    eps_root: is added to v at every step, in [0, inf); 1e-16 by default.

    PyTorch has no equivalent. Optax: adabelief, with its defaults.

    >>> bp.AdaBelief(lr=0.01)
    AdaBelief(lr=0.01)
    """

    lr: float = 1e-3
    betas: Betas = (0.9, 0.999)
    eps: float = 1e-16
    eps_root: float = 1e-16
    weight_decay: float = 0.0
    decay_bias: bool = False


class Lion(Optimizer):
    """Steps of size lr in the direction of the sign of a momentum (Chen et al. 2023, algorithm 2).

    p <- p - lr (sign(beta1 m + (1 - beta1) g) + weight_decay p), then m <- beta2 m + (1 - beta2) g, where m starts at 0.

    lr: the learning rate, which is the size of every step, in [0, inf); 0.0001 by default: choose a tenth of Adam's or less. `Trainer.lr`
    and a schedule of fit can change it at any time.
    betas: the fraction of m in the step, and the fraction of m that a step keeps, both in [0, 1); (0.9, 0.99) by default.
    weight_decay: pulls weights towards 0, in [0, inf); 0.0 by default. It is decoupled, as in AdamW.

    PyTorch has no equivalent. Optax: lion, whose weight_decay is 0.001 by default.

    >>> bp.Lion(lr=3e-4, weight_decay=0.1)
    Lion(lr=0.0003, weight_decay=0.1)
    """

    lr: float = 1e-4
    betas: Betas = (0.9, 0.99)
    weight_decay: float = 0.0
    decay_bias: bool = False


class Lamb(Optimizer):
    """Adam for large batches, with steps in proportion to the norm of each tensor (You et al. 2020, algorithm 2).

    d = m' / (sqrt(v') + eps) + weight_decay p, with Adam's m' and v'. For each tensor, p <- p - lr d |p| / |d|, with the Euclidean norms
    of the whole tensor; if one of them is 0, p <- p - lr d.

    weight_decay: pulls weights towards 0, in [0, inf); 0.0 by default. It is part of d.

    PyTorch has no equivalent. Optax: lamb, with its defaults.

    >>> bp.Lamb(lr=0.01, weight_decay=0.01)
    Lamb(lr=0.01, weight_decay=0.01)
    """

    lr: float = 1e-3
    betas: Betas = (0.9, 0.999)
    eps: float = 1e-6
    weight_decay: float = 0.0
    decay_bias: bool = False


class Ftrl(Optimizer):
    """Follow the regularized leader, for sparse weights (McMahan et al. 2013, algorithm 1).

    z <- z + g - p (sqrt(n + g^2) - sqrt(n)) / lr, then n <- n + g^2. p is 0 if |z| <= l1, else
    p <- -(z - sign(z) l1) / ((beta + sqrt(n)) / lr + l2); z starts at 0. p depends only on the gradients, so the initial values are lost in
    the first steps.

    lr: the learning rate, in (0, inf); 0.001 by default. `Trainer.lr` and a schedule of fit can change it at any time; a schedule must not
    reach 0: give it an end_lr.
    initial_accumulator_value: the initial value of n, in [0, inf); 0.1 by default.
    l1: the factor of the penalty |p|, which makes weights 0, in [0, inf); 0.0 by default.
    l2: the factor of the penalty p^2 / 2, in [0, inf); 0.0 by default.
    beta: limits the rates of the first steps, in [0, inf); 0.0 by default.

    PyTorch has no equivalent. Keras: Ftrl, whose l2_regularization_strength is half of l2.

    >>> bp.Ftrl(lr=0.1, l1=0.001)
    Ftrl(lr=0.1, l1=0.001)
    """

    lr: float = 1e-3
    initial_accumulator_value: float = 0.1
    l1: float = 0.0
    l2: float = 0.0
    beta: float = 0.0
    weight_decay: float = 0.0
    decay_bias: bool = False


# ---- resilient propagation ----


class Rprop(Optimizer):
    """Resilient propagation, for full batches: each parameter has its own step size, and moves against the sign of its gradient.

    p <- p - size sign(g) (Riedmiller & Braun 1993). The size starts at lr. A step multiplies it by etas[1] if the sign of g is the same as
    in the last step, and by etas[0] if it has changed.

    lr: the initial step size, in [0, inf); 0.01 by default. A later change of `Trainer.lr` takes effect at the next `Trainer.reset`.
    etas: the factors of the size: first if the sign has changed, in (0, 1); second if it has not, in (1, inf); (0.5, 1.2) by default.
    step_sizes: the smallest size, in [0, inf), and the largest, in (0, inf); (1e-06, 50.0) by default.
    variant: what happens to a parameter when the sign of its gradient has changed (Igel & Huesken 2000). "iRprop-", the default: it does
    not move in this step; "iRprop+": its last step is undone if the loss increased; "Rprop-": it moves as usual.

    PyTorch: torch.optim.Rprop, which is "iRprop-" and has no weight_decay.

    >>> bp.Rprop(variant="iRprop+")
    Rprop(variant='iRprop+')
    """

    lr: float = 0.01
    etas: Annotated[tuple[float, float], two((0.5, 1.2))] = (0.5, 1.2)
    step_sizes: Annotated[tuple[float, float], two((1e-6, 50))] = (1e-6, 50.0)
    variant: Literal["Rprop-", "iRprop-", "iRprop+"] = "iRprop-"
    weight_decay: float = 0.0
    decay_bias: bool = False

    def _row(self) -> str:
        return {"Rprop-": "rprop_minus", "iRprop-": "irprop_minus", "iRprop+": "irprop_plus"}[self.variant]


def parse(optimizer: str | Optimizer | OptimizerSpec) -> OptimizerSpec:
    """The spec of an optimizer's settings, or of text such as "adam"."""
    if isinstance(optimizer, Optimizer):
        return optimizer.spec
    if isinstance(optimizer, str | OptimizerSpec):
        found: OptimizerSpec = OptimizerSpec.parse(optimizer)
        return found
    raise TypeError(f'optimizer must be a name such as "adam" or an object such as bp.Adam(lr=1e-3), not {brief(optimizer)}')
