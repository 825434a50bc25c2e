"""OnlineModel: learns from a stream of dicts, one at a time.

What m.learn_one(x, y) does, with the file of each step: features.py makes a sparse row of x, targets.py a target of y; the trainer predicts
the row, then steps on it; last, the model keeps the new moments and classes. So a call that fails changes nothing.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np

from ..core.attributes import Closed
from ..core.backend import BackendName
from ..core.checks import one_of, whole_number
from ..core.specs import ActivationName, Init, OptimizerName
from ..core.text import brief, counted
from ..data.sparse import SparseRows
from ..network.layers import Activation, Dense
from ..network.network import DType, Network
from ..network.nodes import WIDTH_BITS, Input, Node
from ..settings.optimizers import Adagrad, Optimizer
from ..training.trainer import Trainer
from .features import Features
from .moments import Moments, moments_of
from .targets import Classes, Label, Number

_NOTE = "online_model"  # in the notes of the network, in a file
_DEFAULT = Adagrad(lr=0.05)  # as the hidden units, by the search in bench/RESULTS.md


class OnlineModel(Closed):
    """Learns from a stream of rows, one at a time. A row is a dict of features by name, which may be new or absent in any row.

    target: what the model predicts: "number", or "classes": strings, whole numbers or bools, which may appear at any time.
    levels: the columns of the network's input, from 1 to 2**31 - 1. A feature has the column bp.hash_features(its key, levels). Two
    features may have the same column, where their values are added; see bp.hash_features for how often. The model's memory and file are
    proportional to `levels`: 4 bytes * levels * (units of the first layer) * (2 + state vectors of the optimizer), 403 MB by default.
    max_classes: the largest number of classes, 2 to 2**31 - 1. More cost time and memory.
    hidden: the units of each hidden layer; () is a linear model, with weights that start at 0. activation: of these layers, as in bp.Dense;
    with "relu", a row of one or two features may lose all its units and stay as it is.
    optimizer: as in bp.Trainer. Those that change all weights in each step are refused, such as Lion, or Adam with weight decay.
    dtype, seed, backend: as in bp.Network. The hash does not depend on the seed.

    Features: a number has its name as the key, and as value (number - mean) / deviation of all values of this name so far, its own
    included (Welford 1962). It is 0 for the first value, and while all are equal. A string has the key "name=value", such as "city=Rome",
    and the value 1; so have True and False. None, NaN and pandas.NA: the feature is absent. An absent feature adds nothing.
    A target of numbers is standardised in the same way, so the default learning rate suits any unit.

    One thread at a time may use a model. Pickles and copies (copy.copy too) are independent models.

    ValueError or TypeError: an argument is invalid.

    >>> m = bp.OnlineModel("classes", levels=2**10, seed=0)
    >>> days = [({"temperature": t, "sky": sky}, "swim" if t > 20 and sky == "clear" else "read")
    ...         for t in range(10, 30) for sky in ("clear", "grey")]
    >>> hits = [m.learn_one(x, y) == y for x, y in 20 * days]
    >>> sum(hits[:40]) < sum(hits[-40:])
    True
    >>> m.predict_one({"temperature": 25, "sky": "clear"})
    'swim'
    """

    __slots__ = ("__weakref__", "_features", "_target", "_trainer")

    def __init__(
        self,
        target: Literal["number", "classes"],
        levels: int = 2**20,
        *,
        max_classes: int = 16,
        hidden: Sequence[int] = (32,),
        activation: ActivationName | Activation = "leaky_relu",
        optimizer: OptimizerName | Optimizer = _DEFAULT,
        dtype: DType = "float32",
        seed: int | None = None,
        backend: BackendName | None = None,
    ) -> None:
        is_number = one_of("number", "classes")("OnlineModel: target", target) == "number"
        levels = whole_number(levels, "OnlineModel: levels", bits=31)
        outputs = whole_number(max_classes, "OnlineModel: max_classes", least=2, bits=31)
        node: Node = Input(levels)
        start = node
        for units in _hidden(hidden):
            # A row has few of the columns, so that the usual initial weights, for the sum of all columns, would be too small.
            node = Dense(units, activation, init=Init("normal") if node is start else "auto")(node)
        node = Dense(1 if is_number else outputs, init="zeros" if node is start else "auto")(node)
        net = Network(start, node, dtype, seed, backend)
        kind = Number() if is_number else Classes(outputs)
        self._attach(Trainer(net, kind.loss, optimizer), kind, {})
        # A row without features: ValueError if the optimizer is not for sparse rows.
        self._trainer.backward(self._features.row({})[0], np.zeros(1, np.int64))

    def _attach(self, trainer: Trainer, target: Number | Classes, moments: Mapping[str, Moments]) -> None:
        self._trainer: Trainer = trainer
        self._target: Any = target
        self._features = Features(trainer.net.inputs[0].width, trainer.net.backend, moments)

    # ---- attributes ----

    @property
    def target(self) -> str:
        """What the model predicts: "number" or "classes"."""
        return str(self._target.name)

    @property
    def classes(self) -> tuple[Label, ...]:
        """The classes so far, in the order in which they appeared; empty if the target is a number."""
        return tuple(self._target.labels)

    @property
    def levels(self) -> int:
        """The columns of the network's input."""
        return self._features.levels

    @property
    def trainer(self) -> Trainer:
        """The trainer of the network: `m.trainer.lr = 0.01` changes the learning rate, `m.trainer.steps` is the number of rows learnt.

        Its network, `m.trainer.net`, takes rows of `levels` columns, and predicts standardised numbers or max_classes probabilities.
        """
        return self._trainer

    def __repr__(self) -> str:
        what = f"{counted(len(self.classes), 'class')} so far" if self.target == "classes" else "a number"
        t = self._trainer
        return f"microbp.OnlineModel: {what}, {self.levels:,} levels, {t.optimizer}, {counted(t.steps, 'row')} learnt"

    # ---- rows ----

    def learn_one(self, x: Mapping[str, Any], y: Any) -> Any:
        """Predicts a row, then learns it. Returns the prediction, that of `predict_one(x)` before: compared with y, it shows how well the
        model predicts new rows.

        x: features by name. y: the number, or the class.

        ValueError or TypeError: a feature or y is invalid, or y is a class too many. FloatingPointError: the loss or a gradient is not
        finite. After an error, nothing has changed.

        >>> m = bp.OnlineModel("number", levels=2**10, seed=0)
        >>> errors = [abs(m.learn_one({"city": city}, y) - y) for city, y in 50 * [("Rome", 30), ("Oslo", 10)]]
        >>> errors[0], max(errors[-10:]) < 1
        (30.0, True)
        """
        row, moments = self._features.row(x)
        target, seen = self._target.read(y)
        prediction = self._target.prediction(self._outputs(row))
        self._trainer.step(row, target)
        self._features.moments.update(moments)
        self._target.keep(seen)
        return prediction

    def predict_one(self, x: Mapping[str, Any]) -> Any:
        """The predicted number, or the most probable class of those that have appeared. Before the first row: 0.0 or None.

        >>> m = bp.OnlineModel("classes", levels=2**10, seed=0)
        >>> m.predict_one({"city": "Rome"}) is None
        True
        """
        return self._target.prediction(self._outputs(self._features.row(x)[0]))

    def predict_proba_one(self, x: Mapping[str, Any]) -> dict[Label, float]:
        """The probability of each class that has appeared; their sum is 1. ValueError: the target is a number.

        >>> m = bp.OnlineModel("classes", levels=2**10, seed=0)
        >>> for city, y in 100 * [("Rome", "warm"), ("Oslo", "cold")]:
        ...     _ = m.learn_one({"city": city}, y)
        >>> {name: round(one, 1) for name, one in m.predict_proba_one({"city": "Rome"}).items()}
        {'warm': 1.0, 'cold': 0.0}
        """
        found: dict[Label, float] = self._target.probabilities(self._outputs(self._features.row(x)[0]))
        return found

    def _outputs(self, row: SparseRows) -> list[float]:
        """The raw outputs. Not by net.predict, which brings all rows of the weights up to date."""
        outputs: list[float] = self._trainer.forward(row)[0].tolist()
        return outputs

    # ---- copies and files ----

    def __copy__(self) -> Self:
        return copy.deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        return {"trainer": self._trainer, "model": self._state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._restore(state["trainer"], state["model"])

    def _state(self) -> dict[str, Any]:
        moments = {name: list(one) for name, one in self._features.moments.items()}
        return {"target": self.target, "moments": moments, "seen": self._target.state()}

    def _restore(self, trainer: Trainer, state: Mapping[str, Any]) -> None:
        if state["target"] not in ("number", "classes"):
            raise ValueError(f"it predicts {brief(state['target'])}")
        target = Number() if state["target"] == "number" else Classes(trainer.net.outputs[0].width)
        target.restore(state["seen"])
        self._attach(trainer, target, {name: moments_of(one) for name, one in state["moments"].items()})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves the model to a safetensors file, completely or not at all: a file of its trainer, with the model's state in the notes of
        its network. OSError: the file cannot be written.

        The stream continues from `OnlineModel.load(path)`, bit for bit as if never interrupted.

        >>> m = bp.OnlineModel("number", levels=2**10, seed=0)
        >>> m.save("stream.safetensors")
        >>> bp.OnlineModel.load("stream.safetensors")
        microbp.OnlineModel: a number, 1,024 levels, Adagrad(lr=0.05), 0 rows learnt
        """
        net = self._trainer.net
        notes = net.notes
        net.notes = dict(notes) | {_NOTE: self._state()}
        try:
            self._trainer.save(path)
        finally:
            net.notes = notes

    @classmethod
    def load(cls, path: str | os.PathLike[str], backend: BackendName | None = None) -> Self:
        """Loads a model that `save` wrote. backend: as in bp.load. ValueError: the file is damaged, or of something else.

        >>> m = bp.OnlineModel("number", levels=2**10, seed=0)
        >>> m.save("stream.safetensors")
        >>> bp.OnlineModel.load("stream.safetensors").predict_one({}) == m.predict_one({})
        True
        """
        trainer = Trainer.load(path, backend)
        notes = dict(trainer.net.notes)
        if _NOTE not in notes:
            raise ValueError(f"{os.fspath(path)}: contains a trainer, but no online model; load it with bp.Trainer.load")
        model = cls.__new__(cls)
        try:
            model._restore(trainer, notes.pop(_NOTE))
        except (AttributeError, LookupError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"{os.fspath(path)}: the online model's state is invalid ({error})") from error
        trainer.net.notes = notes
        return model


def _hidden(hidden: Sequence[int]) -> list[int]:
    if not isinstance(hidden, list | tuple):
        raise TypeError(f"OnlineModel: hidden must be a list such as [16], not {brief(hidden)}")
    return [whole_number(units, f"OnlineModel: hidden[{i}]", bits=WIDTH_BITS) for i, units in enumerate(hidden)]
