"""A trainer in a few words, for prompts and notebooks."""

from __future__ import annotations

import html

from ..core.specs import Loss
from .loop.run import Run


def as_text(run: Run) -> str:
    """Lines of a name and a value."""
    return "\n".join(["microbp.Trainer", *(f"  {name:9}  {value}" for name, value in _facts(run).items())])


def as_html(run: Run) -> str:
    """The same as a table."""
    rows = "".join(f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in _facts(run).items())
    return f"<table><caption>microbp.Trainer</caption>{rows}</table>"


def _facts(run: Run) -> dict[str, str]:
    engine, net = run.engine, run.engine.net
    inputs, outputs = (" + ".join(str(entry.width) for entry in entries) for entries in (net.inputs, net.outputs))
    losses = [loss.text if isinstance(loss, Loss) else getattr(loss, "__name__", repr(loss)) for loss in engine.losses]
    return {
        "net": f"{inputs} to {outputs}, {len(net.params):,} parameters, {net.dtype}",
        "loss": ", ".join(losses),
        "optimizer": f"{engine.optimizer}, lr {engine.lr:g}",
        "steps": f"{engine.steps:,}",
        "epoch": f"{run.epoch:,}",
    }
