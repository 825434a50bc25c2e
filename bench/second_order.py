"""Levenberg-Marquardt, SCG, L-BFGS and Bayesian regularization beside first-order optimizers, NumPy, SciPy, PyTorch and scikit-learn.

    python bench/second_order.py [--quick] [--data DIR] [--picture FILE] [section ...]

sin, parity, cancer, diabetes: MATLAB's problems ("Choose a Multilayer Neural Network Training Function") and their goals, a run for each
seed: epochs to the goal, the runs that do not reach it, and the time of a run. microbp runs in C, float64, from the initial weights of
Nguyen and Widrow, as MATLAB; sin has 41 points; cancer and diabetes are the training parts of Proben1's first splits, classes 0 and 1.
The peers run from the same weights: Levenberg-Marquardt written in NumPy, SciPy's least_squares with the Jacobian of the same code, and
PyTorch's L-BFGS.
sinc: 1,000 points and 20 hidden units to 1e-8.
damping: epochs of Levenberg-Marquardt by its rule.
starts: the cost of 8-15-15-2 on diabetes after as many evaluations of the residuals as SciPy's, from 30 starts.
uci: yacht and energy, 20 splits, with Bayesian regularization, beside the training of training/uci.py.
digits: scikit-learn's MLPClassifier(solver="lbfgs") and microbp's.
picture: the error against CPU time for six problems; draws FILE (docs/second-order.png).

All on one thread, in CPU time. Of sin and parity, the least of five repeats of each run; mean and median are over the seeds.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.update(
    dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "MICROBP_NUM_THREADS"), "1")
)  # must be set before NumPy is imported

import numpy as np
from second import by_c, by_numpy, by_peers, curves, problems, regression
from training.data import DEFAULT_FOLDER
from wide.timing import seconds

import microbp as bp
from kernels import machine

SPECS = {  # in C
    "Levenberg-Marquardt": "levenberg_marquardt",
    "SCG": "scg",
    "L-BFGS": "lbfgs",
    "Rprop": "irprop_minus",
    "Adam": "adam(lr=0.01)",
}


DAMPINGS = {"fletcher": 0, "nielsen": 1, "matlab": 2}


def table(*head: str) -> None:
    """Prints the first lines of a table."""
    print(f"\n| {' | '.join(head)} |\n{'|---' * len(head)}|", flush=True)


def line(*cells: object) -> None:
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def has(package: str) -> bool:
    """Whether a peer is installed; prints a line if not."""
    found = importlib.util.find_spec(package) is not None
    if not found:
        print(f"{package} is skipped: it is not installed")
    return found


# ---- runs to a goal ----


Work = Callable[[int, int], tuple[float, int]]  # seed, most epochs -> loss, epochs


class Plan(NamedTuple):
    """How often a problem is run, and after how many epochs a run ends without its goal. peers: the number of seeds for them. scipy:
    whether it takes part; it needs as many residuals as parameters, and half a minute for a run of diabetes."""

    read: Callable[[Path], problems.Problem]
    seeds: int
    peers: int
    repeats: int
    scipy: bool = True
    second: int = 1000
    first: int = 20_000


PLANS = {
    "sin": Plan(lambda _: problems.sine(), 100, 100, 5),
    "parity": Plan(lambda _: problems.parity(), 100, 100, 5, scipy=False),
    "cancer": Plan(problems.cancer, 30, 5, 1),
    "diabetes": Plan(problems.diabetes, 30, 5, 1, scipy=False),
    "sinc": Plan(lambda _: problems.sinc(), 20, 10, 1, first=5000),
}


def run(name: str, options: argparse.Namespace) -> None:
    """A line for each optimizer and peer."""
    plan = PLANS[name]
    if options.quick:
        plan = plan._replace(seeds=3, peers=1, repeats=1, second=20, first=50)
    problem = plan.read(options.data)
    table(
        f"{name}, {'-'.join(map(str, problem.widths))} to {problem.goal:g}", "epochs, mean", "most", "failures", "ms a run, mean", "median"
    )
    for label, spec in SPECS.items() if by_c.has_compiler() else ():
        most = plan.first if label in ("Rprop", "Adam") else plan.second
        found = by_c.runs(problem, spec, most, plan.seeds, plan.repeats)
        _line(label, problem, plan.seeds, [(one.loss, one.steps, one.seconds) for one in found])
    chain = by_numpy.Chain(problem)
    starts = [problem.network(seed).params.copy() for seed in range(plan.peers)]

    def numpy(seed: int, most: int) -> tuple[float, int]:
        params, steps = by_numpy.levenberg_marquardt(chain, starts[seed], problem.goal, most)
        return float(np.square(chain.residuals(params)).mean()), steps

    peers: dict[str, Work] = {"Levenberg-Marquardt in NumPy": numpy}
    if plan.scipy and has("scipy"):
        peers["SciPy least_squares (evaluations)"] = lambda seed, most: by_peers.least_squares(chain, starts[seed], problem.goal, most)
    if has("torch"):
        torch = by_peers.TorchLBFGS(problem)
        layers = [problem.layers(seed) for seed in range(plan.peers)]
        peers["PyTorch L-BFGS (evaluations)"] = lambda seed, most: torch.run(layers[seed], problem.goal, most)
    for label, work in peers.items():
        work(0, 1)  # loads what it needs
        _line(label, problem, plan.peers, [_least(work, seed, plan.second, plan.repeats) for seed in range(plan.peers)])


def _least(work: Work, seed: int, most: int, repeats: int) -> tuple[float, int, float]:
    """The loss, the epochs, and the least seconds of CPU time."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        loss, steps = work(seed, most)
        times.append(time.process_time() - start)
    return loss, steps, min(times)


