"""Trains models of characters: makemore's names and tinyshakespeare; prints losses in nats per character, and samples.

    python bench/training/characters.py [--data DIR] [--seeds N] [--quick] [names] [shakespeare]

names        The 32,033 names of https://github.com/karpathy/makemore, divided as there: shuffled by Python's random with seed 42, 80 % for
             training, 10 % for validation, 10 % for testing. The nets see the characters before and predict the next one; a dot begins and
             ends a name. MLP: 3 characters, embeddings of 10 numbers, 200 tanh units (Bengio et al. 2003; his notebook has 2.17).
             hierarchical: 8 characters, embeddings of 24, three convolutions of size 2 and stride 2 with 128 units, batch norm and tanh, as
             in van den Oord et al. 2016; his notebook has 1.99. GRU: whole names of up to 16 characters, embeddings of 32, 128 units.
shakespeare  https://github.com/karpathy/char-rnn: 1,115,394 characters, 65 different; the last 10 % are for validation. GRU of 128 units
             over embeddings of 64 numbers; the text is cut into 25 streams, which are the rows of the batches, 64 characters at a time; the
             states are carried from batch to batch; Adam, a one-cycle rate. In the validation text, each character is predicted from all
             before it. Two trainings, a short and a long one.

The settings of names are first guesses; those of shakespeare are the third of three tries, by the validation part.
"""

from __future__ import annotations

import argparse
import gzip
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import data
import numpy as np

import microbp as bp

Rows = tuple[Any, Any]  # ids and labels


class Names(NamedTuple):
    """A model of names. windows: from names to ids and labels. published: the validation loss."""

    name: str
    published: str
    make: Callable[[int], bp.Network]
    windows: Callable[[list[str]], Rows]
    lr: float
    epochs: int
    batch: int


def read(path: Path) -> str:
    """The text of a file, or an end with a message."""
    if not path.is_file():
        sys.exit(f"the file {path} does not exist: use --data DIR with the folder that contains the data sets")
    return (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()).decode("ascii")


def split(names: list[str]) -> list[list[str]]:
    """Training, validation and test names."""
    order = random.Random(42)
    order.shuffle(names)
    ends = int(0.8 * len(names)), int(0.9 * len(names))
    return [names[: ends[0]], names[ends[0] : ends[1]], names[ends[1] :]]


def numbers(name: str) -> list[int]:
    """0 is the dot, 1 to 26 are the letters."""
    return [ord(letter) - 96 for letter in name]


def before(length: int) -> Callable[[list[str]], Rows]:
    """A row for each character: the `length` characters before it, and it."""

    def windows(names: list[str]) -> Rows:
        padded = [[0] * length + numbers(name) + [0] for name in names]
        rows = np.array([ids[i : i + length + 1] for ids in padded for i in range(len(ids) - length)])
        return rows[:, :-1], rows[:, -1]

    return windows


def whole(names: list[str]) -> Rows:
    """A row for each name: a dot and its letters, and its letters and a dot; -1: nothing is asked."""
    ids, labels = np.zeros((len(names), 16), np.int64), np.full((len(names), 16), -1)
    for i, name in enumerate(names):
        letters = numbers(name)
        ids[i, 1 : len(letters) + 1] = letters
        labels[i, : len(letters) + 1] = [*letters, 0]
    return ids, labels


def mlp(seed: int) -> bp.Network:
    ids = bp.Ids(3, 27)
    return bp.Network(ids, bp.Dense(27)(bp.Dense(200, "tanh")(bp.Embedding(27, 10)(ids))), seed=seed, n_threads=1)


def hierarchical(seed: int) -> bp.Network:
    ids = bp.Ids(8, 27)
    h = bp.Unflatten(8)(bp.Embedding(27, 24)(ids))
    for _ in range(3):
        h = bp.Activation("tanh")(bp.BatchNorm()(bp.Conv(128, size=2, stride=2, bias=False)(h)))
    return bp.Network(ids, bp.Dense(27)(bp.Flatten()(h)), seed=seed, n_threads=1)


