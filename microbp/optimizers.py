"""Optimizers: frozen settings. Their state belongs to the trainer.

Every one takes lr, the learning rate, which `Trainer.lr` may change at any time; weight_decay, by which weights are pulled towards 0: as an
L2 penalty, weight_decay x weight is added to the gradient, but where a class says "decoupled", lr x weight_decay x weight is taken off the
weight; and decay_bias, whether it acts on biases too (it does in PyTorch). Names and defaults are PyTorch's where it has them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

from .specs import OptimizerSpec, table

# Settings of two numbers, and the row's parameters that they are; an example for the error message.
_PAIRS = {
    "betas": (("beta1", "beta2"), (0.9, 0.999)),
    "etas": (("eta_minus", "eta_plus"), (0.5, 1.2)),
    "step_sizes": (("step_min", "step_max"), (1e-6, 50)),
}


@dataclass(frozen=True)
class Optimizer:
    """What every optimizer's settings offer. `spec` is the row of the backend's table that they mean, with its parameters."""

    _choices: ClassVar[tuple[str, ...]] = ()  # settings that choose the row, and are no numbers

    @property
    def spec(self) -> OptimizerSpec:
        """The row of the backend's table that these settings mean, with its parameters."""
        row = self._row()
        return OptimizerSpec(row, **{name: value for name, value in self._numbers().items() if value or name in _parameters(row)})

    def _row(self) -> str:
        return type(self).__name__.lower()

    def _numbers(self) -> dict[str, float]:
        numbers: dict[str, float] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _PAIRS:
                numbers.update(self._pair(field.name, value))
            elif field.name not in self._choices:
                numbers[field.name] = value
        return numbers

    def _pair(self, name: str, value: tuple[float, float]) -> dict[str, float]:
        parameters, example = _PAIRS[name]
        try:
            first, second = value
        except (TypeError, ValueError):
            raise ValueError(f"{type(self).__name__}: {name} must be two numbers, for example {example}, not {value!r}") from None
        return {parameters[0]: first, parameters[1]: second}

    def __post_init__(self) -> None:
        _ = self.spec  # building it checks every value


def _parameters(row: str) -> set[str]:
    return set(table("optimizer")[row].parameters)


# ---- gradient descent and momentum ----


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, p -= lr g; with momentum v = momentum v + g, p -= lr v, or Nesterov's variant of it
    (Sutskever et al. 2013), as in PyTorch."""

    lr: float = 1e-3
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    decay_bias: bool = False

    _choices = ("nesterov",)

    def _row(self) -> str:
        if self.nesterov and self.momentum == 0:
            raise ValueError("SGD: nesterov=True needs a momentum, for example momentum=0.9")
        return "sgd" if self.momentum == 0 else "sgd_nesterov" if self.nesterov else "sgd_momentum"


@dataclass(frozen=True)
class Momentum(Optimizer):
    """Momentum with the rate inside of the velocity, v = momentum v - lr g, p += v (Rumelhart et al. 1986), or with nesterov=True
    p += momentum v - lr g, as in Keras, scikit-learn and FANN. While lr is constant it steps as SGD with the same momentum does."""

    lr: float = 1e-3
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    decay_bias: bool = False

    _choices = ("nesterov",)

    def _row(self) -> str:
        return "momentum_nesterov" if self.nesterov else "momentum"


@dataclass(frozen=True)
class ASGD(Optimizer):
    """Averaged gradient descent (Polyak & Juditsky 1992), as in PyTorch: the rate of step t is lr / (1 + lambd lr (t - 1))^alpha,
    parameters shrink by lambd times that, and after t0 steps `Trainer.state["average"]` becomes their average (before, it is the
    parameters)."""

    lr: float = 0.01
    lambd: float = 1e-4
    alpha: float = 0.75
    t0: float = 1e6
    weight_decay: float = 0.0
    decay_bias: bool = False


# ---- steps divided by the gradients' size ----


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Gradients divided by the root of the sum of all their squares so far, plus eps (Duchi et al. 2011), as in PyTorch. The sum starts
    from initial_accumulator_value; the rate of step t is lr / (1 + lr_decay (t - 1))."""

    lr: float = 0.01
    lr_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10
    decay_bias: bool = False


@dataclass(frozen=True)
class Adadelta(Optimizer):
    """Steps in proportion to the running size of earlier steps over that of gradients (Zeiler 2012, algorithm 1), as in PyTorch. rho:
    rate of both running means of squares; eps is added to both, and sets the size of the first steps."""

    lr: float = 1.0
    rho: float = 0.9
    eps: float = 1e-6
    weight_decay: float = 0.0
    decay_bias: bool = False


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """Gradients divided by a running root mean square (Tieleman & Hinton 2012), as in PyTorch. alpha: rate of the running mean; eps is
    added to the root; momentum is applied to the divided gradients; centered: divided by the running standard deviation (Graves 2013)."""

    lr: float = 0.01
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False
    decay_bias: bool = False

    _choices = ("centered",)

    def _row(self) -> str:
        return "rmsprop" + "_centered" * self.centered + "_momentum" * (self.momentum != 0)


