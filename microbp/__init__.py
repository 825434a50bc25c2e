"""microbp: small and medium dense networks, trained in C, with a readable reference in Python.

net = bp.mlp([64, 128, 10], activation="relu")
t = bp.Trainer(net, loss="cross_entropy", optimizer=bp.Adam(lr=1e-3))
t.fit(X, y, epochs=10)
probabilities = t.predict(X)
"""

from . import backend as _backend
from . import threads
from .backend import get_include, get_library_dir
from .fitting import Record
from .gradcheck import GradientCheck
from .graph import Activation, BatchNorm, Dense, Dropout, GaussianNoise, Input, LayerNorm, Node, add, concat, multiply
from .metrics import accuracy, mae, r2, rmse
from .network import Network, load, mlp
from .optimizers import SGD, Adam, Optimizer, RMSprop
from .specs import Init, Loss
from .trainer import Trainer

_backend.load()  # a missing extension is told at import, not at the first network
threads.announce(_backend.resolve(None))

__version__ = "0.1.0"

__all__ = [
    "SGD",
    "Activation",
    "Adam",
    "BatchNorm",
    "Dense",
    "Dropout",
    "GaussianNoise",
    "GradientCheck",
    "Init",
    "Input",
    "LayerNorm",
    "Loss",
    "Network",
    "Node",
    "Optimizer",
    "RMSprop",
    "Record",
    "Trainer",
    "accuracy",
    "add",
    "concat",
    "get_include",
    "get_library_dir",
    "load",
    "mae",
    "mlp",
    "multiply",
    "r2",
    "rmse",
]
