"""The hashes of both backends: published results, and the same levels for every kind and length of value."""

import random

import cases
import numpy as np
import pytest

from microbp import reference
from microbp.core import _core
from microbp.reference.hashing.xxh64 import xxh64

LARGEST = 2**63 - 1  # as the number of levels, it shows all bits of a hash but the lowest
RNG = random.Random(cases.SEED)
VALUES = {
    "bytes": [RNG.randbytes(count) for count in range(140)],
    "strings": ["é" * count + "x" for count in range(70)] + ["", "\0", "a\0", "日本", "\U0001f600"],
    "numbers": [0, 1, -1, 255, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), np.int8(-3), np.uint64(2**64 - 1)],
}
# Values, and what is hashed of them.
SAME = [("é", "é".encode()), (5, b"\5" + bytes(7)), (-1, b"\xff" * 8), (2**64 - 1, b"\xff" * 8), (np.int16(-2), b"\xfe" + b"\xff" * 7)]
# From the program of the author of XXH64, xxHash 0.8.
FOX = b"The quick brown fox jumps over the lazy dog, and the lazy dog does not mind at all."
ANSWERS = [
    (b"", 0, 0xEF46DB3751D8E999),
    (b"a", 2**64 - 1, 0x60C43759873ECE62),
    (b"abc", 0, 0x44BC2CF5AD770999),
    (b"Rome", 0, 0xF56804E558B0DB3C),
    (FOX[:31], 0, 0x3F8D95AB32C127D9),
    (FOX[:32], 0, 0xE2BBC9136629A4EE),
    (FOX, 2**64 - 1, 0xA3EAA47AB36D69C8),
    (31, 7, 0xD76DA0CF527C8368),
    (-1, 7, 0x78653E7F1B122749),
]


def levels_of(module, values, levels=LARGEST, seed=0):
    """The levels, with -1 where none was written, and how many were."""
    out = np.full(len(values), -1)
    count = module.hash_values(values, levels, seed, out)
    return out.tolist(), count


@pytest.mark.parametrize(("value", "seed", "hash"), ANSWERS)
def test_hashes_are_those_of_xxh64(module, value, seed, hash):
    assert levels_of(module, [value], seed=seed) == ([hash * LARGEST >> 64], 1)
    assert isinstance(value, int) or xxh64(value, seed) == hash


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("levels", [1, 2, 3, 1000, 2**20, 2**31 - 1, LARGEST])
@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_both_backends_give_the_same_levels(kind, levels, seed):
    found, count = levels_of(_core, VALUES[kind], levels, seed)
    assert (found, count) == levels_of(reference, VALUES[kind], levels, seed)
    assert count == len(found) and 0 <= min(found) <= max(found) < levels


def test_strings_are_utf_8_and_numbers_are_8_bytes(module):
    values, data = map(list, zip(*SAME, strict=True))
    assert levels_of(module, values) == levels_of(module, data)


@pytest.mark.parametrize("count", [0, 1, 20_000])
def test_a_vector_of_numbers_is_as_a_list(module, count):
    numbers = np.frombuffer(RNG.randbytes(8 * count), dtype=np.int64)
    assert levels_of(module, numbers) == levels_of(_core, numbers.tolist())


@pytest.mark.parametrize("value", [None, True, 1.5, "\ud800", 2**64, -(2**63) - 1, [1], len, bytearray(b"a"), np.float64(1)], ids=repr)
def test_the_first_value_without_a_hash_ends_the_call(module, value):
    found, count = levels_of(module, ["a", value, "b"])
    assert count == 1 and found[1:] == [-1, -1]


@pytest.mark.parametrize(
    ("values", "out", "words"),
    [
        (["a"], np.empty(2, np.int64), r"out must have shape \(1,\)"),
        (["a"], np.empty(1), "out must have dtype int64"),
        (["a", "b"], np.empty(4, np.int64)[::2], "out must be contiguous"),
        (np.zeros(2, np.int32), np.empty(2, np.int64), "values must have dtype int64"),
    ],
)
def test_the_extension_refuses_other_buffers(values, out, words):
    with pytest.raises(ValueError, match=words):
        _core.hash_values(values, 10, 0, out)
