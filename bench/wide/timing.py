"""Contenders that take turns, in CPU time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def seconds(work: Callable[..., Any], *arguments: Any, **options: Any) -> float:
    """CPU time of a call."""
    start = time.process_time()
    work(*arguments, **options)
    return time.process_time() - start


def turns(steps: Mapping[str, Callable[[Any], Any]], batches: Mapping[str, Sequence[Any]], per_turn: int) -> dict[str, float]:
    """The median over turns of the seconds of a step. batches: those of each contender; each is used once."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    count = min(map(len, batches.values()))
    for first in range(0, count, per_turn):
        for name, step in steps.items():
            part = batches[name][first : first + per_turn]
            times[name].append(seconds(_each, step, part) / len(part))
    return {name: statistics.median(found) for name, found in times.items()}


def _each(step: Callable[[Any], Any], batches: Sequence[Any]) -> None:
    for batch in batches:
        step(batch)


def least(step: Callable[..., Any], *arguments: Any, calls: int, rounds: int) -> float:
    """The least seconds of a call, from rounds of many calls."""
    return min(seconds(_repeat, calls, step, *arguments) for _ in range(rounds)) / calls


def _repeat(calls: int, step: Callable[..., Any], *arguments: Any) -> None:
    for _ in range(calls):
        step(*arguments)
