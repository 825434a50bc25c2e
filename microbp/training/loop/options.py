"""Checks the arguments of fit that are not data, and turns alternative arguments into one form."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ...core.checks import flag, or_none, real, string, whole_number
from ...core.specs import unknown
from ...core.text import brief
from ...settings.base import Settings
from ...settings.checkpoint import Checkpoint
from ...settings.metrics import Chosen
from ...settings.stopping import EarlyStopping
from ..engine.engine import Engine
from ..team.team import Team
from .epoch import DEFAULT_BATCH, Batching
from .records.callbacks import Callbacks
from .watch import Entries
from .watch_layers import LayerWatch

if TYPE_CHECKING:
    from ...settings.schedules import Schedule


@dataclass(frozen=True)
class Options:
    """The arguments of fit that are not data."""

    epochs: int
    batching: Batching
    shuffle: bool
    stop: EarlyStopping | None
    schedule: str | Schedule | Callable[[int], float] | None
    schedules: Mapping[str, str | Schedule | Callable[[int], float]] | None
    metrics: Mapping[str, Chosen]
    callbacks: Callbacks
    checkpoint: Checkpoint | None
    progress: bool | None
    goal: float | None = None
    gradient_tolerance: float | None = None

    def in_team(self, engine: Engine, **given: Any) -> Options:
        """The options, with the processes that train. ValueError: they do not have the same ones, or the same of `given`."""
        names = ("epochs", "shuffle", "stop", "schedule", "schedules", "goal", "gradient_tolerance")
        same = {name: getattr(self, name) for name in names} | {"metrics": list(self.metrics), "checkpoint": self.checkpoint is not None}
        return replace(self, batching=in_team(engine, self.batching, same | given))

    def __post_init__(self) -> None:
        object.__setattr__(self, "epochs", whole_number(self.epochs, "epochs", least=0))
        object.__setattr__(self, "shuffle", flag("fit: shuffle", self.shuffle))
        object.__setattr__(self, "progress", or_none(flag)("fit: progress", self.progress))
        object.__setattr__(self, "goal", or_none(real("(-inf,inf)"))("fit: goal", self.goal))
        object.__setattr__(self, "gradient_tolerance", or_none(real("[0,inf)"))("fit: gradient_tolerance", self.gradient_tolerance))
        is_function = callable(self.schedule) and not isinstance(self.schedule, type)
        if not (self.schedule is None or isinstance(self.schedule, str) or is_function):
            valid = 'a schedule such as bp.Cosine(lr=0.1) or "cosine(lr=0.1)", a function, or None'
            raise TypeError(f"fit: schedule must be {valid}, not {brief(self.schedule)}")


def layer_watch(engine: Engine, watch: Any, entries: Entries) -> LayerWatch | None:
    """What measures the layers, from the argument watch. entries: the other ones of the fit's records."""
    if or_none(string)("fit: watch", watch) not in (None, "layers"):
        raise unknown("value of watch", watch, ["layers"])
    if watch is None:
        return None
    if engine.ranks is not None:
        raise ValueError('fit: watch="layers" works in one process only, not with comm')
    layers = LayerWatch(engine)
    if taken := sorted({*entries.names} & {*layers.entries}):
        raise ValueError(f'fit: watch="layers" adds the entry {taken[0]!r}, the name of a metric or a loss of this fit; rename one of them')
    return layers


def in_team(engine: Engine, batching: Batching, given: Mapping[str, Any], caller: str = "fit") -> Batching:
    """The batching, with the processes that train. ValueError: they do not have the same batching, or the same of `given`."""
    if engine.ranks is None:
        return batching
    if batching.carries:
        raise ValueError("fit: carry_state works in one process only, not with comm")
    check, team = batching.stop_check, Team(engine.ranks, engine.shard, engine.sync_every)
    own = {"the number of updates so far": engine.steps, "lr": engine.lr, "frozen": [one.name for one in engine.net.layers if one.frozen]}
    same = own | {"batch_size": batching.batch_size, "accumulate": batching.accumulate, **given}
    team.check_same(caller, {name: _shown(value) for name, value in same.items()})
    loops = team.any(check.has_callbacks)
    return replace(batching, team=replace(team, loops=loops, is_timed=team.any(check.time_check is not None)))


