"""Rows with a few of very many columns: the time of a step should not depend on the number of columns."""

from __future__ import annotations

import itertools

import microbp as bp

from .common import csr, fresh

OPTIMIZERS: dict[str, type[bp.Optimizer]] = {"sgd": bp.SGD, "adagrad": bp.Adagrad, "adamw": bp.AdamW}


class StepOfColumns:
    """A step on 100 rows of 16 ones in random columns, 16 hidden units. Its 64 batches take turns."""

    params = ([10**4, 10**5, 10**6, 10**7], list(OPTIMIZERS), ["sparse", "ids"])
    param_names = ("columns", "optimizer", "form")

    def setup(self, columns: int, optimizer: str, form: str) -> None:
        x = bp.Ids(16, columns) if form == "ids" else bp.Input(columns)
        table = bp.Embedding(columns, 16, combine="sum", init="zeros")  # of numbers, it is a dense layer without bias
        self.trainer = bp.Trainer(bp.Network(x, bp.Dense(1)(bp.Activation("tanh")(table(x))), seed=0), "bce", OPTIMIZERS[optimizer]())
        given = [(b.ids if form == "ids" else csr(b.ids, columns), b.y) for b in fresh(columns, 100, 16, 64)]
        for batch in given:  # memory of these rows is used for the first time
            self.trainer.step(*batch)
        self.batches = itertools.cycle(given)

    def time_step(self, columns: int, optimizer: str, form: str) -> None:
        self.trainer.step(*next(self.batches))
