"""Trains convolutional nets on MNIST, and times their epochs beside PyTorch's eager mode: one process, one thread, alternately.

    python bench/training/mnist_conv.py [--data DIR] [--seeds N] [--rounds 5] [--quick] [accuracy] [time]

accuracy  small: 8 maps of 5 x 5, relu, pool, 16 maps of 5 x 5, relu, pool, 64 relu units, 10 outputs: 20,522 parameters; Adam, batches of
          64, a one-cycle rate of at most 0.006, 10 epochs. The errors on the test part are after the last epoch; no epoch is selected.
          Rate and epochs are first guesses, not chosen by results.
time      A round is 32 batches of 64 rows by microbp and then by PyTorch, from the same weights; the table has the medians of the rounds,
          in processor time for 60,000 rows, and the ratio. kann: the net of KANN's example mnist-cnn: 32 maps of 3 x 3, relu, 32 maps of
          3 x 3, relu, pool, dropout of 0.2, 128 relu units, dropout of 0.2, 10 outputs; RMSprop, batches of 64. Without torch, microbp's
          time alone. The first losses of both are compared before anything is timed (without dropout).
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch and NumPy are imported

import data
import numpy as np

import microbp as bp

ROWS, BATCH, BATCHES, EPOCHS, RATE = 60000, 64, 32, 10, 0.006


def small(seed: int, dropout: float = 0.0) -> bp.Network:
    """Two convolutions with pools, and two dense layers."""
    x = bp.Grid(28, 28)
    h = bp.Pool(2)(bp.Conv(8, 5, activation="relu")(x))
    h = bp.Pool(2)(bp.Conv(16, 5, activation="relu")(h))
    return bp.Network(x, bp.Dense(10)(bp.Dense(64, "relu")(bp.Flatten()(h))), seed=seed, n_threads=1)


def kann(seed: int, dropout: float = 0.2) -> bp.Network:
    """The net of KANN's mnist-cnn."""
    x = bp.Grid(28, 28)
    h = bp.Pool(2)(bp.Conv(32, 3, activation="relu")(bp.Conv(32, 3, activation="relu")(x)))
    h = bp.Dense(128, "relu")(bp.Dropout(dropout)(bp.Flatten()(h)) if dropout else bp.Flatten()(h))
    return bp.Network(x, bp.Dense(10)(bp.Dropout(dropout)(h) if dropout else h), seed=seed, n_threads=1)


NETS: dict[str, tuple[Callable[..., bp.Network], float, bp.Optimizer]] = {
    "small": (small, 0.0, bp.Adam(lr=0.001)),
    "kann": (kann, 0.2, bp.RMSprop(lr=0.001)),
}


def in_torch(torch: Any, name: str, net: bp.Network, dropout: float) -> Any:
    """The same net with the same weights. PyTorch has the channels first: columns of the weights are in another order."""
    nn = torch.nn
    drop = [nn.Dropout(dropout)] if dropout else []
    if name == "small":
        convolutions = [nn.Conv2d(1, 8, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
        sizes = ((5, 5, 1), (5, 5, 8), (4, 4, 16))
        dense = [nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10)]
    else:
        convolutions = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.MaxPool2d(2)]
        sizes = ((3, 3, 1), (3, 3, 32), (12, 12, 32))
        dense = [*drop, nn.Linear(4608, 128), nn.ReLU(), *drop, nn.Linear(128, 10)]
    module = nn.Sequential(*convolutions, nn.Flatten(), *dense)
    layers = [layer for layer in module if hasattr(layer, "weight")]
    with torch.no_grad():
        for i, layer in enumerate(layers):
            weight = net.tensors[f"dense_{i}.weight"]
            if i < len(sizes):
                weight = weight.reshape(len(weight), *sizes[i]).transpose(0, 3, 1, 2).reshape(tuple(layer.weight.shape))
            layer.weight.copy_(torch.tensor(np.array(weight)))
            layer.bias.copy_(torch.tensor(np.array(net.tensors[f"dense_{i}.bias"])))
    return module


def torch_steps(torch: Any, name: str, net: bp.Network, dropout: float, train: data.Digits) -> Callable[[int], float]:
    """A function that trains on a number of batches, and returns the mean loss."""
    module = in_torch(torch, name, net, dropout)
    kind = torch.optim.Adam if name == "small" else torch.optim.RMSprop
    optimizer = kind(module.parameters(), lr=0.001, **({} if name == "small" else {"alpha": 0.9}))
    pixels, labels = torch.tensor(train.x).reshape(-1, 1, 28, 28), torch.tensor(train.labels)

    def steps(batches: int) -> float:
        total = 0.0
        for i in range(batches):
            rows = slice(i * BATCH, (i + 1) * BATCH)
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(module(pixels[rows]), labels[rows])
            loss.backward()
            optimizer.step()
            total += loss.item()
        return total / batches

    return steps


