"""The public names: the same for type checkers and at run time, imported when used, explained by help; and what type checkers say."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest

import microbp as bp
from microbp.core import specs
from microbp.settings import metrics

HERE = Path(__file__).parent


def run(code: str, *options: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-P", *options, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ---- at run time ----


def test_type_checkers_see_the_names_of_run_time():
    tree = ast.parse(inspect.getsource(bp))
    seen = {}
    for line in ast.walk(tree):
        if isinstance(line, ast.ImportFrom) and line.level:
            for alias in line.names:
                seen |= {alias.name: line.module} if alias.asname else {}
                assert alias.asname in (None, alias.name), f"{alias.name} as {alias.asname}"
    modules = {name: seen.pop(name) for name in ("plot", "schedules", "threads")}
    assert modules == {"plot": None, "schedules": "settings", "threads": "core"}
    assert seen == vars(bp)["_HOME"]


def test_dir_lists_the_public_names_and_nothing_else():
    assert dir(bp) == bp.__all__ == sorted(set(bp.__all__))
    assert not [name for name in bp.__all__ if name.startswith("_") or isinstance(getattr(bp, name), ModuleType)]
    assert set(run("from microbp import *; print(*(name for name in dir() if not name.startswith('_')))").split()) == set(bp.__all__)


@pytest.mark.parametrize("name", bp.__all__)
def test_a_name_is_that_of_its_object(name):
    value = getattr(bp, name)
    assert value.__name__ == name
    assert value.__module__.startswith("microbp.")


def test_modules_are_reached_too():
    assert bp.threads.register is not None
    assert bp.schedules.Cosine is bp.Cosine
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert bp.plot.learning_curves is not None


def test_a_misspelled_name_is_refused():
    with pytest.raises(AttributeError, match="'microbp' has no attribute 'Adma'") as caught:
        bp.Adma  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("Adma", bp)  # from which Python says "Did you mean"


def test_importing_waits_for_nothing():
    heavy = "{'numpy', 'matplotlib', 'ctypes'} | {f'microbp.{room}' for room in ('data', 'network', 'settings', 'training')}"
    assert run(f"import sys, microbp; print(({heavy}) & set(sys.modules))") == "set()"


def test_it_works_without_docstrings():
    code = "import microbp as bp; print(bp.Trainer(bp.mlp([1, 1]), bp.Loss('mse'), bp.Adam(lr=0.5)).fit([[1]], [1], epochs=1)['lr'])"
    assert run(code, "-OO") == "[0.5]"


# ---- names of formulas ----


def test_literal_names_of_metrics_are_those_of_the_table():
    assert set(get_args(metrics.MetricName)) == set(metrics.NAMED)


@pytest.mark.parametrize(
    ("names", "kind", "besides"),
    [
        (specs.ActivationName, "activation", set()),
        (specs.LossName, "loss", set()),
        (specs.InitName, "initializer", {"array"}),  # which a layer has that was given an array
        (specs.OutputActivationName, "output_activation", set()),
        (specs.OptimizerName, "optimizer", {"rprop"}),  # PyTorch's name of irprop_minus
    ],
)
def test_literal_names_are_those_of_the_table(names, kind, besides):
    assert set(get_args(names)) ^ set(specs.table(kind)) == besides
    assert len(set(get_args(names))) == len(get_args(names))


@pytest.mark.parametrize(
    ("cls", "kind"), [(bp.Activation, "activation"), (bp.Loss, "loss"), (bp.Init, "initializer"), (bp.Optimizer, "optimizer")]
)
def test_help_lists_every_formula(cls, kind):
    text = " ".join(inspect.getdoc(cls).split())
    for name, row in specs.table(kind).items():
        defaults = ", ".join(f"{key}={valid.default:g}" for key, valid in row.parameters.items())
        start = text.index(f" {name}({defaults}) " if defaults else f" {name} ")
        assert text.index(row.meaning, start) - start < 200
        assert row.detail in text[start:]
        for key, valid in row.parameters.items():
            assert f"{key} in {valid.text}" in text[start:]


def test_the_lists_are_made_when_somebody_reads_them():
    code = "import microbp as bp; bp.Trainer, bp.Loss, bp.Adam; from microbp.core.specs import table; print(table.cache_info().currsize)"
    assert run(code) == "0"


# ---- type checkers ----


def test_the_package_says_that_it_is_typed():
    assert resources.files("microbp").joinpath("py.typed").is_file()


@pytest.mark.parametrize("name", bp.__all__)
def test_signatures_are_typed(name):
    value: Any = getattr(bp, name)
    for function in [value, *(vars(value).values() if isinstance(value, type) else ())]:
        if inspect.isfunction(function) and not function.__name__.startswith("_"):
            hints = set(function.__annotations__)
            assert hints == {*inspect.signature(function).parameters, "return"} - {"self", "cls"}, function.__qualname__


def test_mypy_finds_what_is_wrong_in_users_code_and_nothing_else(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed")
    page = (HERE / "user_code.py").read_text("utf-8")
    (tmp_path / "user_code.py").write_text(page, "utf-8")
    command = [sys.executable, "-P", "-m", "mypy", "--strict", "--no-error-summary", "user_code.py"]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250, check=False)
    lines = page.splitlines()
    said = {(int(line), code): text for line, text, code in re.findall(r"^user_code.py:(\d+): error: (.*)  \[(.+)\]$", answer.stdout, re.M)}
    expected = {(i, match[1]) for i, line in enumerate(lines, 1) if (match := re.search(r"# error: (\S+)$", line))}
    assert answer.stdout, answer.stderr
    missed = [f"{line}: {lines[line - 1]}" for line, code in sorted(expected - set(said))]
    needless = [f"{line}: {lines[line - 1]}\n    {said[line, code]} [{code}]" for line, code in sorted(set(said) - expected)]
    assert not missed and not needless, "\n".join(["mypy does not see:", *missed, "mypy complains about:", *needless])
