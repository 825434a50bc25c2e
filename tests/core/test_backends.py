"""The two backends have the same interface: the reference has everything in the stub of the extension."""

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest

import microbp
from microbp import reference
from microbp.core import _core

STUB = ast.parse(Path(microbp.__file__).with_name("core").joinpath("_core.pyi").read_text("utf-8")).body
COMPILED_ONLY = {"isa", "isas", "thread_limit", "set_thread_limit", "MAX_THREADS"}  # kernels and threads: pure Python has neither

NET = reference.Net("input 2\ndense 0 units=1 layer=a activation=identity init=zeros\noutput 1\n")
OBJECTS = {
    "": reference,
    "Net": NET,
    "State": reference.State("float64", 2, [3]),
    "Int8": reference.Int8([]),
    "Trainer": reference.Trainer(NET, ["mse"], [1.0], "sgd", 0),
}
CALLABLES = {
    ("Net", "__init__"): reference.Net,
    ("State", "__init__"): reference.State,
    ("Int8", "__init__"): reference.Int8,
    ("Trainer", "__init__"): reference.Trainer,
}


def named(statements: list[ast.stmt]) -> dict[str, ast.stmt]:
    """Functions, properties and variables by name."""
    names = {node.name: node for node in statements if isinstance(node, ast.FunctionDef)}
    names |= {node.target.id: node for node in statements if isinstance(node, ast.AnnAssign)}
    return {name: node for name, node in names.items() if name not in COMPILED_ONLY}


ROWS = [("", name, node) for name, node in named(STUB).items()]
ROWS += [(kind.name, name, node) for kind in STUB if isinstance(kind, ast.ClassDef) for name, node in named(kind.body).items()]


def parameters(function: ast.FunctionDef) -> list[tuple[str, object]]:
    """Names and defaults, without self."""
    names = [one.arg for one in function.args.args if one.arg != "self"]
    defaults = [ast.literal_eval(default) for default in function.args.defaults]
    return list(zip(names, [inspect.Parameter.empty] * (len(names) - len(defaults)) + defaults, strict=True))


@pytest.mark.parametrize(("kind", "name", "node"), ROWS, ids=[f"{kind}.{name}" for kind, name, _ in ROWS])
def test_the_reference_has_the_interface_of_the_stub(kind, name, node):
    other = CALLABLES.get((kind, name)) or getattr(OBJECTS[kind], name)
    is_value = isinstance(node, ast.AnnAssign) or "property" in map(ast.unparse, node.decorator_list)
    assert callable(other) != is_value
    assert is_value or [(one.name, one.default) for one in inspect.signature(other).parameters.values()] == parameters(node)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"index": np.arange(3, dtype=np.int32)}, ValueError, "index must have dtype int64"),
        ({"index": np.zeros((3, 2), np.int64)}, ValueError, r"index must have shape \(3,\), not \(3, 2\)"),
        ({"index": np.arange(6)[::2]}, ValueError, "index must be contiguous"),
        ({"lr": np.ones(3, np.float32)}, ValueError, "lr must have dtype float64"),
        ({"lr": np.ones(2)}, ValueError, r"lr must have shape \(3,\), not \(2,\)"),
        ({"x": [1.0]}, TypeError, "float cannot be read as an array: it does not support the buffer protocol"),
    ],
)
def test_the_extension_names_what_is_wrong_with_an_array(arguments, error, words):
    net = _core.Net("input 1\ndense 0 units=1 activation=identity\noutput 1\n")
    trainer = _core.Trainer(net, ["mse"], [1.0], "sgd")
    valid = {"x": np.zeros((6, 1)), "y": np.zeros(6), "weight": None, "index": np.arange(3), "batch_rows": 1, "lr": None}
    with pytest.raises(error, match=words):
        trainer.epoch(*(valid | arguments).values())
