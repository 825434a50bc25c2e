"""Reads the trainer files of earlier versions, whose text was one JSON object with the whole state."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from .trainer_values import from_json, history_of

SAVED = ("losses", "loss_weights", "optimizer", "seed", "averaging", "limits", "engine", "epoch", "schedule", "history", "best", "stopped")
HISTORY = "trainer.state.history"  # the vector


def read(text: str, vectors: dict[str, bytes], dtype: np.dtype[Any]) -> dict[str, Any]:
    """The state. Takes its arrays out of `vectors`."""
    found = json.loads(text)
    if found["version"] not in (1, 2):
        raise ValueError(f"the state has version {found['version']!r}, but a text in this form has version 1 or 2")
    saved = found["state"] if found["version"] == 2 else _from_version_1(found["state"], vectors)
    if other := saved.keys() ^ set(SAVED):
        raise ValueError(f"missing or unknown entries: {', '.join(map(repr, sorted(other)))}")
    state = {key: from_json(value, dtype, vectors) for key, value in saved.items()}
    history = history_of(state["history"], vectors.pop(HISTORY)) if state["history"] else {}
    return state | {"history": history, "losses": list(state["losses"]), "standardize_targets": False, "penalty_per_row": False}


def _from_version_1(state: dict[str, Any], vectors: dict[str, bytes]) -> dict[str, Any]:
    """Version 1 had a list of records instead of the history, and the number of averaged states followed from the steps."""
    records = [from_json(record, np.dtype("float64"), {}) for record in state["records"]]
    names = list(dict.fromkeys(name for record in records for name in record if name not in ("epoch", "steps")))
    new = {key: value for key, value in state.items() if key != "records"} | {"history": names, "stopped": None}
    for engine in (new["engine"], (new["best"] or {}).get("snapshot")):
        if engine is not None:
            engine["average_count"] = _count_in_version_1(state["averaging"], engine["steps"])
    if new["best"] is not None:
        new["best"]["schedule"] = state["schedule"]
    if names:
        vectors[HISTORY] = np.array([[record.get(name, math.nan) for record in records] for name in names], np.float64).tobytes()
    return new


def _count_in_version_1(averaging: Any, steps: int) -> int:
    if averaging is None:
        return 0
    rule = averaging.get("$SWA", {"start": 0, "every": 1})
    first = rule["start"] or rule["every"]
    return int(max(0, (steps - first) // rule["every"] + 1))
