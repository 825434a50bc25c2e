"""Every solver, one entry each: an optimizer that uses the loss of the same rows several times in a step."""

from __future__ import annotations

from dataclasses import dataclass, field

from .lbfgs import LBFGS
from .levenberg_marquardt import BayesianRegularization, LevenbergMarquardt
from .scg import SCG
from .solver import Solver


@dataclass(frozen=True)
class Row:
    """make: its class. detail: names of its numbers. parameters, meaning, sparse: as those of an optimizer. It has no slots."""

    make: type[Solver]
    parameters: str
    meaning: str
    detail: str = ""
    sparse: str = ""
    slots: dict[str, str] = field(default_factory=dict)


_DAMPING = "mu=0.3(0,inf) decrease=0.1(0,1) increase=10(1,inf) most=1e10(0,inf) damping=0[0,2] geodesic=0[0,1]"

SOLVERS = {
    "lbfgs": Row(
        LBFGS,
        "history=10[1,100]",
        "p += a d, d = -H g with H by the last `history` steps, a by a line search over the loss of the same rows; Liu & Nocedal 1989; More"
        " & Thuente 1994",
    ),
    "scg": Row(
        SCG,
        "sigma=5e-05(0,inf) lambda=5e-07(0,inf)",
        "p += a d, d conjugate directions, a by the curvature along d, which is the change of the gradient over a way of length sigma, plus"
        " lambda; Moller 1993",
    ),
    "levenberg_marquardt": Row(
        LevenbergMarquardt,
        _DAMPING,
        "p -= (J^T J + mu s I)^-1 g, J the Jacobian of the residuals, s the first max diag(J^T J); mu falls after a better point, and rises"
        " until there is one; Marquardt 1963; Nielsen 1999; Transtrum & Sethna 2012",
    ),
    "bayesian_regularization": Row(
        BayesianRegularization,
        _DAMPING,
        "levenberg_marquardt of beta E_D + alpha E_W, the sums of squares of errors and parameters, with alpha = gamma / (2 E_W), beta = (N"
        " - gamma) / (2 E_D), gamma = n - 2 alpha trace(H^-1); MacKay 1992; Foresee & Hagan 1997",
        "alpha beta effective_parameters",
    ),
}
