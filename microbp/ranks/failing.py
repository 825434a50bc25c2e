"""Which rank has failed, of an exception that all know of. Needs no NumPy."""

from __future__ import annotations


def mark_as_told(error: BaseException, rank: int) -> None:
    """Marks an exception that all ranks know of. rank: the first that failed."""
    error.__dict__["_failed_rank"] = rank


def failed_rank(error: BaseException | None) -> int | None:
    """The first rank that failed; None: not all ranks know of the exception."""
    return None if error is None else error.__dict__.get("_failed_rank")


def is_told(error: BaseException | None) -> bool:
    """Whether all ranks know of it: each has left the same block with an exception."""
    return failed_rank(error) is not None
