"""The two backends offer the same: what the stub of the extension says holds for the reference too."""

import ast
import inspect
from pathlib import Path

import pytest

import microbp
from microbp import reference

STUB = ast.parse(Path(microbp.__file__).with_name("core").joinpath("_core.pyi").read_text("utf-8")).body
COMPILED_ONLY = {"isa", "isas", "thread_limit", "set_thread_limit", "MAX_THREADS"}  # kernels and threads, which plain Python has none of

NET = reference.Net("input 2\ndense 0 units=1 layer=a activation=identity init=zeros\noutput 1\n")
OBJECTS = {"": reference, "Net": NET, "Trainer": reference.Trainer(NET, ["mse"], [1.0], "sgd", 0)}
CALLABLES = {("Net", "__init__"): reference.Net, ("Trainer", "__init__"): reference.Trainer}


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
def test_the_reference_offers_what_the_stub_says(kind, name, node):
    other = CALLABLES.get((kind, name)) or getattr(OBJECTS[kind], name)
    is_value = isinstance(node, ast.AnnAssign) or "property" in map(ast.unparse, node.decorator_list)
    assert callable(other) != is_value
    assert is_value or [(one.name, one.default) for one in inspect.signature(other).parameters.values()] == parameters(node)
