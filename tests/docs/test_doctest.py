"""Every public name has a docstring; what can be called has an example; and examples print what the docstring shows."""

from __future__ import annotations

import dataclasses
import doctest
import functools
import inspect
import re
from collections.abc import Iterator

import numpy as np
import pytest

import microbp as bp
from microbp.settings.base import Settings


def members(cls: type) -> Iterator[tuple[str, object]]:
    """The public methods and properties of a class that microbp defines: their names, with the class that defines them, and the objects."""
    for name, value in inspect.getmembers_static(cls):
        home = next((base for base in cls.__mro__ if name in vars(base)), object)
        is_ours = home.__module__.partition(".")[0] == "microbp"
        if is_ours and not name.startswith("_") and (inspect.isroutine(value) or isinstance(value, property | functools.cached_property)):
            yield f"{home.__name__}.{name}", getattr(cls, name)


NAMES = {name: getattr(bp, name) for name in bp.__all__}
MEMBERS = dict(pair for value in NAMES.values() if isinstance(value, type) for pair in members(value))
DOCS = {name: inspect.getdoc(value) or "" for name, value in {"microbp": bp, **NAMES, **MEMBERS}.items()}
METHODS = [name for name, value in MEMBERS.items() if inspect.isroutine(value) and value.__doc__]  # others inherit their docstring


@pytest.mark.parametrize("name", DOCS)
def test_every_name_has_a_docstring(name):
    text = DOCS[name]
    assert text, f"{name} has no docstring"
    assert re.match(r"\S.*[.:]", text), f"{name}: the docstring must start with a sentence, not {text[:80]!r}"


@pytest.mark.parametrize("name", [name for name, value in NAMES.items() if isinstance(value, type) and issubclass(value, Settings)])
def test_docstrings_explain_every_setting(name):
    for field in dataclasses.fields(NAMES[name]):
        assert re.search(rf"^(\w+, )*{field.name}(, \w+)*: ", DOCS[name], re.MULTILINE), f"{name} does not explain {field.name}"


@pytest.mark.parametrize("name", [*NAMES, *METHODS])
def test_what_can_be_called_has_an_example(name):
    assert ">>> " in DOCS[name], f"{name}: no example in its docstring"


def examples() -> list[object]:
    marks = {name: [pytest.mark.peers] if ">>> import torch" in text else [] for name, text in DOCS.items() if ">>> " in text}
    return [pytest.param(name, marks=found) for name, found in marks.items()]


@pytest.mark.parametrize("name", examples())
def test_examples_print_what_they_show(name, tmp_path, monkeypatch):
    if ">>> import torch" in DOCS[name]:
        pytest.importorskip("torch", reason="torch is not installed")
    monkeypatch.chdir(tmp_path)
    report: list[str] = []
    example = doctest.DocTestParser().get_doctest(DOCS[name], {"bp": bp, "np": np}, name, None, None)
    doctest.DocTestRunner(verbose=False).run(example, out=report.append)
    assert not report, "".join(report)
