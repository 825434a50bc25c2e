"""Compares rules for the initial weights and biases, for each activation on many data sets; `microbp` chooses init="auto" by the result.

    python bench/training/initial_weights.py --out FILE.csv [--data DIR] [--workers N] [--seconds S]
    python bench/training/initial_weights.py --out FILE.csv --show

A job trains one net: an activation, a rule of the hidden layers and one of the output layer, a data set, a seed. All rules get the same
settings: two hidden layers of 64 (50 on the UCI sets; six on "deep" ones), Adam 1e-3, batches of 32, a fixed number of epochs, inputs and
numbers to predict standardised by the training part (images and Proben1: as they are). A seed is also a split: published where there is
one, else random. Reported are the RMSE of the standardised target, or the log loss and the error, on the test part after the last epoch
("best": the lowest of five values during training), and for DQN on CartPole (Barto, Sutton & Anderson 1983) the mean return while learning.
Results are appended to FILE.csv as they come; after S seconds no new job starts. --show prints the tables of RESULTS.md instead.
"""

from __future__ import annotations

import argparse
import csv
import functools
import gzip
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ["MICROBP_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a worker is one thread

import data
import numpy as np
import numpy.typing as npt

import microbp as bp

Array = npt.NDArray[Any]
Draw = Callable[[np.random.Generator, int, int, str], tuple[Array, Array]]  # (random, in, out, activation) -> weight (out, in), bias

ACTIVATIONS = [
    "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "tanh", "scaled_tanh", "softsign", "sigmoid", "hard_sigmoid", "softplus",
]  # fmt: skip
DQN_ACTIVATIONS = ("relu", "tanh")


def uniform(bound: Callable[[int, int, str], float], bias_bound: Callable[[int, int, str], float]) -> Draw:
    """Uniform weights and biases."""

    def draw(random: np.random.Generator, ins: int, outs: int, activation: str) -> tuple[Array, Array]:
        weight, bias = bound(ins, outs, activation), bias_bound(ins, outs, activation)
        return random.uniform(-weight, weight, (outs, ins)), random.uniform(-bias, bias, outs)

    return draw


def normal(variance: float, bias_bound: Callable[[int, int, str], float]) -> Draw:
    """Normal weights with this variance times the number of inputs, uniform biases."""

    def draw(random: np.random.Generator, ins: int, outs: int, activation: str) -> tuple[Array, Array]:
        bias = bias_bound(ins, outs, activation)
        return random.normal(0, (variance / ins) ** 0.5, (outs, ins)), random.uniform(-bias, bias, outs)

    return draw


def zero(ins: int, outs: int, activation: str) -> float:
    return 0


def fan_in(ins: int, outs: int, activation: str) -> float:
    return math.sqrt(1 / ins)


def glorot(ins: int, outs: int, activation: str) -> float:
    return math.sqrt(6 / (ins + outs))


def sklearn(ins: int, outs: int, activation: str) -> float:
    return math.sqrt((2 if activation == "sigmoid" else 6) / (ins + outs))


RULES = {
    "he_normal, 0": normal(2, zero),
    "he_normal, fan_in": normal(2, fan_in),
    "he_uniform, fan_in": uniform(lambda ins, *_: math.sqrt(6 / ins), fan_in),
    "glorot_uniform, 0": uniform(glorot, zero),
    "glorot_uniform, fan_in": uniform(glorot, fan_in),
    "sklearn": uniform(sklearn, sklearn),  # Glorot's bound for both
    "torch": uniform(fan_in, fan_in),
    "lecun_normal, 0": normal(1, zero),
    "lecun_normal, fan_in": normal(1, fan_in),
}
SCIKIT, OUTPUT = ("sklearn", "sklearn"), "glorot_uniform, 0"
# Rules of the hidden layers and of the output layer: all hidden rules with the output layer's own, and a few with others.
PAIRS = [(hidden, OUTPUT) for hidden in RULES]
PAIRS += [
    SCIKIT,
    *((hidden, "torch") for hidden in ("torch", "sklearn", "glorot_uniform, fan_in", "lecun_normal, fan_in", "he_normal, fan_in")),
]


def start(net: bp.Network, activation: str, rules: tuple[str, str], seed: int) -> bp.Network:
    """Writes the initial weights of the rules into the net."""
    random = np.random.default_rng([seed, 2])
    layers = [name.removesuffix(".weight") for name in net.tensors if name.endswith(".weight")]
    for layer in layers:
        weight, bias = net.tensors[f"{layer}.weight"], net.tensors[f"{layer}.bias"]
        rule = RULES[rules[layer == layers[-1]]]
        weight[:], bias[:] = rule(random, weight.shape[1], weight.shape[0], activation)
    return net


class Part(NamedTuple):
    """Inputs, and labels or standardised numbers."""

    x: Array
    y: Array


class Set(NamedTuple):
    """A data set: the widths of the hidden layers, epochs, number of seeds, seconds of a job (roughly), and the parts of a seed."""

    hidden: tuple[int, ...]
    epochs: int
    seeds: int
    seconds: float
    parts: Callable[[int], tuple[Part, Part]]


def standardised(x: Array, y: Array, train: Array, test: Array) -> tuple[Part, Part]:
    """Two parts; y is standardised too if it is not labels."""
    centre, spread = x[train].mean(axis=0), x[train].std(axis=0)
    x = (x - centre) / np.where(spread > 0, spread, 1)
    if y.dtype.kind == "f":
        y = (y - y[train].mean()) / y[train].std()
    return Part(x[train], y[train]), Part(x[test], y[test])


def random_split(x: Array, y: Array, n_train: int, n_test: int) -> Callable[[int], tuple[Part, Part]]:
    """Random parts of these sizes, standardised."""

    def parts(seed: int) -> tuple[Part, Part]:
        order = np.random.default_rng([seed, 1]).permutation(len(x))
        return standardised(x, y, order[:n_train], order[n_train : n_train + n_test])

    return parts


def fixed(train: Part, test: Part) -> Callable[[int], tuple[Part, Part]]:
    return lambda seed: (train, test)


def uci(root: Path, name: str) -> Callable[[int], tuple[Part, Part]]:
    table = data.uci(root, name)
    return lambda seed: standardised(table.x, table.y, *table.splits[seed])


def proben1(root: Path, name: str) -> Callable[[int], tuple[Part, Part]]:
    train, _, test = (Part(part.x, part.y.argmax(axis=1)) for part in data.proben1(root, name))
    return fixed(train, test)


def digits(parts: tuple[data.Digits, data.Digits], rows: int) -> Callable[[int], tuple[Part, Part]]:
    train, test = parts
    return fixed(Part(train.x[:rows], train.labels[:rows]), Part(*test))


def scikit_digits() -> tuple[Array, Array]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return x, y


def table(root: Path, name: str) -> tuple[Array, Array]:
    """Inputs and target (the last column) of a table of the folder tables: numbers, or classes g and h."""
    text = "".join(gzip.decompress((root / "tables" / part).read_bytes()).decode("ascii") for part in name.split())
    lines = [line for line in text.splitlines() if line[:1] in set("-0123456789")]
    cells = np.array([line.replace("g", "0").replace("h", "1").split(",") for line in lines], dtype=np.float64)
    return cells[:, :-1], cells[:, -1].astype(np.int64) if "magic" in name else cells[:, -1]


def sets(root: Path) -> dict[str, Set]:
    """All data sets with a test part."""
    two, small = (64, 64), (50, 50)
    x, y = scikit_digits()
    tables = {name.split(".")[0]: table(root, name) for name in ("cal_housing.data.gz", "pol.data.csv.gz", "elevators.data.csv.gz")}
    magic = table(root, "magic_train.csv.gz magic_test.csv.gz")
    wave = np.linspace(-2 * np.pi, 2 * np.pi, 1000)
    return {
        "sine": Set(two, 100, 10, 0.1, random_split(wave[:, None], np.sin(wave), 400, 400)),
        **{name: Set(small, 100, 20, 0.2, uci(root, name)) for name in ("concrete", "energy", "yacht")},
        "concrete deep": Set((50,) * 6, 100, 5, 0.4, uci(root, "concrete")),
        **{name: Set(two, 50, 10, 0.1, proben1(root, name)) for name in ("cancer1", "diabetes1", "soybean1")},
        "digits": Set(two, 30, 10, 0.2, random_split(x / 16, y, 1300, 497)),
        "usps": Set(two, 8, 6, 0.5, digits(data.usps(root), 7291)),
        "mnist": Set(two, 4, 6, 0.6, digits(data.mnist(root), 10000)),
        **{name: Set(two, 30, 6, 0.4, random_split(*part, 4000, 4000)) for name, part in tables.items()},
        "magic": Set(two, 30, 6, 0.4, random_split(*magic, 4000, 4000)),
    }


def train(activation: str, rules: tuple[str, str], task: Set, seed: int) -> dict[str, float]:
    """The test results of one net."""
    first, test = task.parts(seed)
    labels = first.y.dtype.kind == "i"
    net = bp.mlp([first.x.shape[1], *task.hidden, int(first.y.max()) + 1 if labels else 1], bp.Activation.parse(activation), seed=seed)
    trainer = bp.Trainer(start(net, activation, rules, seed), "cross_entropy" if labels else "mse", bp.Adam())
    losses, checks = [], {round(task.epochs * (i + 1) / 5) for i in range(5)}
    for record in trainer.epochs(first.x, first.y, batch_size=32):
        if record.epoch in checks:
            losses.append(float(trainer.evaluate(test.x, test.y)))
        if record.epoch == task.epochs:
            break
    if labels:
        error = 1 - bp.accuracy(test.y, trainer.predict(test.x))
        return {"log loss": losses[-1], "best log loss": min(losses), "error": error}
    return {"rmse": losses[-1] ** 0.5, "best rmse": min(losses) ** 0.5}


class CartPole:
    """Barto, Sutton & Anderson 1983: a pole on a cart, pushed left or right every 20 ms; ends when it falls, leaves, or after 500 steps."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng([seed, 3])

    def reset(self) -> Array:
        self.state, self.steps = self.random.uniform(-0.05, 0.05, 4), 0
        return self.state

    def step(self, right: bool) -> tuple[Array, bool]:
        """The next state, and whether the pole fell."""
        _, speed, angle, turn = self.state.tolist()
        sine, cosine = np.sin(angle), np.cos(angle)
        push = ((10 if right else -10) + 0.05 * turn**2 * sine) / 1.1
        turning = (9.8 * sine - cosine * push) / (0.5 * (4 / 3 - 0.1 * cosine**2 / 1.1))
        pull = push - 0.05 * turning * cosine / 1.1
        self.state = self.state + 0.02 * np.array([speed, pull, turn, turning])
        self.steps += 1
        return self.state, bool(abs(self.state[0]) > 2.4 or abs(self.state[2]) > np.pi / 15)


def dqn(activation: str, rules: tuple[str, str], seed: int, steps: int = 10_000) -> dict[str, float]:
    """The mean return of the episodes while DQN learns (Mnih et al. 2015: replay, a target net copied every 200 steps)."""
    game, random = CartPole(seed), np.random.default_rng([seed, 4])
    net = start(bp.mlp([4, 64, 64, 2], bp.Activation.parse(activation), seed=seed), activation, rules, seed)
    target, trainer = net.copy(), bp.Trainer(net, "mse", bp.Adam())
    before, after = np.zeros((steps, 4), np.float32), np.zeros((steps, 4), np.float32)
    actions, going, rows = np.zeros(steps, np.int64), np.zeros(steps), np.arange(32)
    state, episodes = game.reset(), 0
    for t in range(steps):
        action = random.integers(2) if random.random() < max(0.02, 1 - t / 3000) else net.predict(state).argmax()
        before[t], actions[t] = state, action
        state, fell = game.step(bool(action))
        after[t], going[t] = state, not fell
        if fell or game.steps == 500:
            state, episodes = game.reset(), episodes + 1
        if t >= 500:
            batch = random.integers(t + 1, size=32)
            wanted = net.predict(before[batch])
            wanted[rows, actions[batch]] = 1 + 0.99 * going[batch] * target.predict(after[batch]).max(axis=1)
            trainer.step(before[batch], wanted)
        if t % 200 == 0:
            target.params[:] = net.params
    return {"return": steps / (episodes + 1)}


class Job(NamedTuple):
    activation: str
    rules: tuple[str, str]
    set: str
    seed: int


SETS: dict[str, Set] = {}  # filled before the workers are forked


def run(deadline: float, job: Job) -> tuple[Job, dict[str, float]]:
    """The job's results; none after the deadline."""
    if time.time() > deadline:
        return job, {}
    if job.set == "dqn":
        return job, dqn(job.activation, job.rules, job.seed)
    return job, train(job.activation, job.rules, SETS[job.set], job.seed)


def jobs() -> list[Job]:
    """All jobs: first all with seed 0, the longest first, then all with seed 1, ..."""
    seconds = {name: task.seconds for name, task in SETS.items()} | {"dqn": 2}
    seeds = {name: task.seeds for name, task in SETS.items()} | {"dqn": 10}
    found = [
        Job(activation, rules, name, seed)
        for name in seconds
        for activation in (DQN_ACTIVATIONS if name == "dqn" else ACTIVATIONS)
        for rules in PAIRS
        for seed in range(seeds[name])
    ]
    return sorted(found, key=lambda job: (job.seed, -seconds[job.set]))


def results(workers: int, seconds: float) -> Iterator[tuple[Job, dict[str, float]]]:
    """The results of the jobs, as they come."""
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        yield from pool.imap_unordered(functools.partial(run, time.time() + seconds), jobs())


# ---- the tables ----

Scores = dict[
    tuple[str, tuple[str, str], str], dict[int, float]
]  # (activation, rules, set) -> seed -> log of the error, or -log of the return


def read(path: Path) -> Scores:
    """The scores by which rules are compared."""
    found: Scores = {}
    with path.open(newline="") as file:
        for activation, hidden, output, name, seed, metric, value in csv.reader(file):
            if metric in ("rmse", "log loss", "return"):
                sign = -1 if metric == "return" else 1
                found.setdefault((activation, (hidden, output), name), {})[int(seed)] = sign * float(np.log(float(value)))
    return found


def difference(scores: dict[int, float], others: dict[int, float]) -> tuple[float, float]:
    """The mean difference of scores of equal seeds, and its standard error."""
    differences = np.array([scores[seed] - others[seed] for seed in scores.keys() & others.keys()])
    return float(differences.mean()), float(differences.std(ddof=1)) / len(differences) ** 0.5


def row(found: Scores, activation: str, rules: tuple[str, str], all_rules: list[tuple[str, str]], names: list[str]) -> str:
    """The error as a multiple of the best rule's on each set, * if it is the best or within a standard error of it; their geometric mean,
    the number of *, and the sets on which the rule is worse than scikit-learn's by more than two standard errors."""
    cells, excesses, worse = [], [], []
    for name in names:
        scores = found[activation, rules, name]
        excess, error = max(difference(scores, found[activation, other, name]) for other in all_rules if other != rules)
        cells.append(f"{np.exp(max(excess, 0)):.2f}{'*' if excess <= error else ''}")
        excesses.append(max(excess, 0))
        against, error = difference(scores, found[activation, SCIKIT, name])
        worse += [f"{name} {100 * against:.1f} +- {100 * error:.1f} %"] if against > 2 * error else []
    close = sum(cell.endswith("*") for cell in cells)
    return f"| {activation} | {' / '.join(rules)} | {' | '.join(cells)} | {np.exp(np.mean(excesses)):.2f} | {close} | {', '.join(worse)} |"


def show(path: Path) -> None:
    """Prints a table for each activation: the rules of the hidden layers, all with the same output layer, and scikit-learn's."""
    found = read(path)
    for activation in dict.fromkeys(key[0] for key in found):
        rules = [pair for pair in PAIRS if pair[1] == OUTPUT or pair == SCIKIT]
        rules = [pair for pair in rules if any(key[:2] == (activation, pair) for key in found)]
        names = [
            name
            for name in dict.fromkeys(key[2] for key in found)
            if all(len(found.get((activation, pair, name), ())) > 1 for pair in rules)
        ]
        seeds = [min(len(found[activation, pair, name]) for pair in rules) for name in names]
        print(
            f"\n| activation | hidden / output | {' | '.join(names)} | mean | * | worse than scikit-learn's |\n|{'---|' * (len(names) + 5)}"
        )
        print(f"| {activation} | seeds | {' | '.join(map(str, seeds))} | | | |")
        for pair in rules:
            print(row(found, activation, pair, rules, names))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER, help="folder of the data sets (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="number of processes (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=np.inf, help="no job starts later than this (default: no limit)")
    parser.add_argument("--out", type=Path, required=True, help="CSV file, to which results are added")
    parser.add_argument("--show", action="store_true", help="print the tables of the CSV file, without new jobs")
    arguments = parser.parse_args()
    if arguments.show:
        show(arguments.out)
        return
    SETS.update(sets(arguments.data))
    with arguments.out.open("a", newline="") as file:
        rows = csv.writer(file)
        for job, found in results(arguments.workers, arguments.seconds):
            rows.writerows([job.activation, *job.rules, job.set, job.seed, metric, f"{value:.6g}"] for metric, value in found.items())
            file.flush()


if __name__ == "__main__":
    main()
