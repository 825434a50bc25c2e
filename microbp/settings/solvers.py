"""Optimizers that use the loss of the same rows several times in a step: immutable settings, like those of `optimizers.py`."""

from __future__ import annotations

import inspect
from dataclasses import fields
from typing import Annotated, ClassVar

from ..core.checks import one_of, real, whole
from ..core.specs import SolverSpec, described, table
from . import optimizers
from .optimizers import Optimizer as Optimizer

_DAMPINGS = ("fletcher", "nielsen", "matlab")  # in the order of their numbers


class _Solver(Optimizer):
    _name: ClassVar[str]

    @property
    def spec(self) -> SolverSpec:
        """These settings as an entry of the backend's table of solvers."""
        return SolverSpec(self._name, **{key.rstrip("_"): _number(value) for key, value in vars(self).items()})

    def __post_init__(self) -> None:
        self.spec  # noqa: B018  # checks the ranges


def _number(value: float | str) -> float:
    return _DAMPINGS.index(value) if isinstance(value, str) else float(value)


class LBFGS(_Solver):
    """L-BFGS, for nets of up to some thousand parameters and all rows at once (Liu & Nocedal 1989).

    A step moves in the direction -H g, where H approximates the inverse of the matrix of second derivatives by the changes of parameters
    and gradients in the last `history` steps (Nocedal & Wright 2006, algorithms 7.4 and 7.5), as far as a line search goes that computes
    losses and gradients of the same rows (More & Thuente 1994), 1.1 times a step on average. The function that it minimizes is the loss
    with the layers' l2 penalties. You set no learning rate, and a step never makes this function larger.

    `Trainer.step` is one iteration on the rows that it gets, and returns their loss after it; `Trainer.fit` uses all rows in each epoch,
    without batches. If no better point can be found, the parameters stay, and `Trainer.steps` does not count the step. Dropout, noise,
    batch_norm, l1, max_norm, sparse layers, clipping and averages do not work with it.

    history: the number of steps that H is made of, from 1 to 100; 10 by default.

    PyTorch: torch.optim.LBFGS(line_search_fn="strong_wolfe"), with another line search. SciPy: minimize(method="L-BFGS-B"), whose
    iterates are the same, up to rounding.

    >>> X = np.linspace(-1, 1, 41).reshape(-1, 1)
    >>> t = bp.Trainer(bp.mlp([1, 5, 1], activation="tanh", dtype="float64", seed=0), loss="mse", optimizer=bp.LBFGS())
    >>> losses = [t.step(X, np.sin(3 * X)) for _ in range(60)]
    >>> losses[-1] < 1e-4
    True
    """

    history: Annotated[int, whole(1)] = 10
    _name = "lbfgs"


class SCG(_Solver):
    """Scaled conjugate gradients, for all rows at once, without a line search (Moller 1993, section 4). MATLAB: trainscg.

    A step moves along a direction d that is conjugate to the last ones, or, each n steps for n parameters, along the steepest descent. Its
    length is that of the lowest point of a parabola: by the slope along d, and by the curvature along d, which is the change of the
    gradient over a way of length `sigma`. `lambda` d d is added to the curvature: it grows where the parabola predicts the loss badly, or
    the curvature is negative, and shrinks where it predicts it well. So a step computes two gradients, and one more for each length that
    was refused because it made the loss larger. The paper counts such a refusal as a step.

    What is minimized, what a step returns, and what does not work with it: as bp.LBFGS, which usually needs fewer gradients. SCG needs less
    memory: 5 numbers for each parameter.

    sigma: above 0, by default MATLAB's, 5e-5. In float32 it is the way between the rounded parameters that counts.
    lambda_: the first lambda, above 0, by default MATLAB's, 5e-7. In texts its name is lambda: "scg(sigma=5e-5, lambda=5e-7)".

    >>> X = np.linspace(-1, 1, 41).reshape(-1, 1)
    >>> t = bp.Trainer(bp.mlp([1, 5, 1], activation="tanh", dtype="float64", seed=0), loss="mse", optimizer=bp.SCG())
    >>> losses = [t.step(X, np.sin(3 * X)) for _ in range(100)]
    >>> losses[-1] < 1e-3
    True
    """

    sigma: Annotated[float, real("(0,inf)")] = 5e-5
    lambda_: Annotated[float, real("(0,inf)")] = 5e-7
    _name = "scg"


