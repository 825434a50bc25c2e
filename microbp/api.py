"""The names of the package, all of them. `import microbp` brings this module, and NumPy with it, when the first of them is used."""

from . import schedules
from .backend import get_include, get_library_dir
from .gradcheck import GradientCheck
from .graph import Activation, Dense, Input, Node, add, concat, multiply
from .history import Record, save_history
from .metrics import accuracy, log_loss, mae, r2, rmse, top_k
from .network import Network, load, mlp
from .optimizers import SGD, Adam, Optimizer, RMSprop
from .range_test import RangeTest, lr_find
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
from .specs import Init, Loss
from .trainer import Trainer

__all__ = [
    "SGD",
    "Activation",
    "Adam",
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Dense",
    "Exponential",
    "GradientCheck",
    "Init",
    "Input",
    "InverseTime",
    "Loss",
    "MultiStep",
    "Network",
    "Node",
    "OneCycle",
    "Optimizer",
    "Polynomial",
    "RMSprop",
    "RangeTest",
    "Record",
    "ReduceOnPlateau",
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
