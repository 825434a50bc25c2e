"""The names of the package, all of them. `import microbp` brings this module, and NumPy with it, when the first of them is used."""

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from .averages import EMA, SWA
from .backend import get_include, get_library_dir
from .gradcheck import GradientCheck
from .graph import Activation, BatchNorm, Dense, Dropout, GaussianNoise, Input, LayerNorm, Node, add, concat, multiply
from .history import Record, save_history
from .metrics import accuracy, log_loss, mae, r2, rmse, top_k
from .network import Network, load, mlp
from .optimizers import (
    ASGD,
    SGD,
    AdaBelief,
    Adadelta,
    Adagrad,
    Adam,
    Adamax,
    AdamW,
    Ftrl,
    Lamb,
    Lion,
    Momentum,
    NAdam,
    Optimizer,
    RAdam,
    RMSprop,
    Rprop,
)
from .range_test import RangeTest, lr_find
from .specs import Init, Loss
from .trainer import Trainer

if _TYPE_CHECKING:
    from . import schedules
    from .schedules import (
        Constant,
        Cosine,
        CosineRestarts,
        Exponential,
        InverseTime,
        MultiStep,
        OneCycle,
        Polynomial,
        ReduceOnPlateau,
        Schedule,
        StepDecay,
        Warmup,
    )

__all__ = [
    "ASGD",
    "EMA",
    "SGD",
    "SWA",
    "Activation",
    "AdaBelief",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "BatchNorm",
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Dense",
    "Dropout",
    "Exponential",
    "Ftrl",
    "GaussianNoise",
    "GradientCheck",
    "Init",
    "Input",
    "InverseTime",
    "Lamb",
    "LayerNorm",
    "Lion",
    "Loss",
    "Momentum",
    "MultiStep",
    "NAdam",
    "Network",
    "Node",
    "OneCycle",
    "Optimizer",
    "Polynomial",
    "RAdam",
    "RMSprop",
    "RangeTest",
    "Record",
    "ReduceOnPlateau",
    "Rprop",
    "Schedule",
    "StepDecay",
    "Trainer",
    "Warmup",
    "accuracy",
    "add",
    "concat",
    "get_include",
    "get_library_dir",
    "load",
    "log_loss",
    "lr_find",
    "mae",
    "mlp",
    "multiply",
    "r2",
    "rmse",
    "save_history",
    "schedules",
    "top_k",
]


def __getattr__(name: str) -> _Any:
    """The schedules, which come when they are first asked for: to make that many classes takes half as long as all the rest."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    schedules = _importlib.import_module(".schedules", __package__)
    return schedules if name == "schedules" else getattr(schedules, name)
