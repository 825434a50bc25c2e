"""Keras with the backend in KERAS_BACKEND, or else the first installed one of jax, torch and tensorflow."""

from __future__ import annotations

import importlib.util
import os

import numpy as np

BACKENDS = ("jax", "torch", "tensorflow")
os.environ.setdefault("KERAS_BACKEND", next((name for name in BACKENDS if importlib.util.find_spec(name)), "tensorflow"))

import keras

from contenders.contender import InPython
from contenders.work import LR, Work


class ByKeras(InPython):
    """`Sequential`, `train_on_batch`, `fit` for an epoch, `predict_on_batch`."""

    def __init__(self, work: Work, threads: int) -> None:
        if keras.backend.backend() == "torch":
            import torch

            torch.set_num_threads(threads)
        self.work = work
        widths = work.net.widths
        hidden = [keras.layers.Dense(width, "relu") for width in widths[1:-1]]
        self.model = keras.Sequential([keras.Input((widths[0],)), *hidden, keras.layers.Dense(widths[-1])])
        cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.optimizer = keras.optimizers.Adam(LR, epsilon=1e-8)
        self.model.compile(optimizer=self.optimizer, loss="mse" if work.net.loss == "mse" else cross_entropy)
        self.optimizer.build(self.model.trainable_variables)

    def reset(self) -> None:
        self.model.set_weights([part for layer in self.work.layers for part in layer])
        for variable in self.optimizer.variables:
            if variable.path.rpartition("/")[2] != "learning_rate":
                variable.assign(np.zeros(variable.shape, variable.dtype))

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        self.model.reset_metrics()  # otherwise the loss is a mean over all steps so far
        return float(self.model.train_on_batch(x, y))

    def epoch(self, order: np.ndarray) -> float:
        x, y = self.work.x[order], self.work.y[order]
        history = self.model.fit(x, y, batch_size=self.work.net.batch, shuffle=False, verbose=0)
        return float(history.history["loss"][0])

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.model.predict_on_batch(x))