def _shown(value: Any) -> str:
    """An argument as text, in which functions have no address."""
    if isinstance(value, Mapping):
        return str({name: _shown(one) for name, one in value.items()})
    is_function = callable(value) and not isinstance(value, Settings)
    return getattr(value, "__name__", "a function") if is_function else str(value)


def for_all_rows(engine: Engine, batching: Batching, **given: Any) -> Batching:
    """The batching of an optimizer that uses all rows in each epoch; that of another one is returned as it is. ValueError: an argument
    that does not work with it is given: one of `given` is not None, or the batching differs from its defaults."""
    if not engine.is_solver:
        return batching
    refused = {"batch_size": batching.batch_size != DEFAULT_BATCH, "accumulate": batching.accumulate > 1, "carry_state": batching.carries}
    refused |= {"batch_callback": batching.stop_check.has_callbacks} | {name: value is not None for name, value in given.items()}
    for name, is_given in refused.items():
        if is_given:
            raise ValueError(f"fit: {name} does not work with {engine.optimizer}, which uses all rows at once, without a learning rate")
    return replace(batching, batch_size=2**62)


def early_stopping(
    stop: Any, patience: int | None, monitor: str, mode: Any, min_delta: float, entries: Entries, max_fail: int | None = None
) -> EarlyStopping | None:
    """The early-stopping rule, from stop=, from patience, monitor, mode and min_delta, or from max_fail; None if there is none."""
    if max_fail is not None:
        if stop is not None or patience is not None or _differs(monitor, "val_loss"):
            raise ValueError('fit: max_fail is the patience for monitor="val_loss"; pass patience= and monitor=, or stop=, without it')
        patience = whole_number(max_fail, "fit: max_fail")
    if stop is None and patience is not None:
        entries.check("early stopping", string("fit: monitor", monitor))
        return EarlyStopping(patience, monitor, mode, min_delta)
    has_arguments = patience is not None or mode is not None or _differs(monitor, "val_loss") or _differs(min_delta, 0)
    if stop is None and has_arguments:
        raise ValueError("fit: monitor, mode and min_delta need patience=, the number of epochs to wait for an improvement")
    if stop is not None and has_arguments:
        raise ValueError("fit: pass either stop= or patience, monitor, mode and min_delta, not both")
    if not isinstance(stop, EarlyStopping | None):
        raise TypeError(f"fit: stop must be a bp.EarlyStopping, such as bp.EarlyStopping(patience=10), or None, not {brief(stop)}")
    if stop is not None:
        entries.check("early stopping", stop.monitor)
    return stop


def _differs(value: Any, default: str | int) -> bool:
    """Whether an argument, of any type, differs from its default."""
    return not (isinstance(value, str | int | float) and value == default)


def checkpoint_rule(checkpoint: str | os.PathLike[str] | Checkpoint | None, every: int | timedelta) -> Checkpoint | None:
    """When to save, from checkpoint= and checkpoint_every=; None: never."""
    if checkpoint is None and _differs(every, 1):
        raise ValueError(f"fit: checkpoint_every={brief(every)} needs checkpoint=, the file to save to")
    if isinstance(checkpoint, Checkpoint) and _differs(every, 1):
        raise ValueError(f"fit: {checkpoint} already has every=; omit checkpoint_every")
    return checkpoint if checkpoint is None or isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint, every)


def seconds(max_time: float | timedelta | None) -> float | None:
    """The time limit of fit in seconds."""
    if max_time is None:
        return None
    found: float = real("(0,inf]")("fit: max_time", max_time.total_seconds() if isinstance(max_time, timedelta) else max_time)
    return found
