"""Predictions, from one row to many."""

from __future__ import annotations

import os

from .common import DTYPES, ISAS, NETS, normal, threads, trainer


class Predict:
    """Nets, rows, dtypes and kernel variants."""

    params = (["4-8-2", "8-64-64-1", "784-512-512-10"], [1, 1024], DTYPES, ISAS)
    param_names = ("net", "rows", "dtype", "isa")

    def setup(self, net: str, rows: int, dtype: str, isa: str) -> None:
        os.environ["MICROBP_ISA"] = isa
        widths, _ = NETS[net]
        self.net = trainer(widths, dtype).net
        self.x = normal(rows, widths[0], dtype)

    def teardown(self, net: str, rows: int, dtype: str, isa: str) -> None:
        del os.environ["MICROBP_ISA"]

    def time_predict(self, net: str, rows: int, dtype: str, isa: str) -> None:
        self.net.predict(self.x, raw=True)


class PredictOnThreads:
    """Many rows with one and with two threads."""

    params = ([1, 2],)
    param_names = ("n_threads",)

    def setup(self, n_threads: int) -> None:
        widths, _ = NETS["784-512-512-10"]
        self.net = trainer(widths, **threads(n_threads)).net
        self.x = normal(1024, widths[0])

    def time_predict(self, n_threads: int) -> None:
        self.net.predict(self.x, raw=True)
