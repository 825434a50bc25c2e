"""A trainer as text, for `print`, and as an HTML table, for notebooks."""

from __future__ import annotations

import html

from ..core.specs import Loss
from ..core.text import counted
from .engine.custom_loss import Joint, name_of
from .engine.engine import Engine
from .loop.run import Run


def as_text(run: Run) -> str:
    """The trainer as text, with one line "name value" per entry."""
    known = facts(run)
    width = max(map(len, known))
    return "\n".join(["microbp.Trainer", *(f"  {name:{width}}  {value}" for name, value in known.items())])


def as_html(run: Run) -> str:
    """The trainer as an HTML table with the same entries."""
    rows = "".join(f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in facts(run).items())
    return f"<table><caption>microbp.Trainer</caption>{rows}</table>"


def facts(run: Run) -> dict[str, str]:
    """The entries of the table."""
    engine, net = run.engine, run.engine.net
    inputs, outputs = (" + ".join(str(entry.width) for entry in entries) for entries in (net.inputs, net.outputs))
    losses = [loss.text if isinstance(loss, Loss) else "none" if loss is None else name_of(loss) for loss in engine.losses]
    if isinstance(engine.losses[0], Joint):
        losses = [f"{losses[0]}, of all outputs"]
    weights = {"loss_weights": ", ".join(f"{weight:g}" for weight in engine.loss_weights)} if set(engine.loss_weights) != {1.0} else {}
    changed = {name: f"{value:g}" for name, value in engine.numbers.items() if value != engine.initial[name]}
    limits = {name: f"{limit:g}" for name, limit in engine.limits.items() if limit is not None}
    average = {} if engine.averaging is None else {"average": repr(engine.averaging)}
    stopped = run.stopped
    finished = {} if stopped is None or not stopped.is_over else {"finished": f"{stopped.rule}, after {counted(stopped.tried, 'epoch')}"}
    return {
        "net": f"{inputs} to {outputs}, {net._records.parameters:,} parameters, {net.dtype}",
        "loss": ", ".join(losses),
        **weights,
        "optimizer": str(engine.optimizer) if engine.is_solver else f"{engine.optimizer}, lr {engine.lr:g}",
        **changed,
        **limits,
        **({"penalty_per_row": "True"} if engine.penalty_per_row else {}),
        **average,
        **_ranks(engine),
        "steps": f"{engine.steps:,}",
        "epoch": f"{run.epoch:,}",
        **finished,
    }


def _ranks(engine: Engine) -> dict[str, str]:
    if engine.comm is None:
        return {}
    more = ", shard" * engine.shard + (f", sync_every {engine.sync_every}" if engine.sync_every != 1 else "")
    return {"rank": f"{engine.comm.Get_rank()} of {engine.comm.Get_size()}{more}"}