def _line(label: str, problem: problems.Problem, seeds: int, found: list[tuple[float, int, float]]) -> None:
    losses, steps, times = map(np.array, zip(*found))
    failures = f"{np.sum(losses > problem.goal)} of {seeds}"
    line(label, f"{steps.mean():.1f}", steps.max(), failures, f"{1e3 * times.mean():#.3g}", f"{1e3 * np.median(times):#.3g}")


def damping(options: argparse.Namespace) -> None:
    """The mean epochs to the goal of Levenberg-Marquardt, by its rule and its first mu."""
    names = list(PLANS)
    table("damping", "first mu", *names)
    for rule, number in DAMPINGS.items():
        for mu in (0.3, 0.01):
            cells = []
            for plan in PLANS.values():
                problem, seeds, most = plan.read(options.data), 2 if options.quick else 30, 10 if options.quick else plan.second
                found = by_c.runs(problem, f"levenberg_marquardt(mu={mu},damping={number})", most, seeds, 1)
                failures = sum(one.loss > problem.goal for one in found)
                cells.append(f"{np.mean([one.steps for one in found]):.1f}" + (f", {failures} of {seeds} fail" if failures else ""))
            line(rule, mu, *cells)


# ---- the same number of evaluations ----


def starts(options: argparse.Namespace) -> None:
    """The median cost and time of SciPy and of microbp."""
    problem, count, most = problems.diabetes(options.data)._replace(goal=0), 2 if options.quick else 30, 5 if options.quick else 50
    chain = by_numpy.Chain(problem)
    table(f"8-15-15-2, {most} evaluations", "median mean squared error", "s a run")

    def scipy(seed: int, most: int) -> tuple[float, int]:
        return by_peers.least_squares(chain, problem.network(seed).params.copy(), 0, most)

    def microbp(seed: int, most: int) -> tuple[float, int]:
        t = bp.Trainer(problem.network(seed), "mse", bp.LevenbergMarquardt())
        losses: list[float] = []

        def enough(record: Any) -> bool:
            trials = (t.evaluations or 0) - t.steps  # SciPy too does not count the Jacobians, one for each step
            losses.extend([record.loss] if trials <= most or not losses else [])
            return trials >= most

        t.fit(problem.x, problem.y, epochs=most, callback=enough, progress=False)
        return losses[-1], most

    for label, work in (("SciPy least_squares", scipy), ("Levenberg-Marquardt", microbp)):
        if work is microbp or has("scipy"):
            work(0, 1)
            found = [_least(work, seed, most, 1) for seed in range(count)]
            line(label, f"{statistics.median(loss for loss, *_ in found):.5f}", f"{np.mean([took for *_, took in found]):.4f}")


