"""A traced module: its inputs, and what its operations say about the axes of values."""

from __future__ import annotations

import copy
import math
import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...data.arrays import Array
from ...network.nodes import Ids, Input, Node
from ...network.positions.inputs import Grid, Sequence
from ..shared.building import Building


def library() -> Any:
    """The module torch."""
    try:
        import torch  # imported here: PyTorch is optional
        import torch.fx
    except ImportError:
        raise ImportError("modules of PyTorch need PyTorch, which is not installed: python -m pip install torch") from None
    return torch


@dataclass(frozen=True)
class Value:
    """A value of PyTorch as a node. shape: of a row in PyTorch. axis: which of its axes are the node's columns; the others are its
    positions. order: of flat values, the node's column for each of PyTorch's; None: the same. final: an output activation after it."""

    node: Node
    shape: tuple[int, ...]
    axis: int
    order: Array | None = None
    final: str | None = None

    @property
    def flat(self) -> Array:
        """The node's number for each of PyTorch's numbers of a row, position by position."""
        return flat_order(self.shape, self.axis) if self.order is None else self.order


class States(list[Value]):
    """The last state of each layer of a recurrent module."""


def flat_order(shape: tuple[int, ...], axis: int) -> Array:
    """As Value.flat, for a value that is not flat."""
    positions = shape[:axis] + shape[axis + 1 :]
    return np.moveaxis(np.arange(math.prod(shape)).reshape(*positions, shape[axis]), -1, axis).ravel()


# PyTorch's name in small letters without _ -> ours, and our parameter for PyTorch's, with its default.
ACTIVATIONS: dict[str, tuple[str, dict[str, tuple[str, float]]]] = {
    **{name: (name, {}) for name in ("relu", "selu", "silu", "mish", "softsign", "sigmoid", "tanh", "abs", "square", "exp", "sin", "cos")},
    "gelu": ("gelu", {}),
    "softplus": ("softplus", {}),
    "hardsigmoid": ("hard_sigmoid", {}),
    "leakyrelu": ("leaky_relu", {"negative_slope": ("slope", 0.01)}),
    "elu": ("elu", {"alpha": ("alpha", 1.0)}),
}
PLAIN: dict[str, dict[str, Any]] = {
    "softplus": {"beta": 1, "threshold": 20},
    "gelu": {"approximate": "none"},
}  # settings that must have this value
RESHAPES = ("flatten", "unflatten", "view", "reshape", "squeeze", "unsqueeze", "contiguous", "clone", "detach", "identity")
ARITHMETIC = {"add": "add", "iadd": "add", "sub": "sub", "isub": "sub", "mul": "mul", "imul": "mul", "div": "truediv"}
ARITHMETIC |= {"truediv": "truediv", "multiply": "mul", "subtract": "sub", "neg": "neg"}


