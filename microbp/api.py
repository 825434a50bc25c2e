"""The names of the package, all of them. `import microbp` brings this module, and NumPy with it, when the first of them is used."""

from .backend import get_include, get_library_dir
from .fitting import Record
from .gradcheck import GradientCheck
from .graph import Activation, Dense, Input, Node, add, concat, multiply
from .metrics import accuracy, mae, r2, rmse
from .network import Network, load, mlp
from .optimizers import SGD, Adam, Optimizer, RMSprop
from .specs import Init, Loss
from .trainer import Trainer

__all__ = [
    "SGD",
    "Activation",
    "Adam",
    "Dense",
    "GradientCheck",
    "Init",
    "Input",
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