# ---- published sets and scikit-learn ----


def uci(options: argparse.Namespace) -> None:
    """RMSE and CPU seconds of a split."""
    table("UCI", "optimizer", "RMSE", "CPU s a split", "RMSE of training/uci.py, Adam", "CPU s a split", "ratio")
    for name in ("yacht", "energy"):
        for label in regression.OPTIMIZERS:
            line(name, label, *regression.compare(options.data, name, label, 1 if options.quick else 20))


def digits(options: argparse.Namespace) -> None:
    """The loss after some iterations, and the time of a fit."""
    if not has("sklearn"):
        return
    import sklearn.neural_network as theirs
    from sklearn.datasets import load_digits
    from sklearn.exceptions import ConvergenceWarning

    import microbp.sklearn as ours

    x, y = load_digits(return_X_y=True)
    x = x / 16
    counts = [1, 5] if options.quick else [1, 2, 5, 10, 20, 40, 80]

    first = theirs.MLPClassifier(solver="sgd", learning_rate_init=1e-300, max_iter=1, random_state=0).fit(x, y)  # its initial weights

    def fitted(module: Any, iterations: int) -> tuple[float, float]:
        """The loss, and the seconds of a fit from the initial weights of `first`."""
        model = module.MLPClassifier(solver="sgd", learning_rate_init=1e-300, max_iter=1, random_state=0, warm_start=True).fit(x, y)
        for own, given in zip([*model.coefs_, *model.intercepts_], [*first.coefs_, *first.intercepts_]):
            own[:] = given
        model.set_params(solver="lbfgs", max_iter=iterations)
        took = seconds(model.fit, x, y)
        return float(model.loss_), took

    warnings.simplefilter("ignore", ConvergenceWarning)
    table("digits, iterations", "scikit-learn, loss", "microbp, loss", "scikit-learn, s", "microbp, s", "ratio")
    for count in counts:
        pairs = [(fitted(theirs, count), fitted(ours, count)) for _ in range(1 if options.quick else 3)]
        (loss, _), (own, _) = pairs[0]
        slow, fast = (statistics.median(pair[side][1] for pair in pairs) for side in (0, 1))
        line(count, f"{loss:.8f}", f"{own:.8f}", f"{slow:.3f}", f"{fast:.4f}", f"{slow / fast:.1f}")


SECTIONS: dict[str, Callable[[argparse.Namespace], None]] = {
    **{name: lambda options, name=name: run(name, options) for name in PLANS},  # type: ignore[misc]
    "damping": damping,
    "starts": starts,
    "uci": uci,
    "digits": digits,
    "picture": curves.picture,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"{', '.join(SECTIONS)} (default: all but picture)")
    parser.add_argument("--quick", action="store_true", help="few and short runs, to see that all of it works")
    parser.add_argument("--data", type=Path, default=DEFAULT_FOLDER, help="folder of the data sets (default: %(default)s)")
    parser.add_argument("--picture", type=Path, default=Path("second-order.png"), metavar="FILE", help="default: %(default)s")
    options = parser.parse_args()
    for name in options.sections:
        if name not in SECTIONS:
            parser.error(f"unknown section {name!r}; valid: {', '.join(SECTIONS)}")
    print(machine.describe())
    for name in options.sections or [name for name in SECTIONS if name != "picture"]:
        SECTIONS[name](options)


if __name__ == "__main__":
    main()