class Trace:
    """The operations of a module, and the values that they have for rows of zeros: `results`."""

    def __init__(self, torch: Any, module: Any, input_shape: Any) -> None:
        self.torch, self.building = torch, Building()
        is_double = any(p.dtype == torch.float64 for p in module.parameters())
        self.dtype = torch.float64 if is_double else torch.float32
        module = copy.deepcopy(module).cpu().to(self.dtype).eval()
        if type(module).__module__.startswith("torch.nn") and not next(module.children(), None):
            module = torch.nn.Sequential(module)
        try:
            traced = torch.fx.symbolic_trace(module)
        except Exception as error:
            raise ValueError(
                f"from_torch: torch.fx cannot trace the module: {_first_line(error)}; forward must not depend on values, nor be scripted"
            ) from error
        self.modules, self.nodes = dict(traced.named_modules()), list(traced.graph.nodes)
        self.calls = [node.target for node in self.nodes if node.op == "call_module"]
        places = [node for node in self.nodes if node.op == "placeholder" and (node.users or not node.args)]
        self.shapes = dict(zip(places, self._shapes(places, input_shape), strict=True))
        run = torch.fx.Interpreter(traced, garbage_collect_values=False)
        examples = [
            torch.zeros((3, *self.shapes[node]), dtype=torch.int64 if self._table(node) else self.dtype)
            if node in self.shapes
            else node.args[0]
            for node in self.nodes
            if node.op == "placeholder"
        ]
        try:
            with torch.no_grad():
                run.run(*examples)
        except Exception as error:
            shapes = ", ".join(map(str, self.shapes.values()))
            raise ValueError(f"from_torch: the module cannot be called with rows of shape {shapes}: {_first_line(error)}") from error
        self.results = run.env
        self.made: dict[Any, Any] = {}

    # ---- inputs ----

    def _shapes(self, places: list[Any], given: Any) -> list[tuple[int, ...]]:
        if given is None:
            return [self._guess(node, node) for node in places]
        shapes = given if isinstance(given, list) else [given]
        if len(shapes) != len(places):
            raise ValueError(f"from_torch: input_shape has {len(shapes)} shapes, but the module has {len(places)} inputs")
        return [tuple(map(operator.index, shape)) if isinstance(shape, tuple) else (operator.index(shape),) for shape in shapes]

    def _guess(self, start: Any, node: Any) -> tuple[int, ...]:
        for user in node.users:
            module = self._module(user)
            name = type(module).__name__
            if name == "Linear":
                return (module.in_features,)
            if name == "BatchNorm1d":
                return (module.num_features,)
            if name == "LayerNorm":
                return tuple(module.normalized_shape)
            if name == "Embedding":
                return ()
            if key_of(user, module) in (*ACTIVATIONS, *ARITHMETIC, "dropout", "identity", "flatten", "contiguous"):
                return self._guess(start, user)
        example = "input_shape=(1, 28, 28), or a list for several inputs; the rows are not part of it"
        raise ValueError(f"from_torch: the shape of input {start.name} is not known; write {example}")

    def _table(self, node: Any) -> Any:
        """The table that reads an input of ids."""
        modules = [self._module(user) for user in node.users]
        return next((module for module in modules if type(module).__name__ in ("Embedding", "EmbeddingBag")), None)

    def _axis(self, node: Any, axes: int) -> int:
        """Which axis of a value of 1, 2 or 3 axes are the channels, from what reads it; if nothing tells it, as most modules have it."""
        found = self._known_axis(node, axes)
        return (0 if axes == 3 else axes - 1) if found is None else found

    def _known_axis(self, node: Any, axes: int) -> int | None:
        for user in node.users:
            module = self._module(user)
            key = key_of(user, module)
            if key in ("linear", "rnn", "gru", "lstm", "layernorm"):
                return axes - 1
            if key.rstrip("123d").endswith(("conv", "pool", "batchnorm")):
                return 0
            if key in ("permute", "transpose", "movedim"):
                found = self._known_axis(user, axes)
                return None if found is None else self._moved(user, axes)[found]
            if key in (*ACTIVATIONS, *ARITHMETIC, "dropout", "cat", "concat"):
                return self._known_axis(user, axes)
        return None

    def _input(self, node: Any) -> Value:
        shape = self.shapes[node]
        table = self._table(node)
        if table is not None:
            return Value(Ids(math.prod(shape), table.num_embeddings), shape, len(shape) - 1)
        if len(shape) not in (1, 2, 3):
            raise ValueError(f"a row must have 1 to 3 axes, not {len(shape)}")
        axis = self._axis(node, len(shape))
        positions = shape[:axis] + shape[axis + 1 :]
        made: Any = (Input, Sequence, Grid)[len(positions)]
        return Value(made(*positions, shape[axis]), shape, axis)

    # ---- any operation ----

    def _module(self, node: Any) -> Any:
        return self.modules[node.target] if node.op == "call_module" else None

    def _place(self, node: Any) -> str:
        if module := self._module(node):
            return f'module "{node.target}" ({_named(module)})'
        target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.target)
        return f"{node.op.removeprefix('call_')} {target} (node {node.name} of the trace)"

    def _settings(self, node: Any, **defaults: Any) -> list[Any]:
        """Settings of a module, or of a function, whose arguments have this order after the first."""
        module = self._module(node)
        if module is not None:
            return [getattr(module, name, default) for name, default in defaults.items()]
        given = dict(zip(defaults, node.args[1:], strict=False)) | node.kwargs
        return [given.get(name, default) for name, default in defaults.items()]

    def _shape(self, node: Any) -> tuple[int, ...]:
        """Of a row of the result; one number for each row is a column."""
        return tuple(self.results[node].shape[1:]) or (1,)

    def _put(self, node: Any, x: Node, make: Any, part: str = "", **tensors: Any) -> Node:
        module = self._module(node)
        frozen = not any(p.requires_grad for p in module.parameters()) and bool(list(module.parameters()))
        return self.building.put(node.target + part, x, make, frozen, **{key: array_of(value) for key, value in tensors.items()})

    def _columns(self, values: Any, x: Value) -> Any:
        """A vector for the columns of x, in the order of the node."""
        if values is None or x.order is None:
            return values
        moved = np.empty_like(array_of(values))
        moved[..., x.order] = array_of(values)
        return moved

    def _moved(self, node: Any, axes: int) -> list[int]:
        """For each axis of the result of permute or transpose, the operand's; without the rows'."""
        given = [*node.args[1:], *(one for one in node.kwargs.values())]
        given = list(given[0]) if isinstance(given[0], tuple | list) else given
        at = [one % (axes + 1) for one in given]
        if key_of(node, None) == "transpose":
            order = list(range(axes + 1))
            order[at[0]], order[at[1]] = at[1], at[0]
            at = order
        if at[0] != 0 or sorted(at) != list(range(axes + 1)):
            raise ValueError("it moves the rows")
        return [one - 1 for one in at[1:]]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def array_of(values: Any) -> Any:
    return values.detach().numpy() if hasattr(values, "detach") else values


def _named(module: Any) -> str:
    kind = type(module)
    return f"torch.nn.{kind.__name__}" if kind.__module__.startswith("torch.nn") else f"{kind.__module__}.{kind.__name__}"


def key_of(node: Any, module: Any) -> str:
    """The name of what a node does, in small letters without _."""
    target = type(module).__name__ if module is not None else node.target
    name = target if isinstance(target, str) else getattr(target, "__name__", "")
    return name.lower().replace("_", "")
