"""Optimizers: frozen settings. Their state belongs to the trainer."""

from __future__ import annotations

from dataclasses import dataclass

from .specs import OptimizerSpec


class Optimizer:
    """What every optimizer's settings offer."""

    @property
    def spec(self) -> OptimizerSpec:
        """The row of the backend's table that these settings mean, with its parameters."""
        raise NotImplementedError

    def __post_init__(self) -> None:
        _ = self.spec  # building it checks every value


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent; with momentum, and with Nesterov's variant of it, as in PyTorch."""

    lr: float = 1e-3
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    decay_bias: bool = False

    @property
    def spec(self) -> OptimizerSpec:
        if self.nesterov and self.momentum == 0:
            raise ValueError("SGD: nesterov=True needs a momentum, for example momentum=0.9")
        shared = {"lr": self.lr, "weight_decay": self.weight_decay, "decay_bias": self.decay_bias}
        if self.momentum == 0:
            return OptimizerSpec("sgd", **shared)
        return OptimizerSpec("sgd_nesterov" if self.nesterov else "sgd_momentum", momentum=self.momentum, **shared)


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """Gradients divided by a running root mean square (Tieleman & Hinton 2012), as in PyTorch."""

    lr: float = 0.01
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    decay_bias: bool = False

    @property
    def spec(self) -> OptimizerSpec:
        return OptimizerSpec(
            "rmsprop", lr=self.lr, alpha=self.alpha, eps=self.eps, weight_decay=self.weight_decay, decay_bias=self.decay_bias
        )


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adaptive moments (Kingma & Ba 2015), as in PyTorch: weight decay is added to the gradient."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decay_bias: bool = False

    @property
    def spec(self) -> OptimizerSpec:
        try:
            beta1, beta2 = self.betas
        except (TypeError, ValueError):
            raise ValueError(f"Adam: betas must be two numbers, for example (0.9, 0.999), not {self.betas!r}") from None
        return OptimizerSpec(
            "adam", lr=self.lr, beta1=beta1, beta2=beta2, eps=self.eps, weight_decay=self.weight_decay, decay_bias=self.decay_bias
        )


def parse(optimizer: str | Optimizer | OptimizerSpec) -> OptimizerSpec:
    """The spec that an optimizer's settings, or a name such as "adam", stand for."""
    if isinstance(optimizer, Optimizer):
        return optimizer.spec
    if isinstance(optimizer, str | OptimizerSpec):
        return OptimizerSpec.parse(optimizer)
    raise TypeError(f'optimizer must be a name such as "adam" or an object such as bp.Adam(lr=1e-3), not {optimizer!r}')
