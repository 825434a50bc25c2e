"""The public names: the same for type checkers and at run time, imported on first use, explained by help, and typed."""

from __future__ import annotations

import abc
import ast
import inspect
import pydoc
import re
import subprocess
import sys
from dataclasses import fields
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest

import microbp as bp
from microbp.core import specs
from microbp.reference.formulas import ACTIVATIONS
from microbp.settings import metrics

HERE = Path(__file__).parent


def run(code: str, *options: str) -> str:
    """The output of code in a new interpreter."""
    done = subprocess.run([sys.executable, "-P", *options, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ---- at run time ----


def test_type_checkers_see_the_same_names():
    tree = ast.parse(inspect.getsource(bp))
    seen = {}
    for line in ast.walk(tree):
        if isinstance(line, ast.ImportFrom) and line.level:
            for alias in line.names:
                seen |= {alias.name: line.module} if alias.asname else {}
                assert alias.asname in (None, alias.name), f"{alias.name} as {alias.asname}"
    modules = {name: seen.pop(name) for name in ("plot", "schedules", "sklearn", "threads")}
    assert modules == {"plot": None, "schedules": "settings", "sklearn": None, "threads": "core"}
    assert seen == vars(bp)["_HOME"]


def test_dir_lists_the_public_names_and_nothing_else():
    assert bp.__all__ == sorted(set(bp.__all__)) and dir(bp) == sorted([*bp.__all__, "plot", "schedules", "sklearn", "threads"])
    assert not [name for name in bp.__all__ if name.startswith("_") or isinstance(getattr(bp, name), ModuleType)]
    assert set(run("from microbp import *; print(*(name for name in dir() if not name.startswith('_')))").split()) == set(bp.__all__)


@pytest.mark.parametrize("name", bp.__all__)
def test_an_object_has_its_public_name(name):
    value = getattr(bp, name)
    assert value.__name__ == name
    assert value.__module__.startswith("microbp.")


def test_modules_are_attributes_too():
    assert bp.threads.register is not None
    assert bp.schedules.Cosine is bp.Cosine
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    assert bp.plot.learning_curves is not None


@pytest.mark.parametrize(
    ("name", "hint"),
    [("Adma", "; did you mean 'Adam'?"), ("adam", "; did you mean 'Adam'?"), ("plt", "; did you mean 'plot'?"), ("zzz", "")],
)
def test_a_misspelled_name_is_refused(name, hint):
    with pytest.raises(AttributeError) as caught:
        getattr(bp, name)
    assert str(caught.value) == f"module 'microbp' has no attribute '{name}'{hint}"
    assert caught.value.name == name


def test_importing_microbp_imports_no_heavy_module():
    heavy = "{'numpy', 'matplotlib', 'ctypes'} | {f'microbp.{room}' for room in ('data', 'network', 'settings', 'training')}"
    assert run(f"import sys, microbp; print(({heavy}) & set(sys.modules))") == "set()"


def test_microbp_works_without_docstrings():
    code = "import microbp as bp; print(bp.Trainer(bp.mlp([1, 1]), bp.Loss('mse'), bp.Adam(lr=0.5)).fit([[1]], [1], epochs=1)['lr'])"
    assert run(code, "-OO") == "[0.5]"


# ---- names of formulas ----


def test_literal_names_of_metrics_equal_the_table():
    assert set(get_args(metrics.MetricName)) == set(metrics.NAMED)


@pytest.mark.parametrize(
    ("names", "kind", "besides"),
    [
        (specs.ActivationName, "activation", set()),
        (specs.LossName, "loss", set()),
        (specs.InitName, "initializer", {"array"}),  # the initializer of a layer with init=array
        (specs.OutputActivationName, "output_activation", set()),
        (specs.OptimizerName, "optimizer", {"rprop"}),  # PyTorch's name of irprop_minus
    ],
)
def test_literal_names_equal_the_table(names, kind, besides):
    assert set(get_args(names)) ^ set(specs.table(kind)) == besides
    assert len(set(get_args(names))) == len(get_args(names))


@pytest.mark.parametrize(("cls", "kind"), [(bp.Activation, "activation"), (bp.Loss, "loss"), (bp.Init, "initializer")])
def test_help_lists_every_formula(cls, kind):
    text = " ".join(inspect.getdoc(cls).split())
    for name, row in specs.table(kind).items():
        own = {key: valid for key, valid in row.parameters.items() if key != "missing"}  # which every loss has
        defaults = ", ".join(f"{key}={valid.default:g}" for key, valid in own.items())
        start = text.index(f" {name}({defaults}) {row.meaning}" if defaults else f" {name} {row.meaning}")
        assert kind != "loss" or f"output activation: {row.detail}" in text[start:]
        for key, valid in own.items():
            assert f"{key} in {valid.text}" in text[start:]


@pytest.mark.parametrize("name", ["Loss", "Init", "Optimizer", "Adam"])
def test_help_of_settings_starts_with_the_docstring_and_shows_no_private_method(name):
    cls = getattr(bp, name)
    text = pydoc.plain(pydoc.render_doc(cls))
    assert inspect.getdoc(cls).splitlines()[-1] in text
    assert not re.search(r"^ \|  __\w+", text, re.M)


@pytest.mark.parametrize("base", [bp.Network, bp.Trainer])
def test_a_subclass_may_be_abstract(base):
    class Abstract(base, abc.ABC):
        pass

    assert issubclass(Abstract, base)


def test_help_lists_every_optimizer_as_users_write_it():
    text = " ".join(inspect.getdoc(bp.Optimizer).split())
    classes = [one for one in (getattr(bp, name) for name in bp.__all__) if isinstance(one, type) and issubclass(one, bp.Optimizer)]
    assert len(classes) == 21
    for one in classes:
        if one is not bp.Optimizer:
            row = specs.table(one().spec.kind)[one().spec.name]
            settings = ", ".join(f"{field.name}={field.default!r}" for field in fields(one))
            assert f" {one.__name__}({settings}) {row.meaning} " in f"{text} "
            assert not row.detail or f"state: {', '.join(row.detail.split())}" in text
    assert not re.search(r"sgd_nesterov\(|irprop_minus\(", text)


def test_help_names_the_initializers_that_auto_chooses():
    text = " ".join(inspect.getdoc(bp.Init).split())
    for rules in {(row.init, row.bias_init) for row in ACTIVATIONS.values()}:
        names = [name for name, row in ACTIVATIONS.items() if (row.init, row.bias_init) == rules]
        assert f" {', '.join(names)}: {rules[0]}, biases {rules[1]} " in text


def test_tables_of_names_are_created_on_first_use():
    code = "import microbp as bp; bp.Trainer, bp.Loss, bp.Adam; from microbp.core.specs import table; print(table.cache_info().currsize)"
    assert run(code) == "0"


# ---- type checkers ----


def test_the_package_is_marked_as_typed():
    assert resources.files("microbp").joinpath("py.typed").is_file()


@pytest.mark.parametrize("name", bp.__all__)
def test_signatures_are_typed(name):
    value: Any = getattr(bp, name)
    for function in [value, *(vars(value).values() if isinstance(value, type) else ())]:
        if inspect.isfunction(function) and not function.__name__.startswith("_"):
            hints = set(function.__annotations__)
            assert hints == {*inspect.signature(function).parameters, "return"} - {"self", "cls"}, function.__qualname__


def test_mypy_finds_all_errors_in_user_code_and_no_others(tmp_path):
    pytest.importorskip("mypy", reason="mypy is not installed")
    page = (HERE / "user_code.py").read_text("utf-8")
    (tmp_path / "user_code.py").write_text(page, "utf-8")
    command = [sys.executable, "-P", "-m", "mypy", "--strict", "--no-error-summary", "user_code.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=250, check=False)
    lines = page.splitlines()
    found = {(int(line), code): text for line, text, code in re.findall(r"^user_code.py:(\d+): error: (.*)  \[(.+)\]$", done.stdout, re.M)}
    expected = {(i, match[1]) for i, line in enumerate(lines, 1) if (match := re.search(r"# error: (\S+)$", line))}
    assert done.stdout, done.stderr
    missed = [f"{line}: {lines[line - 1]}" for line, code in sorted(expected - set(found))]
    wrong = [f"{line}: {lines[line - 1]}\n    {found[line, code]} [{code}]" for line, code in sorted(set(found) - expected)]
    assert not missed and not wrong, "\n".join(["mypy does not report:", *missed, "mypy should not report:", *wrong])
