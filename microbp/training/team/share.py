"""Share: which rows of each batch this process trains on, and what the losses of the batches of all processes are divided by."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...data.arrays import Array
from ...data.rows import Rows
from .team import Team

_SAMPLE = 1000  # rows that are compared, of those that all processes have


@dataclass(frozen=True)
class Share:
    """batch: the rows of this process in a full batch. batches: how many batches an epoch has; in some, this process may have no rows.
    whole: the rows of a full batch of all processes."""

    team: Team
    whole: int
    batch: int
    batches: int

    def of(self, order: Array) -> Array:
        """Of an order of rows that all processes have, the part of this one, batch by batch; of rows of its own, all."""
        if not self.team.shards:
            return order
        full = len(order) // self.whole * self.whole
        parts, rest = order[:full].reshape(-1, self.whole)[:, part(self.team, self.whole)], order[full:]
        return np.concatenate([parts.reshape(-1), rest[part(self.team, len(rest))]])


def part(team: Team, count: int) -> slice:
    """Which of `count` rows that all processes have are of this one; of rows of its own, all."""
    return team.ranks.part(count) if team.ranks is not None and team.shards else slice(0, count)


def share_of(team: Team, batch: int, count: int) -> Share:
    """The share in batches of `batch` rows. count: the rows to train on, of this process or, if all have the same, of all."""
    if team.ranks is None or team.shards:
        rows = part(team, batch)
        return Share(team, batch, rows.stop - rows.start, math.ceil(count / batch))
    total = int(team.sum(np.array([count]))[0])
    mine = -(-batch * count // max(total, 1))
    counts = team.ranks.exchange(math.ceil(count / max(mine, 1)))
    return Share(team, batch, mine, int(max(one for one, _ in counts)))


def share_of_stream(team: Team, batch: int) -> int:
    """The rows of this process in a batch of a stream of its own. ValueError: there are fewer rows than processes."""
    assert team.ranks is not None
    each, more = divmod(batch, team.ranks.size)
    if not each:
        raise ValueError(f"fit: batch_size is {batch}, but must be at least {team.ranks.size}, for rows of the stream of each rank")
    return each + (team.ranks.rank < more)


def check_shared(team: Team, rows: Rows, what: str = "rows", chosen: Array | None = None) -> None:
    """With shards: ValueError, in all processes, if their rows differ in number, or in a sample of their values. chosen: the indices of the
    rows to look at."""
    if not team.shards:
        return
    index = np.arange(rows.count) if chosen is None else chosen
    some = rows.take(index[:: max(1, len(index) // _SAMPLE)])
    found = zlib.crc32(b"".join(np.ascontiguousarray(one).tobytes() for one in (*some.ys, *some.xs) if isinstance(one, np.ndarray)))
    team.check_same("fit: shard=True", {f"the number of {what}": len(index), f"the checksum of the {what}": found})


def totals_of(share: Share, accumulate: int, rows: Rows, order: Array) -> list[Any]:
    """For each update of an epoch, of `accumulate` batches, what its loss is divided by: a number, or a list of one for each output. order:
    of the rows of this process."""
    team, size = share.team, max(share.batch, 1) * accumulate
    mine = [rows.totals(order[i * size : (i + 1) * size]) for i in range(math.ceil(share.batches / accumulate))]
    return mine if team.every > 1 else team.sum(np.array(mine, np.float64)).tolist()


# ---- rows that each process has of its own ----


def in_one_form(team: Team, rows: Rows) -> Rows:
    """The rows, with weights for each output if another process has such weights."""
    given = rows.weight
    if not team.has_parts or not team.any(isinstance(given, list)) or isinstance(given, list):
        return rows
    return replace(rows, weight=[np.ones(rows.count) if given is None else given] * len(rows.ys))


def of_all(team: Team, rows: Rows) -> Rows:
    """The targets and weights of all processes, in their order, as rows without inputs. The rows are in one form."""
    if not team.has_parts:
        return rows
    ys = [None if y is None else _joined(team, y) for y in rows.ys]
    is_weighted = team.any(rows.weight is not None)
    weight: list[Array | None] = [_joined_weight(team, rows, i) for i in range(len(ys))] if is_weighted else [None]
    return Rows([], ys, weight if is_weighted and isinstance(rows.weight, list) else weight[0], int(team.sum([rows.count])[0]))


def _joined(team: Team, array: Array) -> Array:
    """The arrays of all processes, one after another, in a dtype that holds them all."""
    assert team.ranks is not None
    dtype = np.result_type(*(np.dtype(name.decode()) for name in team.ranks.gather_bytes(array.dtype.str.encode())))
    return np.concatenate(team.gather(array.astype(dtype, copy=False)))


def _joined_weight(team: Team, rows: Rows, i: int) -> Array:
    assert team.ranks is not None
    given = rows.weight_of(i)
    weight: Array = np.ones(rows.count) if given is None else given
    columns = int(max(width for width, _ in team.ranks.exchange(weight.shape[1] if weight.ndim == 2 else 0)))
    return _joined(team, weight if weight.ndim == 2 or not columns else np.repeat(weight[:, None], columns, axis=1))
