"""What bp.doctor says of sick and healthy networks, for `../LEARNING.md`.

    python bench/learning/doctor.py [--data DIR] [--seeds N] [--numbers]

The networks of tests/diagnosis/doctor_patients.py with seeds that the tests do not use (200, 201, ...), and further ones on MNIST, Proben1
and the UCI regressions, if DIR has them. A sick network was made sick on purpose; its rank is the place of its cause among the findings,
which should be 1. A healthy one is looked at before and after its training, and should get no warning. --numbers: also the largest number
that each check has measured on a healthy network and the smallest on a network with its cause, between which its threshold should be.
"""

from __future__ import annotations

import argparse
import importlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

import microbp as bp
from microbp.diagnosis import doctor as table

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "diagnosis"), str(ROOT / "bench" / "training")]
data, patients = map(importlib.import_module, ("data", "doctor_patients"))

Array = npt.NDArray[Any]
SEED = 200  # the first
CHECKS = (*table.OF_ROWS, *table.OF_TRAINING)


class Rows(NamedTuple):
    """Rows of a data set and validation rows."""

    x: Array
    y: Array
    held_x: Array
    held_y: Array


# ---- networks on real data ----


def mnist(root: Path) -> Rows:
    train, test = data.mnist(root)
    return Rows(train.x[:5000], train.labels[:5000], test.x[:1000], test.labels[:1000])


def proben1(root: Path, name: str) -> Rows:
    train, held, _ = data.proben1(root, f"{name}1")
    return Rows(train.x * 2 - 1, train.y.argmax(axis=1), held.x * 2 - 1, held.y.argmax(axis=1))


def uci(root: Path, name: str) -> Rows:
    found = data.uci(root, name)
    train, test = found.splits[0]
    x = (found.x - found.x[train].mean(axis=0)) / np.maximum(found.x[train].std(axis=0), 1e-9)
    y = (found.y - found.y[train].mean()) / found.y[train].std()
    return Rows(x[train], y[train], x[test], y[test])


def healthy_of(root: Path) -> Iterator[Any]:
    digits, soybean, cancer = mnist(root), proben1(root, "soybean"), proben1(root, "cancer")

    def row(name: str, rows: Rows, net: Any, loss: Any, optimizer: Any = "adam", epochs: int = 20, **settings: Any) -> Any:
        return patients.healthy_net(name, lambda seed: (rows.x, rows.y), net, loss, optimizer, epochs, **settings)

    chain = patients._chain
    yield row("MNIST", digits, chain([784, 64, 10]), "cross_entropy", epochs=5)
    yield row("MNIST, four layers, tanh", digits, chain([784, 64, 64, 64, 10], "tanh"), "cross_entropy", bp.Momentum(lr=0.05), epochs=5)
    yield row("soybean", soybean, chain([82, 24, 19]), "cross_entropy")
    yield row("cancer", cancer, chain([9, 8, 2], "sigmoid"), "cross_entropy", bp.RMSprop(lr=0.003))
    yield row("diabetes", proben1(root, "diabetes"), chain([8, 16, 2]), "cross_entropy", bp.SGD(lr=0.05))
    for name, width in (("concrete", 8), ("energy", 8), ("yacht", 6)):
        yield row(name, uci(root, name), chain([width, 50, 1]), "mse")
        yield row(f"{name}, two layers, gelu", uci(root, name), chain([width, 32, 32, 1], "gelu"), "huber", bp.AdamW(lr=0.003))


def sick_of(root: Path) -> Iterator[Any]:
    digits, soybean, cancer, diabetes = mnist(root), *(proben1(root, name) for name in ("soybean", "cancer", "diabetes"))
    concrete, energy, yacht = (uci(root, name) for name in ("concrete", "energy", "yacht"))
    raw, net, hidden = data.uci(root, "concrete"), patients.sick_net, patients.hidden

    def give(x: Array, y: Array) -> Callable[[int], tuple[Array, Array]]:
        return lambda seed: (x, y)

    def all_of(rows: Rows) -> Callable[[int], tuple[Array, Array]]:
        return give(rows.x, rows.y)

    def sick(name: str, cause: str, make: Any, fit: Any = None, held: Rows | None = None) -> Any:
        return patients.Sick(name, cause, make, fit, held and give(held.held_x, held.held_y))

    def frozen(bare: bp.Network) -> bp.Network:
        bare.freeze()
        return bare

    order, ce = np.argsort(digits.y, kind="stable"), "cross_entropy"
    yield sick("MNIST, 0 to 255", "inputs_scale", net([784, 32, 10], ce, give(255 * digits.x, digits.y)))
    yield sick("concrete, raw inputs", "inputs_scale", net([8, 32, 1], "mse", give(raw.x, concrete.y.mean() + raw.y / 40)))
    yield sick("concrete, raw targets", "targets_scale", net([8, 32, 1], "mse", give(*uci(root, "concrete")[:1], raw.y[raw.splits[0][0]])))
    yield sick("soybean, labels 1 to 19", "labels", net([82, 24, 20], ce, give(soybean.x, soybean.y + 1)))
    yield sick("MNIST, rate 3, trained", "rate", net([784, 32, 10], ce, all_of(digits), bp.Adam(lr=3)), {"epochs": 1})
    yield sick("cancer, rate 1e-6, trained", "rate", net([9, 16, 2], ce, all_of(cancer), bp.SGD(lr=1e-6)), {"epochs": 5})
    yield sick("MNIST, ten sigmoids", "vanishing", net([784, *[32] * 10, 10], ce, all_of(digits), activation="sigmoid"))
    yield sick(
        "MNIST, negative biases", "dead", net([784, 32, 32, 10], ce, all_of(digits), change=lambda n: hidden(n, "bias", lambda b: b - 20))
    )
    yield sick(
        "cancer, large weights", "saturated",
        net([9, 16, 16, 2], ce, all_of(cancer), activation="tanh", change=lambda n: hidden(n, "weight", lambda w: 30 * w)),
    )  # fmt: skip
    yield sick("energy, penalty", "overfit", net([8, 32, 1], "mse", all_of(energy), l2=1.0))
    yield sick("yacht, frozen", "frozen", net([6, 32, 1], "mse", all_of(yacht), change=frozen))
    yield sick("diabetes, 300 epochs", "memorising", net([8, 64, 2], ce, all_of(diabetes), bp.Adam(lr=0.01)), {"epochs": 300}, diabetes)
    yield sick(
        "energy, large last layer", "start_loss", net([8, 32, 1], "mse", all_of(energy), change=lambda n: patients.last_layer(n, 50))
    )
    yield sick(
        "MNIST, sorted", "sorted_rows", net([784, 32, 10], ce, give(digits.x[order], digits.y[order]), bp.SGD(lr=0.1)),
        {"epochs": 3, "shuffle": False},
    )  # fmt: skip


