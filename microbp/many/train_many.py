"""train_many: trains several networks side by side, each as if it were alone."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ..core import threads
from ..core.text import brief, nearest
from ..training.trainer import Trainer
from . import workers


def train_many(
    trainers: Sequence[Trainer],
    X: Any,  # noqa: N803
    y: Any = None,
    *,
    epochs: int,
    rows: Sequence[Any] | None = None,
    executor: Executor | None = None,
    **fit: Any,
) -> list[dict[str, list[float]]]:
    """Calls `fit` of each trainer, several at a time, and returns their histories. Each result has the same bits as that of `fit` alone.

    trainers: bp.Trainer objects, each with a network of its own.
    X, y: the data of all, as in `fit`; or lists with the data of each trainer, X[i] and y[i]. A stream, X without y: a list of chunks, or a
    function that returns an iterable of them (or a list with a function for each trainer).
    rows: for each trainer the indices of the rows that it trains on, such as folds or bootstraps; None: all. Each result has the bits of a
    fit on X[rows[i]] and y[rows[i]], but X is not copied.
    epochs, fit: the arguments of `fit`, the same for each: batch_size=, validation=, schedule=, ... Several threads call the functions
    among them. checkpoint= is refused, because it names one file; progress lines are off unless progress=True.

    executor: None: threads, as many as processors (or MICROBP_NUM_THREADS). Any concurrent.futures.Executor, such as
    ThreadPoolExecutor(4) or ProcessPoolExecutor(4), those of mpi4py, Dask and loky. Except by a ThreadPoolExecutor, copies are trained, and
    their state comes back into `trainers`: that of the trainer, and the parameters and buffers of its network. X, y, sample_weight, lengths
    and validation are in memory once for all processes of this machine (Linux), and sent once to each elsewhere. Threads run at the same
    time while they compute in C: they gain little where an epoch takes less than about 0.2 ms, or with the reference backend, losses of
    your own, accumulate= or batch_callback=. Processes gain there. See docs/executors.md.

    ValueError or TypeError: an argument is invalid; nothing has been trained. If the fit of a trainer fails, the others finish first;
    then its error is raised, with "trainers[i]" in front; concurrent.futures.BrokenExecutor: its worker has ended. A trainer that failed is
    as `fit` leaves it, or, after a fit in another process, as it was. Ctrl-C ends all fits as it ends one.

    >>> X = np.linspace(-1, 1, 40).reshape(-1, 1)
    >>> trainers = [bp.Trainer(bp.mlp([1, 8, 1], seed=seed), loss="mse") for seed in range(4)]
    >>> histories = bp.train_many(trainers, X, np.sin(X), epochs=10, schedule=bp.Cosine(lr=0.01))
    >>> [len(history["loss"]) for history in histories]
    [10, 10, 10, 10]
    >>> folds = np.array_split(np.random.default_rng(0).permutation(40), 4)
    >>> _ = bp.train_many(trainers, X, np.sin(X), epochs=10, rows=[np.setdiff1d(np.arange(40), fold) for fold in folds])
    """
    trainers = _checked(trainers)
    data = _data_of_each(trainers, X, y)
    arguments = {"epochs": epochs, "progress": False} | checked_arguments(fit, "train_many")
    errors = train_each(trainers, data, [arguments | own for own in _rows_of_each(trainers, rows)], executor)
    if errors:
        raise workers.first_error(errors, "trainers[{}]", range(len(trainers)))
    return [trainer.history for trainer in trainers]


def train_each(
    trainers: Sequence[Trainer], data: Sequence[tuple[Any, Any]], arguments: Sequence[dict[str, Any]], executor: Executor | None
) -> dict[int, Exception]:
    """Calls `fit` of each trainer with its data and arguments, several at a time. Returns the errors by the number of the trainer."""
    workers.check(executor)
    count = min(len(trainers), threads.choose(None))
    pool: AbstractContextManager[Executor] = ThreadPoolExecutor(count) if executor is None else nullcontext(executor)
    given = [{"X": X, "y": y} | own for (X, y), own in zip(data, arguments, strict=True)]
    shared = {
        name: value for name, value in given[0].items() if name in _shareable(*data[0]) and all(own.get(name) is value for own in given)
    }
    tasks = [(trainer, {name: own[name] for name in own if name not in shared}) for trainer, own in zip(trainers, given, strict=True)]
    with pool as found:
        return workers.run(found, _fit, shared, tasks, _state_of, lambda i, state: _take_over(trainers[i], state))


def _shareable(X: Any, y: Any) -> tuple[str, ...]:  # noqa: N803
    """The arguments of fit that are rows in memory. The others may be functions, which only some executors can send."""
    are_rows = y is not None or (isinstance(X, list | tuple) and not any(map(callable, X)))
    return ("X", "y", "sample_weight", "lengths", "validation") if are_rows else ()


def _fit(shared: dict[str, Any], trainer: Trainer, own: dict[str, Any]) -> None:
    trainer.fit(**shared | own)


def _state_of(trainer: Trainer) -> dict[str, Any]:
    """The trainer's state without its network, whose parameters and buffers are in it."""
    state = trainer.__getstate__()
    del state["net"]
    return state


