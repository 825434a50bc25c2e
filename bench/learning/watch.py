"""Measures what fit(watch="layers") costs: the time of a fit with it, divided by that of the same fit without.

    python bench/learning/watch.py [--rounds N]

Fits of three nets on random rows with Adam, on one thread, alternately without and with a watch; the times are those of the thread's
processor time, so that other programs disturb less. The ratio is the median over the rounds, with quartiles; the last column says how many
epochs were measured.
"""

from __future__ import annotations

import argparse
import time
from typing import NamedTuple

import numpy as np

import microbp as bp


class Fit(NamedTuple):
    """A net by its widths, and the rows, batches and epochs of its fit."""

    widths: tuple[int, ...]
    rows: int
    batch: int
    epochs: int


FITS = [Fit((4, 32, 32, 2), 1000, 32, 1000), Fit((64, 128, 10), 1797, 32, 100), Fit((784, 512, 512, 10), 2560, 256, 20)]


def seconds(fit: Fit, is_watched: bool) -> tuple[float, int]:
    """The processor time of the fit, and the number of epochs whose layers were measured."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(fit.rows, fit.widths[0])).astype(np.float32), random.integers(0, fit.widths[-1], fit.rows)
    t = bp.Trainer(bp.mlp(fit.widths, seed=0, n_threads=1), "cross_entropy", "adam", seed=1)
    start = time.thread_time()
    history = t.fit(x, y, epochs=fit.epochs, batch_size=fit.batch, progress=False, watch="layers" if is_watched else None)
    taken = time.thread_time() - start
    return taken, int(np.isfinite(history.get("dense_0.gradient", [])).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21, help="pairs of fits (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the epochs: only to see that it works")
    given = parser.parse_args()
    print("| net | batch | ms an epoch | time with / without | quartiles | epochs measured |\n|---|---|---|---|---|---|")
    for fit in FITS:
        part = fit._replace(epochs=max(fit.epochs // 10, 1)) if given.quick else fit
        pairs = [(seconds(part, False), seconds(part, True)) for _ in range(given.rounds)]
        low, ratio, high = np.quantile([watched / plain for (plain, _), (watched, _) in pairs], [0.25, 0.5, 0.75])
        epoch = 1e3 * np.median([plain for (plain, _), _ in pairs]) / part.epochs
        cells = ["-".join(map(str, fit.widths)), fit.batch, f"{epoch:.2f}", f"{ratio:.3f}", f"{low:.3f} to {high:.3f}"]
        print("|", *(f"{cell} |" for cell in [*cells, f"{pairs[-1][1][1]} of {part.epochs}"]), flush=True)


if __name__ == "__main__":
    main()
