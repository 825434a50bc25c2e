"""The base of all settings: fields checked by their annotations, immutable values, reprs; early stopping and checkpoints."""

import copy
import inspect
import pickle
import pydoc
from dataclasses import FrozenInstanceError, fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest

from microbp.core.checks import real, whole
from microbp.settings.base import Settings
from microbp.settings.checkpoint import Checkpoint
from microbp.settings.stopping import EarlyStopping


class Base(Settings):
    size: Annotated[int, whole(1)]
    share: Annotated[float, real("[0,1)")] = 0.5


class Example(Base):
    """An example."""

    kind: Literal["a", "b"] = "a"
    limit: Annotated[int, whole(0)] | None = None
    is_on: bool = False
    anything: object = ()


SAMPLES = [Base(3), Example(3), Example(2, 0.25, "b", 7, True, "x"), EarlyStopping(4, "r2"), Checkpoint("a", timedelta(1))]


@pytest.mark.parametrize("settings", SAMPLES, ids=repr)
def test_settings_are_immutable_values(settings):
    for twin in (copy.copy(settings), copy.deepcopy(settings), pickle.loads(pickle.dumps(settings)), replace(settings)):
        assert twin == settings and hash(twin) == hash(settings)
    assert eval(repr(settings), globals() | {"datetime": __import__("datetime")}) == settings
    for key in (fields(settings)[0].name, "other"):
        with pytest.raises(FrozenInstanceError, match=type(settings).__name__):
            setattr(settings, key, 1)
        with pytest.raises(FrozenInstanceError, match=type(settings).__name__):
            delattr(settings, key)


def test_settings_of_different_classes_or_values_are_not_equal():
    assert Base(3) != Base(4) and Base(3) != Example(3) and Base(3) != 3
    assert len({Base(3), Base(3, 0.5), Base(size=np.int64(3)), Example(3)}) == 2


def test_values_are_converted_by_their_checks():
    settings = Example(np.int8(3), np.float32(0.25), is_on=np.True_)
    assert [type(value) for value in vars(settings).values()] == [int, float, str, type(None), bool, tuple]


def test_reprs_show_values_that_are_not_defaults():
    assert repr(Example(3)) == "Example(size=3)"
    assert repr(Example(3, 0.5, limit=0)) == "Example(size=3, limit=0)"
    assert repr(EarlyStopping(5)) == "EarlyStopping(patience=5)"


def test_help_shows_fields_and_no_dunders():
    text = pydoc.plain(pydoc.render_doc(Example))
    assert "__" not in text
    assert " kind = 'a'" in text
    assert not [name for name in dir(Example) if name.startswith("__")]


def test_the_signature_has_the_fields():
    assert list(inspect.signature(Example).parameters) == ["size", "share", "kind", "limit", "is_on", "anything"]
    assert inspect.signature(Example).parameters["share"].default == 0.5
    assert "Example(size: int, share: float = 0.5, kind: Literal['a', 'b'] = 'a', " in pydoc.render_doc(Example)
    match Example(3, 0.25):
        case Example(3, share):
            assert share == 0.25


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (Example, TypeError, "Example: missing a required argument: 'size'"),
        (lambda: Example(1, siez=3), TypeError, "Example: got an unexpected keyword argument 'siez'; Example has the settings size, "),
        (lambda: Example(1, size=3), TypeError, "Example: multiple values for argument 'size'"),
        (lambda: Example(*range(9)), TypeError, "Example: too many positional arguments"),
        (lambda: Example(0), ValueError, "Example: size must be at least 1, not 0"),
        (lambda: Example(1, 1.0), ValueError, r"Example: share must be in \[0,1\), not 1.0"),
        (lambda: Example(1, kind="c"), ValueError, "Example: kind is 'c'; it must be one of 'a', 'b'"),
        (lambda: Example(1, limit=-1), ValueError, "Example: limit must be at least 0, not -1"),
        (lambda: Example(1, is_on="yes"), TypeError, "Example: is_on must be True or False, not 'yes'"),
        (lambda: EarlyStopping(0), ValueError, "EarlyStopping: patience must be at least 1, not 0"),
        (lambda: EarlyStopping(5, min_delta=np.nan), ValueError, "EarlyStopping: min_delta must be in .*, not nan"),
        (lambda: EarlyStopping(5, mode="up"), ValueError, "EarlyStopping: mode is 'up'; it must be one of 'min', 'max'"),
        (lambda: EarlyStopping(5, "my_metric"), ValueError, 'mode="min" or mode="max"'),
        (lambda: Checkpoint(5), TypeError, "Checkpoint: path must be a path"),
        (lambda: Checkpoint("a", 0), ValueError, "Checkpoint: every must be at least 1, not 0"),
        (lambda: Checkpoint("a", 1.5), TypeError, "Checkpoint: every must be a whole number, not 1.5"),
        (lambda: Checkpoint(Path("a"), timedelta()), ValueError, "Checkpoint: every must be a positive time"),
    ],
)
def test_wrong_settings_are_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()
