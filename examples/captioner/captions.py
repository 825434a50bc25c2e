"""Captions of pictures of digits: a small English grammar, and captions as numbers of words."""

from __future__ import annotations

import itertools

import numpy as np

LONGEST = 27  # words of a caption, and its end
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
PLURALS = ["zeros", "ones", "twos", "threes", "fours", "fives", "sixes", "sevens", "eights", "nines"]
REGIONS = (
    ["in the upper left corner", "at the top", "in the upper right corner"],
    ["on the left", "in the middle", "on the right"],
    ["in the lower left corner", "at the bottom", "in the lower right corner"],
)
STEPS = (0, 1), (1, 0), (1, 1), (1, -1), (-1, 1)  # from a digit to the next: down, right
FIRST = dict(zip(STEPS, ["to the left of", "above", "above and to the left of", "above and to the right of", "below and to the left of"]))
NEXT = dict(zip(STEPS, ["to its right", "below it", "below it to the right", "below it to the left", "above it to the right"]))
PAIR = dict(zip(STEPS, ["side by side", "one above the other", *(f"on a {way} diagonal" for way in ("falling", "rising", "rising"))]))


def caption(digits: tuple[int, ...], steps: tuple[tuple[int, int], ...]) -> str:
    """digits: in reading order. steps: from each to the next; of one digit its place, each -1, 0 or 1."""
    named = [f"a{'n' if digit == 8 else ''} {DIGITS[digit]}" for digit in digits]
    named = [f"another {DIGITS[digit]}" if i and digit == digits[i - 1] else named[i] for i, digit in enumerate(digits)]
    if len(digits) == 1:
        return f"nothing but {named[0]} {REGIONS[steps[0][0] + 1][steps[0][1] + 1]}"
    if len(digits) == 2 and digits[0] == digits[1]:
        return f"a pair of {PLURALS[digits[0]]} {PAIR[steps[0]]}"
    text = f"{named[0]} {FIRST[steps[0]]} {named[1]}"
    return text + "".join(f" and {name} {NEXT[step]}" for name, step in zip(named[2:], steps[1:]))


def all_words() -> list[str]:
    """The words of all captions, in alphabetical order."""
    places = [(digit, (step,)) for digit in itertools.product(range(10)) for step in itertools.product((-1, 0, 1), repeat=2)]
    pairs = [(pair, (step,)) for pair in itertools.product(range(10), repeat=2) for step in STEPS]
    longer = [((0, 1, 1), (STEPS[0], step)) for step in STEPS]
    return sorted({word for digits, steps in (places + pairs + longer) for word in caption(digits, steps).split()})


WORDS = [".", *all_words()]  # 0 ends a caption; len(WORDS) stands before its first word
NUMBER = {word: i for i, word in enumerate(WORDS)}


def in_numbers(captions: list[str]) -> np.ndarray:
    """The words of each caption and its end; -1: nothing is asked."""
    rows = np.full((len(captions), LONGEST), -1)
    for row, caption in zip(rows, captions):
        words = caption.split()
        row[: len(words) + 1] = [*(NUMBER[word] for word in words), 0]
    return rows


def in_words(rows: np.ndarray) -> list[str]:
    """The captions of rows of numbers, up to their ends."""
    return [" ".join(itertools.takewhile(lambda word: word != ".", (WORDS[i] for i in row))) for row in rows]


def shifted(rows: np.ndarray) -> np.ndarray:
    """The word before each."""
    return np.concatenate([np.full((len(rows), 1), len(WORDS)), np.maximum(rows[:, :-1], 0)], axis=1)
