"""microbp: small and medium dense networks, trained in C, with a readable reference in Python.

net = bp.mlp([64, 128, 10], activation="relu")
t = bp.Trainer(net, loss="cross_entropy", optimizer=bp.Adam(lr=1e-3))
t.fit(X, y, epochs=10)
probabilities = t.predict(X)
"""

from . import backend as _backend
from . import schedules, threads
from .averages import EMA, SWA
from .backend import get_include, get_library_dir
from .gradcheck import GradientCheck
from .graph import Activation, Dense, Input, Node, add, concat, multiply
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

_backend.load()  # a missing extension is told at import, not at the first network
threads.announce(_backend.resolve(None))

__version__ = "0.1.0"

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
    "Constant",
    "Cosine",
    "CosineRestarts",
    "Dense",
    "Exponential",
    "Ftrl",
    "GradientCheck",
    "Init",
    "Input",
    "InverseTime",
    "Lamb",
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
