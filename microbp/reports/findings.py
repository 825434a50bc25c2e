"""What bp.doctor finds, as a section."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..core.text import counted
from ..diagnosis.doctor import doctor
from ..training.trainer import Trainer
from . import markup

_SECONDS = 1.0  # for all checks; those that have no time are named
_SHOWN = 8


def findings(trainer: Trainer, X: Any, y: Any, names: Sequence[str] | None = None, **rows: Any) -> str:  # noqa: N803
    """The findings, with the lines of Python that mend them. rows: sample_weight and lengths.

    names: of the columns of X, in a table. No such line changes the trainer of a table, and notes are on features, which no user has made.
    """
    diagnosis, parts = doctor(trainer, X, y, **rows, max_time=_SECONDS), []
    found = [finding for finding in diagnosis if names is None or finding.severity != "note"]
    for finding in found[:_SHOWN]:
        where = finding.where if names is None else _named(finding.where, names)
        parts.append(f"<h3>{markup.safe(f'{finding.severity.capitalize()}: {finding.name} ({where})')}</h3>\n{markup.text(finding.text)}")
        parts.append(markup.code("What mends it", finding.fix) if finding.fix and names is None else "")
    more = f"And {len(found) - _SHOWN} more: see bp.doctor." if len(found) > _SHOWN else ""
    ends = "" if found else " and found nothing"
    left = f"; not done: {', '.join(diagnosis.unchecked)}" if diagnosis.unchecked else ""
    return "".join(
        [*parts, markup.text(more), markup.text(f"bp.doctor made {counted(len(diagnosis.checked), 'check')} on these rows{ends}{left}.")]
    )


def _named(where: str, names: Sequence[str]) -> str:
    """A place such as X[:, 3] by the name of the column."""
    return re.sub(
        r"X(?:\[0\])?\[:, (\d+)\]", lambda match: f"column {names[int(match[1])]}" if int(match[1]) < len(names) else match[0], where
    )