def our_steps(net: bp.Network, optimizer: bp.Optimizer, train: data.Digits) -> Callable[[int], float]:
    """The same by microbp, in one call."""
    t = bp.Trainer(net, "cross_entropy", optimizer)

    def steps(batches: int) -> float:
        rows = batches * BATCH
        return t.fit(train.x[:rows], train.labels[:rows], epochs=1, batch_size=BATCH, shuffle=False, progress=False)["loss"][-1]

    return steps


def report_time(train: data.Digits, _: data.Digits, arguments: argparse.Namespace) -> None:
    try:
        import torch
    except ImportError:
        torch = None
    else:
        torch.set_num_threads(1)
    print("\n| net | parameters | microbp, s an epoch | PyTorch, s an epoch | PyTorch's time / microbp's time |\n|---|---|---|---|---|")
    for name, (make, dropout, optimizer) in NETS.items():
        if torch:
            plain = make(0, 0.0)
            theirs, ours = torch_steps(torch, name, plain, 0.0, train)(1), our_steps(plain, optimizer, train)(1)
            if abs(ours - theirs) > 1e-4 * theirs:
                raise SystemExit(f"{name}: the losses differ: {ours} and {theirs}")
        net = make(0, dropout)
        contenders = [torch_steps(torch, name, net, dropout, train)] if torch else []
        contenders.insert(0, our_steps(net, optimizer, train))
        seconds: list[list[float]] = [[] for _ in contenders]
        batches = 2 if arguments.quick else BATCHES
        for steps in contenders:
            steps(2)
        for _ in range(arguments.rounds):
            for steps, found in zip(contenders, seconds, strict=True):
                begin = time.process_time()
                steps(batches)
                found.append((time.process_time() - begin) * ROWS / (batches * BATCH))
        cells = [f"{statistics.median(found):.1f}" for found in seconds]
        ratios = [b / a for a, b in zip(*seconds, strict=True)] if torch else []
        cells += [f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"] if torch else ["", ""]
        print(f"| {name} | {len(net.params):,} | {' | '.join(cells)} |", flush=True)


def report_accuracy(train: data.Digits, test: data.Digits, arguments: argparse.Namespace) -> None:
    print("\n| seed | train error % | test error % | CPU s |\n|---|---|---|---|")
    epochs = 1 if arguments.quick else EPOCHS
    found = []
    for seed in range(arguments.seeds):
        t = bp.Trainer(small(seed), "cross_entropy", bp.Adam(), seed=seed)
        begin = time.process_time()
        t.fit(train.x, train.labels, epochs=epochs, batch_size=BATCH, schedule=bp.OneCycle(lr=RATE), progress=False)
        seconds = time.process_time() - begin
        errors = [100 * (1 - bp.accuracy(part.labels, t.predict(part.x))) for part in (train, test)]
        found.append((*errors, seconds))
        print(f"| {seed} | {errors[0]:.2f} | {errors[1]:.2f} | {seconds:.0f} |", flush=True)
    middle = np.median(found, axis=0)
    print(f"| median | {middle[0]:.2f} | {middle[1]:.2f} | {middle[2]:.0f} |", flush=True)


REPORTS: dict[str, Callable[[data.Digits, data.Digits, argparse.Namespace], None]] = {"accuracy": report_accuracy, "time": report_time}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="*", help=f"{', '.join(REPORTS)} (default: both)")
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER, help="folder that contains mnist/ (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="number of runs, with seeds 0, 1, ... (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the times (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one epoch of 2,000 rows, short rounds, to see that all runs")
    arguments = parser.parse_args()
    for name in arguments.reports:
        if name not in REPORTS:
            parser.error(f"unknown report {name!r}; valid: {', '.join(REPORTS)}")
    train, test = data.mnist(arguments.data)
    if arguments.quick:
        train, test = (data.Digits(*(column[:2000] for column in part)) for part in (train, test))
    print(f"microbp {bp.__version__}, one thread")
    for name in arguments.reports or REPORTS:
        REPORTS[name](train, test, arguments)


if __name__ == "__main__":
    main()
