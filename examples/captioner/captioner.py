"""Trains one network that looks at a picture of digits and writes a sentence about it, from pixels and sentences alone.

    python examples/captioner/captioner.py [--data DIR] [--pictures N] [--page captions.png] [--net captioner.safetensors]

DIR has MNIST's four files in mnist/. Convolutions look at the picture, a gated recurrent unit writes the caption word by word: it sees the
picture's columns and the word before (in training that of the true caption). Every picture is new; the first ones have one or two digits.
12 of the 120 sets of three digits (or with --held-out pairs: 0 1, 2 3, 4 5, 6 7, 8 9) are never together in a picture of the training, but
in those of the last line of the result. The test pictures are made of MNIST's test digits. A caption counts if all its words are right.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from captions import LONGEST, WORDS, in_numbers, in_words, shifted
from pictures import FIELD, HELD_OUT, Pictures, apart, count_captions, draw_page, mnist, together

import microbp as bp

EPOCHS, CHUNK = 20, 3200


def network() -> bp.Network:
    def look(node, maps, size, stride):
        return bp.Activation("relu")(bp.BatchNorm()(bp.Conv(maps, size, stride, size // 2, bias=False)(node)))

    picture, words = bp.Grid(FIELD, FIELD), bp.Ids(LONGEST, len(WORDS) + 1)
    seen = look(look(look(look(picture, 16, 5, 2), 32, 3, 2), 64, 3, 2), 64, 3, 1)  # 7 x 7 x 64
    seen = bp.concat([bp.Flatten()(seen), bp.Flatten()(bp.Pool(7)(seen))])  # what is where, and what is anywhere
    seen = bp.Activation("relu")(bp.BatchNorm()(bp.Dense(256, bias=False)(seen)))
    before = bp.Unflatten(LONGEST)(bp.Embedding(len(WORDS) + 1, 32)(words))
    at_each = bp.concat([before, bp.Repeat(LONGEST)(bp.Dense(96)(seen))])
    told = bp.Recurrent(128, cell="gru")(at_each, state=bp.Dense(128, "tanh")(seen))
    return bp.Network([picture, words], bp.Dense(len(WORDS))(told), seed=0, n_threads=1)


def write(net: bp.Network, pictures: np.ndarray) -> list[str]:
    """Captions: at each place the most likely word after those before. Writes all places at once until nothing changes."""
    rows = np.zeros((len(pictures), LONGEST), int)
    for _ in range(LONGEST):
        better = net.predict([pictures, shifted(rows)], raw=True).argmax(axis=2)
        if np.array_equal(better, rows):
            break
        rows = better
    return in_words(rows)


def train(net: bp.Network, source: Pictures, wanted, count: int, lr: float = 0.004) -> None:
    random, t = np.random.default_rng(0), bp.Trainer(net, bp.Loss("cross_entropy", missing=True), bp.AdamW(weight_decay=0.01), seed=0)
    chunks = max(1, count // EPOCHS // CHUNK)

    def epoch():
        for _ in range(chunks):
            shares = (0.6, 0.4) if t.epoch < EPOCHS * 0.15 else (0.1, 0.2, 0.3, 0.4)
            drawn = [source.draw(int(CHUNK * share), i + 1, random, wanted) for i, share in enumerate(shares)]
            captions = in_numbers([caption for _, captions in drawn for caption in captions])
            yield [np.concatenate([pictures for pictures, _ in drawn]), shifted(captions)], captions

    def report(record: bp.Record) -> None:
        print(f"epoch {record.epoch}: loss {record.loss:.4f}", flush=True)

    schedule = bp.OneCycle(lr=lr, steps=EPOCHS * chunks * CHUNK // 32, pct_start=0.1)
    t.fit(epoch, epochs=EPOCHS, batch_size=32, schedule=schedule, callback=report)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[3] / "shared/data")
    parser.add_argument("--pictures", type=int, default=640_000, help="of the training (default: %(default)s)")
    parser.add_argument("--held-out", choices=HELD_OUT, default="threes", help="what is never together (default: %(default)s)")
    parser.add_argument("--test", type=int, default=1000, help="test pictures of each number of digits (default: %(default)s)")
    parser.add_argument("--page", type=Path, help="a file for test pictures with their captions")
    parser.add_argument("--net", type=Path, help="a file for the network")
    arguments = parser.parse_args()
    train_digits, test_digits = (mnist(arguments.data / "mnist", part) for part in ("train", "t10k"))
    print(f"{len(WORDS)} words, {count_captions():,} captions")
    net, never, begin = network(), HELD_OUT[arguments.held_out], time.process_time()
    train(net, train_digits, apart(never), arguments.pictures)
    print(f"{len(net.params):,} parameters, {arguments.pictures:,} pictures, {time.process_time() - begin:.0f} s of a processor core")
    if arguments.net:
        net.save(arguments.net)
    print("exact captions in % of pictures with one digit, two ... (of what is held out, as many as it has or more); mean")
    random, shown = np.random.default_rng(1), []
    for name, fewest, wanted in (("unseen pictures", 1, apart(never)), (f"unseen {arguments.held_out}", len(never[0]), together(never))):
        shares = []
        for digits in range(fewest, 5):
            pictures, captions = test_digits.draw(arguments.test, digits, random, wanted)
            told = write(net, pictures)
            shares.append(100 * float(np.mean([one == other for one, other in zip(told, captions)])))
            shown += list(zip(pictures[:4], told[:4], captions[:4]))
        print(f"{name}: {' '.join(f'{share:.1f}' for share in shares)}; {np.mean(shares):.1f}", flush=True)
    if arguments.page:
        draw_page(shown, arguments.page)


if __name__ == "__main__":
    main()