# ---- the tables ----


def numbers_of(trainer: bp.Trainer, X: Any, y: Any, held: Any) -> dict[str, float]:  # noqa: N803
    """The largest number that each check measures."""
    found: dict[str, float] = {}
    kept = tuple(check._replace(threshold=-math.inf) for check in table.OF_TRAINING)
    before, table.OF_TRAINING = table.OF_TRAINING, kept
    try:
        for finding in bp.doctor(trainer, X, y, validation=held):
            found[finding.name] = finding.number
    finally:
        table.OF_TRAINING = before
    return found


def sick_table(rows: list[Any], seeds: range, smallest: dict[str, float], counts: bool) -> None:
    print("| sick network | its cause | rank, for each seed | findings of the first seed | s |\n|---|---|---|---|---|")
    firsts = total = 0
    for sick in rows:
        ranks: list[int] = []
        names: list[str] = []
        seconds = 0.0
        for seed in seeds:
            trainer, x, y = sick.make(seed)
            if sick.fit:
                trainer.fit(x, y, **sick.fit)
            held = sick.held(seed) if sick.held else None
            began = time.monotonic()
            found = [finding.name for finding in bp.doctor(trainer, x, y, validation=held)]
            seconds = time.monotonic() - began
            ranks.append(found.index(sick.cause) + 1 if sick.cause in found else 0)
            names = names or found
            if counts:
                number = numbers_of(trainer, x, y, held).get(sick.cause, math.inf)
                smallest[sick.cause] = min(smallest.get(sick.cause, math.inf), number)
        firsts, total = firsts + ranks.count(1), total + len(ranks)
        shown = "1" if set(ranks) == {1} else " ".join(str(rank or "-") for rank in ranks)
        print(f"| {sick.name} | `{sick.cause}` | {shown} | {', '.join(names)} | {seconds:.2f} |", flush=True)
    print(f"\nThe cause is first in {firsts} of {total}.\n")


def healthy_table(rows: list[Any], seeds: range, largest: dict[str, float], counts: bool) -> None:
    print("| healthy network | warnings before | and after training | s |\n|---|---|---|---|")
    warned = total = 0
    for healthy in rows:
        shown: list[list[str]] = [[], []]
        for seed in seeds:
            trainer, x, y = healthy.make(seed)
            for names in shown:
                began = time.monotonic()
                found = bp.doctor(trainer, x, y)
                seconds = time.monotonic() - began
                names += [f"{one.name} ({one.number:.2g})" for one in found if one.severity != "note"]
                if counts:
                    for name, number in numbers_of(trainer, x, y, None).items():
                        largest[name] = max(largest.get(name, -math.inf), number)
                if names is shown[0]:
                    trainer.fit(x, y, validation=0.2, **healthy.fit)
                total += 1
        warned += sum(map(len, shown))
        print(f"| {healthy.name} | {' | '.join(', '.join(names) or '-' for names in shown)} | {seconds:.2f} |", flush=True)
    print(f"\n{warned} warnings in {total} examinations.\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--numbers", action="store_true")
    options = parser.parse_args()
    seeds = range(SEED, SEED + options.seeds)
    sick, healthy = list(patients.SICK), list(patients.HEALTHY)
    if options.data.is_dir():
        sick, healthy = [*sick, *sick_of(options.data)], [*healthy, *healthy_of(options.data)]
    smallest: dict[str, float] = {}
    largest: dict[str, float] = {}
    sick_table(sick, seeds, smallest, options.numbers)
    healthy_table(healthy, seeds, largest, options.numbers)
    if options.numbers:
        print("| check | largest of healthy | threshold | smallest of sick |\n|---|---|---|---|")
        for check in CHECKS:
            if check.threshold:
                low, high = largest.get(check.name, math.nan), smallest.get(check.name, math.nan)
                print(f"| `{check.name}` | {low:.3g} | {check.threshold:g} | {high:.3g} |")


if __name__ == "__main__":
    main()
