"""scikit-learn's MLP with `partial_fit`."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from contenders.contender import InPython
from contenders.work import LR, Work


class BySklearn(InPython):
    """Without the L2 penalty. The regressor's loss is half the mean squared error, so `step` doubles it; Adam's updates stay the same."""

    def __init__(self, work: Work, threads: int) -> None:
        if work.net.widths[-1] == 2:
            raise NotImplementedError("has one output for two classes: not the same net")
        warnings.simplefilter("ignore", ConvergenceWarning)
        self.work = work
        settings: dict[str, Any] = {
            "hidden_layer_sizes": work.net.widths[1:-1],
            "alpha": 0,
            "batch_size": work.net.batch,
            "learning_rate_init": LR,
            "shuffle": False,
        }
        regression = work.net.loss == "mse"
        self.probabilities = not regression
        self.factor = 2.0 if regression else 1.0
        self.model = MLPRegressor(**settings) if regression else MLPClassifier(**settings)
        x, y = work.batches[0]
        if regression:
            self.model.partial_fit(x, y.ravel())
        else:
            self.model.partial_fit(x, y, classes=np.arange(work.net.widths[-1]))
        self._predict = self.model.predict if regression else self.model.predict_proba

    def reset(self) -> None:
        for weight, bias, layer in zip(self.model.coefs_, self.model.intercepts_, self.work.layers, strict=True):
            weight[...], bias[...] = layer
        optimizer = self.model._optimizer
        optimizer.t = 0
        for moment in (*optimizer.ms, *optimizer.vs):
            moment[...] = 0

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        self.model.partial_fit(x, y if y.ndim == 1 else y.ravel())
        return self.factor * float(self.model.loss_)

    def epoch(self, order: np.ndarray) -> float:
        return self.step(self.work.x[order], self.work.y[order])

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self._predict(x))