class LevenbergMarquardt(_Solver):
    """Levenberg-Marquardt, for nets of up to some hundred parameters, sums of squares, and all rows at once (Marquardt 1963).

    A step moves by p = -(J^T J + D + mu s I)^-1 g. J is the Jacobian of the residuals r, with sum(r^2) / 2 the loss; D holds the second
    derivatives of the layers' l2 penalties, g is the gradient of loss and penalties, and s the largest element on the diagonal of J^T J in
    the first step, so that a factor of the loss changes nothing. After a step to a better point mu falls; else it rises until there is one.
    You set no learning rate, and a step never makes loss + penalties larger. Losses: mse and half_sse; bce and cross_entropy by the
    generalized Gauss-Newton matrix (Schraudolph 2002). Time grows with parameters^2 x rows + parameters^3, or, with fewer rows than
    parameters, with rows^2 x parameters; matrices are at most 256 MB, in float64 for nets of both dtypes.

    `Trainer.step` is one iteration on the rows that it gets, and returns their loss after it; `Trainer.fit` uses all rows in each epoch,
    without batches. If no better point can be found, the parameters stay, and `Trainer.steps` does not count the step. What does not work
    with LBFGS does not work with it either.

    mu: the first damping, as a part of s; above 0. A larger one makes the first steps shorter, in the direction of the gradient.
    damping: how mu changes. q is the decrease as a part of what the linear model of the residuals promises.
        "fletcher": after a better point, times `decrease` where q > 1/2, and times 2 where q <= 1/4; after worse ones times 2, 4, 8, ...
            (after Fletcher 1971, whose parts are 3/4 and 1/4).
        "nielsen": after a better point times max(1/3, 1 - (2 q - 1)^3); after worse ones as above (Nielsen 1999).
        "matlab": times `decrease` after a better point, times `increase` after a worse one. In texts: damping=0, 1, 2.
    decrease, increase: those factors, below and above 1.
    most: if mu exceeds it, there is no better point.
    geodesic: True: the step gets half of the second derivative of the residuals along it, if that is at most 0.75 times as long
        (Transtrum & Sethna 2012). Each step has two more passes; sinc by 20 hidden units to 1e-8 took 280 steps instead of 1,250.

    MATLAB: trainlm, whose mu is not a part of s. SciPy: optimize.least_squares(method="lm").

    >>> X = np.linspace(-1, 1, 41).reshape(-1, 1)
    >>> t = bp.Trainer(bp.mlp([1, 5, 1], activation="tanh", dtype="float64", seed=0), loss="mse", optimizer=bp.LevenbergMarquardt())
    >>> losses = [t.step(X, np.sin(3 * X)) for _ in range(15)]
    >>> losses[-1] < 1e-4
    True
    """

    mu: float = 0.3
    decrease: float = 0.1
    increase: float = 10.0
    most: float = 1e10
    damping: Annotated[str, one_of(*_DAMPINGS)] = "fletcher"
    geodesic: bool = False
    _name = "levenberg_marquardt"


class BayesianRegularization(LevenbergMarquardt):
    """Levenberg-Marquardt that finds out how strongly to penalize the parameters, so that a net learns no noise (MacKay 1992).

    It minimizes beta E_D + alpha E_W: E_D is the number N of targets times the loss (for mse the sum of squared errors), and E_W the sum of
    squares of all parameters that are trained, biases too. After each step (Foresee & Hagan 1997)

        gamma = n - 2 alpha trace(H^-1),  H = 2 beta A + 2 alpha I,  A = half of the second derivatives of E_D, by J^T J
        alpha = gamma / (2 E_W)
        beta = (N - gamma) / (2 E_D)

    gamma, between 0 and the number n of parameters, says how many of them the data determine. alpha / beta starts small, and at most
    doubles in a step: else most nets would unlearn everything before they fit anything. The records and the history of fit have "alpha",
    "beta" and "effective_parameters" (gamma). A step never makes beta E_D + alpha E_W larger with the alpha and beta before it;
    the loss alone may rise. Needs no validation rows; inputs and targets should be scaled to about -1 to 1. Layers must not have l2.

    The losses are those of LevenbergMarquardt, but it is made for mse and half_sse: where a net can separate the classes of all training
    rows, E_D falls to 0 and beta rises without end, so that nothing is penalized. For classes use LevenbergMarquardt with max_fail.

    mu, decrease, increase, most, damping, geodesic: those of LevenbergMarquardt.

    MATLAB: trainbr.

    >>> X = np.linspace(-1, 1, 41).reshape(-1, 1)
    >>> noisy = np.sin(3 * X) + np.random.default_rng(0).normal(scale=0.1, size=X.shape)
    >>> t = bp.Trainer(bp.mlp([1, 20, 1], activation="tanh", seed=0), loss="mse", optimizer=bp.BayesianRegularization())
    >>> history = t.fit(X, noisy, epochs=100)
    >>> 4 < history["effective_parameters"][-1] < 12  # of 61
    True
    """

    _name = "bayesian_regularization"


class _Overview:
    """A docstring that ends with a list of all optimizers; the list is written when the docstring is read."""

    def __init__(self, text: str | None) -> None:
        self.text = inspect.cleandoc(text or "")

    def __get__(self, instance: object, owner: type) -> str:
        lines = [self.text]
        for one in [*vars(optimizers).values(), *globals().values()]:
            if isinstance(one, type) and issubclass(one, Optimizer) and one not in (Optimizer, _Solver):
                spec = one().spec
                row = table(spec.kind)[spec.name]
                settings = ", ".join(f"{field.name}={field.default!r}" for field in fields(one))
                lines += described(f"{one.__name__}({settings})", row.meaning, row.detail and f"state: {', '.join(row.detail.split())}")
        return "\n".join(lines)


Optimizer.__doc__ = _Overview(Optimizer.__doc__)  # type: ignore[assignment]  # its __get__ returns a string
