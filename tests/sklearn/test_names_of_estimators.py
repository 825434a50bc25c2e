"""The names of microbp.sklearn, and the docstrings of its classes."""

from __future__ import annotations

import ast
import doctest
import inspect

import numpy as np
import pytest

import microbp as bp

NAMES = dir(bp.sklearn)


def test_type_checkers_see_the_same_names():
    imports = [node for node in ast.walk(ast.parse(inspect.getsource(bp.sklearn))) if isinstance(node, ast.ImportFrom) and node.level]
    assert {alias.name: node.module for node in imports for alias in node.names} == vars(bp.sklearn)["_HOME"]
    assert sorted(vars(bp.sklearn)["_HOME"]) == NAMES == bp.sklearn.__all__
    with pytest.raises(AttributeError, match="it has EnsembleClassifier, "):
        bp.sklearn.MLPClasifier  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
def test_docstrings_explain_every_parameter_and_method(name):
    cls = getattr(bp.sklearn, name)
    assert cls.__name__ == name
    text = inspect.getdoc(cls)
    text += "".join(
        inspect.getdoc(getattr(bp.sklearn, other)) for other in NAMES if f"{other}:" in text or f"{other}," in text or f"{other}." in text
    )
    for parameter in inspect.signature(cls).parameters:
        assert f"{parameter}=" in text or f"{parameter}:" in text or f"{parameter}," in text, parameter
    for method, value in vars(cls).items():
        assert method.startswith("_") or inspect.getdoc(getattr(cls, method, value)), method


@pytest.mark.parametrize("name", ["", *NAMES])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_examples_print_what_they_show(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report: list[str] = []
    text = inspect.getdoc(getattr(bp.sklearn, name) if name else bp.sklearn)
    assert ">>> " in text
    doctest.DocTestRunner().run(doctest.DocTestParser().get_doctest(text, {"bp": bp, "np": np}, name, None, None), out=report.append)
    assert not report, "".join(report)
