"""microbp: small and medium dense networks, trained in C, with a readable reference in Python.

bp.mlp builds a chain of dense layers; bp.Input, bp.Dense, ... and bp.Network build any acyclic graph of layers. A bp.Trainer trains a
network with a loss and an optimizer. dir(bp) lists the public names; help explains each: help(bp.Trainer), help(bp.Loss), help(bp.Adam).

>>> X = np.random.default_rng(0).normal(size=(200, 2))
>>> y = (X[:, 0] * X[:, 1] > 0).astype(int)
>>> net = bp.mlp([2, 16, 2], activation="relu", seed=0)
>>> t = bp.Trainer(net, loss="cross_entropy", optimizer=bp.Adam(lr=0.01))
>>> history = t.fit(X, y, epochs=20)
>>> probabilities = t.predict(X)
>>> probabilities.shape
(200, 2)
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .core import backend
from .core import threads as threads

if TYPE_CHECKING:  # the public names for type checkers; `as` marks them as exported
    from . import plot as plot
    from . import sklearn as sklearn
    from .core.backend import get_include as get_include
    from .core.backend import get_library_dir as get_library_dir
    from .core.specs import Init as Init
    from .core.specs import Loss as Loss
    from .data.hashing import hash_features as hash_features
    from .diagnosis.doctor import doctor as doctor
    from .diagnosis.finding import Diagnosis as Diagnosis
    from .diagnosis.finding import Finding as Finding
    from .exchange.export import export as export
    from .exchange.keras import from_keras as from_keras
    from .exchange.onnx.read import from_onnx as from_onnx
    from .exchange.quantize import QuantizedNetwork as QuantizedNetwork
    from .exchange.quantize import quantize as quantize
    from .exchange.scikit_learn import from_sklearn as from_sklearn
    from .exchange.shared.fold import fold as fold
    from .exchange.torch.reader import from_torch as from_torch
    from .explaining.explanation import Explanation as Explanation
    from .explaining.explanation import explain as explain
    from .many.cross_validation import CrossValidation as CrossValidation
    from .many.cross_validation import cross_validate as cross_validate
    from .many.ensemble import Ensemble as Ensemble
    from .many.intervals import Conformal as Conformal
    from .many.search import Sweep as Sweep
    from .many.search import sweep as sweep
    from .many.search import train_best as train_best
    from .many.train_many import train_many as train_many
    from .network.layers import Activation as Activation
    from .network.layers import BatchNorm as BatchNorm
    from .network.layers import Dense as Dense
    from .network.layers import Dropout as Dropout
    from .network.layers import Embedding as Embedding
    from .network.layers import GaussianNoise as GaussianNoise
    from .network.layers import LayerNorm as LayerNorm
    from .network.layers import Scale as Scale
    from .network.layers import Standardize as Standardize
    from .network.mlp import mlp as mlp
    from .network.network import Network as Network
    from .network.network import load as load
    from .network.nodes import Ids as Ids
    from .network.nodes import Input as Input
    from .network.nodes import Node as Node
    from .network.nodes import add as add
    from .network.nodes import concat as concat
    from .network.nodes import multiply as multiply
    from .network.positions.inputs import Grid as Grid
    from .network.positions.inputs import Sequence as Sequence
    from .network.positions.layers import Conv as Conv
    from .network.positions.layers import Flatten as Flatten
    from .network.positions.layers import Last as Last
    from .network.positions.layers import Pool as Pool
    from .network.positions.layers import Repeat as Repeat
    from .network.positions.layers import Unflatten as Unflatten
    from .network.positions.recurrent import Recurrent as Recurrent
    from .network.states.state import State as State
    from .online.online_model import OnlineModel as OnlineModel
    from .reports.report import Report as Report
    from .reports.report import report as report
    from .settings import schedules as schedules
    from .settings.averages import EMA as EMA
    from .settings.averages import SWA as SWA
    from .settings.checkpoint import Checkpoint as Checkpoint
    from .settings.class_metrics import accuracy as accuracy
    from .settings.class_metrics import auc as auc
    from .settings.class_metrics import balanced_accuracy as balanced_accuracy
    from .settings.class_metrics import brier as brier
    from .settings.class_metrics import f1 as f1
    from .settings.class_metrics import log_loss as log_loss
    from .settings.class_metrics import subset_accuracy as subset_accuracy
    from .settings.class_metrics import top_k as top_k
    from .settings.metrics import Metric as Metric
    from .settings.number_metrics import mae as mae
    from .settings.number_metrics import pinball as pinball
    from .settings.number_metrics import r2 as r2
    from .settings.number_metrics import rmse as rmse
    from .settings.optimizers import ASGD as ASGD
    from .settings.optimizers import SGD as SGD
    from .settings.optimizers import AdaBelief as AdaBelief
    from .settings.optimizers import Adadelta as Adadelta
    from .settings.optimizers import Adagrad as Adagrad
    from .settings.optimizers import Adam as Adam
    from .settings.optimizers import Adamax as Adamax
    from .settings.optimizers import AdamW as AdamW
    from .settings.optimizers import Ftrl as Ftrl
    from .settings.optimizers import Lamb as Lamb
    from .settings.optimizers import Lion as Lion
    from .settings.optimizers import Momentum as Momentum
    from .settings.optimizers import NAdam as NAdam
    from .settings.optimizers import RAdam as RAdam
    from .settings.optimizers import RMSprop as RMSprop
    from .settings.optimizers import Rprop as Rprop
    from .settings.schedules import Constant as Constant
    from .settings.schedules import Cosine as Cosine
    from .settings.schedules import CosineRestarts as CosineRestarts
    from .settings.schedules import CosLog as CosLog
    from .settings.schedules import Exponential as Exponential
    from .settings.schedules import InverseTime as InverseTime
    from .settings.schedules import MultiStep as MultiStep
    from .settings.schedules import OneCycle as OneCycle
    from .settings.schedules import Polynomial as Polynomial
    from .settings.schedules import ReduceOnPlateau as ReduceOnPlateau
    from .settings.schedules import Schedule as Schedule
    from .settings.schedules import StepDecay as StepDecay
    from .settings.schedules import Warmup as Warmup
    from .settings.solvers import LBFGS as LBFGS
    from .settings.solvers import SCG as SCG
    from .settings.solvers import BayesianRegularization as BayesianRegularization
    from .settings.solvers import LevenbergMarquardt as LevenbergMarquardt
    from .settings.solvers import Optimizer as Optimizer
    from .settings.stopping import EarlyStopping as EarlyStopping
    from .tables.fitted.importance import Importance as Importance
    from .tables.fitted.table_model import TableModel as TableModel
    from .tables.fitted.table_model import fit_table as fit_table
    from .tables.fitted.table_model import load_table as load_table
    from .tables.sparse.reading import SparseChunks as SparseChunks
    from .tables.sparse.reading import read_sparse as read_sparse
    from .training.flat.minimize import Minimum as Minimum
    from .training.flat.minimize import minimize as minimize
    from .training.gradcheck import GradientCheck as GradientCheck
    from .training.layers.histograms import Histograms as Histograms
    from .training.loop.records.history import Record as Record
    from .training.loop.records.history import save_history as save_history
    from .training.lr_find import RangeTest as RangeTest
    from .training.lr_find import lr_find as lr_find
    from .training.trainer import Trainer as Trainer

else:  # the same names at run time, each imported on first use: `microbp --help` needs no NumPy
    _NAMES = {
        "core.backend": "get_include get_library_dir",
        "core.specs": "Init Loss",
        "data.hashing": "hash_features",
        "diagnosis.doctor": "doctor",
        "diagnosis.finding": "Diagnosis Finding",
        "exchange.export": "export",
        "exchange.keras": "from_keras",
        "exchange.onnx.read": "from_onnx",
        "exchange.quantize": "QuantizedNetwork quantize",
        "exchange.scikit_learn": "from_sklearn",
        "exchange.shared.fold": "fold",
        "exchange.torch.reader": "from_torch",
        "explaining.explanation": "Explanation explain",
        "many.cross_validation": "CrossValidation cross_validate",
        "many.ensemble": "Ensemble",
        "many.intervals": "Conformal",
        "many.search": "Sweep sweep train_best",
        "many.train_many": "train_many",
        "network.layers": "Activation BatchNorm Dense Dropout Embedding GaussianNoise LayerNorm Scale Standardize",
        "network.mlp": "mlp",
        "network.network": "Network load",
        "network.nodes": "Ids Input Node add concat multiply",
        "network.positions.inputs": "Grid Sequence",
        "network.positions.layers": "Conv Flatten Last Pool Repeat Unflatten",
        "network.positions.recurrent": "Recurrent",
        "network.states.state": "State",
        "online.online_model": "OnlineModel",
        "reports.report": "Report report",
        "settings.averages": "EMA SWA",
        "settings.checkpoint": "Checkpoint",
        "settings.class_metrics": "accuracy auc balanced_accuracy brier f1 log_loss subset_accuracy top_k",
        "settings.metrics": "Metric",
        "settings.number_metrics": "mae pinball r2 rmse",
        "settings.optimizers": "ASGD SGD AdaBelief Adadelta Adagrad Adam Adamax AdamW Ftrl Lamb Lion Momentum NAdam RAdam RMSprop Rprop",
        "settings.schedules": "Constant CosLog Cosine CosineRestarts Exponential InverseTime MultiStep OneCycle Polynomial "
        "ReduceOnPlateau Schedule StepDecay Warmup",
        "settings.solvers": "BayesianRegularization LBFGS LevenbergMarquardt Optimizer SCG",
        "settings.stopping": "EarlyStopping",
        "tables.fitted.importance": "Importance",
        "tables.fitted.table_model": "TableModel fit_table load_table",
        "tables.sparse.reading": "SparseChunks read_sparse",
        "training.flat.minimize": "Minimum minimize",
        "training.gradcheck": "GradientCheck",
        "training.layers.histograms": "Histograms",
        "training.loop.records.history": "Record save_history",
        "training.lr_find": "RangeTest lr_find",
        "training.trainer": "Trainer",
    }
    _HOME = {name: module for module, names in _NAMES.items() for name in names.split()}
    # Not in __all__, because then a star import would need matplotlib and scikit-learn.
    _MODULES = {"plot": "plot", "schedules": "settings.schedules", "sklearn": "sklearn"}

    __all__ = sorted(_HOME)

    def __getattr__(name: str) -> object:
        if name in _MODULES:
            return import_module(f".{_MODULES[name]}", __name__)
        if name not in _HOME:
            from .core.text import nearest  # imported here, so that bp has no public name `nearest`

            near = nearest(name, [*_HOME, *_MODULES])
            hint = f"; did you mean {near[0]!r}?" if near else ""
            # obj=None, because with obj Python would append its own suggestion, which for Adma is AdamW.
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}", name=name, obj=None)
        globals()[name] = value = getattr(import_module(f".{_HOME[name]}", __name__), name)
        return value

    def __dir__() -> list[str]:
        return sorted([*__all__, *_MODULES, "threads"])


__version__ = "0.1.0"

backend.load()  # a missing extension fails here, not at the first network
threads.announce(backend.resolve(None))