# ---- adaptive moments: betas are the rates of the running means of gradients and of their squares ----


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adaptive moments (Kingma & Ba 2015, algorithm 1), as in PyTorch: weight decay is added to the gradient. eps is added to the root
    of the second moment; amsgrad: the largest second moment so far counts (Reddi et al. 2018)."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False
    decay_bias: bool = False

    _choices = ("amsgrad",)

    def _row(self) -> str:
        return type(self).__name__.lower() + "_amsgrad" * self.amsgrad


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019), as in PyTorch."""

    weight_decay: float = 0.01


@dataclass(frozen=True)
class Adamax(Optimizer):
    """Adam by the running maximum of |g| + eps instead of a second moment (Kingma & Ba 2015, algorithm 2), as in PyTorch."""

    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decay_bias: bool = False


@dataclass(frozen=True)
class NAdam(Optimizer):
    """Adam with Nesterov's look ahead (Dozat 2016), as in PyTorch: the momentum of step t is beta1 (1 - 0.96^(t momentum_decay) / 2)."""

    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum_decay: float = 4e-3
    decay_bias: bool = False


@dataclass(frozen=True)
class RAdam(Optimizer):
    """Rectified Adam (Liu et al. 2020, algorithm 2), as in PyTorch: momentum alone until the second moment has seen enough steps (5 with
    the default betas), and then Adam at a rate that grows to lr."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decay_bias: bool = False


@dataclass(frozen=True)
class AdaBelief(Optimizer):
    """Adam by the running mean of (g - m)^2, how far gradients are from their own mean m, plus eps_root (Zhuang et al. 2020, algorithm
    1), as in Optax; eps is added to its root."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-16
    eps_root: float = 1e-16
    weight_decay: float = 0.0
    decay_bias: bool = False


@dataclass(frozen=True)
class Lion(Optimizer):
    """Steps of lr by the sign of beta1 m + (1 - beta1) g, m being the running mean of gradients at the rate beta2 (Chen et al. 2023,
    algorithm 2), as in Optax. Weight decay is decoupled."""

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    decay_bias: bool = False


@dataclass(frozen=True)
class Lamb(Optimizer):
    """Adam's direction plus weight_decay x weight, as long in each tensor as lr times the tensor itself (You et al. 2020, algorithm 2),
    as in Optax: for large batches. Where a tensor or its direction is 0, the step is lr times the direction."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-6
    weight_decay: float = 0.0
    decay_bias: bool = False


@dataclass(frozen=True)
class Ftrl(Optimizer):
    """Follow the regularized leader, per coordinate (McMahan et al. 2013, algorithm 1): sparse weights by the penalty l1 |p|, l2 p^2 /
    2. Rates are lr / (beta + root of the sum of g^2), which starts from initial_accumulator_value. As in Keras, whose l2 is half of this
    one; parameters are made from the gradients alone, so that their initial values fade with the first steps."""

    lr: float = 1e-3
    initial_accumulator_value: float = 0.1
    l1: float = 0.0
    l2: float = 0.0
    beta: float = 0.0
    weight_decay: float = 0.0
    decay_bias: bool = False


# ---- resilient propagation ----


@dataclass(frozen=True)
class Rprop(Optimizer):
    """Each parameter moves by a step of its own, against the gradient's sign (Riedmiller & Braun 1993): a step starts at lr, grows by
    etas[1] while the sign stays, shrinks by etas[0] when it changes, and stays within step_sizes. For full batches. Weight decay is added
    to the gradient. A later `Trainer.lr` counts from the next `reset`.

    variant, after a change of sign (Igel & Huesken 2000): "Rprop-" goes on, "iRprop-" (PyTorch's) rests for a step, "iRprop+" takes its
    last step back if the loss rose.
    """

    lr: float = 0.01
    etas: tuple[float, float] = (0.5, 1.2)
    step_sizes: tuple[float, float] = (1e-6, 50)
    variant: str = "iRprop-"
    weight_decay: float = 0.0
    decay_bias: bool = False

    _choices = ("variant",)
    _rows: ClassVar[dict[str, str]] = {"Rprop-": "rprop_minus", "iRprop-": "irprop_minus", "iRprop+": "irprop_plus"}

    def _row(self) -> str:
        if self.variant not in self._rows:
            raise ValueError(f"Rprop: variant is {self.variant!r}; it must be one of {', '.join(map(repr, self._rows))}")
        return self._rows[self.variant]


def parse(optimizer: str | Optimizer | OptimizerSpec) -> OptimizerSpec:
    """The spec that an optimizer's settings, or a name such as "adam", stand for."""
    if isinstance(optimizer, Optimizer):
        return optimizer.spec
    if isinstance(optimizer, str | OptimizerSpec):
        return OptimizerSpec.parse(optimizer)
    raise TypeError(f'optimizer must be a name such as "adam" or an object such as bp.Adam(lr=1e-3), not {optimizer!r}')