def gru(seed: int) -> bp.Network:
    ids = bp.Ids(16, 27)
    h = bp.Recurrent(128, cell="gru")(bp.Unflatten(16)(bp.Embedding(27, 32)(ids)))
    return bp.Network(ids, bp.Dense(27)(bp.Dropout(0.2)(h)), seed=seed, n_threads=1)


NAMES = [
    Names("MLP, 3 characters", "2.17", mlp, before(3), 0.004, 40, 128),
    Names("hierarchical, 8 characters", "1.99", hierarchical, before(8), 0.004, 12, 128),
    Names("GRU", "", gru, whole, 0.008, 20, 64),
]


def probabilities(net: bp.Network, ids: Any, state: bp.State | None = None) -> Any:
    """Of each character at each position: (rows x positions, characters)."""
    raw = net.predict(ids, raw=True, state=state)
    e = np.exp(raw - raw.max(axis=-1, keepdims=True)).reshape(-1, raw.shape[-1])
    return e / e.sum(axis=1, keepdims=True)


def loss(net: bp.Network, rows: Rows) -> float:
    """The mean of -log p of the characters that are asked for."""
    ids, labels = rows
    total = 0.0
    for start in range(0, len(ids), 1024):
        asked = labels[start : start + 1024].ravel()
        p = probabilities(net, ids[start : start + 1024])
        total -= float(np.log(p[asked >= 0, asked[asked >= 0]]).sum())
    return total / int((labels >= 0).sum())


def new_names(net: bp.Network, windows: Callable[[list[str]], Rows], count: int) -> list[str]:
    """Names drawn from the net, letter by letter."""
    source = np.random.default_rng(1)
    names: list[str] = []
    while len(names) < count:
        name = ""
        while len(name) < 15:
            ids, labels = windows([name])
            p = probabilities(net, ids[-1:])[len(name) if labels.ndim > 1 else 0].astype(float)
            letter = int(source.choice(27, p=p / p.sum()))
            if letter == 0:
                break
            name += chr(96 + letter)
        names.append(name)
    return names


def report_names(arguments: argparse.Namespace) -> None:
    parts = split(read(arguments.data / "text" / "names.txt").split())
    if arguments.quick:
        parts = [part[:300] for part in parts]
    print("\n| net | parameters | train | validation | published | test | CPU s |\n|---|---|---|---|---|---|---|")
    shown = []
    for model in NAMES:
        if arguments.only and arguments.only not in model.name:
            continue
        train, validation, test = map(model.windows, parts)
        found = []
        for seed in range(arguments.seeds):
            net = model.make(seed)
            t = bp.Trainer(net, bp.Loss("cross_entropy", missing=True), bp.AdamW(weight_decay=arguments.weight_decay), seed=seed)
            begin, epochs = time.process_time(), 1 if arguments.quick else model.epochs
            t.fit(*train, epochs=epochs, batch_size=model.batch, schedule=bp.OneCycle(lr=model.lr), progress=False)
            found.append([time.process_time() - begin, *(loss(net, rows) for rows in (train, validation, test))])
        seconds, *losses = np.median(found, axis=0)
        cells = [f"{one:.3f}" for one in losses]
        cells.insert(2, model.published)
        print(f"| {model.name} | {len(net.params):,} | {' | '.join(cells)} | {seconds:.0f} |", flush=True)
        shown.append(f"{model.name}: {', '.join(new_names(net, model.windows, 10))}")
    print("\n" + "\n".join(shown))


UNITS, LENGTH, STREAMS = 128, 64, 25
PASSES = {"short": (2, 0.012), "long": (24, 0.008)}  # over the text, the highest rate


