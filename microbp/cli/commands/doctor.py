"""`microbp doctor`: looks for what is wrong with a table and with the first network that `microbp train` would train on it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import numpy as np

from ...core.text import printable
from ...diagnosis.doctor import doctor
from ...diagnosis.finding import SEVERITIES, Finding
from ...tables import model
from ...tables.cautions import cautions
from ...tables.fitted import runs
from ...tables.fitted.runs import TableRun
from ...tables.parts import Part, inputs
from ...tables.readers.errors import Argument
from .. import parser
from ..options import DoctorOptions, RunOptions
from .resume import settings

_COLUMNS = ("constant_columns", "duplicate_columns")  # of the features; those of the table are found here
_RATE = {"lr": "auto"}
_OPTIONS: dict[str, dict[str, Any]] = {  # that mend a finding
    "rate": _RATE, "updates": _RATE, "dead": _RATE, "saturated": _RATE, "vanishing": _RATE, "exploding": _RATE,
    "memorising": {"dropout": 0.3}, "overfit": {"net": (None, 128, 128, None)},
}  # fmt: skip


def run(options: DoctorOptions) -> None:
    """Prints the findings: those of the table, and those of the network before and after its training."""
    table = runs.begin(options.data, settings(options))
    train, validation = table.rows()
    rows = _given(table, train or next(table.data.pieces("train")))
    after = before = doctor(table.trainer, rows.x, rows.y, sample_weight=rows.weight)
    if all(finding.severity != "error" for finding in before):
        batch, rates = table.choices.batch, table.schedule()
        try:
            model.fit(table.trainer, table.data, train, validation, epochs=table.epochs, batch=batch, schedule=rates)
        except FloatingPointError as error:
            warnings.warn(str(error), UserWarning, stacklevel=1)
        held = None if validation is None else tuple(_given(table, validation))
        after = doctor(table.trainer, rows.x, rows.y, sample_weight=rows.weight, validation=held)
    known = {finding.name for finding in before}
    of_network = [*before, *(finding for finding in after if finding.name not in known)]
    spelled = (_spelled(table, finding, options) for finding in of_network if finding.name not in _COLUMNS)
    found = sorted([*_of_table(table, options), *spelled], key=lambda finding: SEVERITIES.index(finding.severity))
    diagnosis = replace(after, findings=tuple(found), seconds=before.seconds + after.seconds)
    print(diagnosis.json() if options.json else "\n".join(map(printable, str(diagnosis).splitlines())))


def _given(table: TableRun, part: Part) -> Part:
    """The rows as the network gets them."""
    return part._replace(x=inputs(table.trainer.net, part.x))


def _with(options: DoctorOptions, **changes: Any) -> str:
    """The command line of a training with other options."""
    return parser.command_line("train", replace(options, **changes), [field.name for field in fields(RunOptions)])


def _of_table(table: TableRun, options: DoctorOptions) -> Iterator[Finding]:
    for caution in cautions(table.data):
        given = next((part for part in caution.args if isinstance(part, Argument)), None)
        value = given and ((*options.drop, str(given.value)) if given.name == "drop" else given.value)
        fix = _with(options, **{given.name: value} if given else {})
        yield Finding("table", "warning", 1, 0, "as in the report of microbp train", "column", caution.text(parser.spell), fix)
    preparation = table.data.preparation
    if preparation.sparse is not None:
        return
    x = next(table.data.pieces("train")).x
    first: dict[bytes, str] = {}
    for name, columns in preparation.blocks:
        block = np.ascontiguousarray(x[:, columns])
        equal = first.setdefault(block.tobytes(), name)
        is_constant = bool((block == block[0]).all())
        if is_constant or equal != name:
            kind, text = (_COLUMNS[0], "it has one value") if is_constant else (_COLUMNS[1], f"it equals column {equal!r}")
            fix = _with(options, drop=(*options.drop, name))
            yield Finding(kind, "note", 1, 0, "counted", f"column {name!r}", f"{text} in all training rows", fix)


def _spelled(table: TableRun, finding: Finding, options: DoctorOptions) -> Finding:
    """The finding with the name of the table's column, and a command line instead of Python."""
    where = finding.where.replace("trainer.lr", "--lr")
    if match := re.fullmatch(r"X\[:, (\d+)\]", where):
        where = next(f"column {name!r}" for name, columns in table.data.preparation.blocks if int(match[1]) < columns.stop)
    return replace(finding, where=where, fix=_with(options, **_OPTIONS[finding.name]) if finding.name in _OPTIONS else finding.fix)