def _take_over(trainer: Trainer, state: dict[str, Any]) -> None:
    """Puts the state of a trainer from another process into the caller's."""
    trainer.__setstate__(state | {"net": trainer.net})


# ---- the arguments ----


def _checked(trainers: Sequence[Trainer]) -> list[Trainer]:
    if isinstance(trainers, Trainer) or not hasattr(trainers, "__iter__"):
        raise TypeError(f"train_many: trainers must be a list of bp.Trainer, not {type(trainers).__name__}")
    found = list(trainers)
    if not found:
        raise ValueError("train_many: trainers is empty; pass at least one")
    seen: dict[int, int] = {}
    for i, trainer in enumerate(found):
        if not isinstance(trainer, Trainer):
            raise TypeError(f"train_many: trainers[{i}] must be a bp.Trainer, not {brief(trainer)}")
        first = seen.setdefault(id(trainer.net), i)
        if first != i:
            raise ValueError(
                f"train_many: trainers[{first}] and trainers[{i}] train the same network; give each its own, such as net.copy()"
            )
    return found


def checked_arguments(fit: dict[str, Any], what: str) -> dict[str, Any]:
    """The arguments of fit that several trainers can have. what: the function that got them."""
    known = list(inspect.signature(Trainer.fit).parameters)[1:]
    if fit.get("checkpoint") is not None:
        raise ValueError(f"{what}: checkpoint names one file, which several trainers would write; call t.fit of each with its own")
    for name in fit:
        if name not in known:
            near = nearest(name, known)
            raise TypeError(f"{what}: fit has no argument {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    return fit


def _data_of_each(trainers: Sequence[Trainer], X: Any, y: Any) -> list[tuple[Any, Any]]:  # noqa: N803
    """X and y for each trainer."""
    if y is None:
        if isinstance(X, Iterator) and len(trainers) > 1:
            raise ValueError("train_many: an iterator can be read only once; pass a list of chunks, or a function that returns an iterator")
        if not (isinstance(X, list | tuple) and X and all(map(callable, X))):
            return [(X, None)] * len(trainers)
        lists = {"X": X}
    elif _is_of_each(X, len(trainers[0].net.inputs)):
        lists = {"X": X, "y": y}
    else:
        return [(X, y)] * len(trainers)
    for name, one in lists.items():
        if not isinstance(one, list | tuple) or len(one) != len(trainers):
            found = f"a list of {len(one)}" if isinstance(one, list | tuple) else brief(one)
            raise ValueError(
                f"train_many: X is a list with the data of each trainer, so {name} must be a list of {len(trainers)}, not {found}"
            )
    return list(zip(X, [None] * len(X) if y is None else y, strict=True))


def _rows_of_each(trainers: Sequence[Trainer], rows: Any) -> list[dict[str, Any]]:
    """The argument `rows` of the fit of each trainer; none if rows is None."""
    if rows is None:
        return [{}] * len(trainers)
    if not isinstance(rows, list | tuple) or len(rows) != len(trainers):
        found = f"a list of {len(rows)}" if isinstance(rows, list | tuple) else brief(rows)
        raise ValueError(f"train_many: rows must be a list of {len(trainers)}, the row indices of each trainer, not {found}")
    return [{"rows": own} for own in rows]


def _is_of_each(X: Any, inputs: int) -> bool:  # noqa: N803
    """Whether X has one axis more than the rows and features of one trainer: a list of matrices; for several inputs, a list of lists."""
    if not isinstance(X, list | tuple) or not X:
        return False
    first = X[0]
    if inputs > 1:
        if not isinstance(first, list | tuple) or not first:
            return False
        first = first[0]
    try:
        return np.ndim(first) == 2
    except ValueError:  # a ragged list
        return False
