"""Finding and Diagnosis: what the doctor says."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, overload

_WIDTH = 100

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")  # the weightiest first


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, as bp.doctor finds it. `print(finding)` prints it.

    name: of the check; docs/doctor.md has a table of all. severity: "error": training cannot succeed; "warning": it is worse than it could
    be; "note": usually harmless. number: what was measured, which is above threshold; source: where the threshold is from, a paper or a
    measurement. where: the layer, the column, the rate. text: what is wrong. fix: the line of Python that mends it, in which `trainer`, `X`
    and `y` are the arguments of bp.doctor.

    >>> t = bp.Trainer(bp.mlp([2, 8, 1], seed=0), loss="mse")
    >>> t.net.freeze()
    >>> finding = bp.doctor(t, np.eye(2), [0.0, 1.0])[0]
    >>> finding.name, finding.severity, finding.fix
    ('frozen', 'error', 'trainer.net.unfreeze()')
    """

    name: str
    severity: Severity
    number: float
    threshold: float
    source: str
    where: str
    text: str
    fix: str

    def to_dict(self) -> dict[str, Any]:
        """The fields; a number that JSON does not have, such as infinity, is None.

        >>> bp.Finding("dead", "warning", np.inf, 0.75, "a paper", "dense_0", "all units are 0", "trainer.net.init()").to_dict()["number"]
        """
        return {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in asdict(self).items()}

    def __str__(self) -> str:
        limit = f"measured {self.number:.3g}, limit {self.threshold:g}: {self.source}"
        head = f"{self.severity} {self.name}, {self.where}: {self.text}"
        return "\n".join([_wrapped(head, "", "  "), _wrapped(limit, "  ", "  "), _wrapped(self.fix, "  mend: ", "    ")])


@dataclass(frozen=True)
class Diagnosis(Sequence[Finding]):
    """The result of bp.doctor: a sequence of bp.Finding, the weightiest first. `print(diagnosis)` prints them, with at most 100 columns.

    findings: of all severities. checked: the names of the checks that were done. unchecked: the other checks, with the reason. seconds:
    how long it took.

    >>> X = np.linspace(-1, 1, 64).reshape(-1, 1)
    >>> diagnosis = bp.doctor(bp.Trainer(bp.mlp([1, 16, 1], seed=0), loss="mse"), X, np.sin(3 * X))
    >>> len(diagnosis), "inputs_scale" in diagnosis.checked, diagnosis.unchecked["memorising"]
    (0, True, 'the network has not been trained yet')
    """

    findings: tuple[Finding, ...]
    checked: tuple[str, ...]
    unchecked: dict[str, str]
    seconds: float

    @overload
    def __getitem__(self, index: int) -> Finding: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Finding, ...]: ...
    def __getitem__(self, index: int | slice) -> Finding | tuple[Finding, ...]:
        return self.findings[index]

    def __len__(self) -> int:
        return len(self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def to_dict(self) -> dict[str, Any]:
        """The fields as values that JSON has.

        >>> bp.Diagnosis((), ("labels",), {}, 0.5).to_dict()
        {'findings': [], 'checked': ['labels'], 'unchecked': {}, 'seconds': 0.5}
        """
        found = [finding.to_dict() for finding in self]
        return {"findings": found, "checked": list(self.checked), "unchecked": self.unchecked.copy(), "seconds": self.seconds}

    def json(self) -> str:
        """`to_dict()` as JSON.

        >>> bp.Diagnosis((), ("labels",), {}, 0.5).json()
        '{"findings": [], "checked": ["labels"], "unchecked": {}, "seconds": 0.5}'
        """
        return json.dumps(self.to_dict())

    def __str__(self) -> str:
        found = [f"{i}. {finding}" for i, finding in enumerate(self, 1)] or ["nothing found"]
        ends = [_wrapped(", ".join(self.checked) or "nothing", "checked: ", "  ")]
        for why in dict.fromkeys(self.unchecked.values()):
            names = ", ".join(name for name, reason in self.unchecked.items() if reason == why)
            ends.append(_wrapped(f"{names}: {why}", "not checked: ", "  "))
        return "\n".join([*found, *ends])


def _wrapped(text: str, first: str, others: str) -> str:
    return textwrap.fill(text, _WIDTH - 3, initial_indent=first, subsequent_indent=others, break_on_hyphens=False)
