"""Trains the networks of Proben1 (Prechelt 1994, Technical Report 21/94) on its data, and prints the results with the published ones.

    python bench/training/proben1.py [--data DIR] [--runs N] [problem ...]

The report's settings: one batch per epoch; Rprop with factors 1.2 and 0.5, initial step sizes uniform in 0.005..0.02 for each weight, step
sizes from 0 to 50; initial weights and biases uniform in -0.01..0.01; softsign hidden units, linear outputs, squared error; only the
training part is used for training. The validation error is measured every 5 epochs. Training stops when it is 5 % above its minimum (GL),
when the training error stops falling (P5 below 0.1 per thousand), or after 3000 epochs. The network with the lowest validation error is
tested. Error: squared error percentage, 100 (largest - smallest output) / (rows x outputs) x sum of (o - t)^2; class error: the largest
output is the predicted class. MLP: a chain of layers; DAG: the inputs and all earlier layers feed each layer. Unspecified in the report or
different here: the variant of Rprop, iRprop-, which has no backtracking.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import data
import numpy as np
import numpy.typing as npt

import microbp as bp

Array = npt.NDArray[np.float64]

STRIP, GENERALISATION_LOSS, PROGRESS, EPOCHS = 5, 5.0, 0.1, 3000
DIFFERENCES = 2  # allowed excess over the published mean, in published standard deviations


class Published(NamedTuple):
    """A mean with its standard deviation over 60 runs."""

    mean: float
    deviation: float


class Problem(NamedTuple):
    """Widths of the hidden layers; number of weights of the DAG, with biases; published class errors in per cent."""

    hidden: tuple[int, ...]
    dag_weights: int
    mlp: Published
    dag: Published


PROBLEMS = {
    "cancer1": Problem((4, 2), 100, Published(1.38, 0.49), Published(1.47, 0.60)),
    "cancer2": Problem((8, 4), 196, Published(4.77, 0.94), Published(4.52, 0.70)),
    "cancer3": Problem((16, 8), 436, Published(3.70, 0.52), Published(3.37, 0.71)),
    "diabetes1": Problem((32,), 370, Published(24.10, 1.91), Published(24.57, 3.53)),
    "diabetes2": Problem((16, 8), 410, Published(26.42, 2.26), Published(25.91, 2.50)),
    "soybean1": Problem((16, 8), 4153, Published(29.40, 2.50), Published(9.06, 0.80)),
}


class Run(NamedTuple):
    """Test errors in per cent, and the number of epochs."""

    error: float
    class_error: float
    epochs: float


def network(inputs: int, hidden: tuple[int, ...], outputs: int, shortcuts: bool, seed: int) -> bp.Network:
    """The chain of layers, or with shortcuts the DAG in which all earlier layers feed each layer."""
    x = bp.Input(inputs)
    nodes: list[bp.Node] = [x]
    for units in hidden:
        nodes.append(bp.Dense(units, "softsign")(bp.concat(nodes) if shortcuts else nodes[-1]))
    net = bp.Network(x, bp.Dense(outputs)(bp.concat(nodes) if shortcuts else nodes[-1]), dtype="float64", seed=seed)
    net.params[:] = np.random.default_rng(seed).uniform(-0.01, 0.01, len(net.params))
    return net


def error(outputs: Array, targets: Array) -> float:
    """The squared error percentage; targets are 0 and 1."""
    return 100 * float(((outputs - targets) ** 2).mean())


def train(net: bp.Network, train: data.Examples, validation: data.Examples, seed: int) -> int:
    """Trains until a stopping criterion holds; restores the parameters with the lowest validation error. Returns the number of epochs."""
    trainer = bp.Trainer(net, "half_sse", bp.Rprop(etas=(0.5, 1.2), step_sizes=(0, 50)))
    trainer.state["step_size"][:] = np.random.default_rng([seed, 1]).uniform(0.005, 0.02, len(net.params))
    best, kept, losses = np.inf, net.params.copy(), []
    for epoch in range(1, EPOCHS + 1):
        losses.append(trainer.step(train.x, train.y))
        if epoch % STRIP:
            continue
        now = error(net.predict(validation.x), validation.y)
        if now < best:
            best, kept = now, net.params.copy()
        strip = losses[-STRIP:]
        if 100 * (now / best - 1) > GENERALISATION_LOSS or 1000 * (np.mean(strip) / min(strip) - 1) < PROGRESS:
            break
    net.params[:] = kept
    return epoch


def run(parts: tuple[data.Examples, data.Examples, data.Examples], problem: Problem, shortcuts: bool, seed: int) -> Run:
    """Trains one network and tests it."""
    first, validation, test = parts
    net = network(first.x.shape[1], problem.hidden, first.y.shape[1], shortcuts, seed)
    assert not shortcuts or len(net.params) == problem.dag_weights
    epochs = train(net, first, validation, seed)
    outputs = net.predict(test.x)
    return Run(error(outputs, test.y), 100 * (1 - bp.accuracy(test.y, outputs)), epochs)


def report(name: str, root: Path, runs: int) -> None:
    """Prints a row for the chain and one for the DAG."""
    parts, problem = data.proben1(root, name), PROBLEMS[name]
    for kind, published, shortcuts in (("MLP", problem.mlp, False), ("DAG", problem.dag, True)):
        results = np.array([run(parts, problem, shortcuts, seed) for seed in range(runs)])
        mean, deviation = results.mean(axis=0), results.std(axis=0, ddof=1)
        verdict = "yes" if mean[1] <= published.mean + DIFFERENCES * published.deviation else "no"
        hidden = "+".join(map(str, problem.hidden))
        print(
            f"| {name} | {kind} {hidden} | {mean[0]:.2f} ({deviation[0]:.2f}) | {mean[1]:.2f} ({deviation[1]:.2f}) "
            f"| {published.mean:.2f} ({published.deviation:.2f}) | {verdict} | {mean[2]:.0f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("problems", nargs="*", help=f"{', '.join(PROBLEMS)} (default: all)")
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER, help="folder that contains proben1/ (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=60, help="number of runs of each network (default: %(default)s)")
    arguments = parser.parse_args()
    for name in arguments.problems:
        if name not in PROBLEMS:
            parser.error(f"unknown problem {name!r}; valid: {', '.join(PROBLEMS)}")
    print(f"microbp {bp.__version__}; {arguments.runs} runs each; mean (standard deviation)\n")
    print("| problem | net | test error % | class error % | published class error % | within 2 deviations | epochs |")
    print("|---|---|---|---|---|---|---|")
    for name in arguments.problems or PROBLEMS:
        report(name, arguments.data, arguments.runs)


if __name__ == "__main__":
    main()
