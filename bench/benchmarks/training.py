"""Steps and epochs."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import microbp as bp

from .common import DTYPES, ISAS, NETS, Name, normal, targets, threads, trainer


class Step:
    """A step from Python: nets, dtypes and kernel variants."""

    params = (list(NETS), DTYPES, ISAS)
    param_names = ("net", "dtype", "isa")

    def setup(self, net: str, dtype: str, isa: str) -> None:
        os.environ["MICROBP_ISA"] = isa
        widths, rows = NETS[net]
        self.trainer = trainer(widths, dtype)
        self.x, self.y = normal(rows, widths[0], dtype), targets(self.trainer.net, rows)

    def teardown(self, net: str, dtype: str, isa: str) -> None:
        del os.environ["MICROBP_ISA"]

    def time_step(self, net: str, dtype: str, isa: str) -> None:
        self.trainer.step(self.x, self.y)


class StepOfBatch:
    """A step of a net with few and with many rows."""

    params = ([1, 8, 64, 512, 4096],)
    param_names = ("rows",)

    def setup(self, rows: int) -> None:
        self.trainer = trainer([64, 256, 256, 10])
        self.x, self.y = normal(rows, 64), targets(self.trainer.net, rows)

    def time_step(self, rows: int) -> None:
        self.trainer.step(self.x, self.y)


class StepOfWidth:
    """A step of a net with two hidden layers. Most widths fill no whole vectors; 32 and 64 do, for comparison."""

    params = ([20, 30, 32, 50, 64, 100, 500], ["relu", "tanh"], DTYPES)
    param_names = ("width", "activation", "dtype")

    def setup(self, width: int, activation: Name, dtype: str) -> None:
        self.trainer = bp.Trainer(bp.mlp([10, width, width, 3], activation, dtype=dtype, seed=0), "mse")  # type: ignore[arg-type]
        self.x, self.y = normal(32, 10, dtype), normal(32, 3, dtype)

    def time_step(self, width: int, activation: Name, dtype: str) -> None:
        self.trainer.step(self.x, self.y)


class Iteration:
    """An iteration of a second-order optimizer."""

    number = 10  # iterations per trainer: near the minimum, no step is found
    params = (["LevenbergMarquardt", "SCG", "LBFGS"], ["1-5-1, 41 rows", "8-15-15-2, 384 rows"])
    param_names = ("optimizer", "net")

    def setup(self, optimizer: str, net: str) -> None:
        if not hasattr(bp, optimizer):
            raise NotImplementedError("this version does not have it")
        widths, rows = ([1, 5, 1], 41) if net.startswith("1-") else ([8, 15, 15, 2], 384)
        self.trainer = bp.Trainer(bp.mlp(widths, "tanh", dtype="float64", seed=0), "mse", getattr(bp, optimizer)())
        self.x, self.y = normal(rows, widths[0], "float64"), normal(rows, widths[-1], "float64")

    def time_step(self, optimizer: str, net: str) -> None:
        self.trainer.step(self.x, self.y)


class StepOnThreads:
    """A step with one and with two threads."""

    params = (["8-64-64-1", "784-512-512-10"], [1, 2])
    param_names = ("net", "n_threads")

    def setup(self, net: str, n_threads: int) -> None:
        widths, rows = NETS[net]
        self.trainer = trainer(widths, **threads(n_threads))
        self.x, self.y = normal(rows, widths[0]), targets(self.trainer.net, rows)

    def time_step(self, net: str, n_threads: int) -> None:
        self.trainer.step(self.x, self.y)


class Epoch:
    """An epoch of 16 shuffled minibatches."""

    params = (list(NETS),)
    param_names = ("net",)

    def setup(self, net: str) -> None:
        widths, self.batch = NETS[net]
        self.trainer = trainer(widths)
        rows = 16 * self.batch
        x, y = normal(rows, widths[0]), targets(self.trainer.net, rows)
        self.epochs = self.trainer.epochs(x, y, batch_size=self.batch)

    def time_epoch(self, net: str) -> None:
        next(self.epochs)


class Fit:
    """An epoch of `fit` with one step: the Python overhead of an epoch."""

    number = 20  # calls per trainer: `fit` returns the whole history, which grows

    def setup(self) -> None:
        self.trainer = trainer([4, 8, 1])
        self.x, self.y = normal(32, 4), normal(32, 1)

    def time_epoch(self) -> None:
        self.trainer.fit(self.x, self.y, epochs=1, progress=False)


class SeveralNets:
    """Eight nets 8-64-64-1, 2000 rows, 20 epochs: one after another, and by train_many on two threads."""

    number = 1  # training goes on with each call; all calls cost the same
    params = (["one by one", "two threads"],)
    param_names = ("way",)

    def setup(self, way: str) -> None:
        self.trainers = [trainer([8, 64, 64, 1]) for _ in range(8)]
        self.x, self.y = normal(2000, 8), normal(2000, 1)
        self.executor = ThreadPoolExecutor(1 if way == "one by one" else 2)

    def teardown(self, way: str) -> None:
        self.executor.shutdown()

    def time_fit(self, way: str) -> None:
        bp.train_many(self.trainers, self.x, self.y, epochs=20, executor=self.executor)


class Memory:
    """Peak memory of the process that creates a net and does a step."""

    params = (["4-32-32-2", "784-512-512-10"],)
    param_names = ("net",)

    def peakmem_step(self, net: str) -> None:
        widths, rows = NETS[net]
        t = trainer(widths)
        t.step(normal(rows, widths[0]), targets(t.net, rows))