def over_text(seed: int, characters: int) -> bp.Network:
    """GRU over the characters before, and a layer for the next one."""
    ids = bp.Ids(LENGTH, characters)
    h = bp.Recurrent(UNITS, cell="gru")(bp.Unflatten(LENGTH)(bp.Embedding(characters, 64)(ids)))
    return bp.Network(ids, bp.Dense(characters)(h), seed=seed, n_threads=1)


def in_streams(ids: Any) -> Any:
    """Rows of LENGTH ids: the first of each stream, then the second of each, ..."""
    pieces = len(ids) // (STREAMS * LENGTH)
    return ids[: STREAMS * pieces * LENGTH].reshape(STREAMS, pieces, LENGTH).transpose(1, 0, 2).reshape(-1, LENGTH)


def text_loss(net: bp.Network, ids: Any) -> float:
    """The mean of -log p of the characters of a text but the first, each from all before it."""
    state, total = net.state(1), 0.0
    for start in range(0, len(ids) - 1, 1024):
        seen, asked = ids[start : start + 1024], ids[start + 1 : start + 1025]
        p = probabilities(net, seen[None, : len(asked)], state)
        total -= float(np.log(p[np.arange(len(asked)), asked]).sum())
    return total / (len(ids) - 1)


def continued(net: bp.Network, ids: Any, count: int) -> list[int]:
    """The ids that the net draws after these, one by one."""
    source, state, found = np.random.default_rng(1), net.state(1), []
    p = probabilities(net, ids[None], state)[-1].astype(float)
    for _ in range(count):
        found.append(int(source.choice(len(p), p=p / p.sum())))
        p = probabilities(net, np.array(found[-1:]), state)[0].astype(float)
    return found


def report_shakespeare(arguments: argparse.Namespace) -> None:
    text = read(arguments.data / "text" / "tinyshakespeare.txt.gz")
    letters = sorted(set(text))
    ids = np.array([letters.index(letter) for letter in text])
    cut = int(0.9 * len(ids))
    train, validation = ids[:cut], ids[cut : cut + 2000 if arguments.quick else None]
    if arguments.quick:
        train = train[: 2 * STREAMS * LENGTH + 1]
    print("\n| training | passes | validation | CPU s |\n|---|---|---|---|")
    shown = []
    for name, (passes, lr) in PASSES.items():
        if arguments.only and arguments.only != name:
            continue
        t, begin = bp.Trainer(over_text(0, len(letters)), "cross_entropy", bp.Adam(), seed=0), time.process_time()
        settings: dict[str, Any] = {"schedule": bp.OneCycle(lr=lr), "carry_state": True, "progress": False}
        t.fit(in_streams(train[:-1]), in_streams(train[1:]), epochs=1 if arguments.quick else passes, batch_size=STREAMS, **settings)
        seconds = time.process_time() - begin
        print(f"| {name} | {passes} | {text_loss(t.net, validation):.3f} | {seconds:.1f} |", flush=True)
        shown.append(f"{name}:\n" + "".join(letters[i] for i in continued(t.net, train[-1000:], 400)))
    print("\n" + "\n\n".join(shown))


REPORTS: dict[str, Callable[[argparse.Namespace], None]] = {"names": report_names, "shakespeare": report_shakespeare}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="*", help=f"{', '.join(REPORTS)} (default: both)")
    parser.add_argument("--data", type=Path, default=data.DEFAULT_FOLDER, help="folder that contains text/ (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=1, help="number of runs, with seeds 0, 1, ...; medians (default: %(default)s)")
    parser.add_argument("--only", help="only the nets with this word in their name")
    parser.add_argument("--weight-decay", type=float, default=0.02, help="of AdamW (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a short training on a few rows, to see that all runs")
    arguments = parser.parse_args()
    for name in arguments.reports:
        if name not in REPORTS:
            parser.error(f"unknown report {name!r}; valid: {', '.join(REPORTS)}")
    print(f"microbp {bp.__version__}, one thread")
    for name in arguments.reports or REPORTS:
        REPORTS[name](arguments)


if __name__ == "__main__":
    main()
