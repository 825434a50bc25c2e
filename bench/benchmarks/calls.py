"""What a call from Python costs, by the form of its arguments: a net so small that the call is most of the time."""

from __future__ import annotations

from typing import Any

import numpy as np

import microbp as bp

from .common import normal

FORMS = ["float32", "float64", "lists", "one row", "two inputs", "two outputs", "labels", "weights", "own loss"]


def work(form: str) -> tuple[bp.Trainer, Any, Any, Any]:
    """A trainer, and the inputs, targets and weights of a row."""
    first, second = bp.Input(4), bp.Input(4)
    hidden = bp.Dense(8, activation="tanh")(bp.concat([first, second]) if form == "two inputs" else first)
    outputs = [bp.Dense(2)(hidden), bp.Dense(2)(hidden)] if form == "two outputs" else bp.Dense(2)(hidden)
    net = bp.Network([first, second] if form == "two inputs" else first, outputs, seed=0)
    x, y, weights = normal(1, 4), normal(1, 2), np.ones(1) if form == "weights" else None
    if form == "own loss":
        return bp.Trainer(net, lambda outputs, targets, weight: (0.0, targets)), x, y, weights
    if form == "labels":
        return bp.Trainer(net, "cross_entropy"), x, np.array([1]), weights
    trainer = bp.Trainer(net, ["mse", "mse"] if form == "two outputs" else "mse")
    rows = {"float64": (x.astype(float), y.astype(float)), "lists": (x.tolist(), y.tolist())}
    rows |= {"two inputs": ([x, x], y), "two outputs": (x, [y, y])}
    return trainer, *rows.get(form, (x, y)), weights


class Call:
    """4-8-2, one row."""

    params = (FORMS,)
    param_names = ("form",)

    def setup(self, form: str) -> None:
        self.trainer, self.x, self.y, self.weights = work(form)
        self.net, self.query = self.trainer.net, self.x[0] if form == "one row" else self.x

    def time_predict(self, form: str) -> None:
        self.net.predict(self.query)

    def time_step(self, form: str) -> None:
        self.trainer.step(self.x, self.y, self.weights)

    def time_evaluate(self, form: str) -> None:
        self.trainer.evaluate(self.x, self.y, self.weights)


class Stream:
    """A row of an OnlineModel: ten features, half of them strings."""

    params = (["number", "classes"],)
    param_names = ("target",)

    def setup(self, target: str) -> None:
        self.model = bp.OnlineModel(target, levels=2**16, seed=0)  # type: ignore[arg-type]
        self.x = {f"number {i}": 0.5 * i for i in range(5)} | {f"text {i}": f"word {i}" for i in range(5)}

    def time_learn(self, target: str) -> None:
        self.model.learn_one(self.x, 1)
