"""Hashes by XXH64, written from its description (Collet, xxHash fast digest algorithm, version 0.1.1, 2018)."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

_MASK = 2**64 - 1
_PRIMES = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def xxh64(data: bytes, seed: int) -> int:
    """The hash of some bytes, from 0 to 2**64 - 1."""
    p1, p2, p3, p4, p5 = _PRIMES
    blocks = len(data) // 32
    hash = (_of_blocks(data, blocks, seed) if blocks else seed + p5) + len(data)
    at = 32 * blocks
    while len(data) - at >= 8:
        hash = _turned(hash ^ _lane_after(0, _number(data[at : at + 8])), 27) * p1 + p4
        at += 8
    if len(data) - at >= 4:
        hash = _turned(hash ^ _number(data[at : at + 4]) * p1, 23) * p2 + p3
        at += 4
    for byte in data[at:]:
        hash = _turned(hash ^ byte * p5, 11) * p1
    for shift, prime in ((33, p2), (29, p3), (32, 1)):
        hash &= _MASK
        hash = (hash ^ hash >> shift) * prime
    return hash & _MASK


def _of_blocks(data: bytes, blocks: int, seed: int) -> int:
    p1, p2, _, p4, _ = _PRIMES
    lanes = [seed + p1 + p2, seed + p2, seed, seed - p1]
    for at in range(0, 32 * blocks, 8):
        i = at // 8 % 4
        lanes[i] = _lane_after(lanes[i], _number(data[at : at + 8]))
    hash = sum(map(_turned, lanes, (1, 7, 12, 18)))
    for lane in lanes:
        hash = (hash ^ _lane_after(0, lane)) * p1 + p4
    return hash


def _lane_after(lane: int, word: int) -> int:
    """A lane after one more word of 8 bytes."""
    return _turned(lane + word * _PRIMES[1], 31) * _PRIMES[0]


def _turned(bits: int, left: int) -> int:
    bits &= _MASK
    return (bits << left | bits >> 64 - left) & _MASK


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def as_bytes(value: Any) -> bytes | None:
    """What is hashed of a value: a string as UTF-8, a whole number as 8 bytes in two's complement, lowest first. None: it has no hash."""
    if isinstance(value, bytes):
        return value
    try:
        if isinstance(value, str):
            return value.encode()
        number = operator.index(value)
    except (TypeError, UnicodeEncodeError):
        return None
    return (number & _MASK).to_bytes(8, "little") if -(2**63) <= number < 2**64 and not isinstance(value, bool) else None


def level_of(number: int, levels: int) -> int:
    """The level of a whole number, from 0 to levels - 1."""
    return _level((number & _MASK).to_bytes(8, "little"), levels, 0)


def _level(data: bytes, levels: int, seed: int) -> int:
    return xxh64(data, seed) * levels >> 64


def hash_values(values: Any, levels: int, seed: int, out: Any) -> int:
    """Writes a level for each value of a list, or of a vector of int64, to the vector `out` of int64: hash * levels / 2**64, rounded down
    (Lemire 2019). Returns how many it wrote: fewer than there are if the next value has no hash."""
    levels_of, count = memoryview(out), 0
    given: Iterable[object] = values if isinstance(values, list) else memoryview(values)
    for value in given:
        data = as_bytes(value)
        if data is None:
            break
        levels_of[count] = _level(data, levels, seed)
        count += 1
    return count
