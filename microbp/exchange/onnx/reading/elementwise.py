"""Operators that work number by number, and the small graphs that exporters write for activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ....core.text import number
from ....data.arrays import Array
from ....network.layers import Activation, Scale, Standardize
from ....network.nodes import Node, add, multiply
from .values import ROWS, Reading, Value, Weights, columns, ready, same_layout, seen

_SELU = {"alpha": 1.6732632, "gamma": 1.0507010}


def shortest(value: float) -> float:
    """A float32 as the shortest decimal number that is read as it: 0.01, not 0.009999999776482582."""
    return float(str(np.float32(value)))


def scalar(value: Any) -> float | None:
    """The number that a constant consists of."""
    if not isinstance(value, np.ndarray) or value.size != 1 or value.dtype.kind not in "fiu":
        return None
    return float(value.item()) if value.dtype == np.float64 else shortest(value.item())


def is_about(value: Any, expected: float) -> bool:
    """Whether a constant is this number, within the rounding of float32."""
    found = scalar(value)
    return found is not None and math.isclose(found, expected, rel_tol=1e-6)


# ---- patterns: the operands of the operator that made a value ----


def _form(value: Any, op: str) -> tuple[Any, ...]:
    """The operands of the operator `op` that made a value; () if another made it."""
    return value.form[1] if isinstance(value, Value) and value.op == op else ()


def _with(value: Any, op: str, expected: float) -> Any:
    """Of a sum or a product with this number: the other operand."""
    operands = _form(value, op)
    found = [one for one, other in (operands, operands[::-1]) if is_about(other, expected)] if len(operands) == 2 else []
    return found[0] if found else None


def _times(value: Any, factor: float) -> Any:
    """The value that was multiplied by this number, or divided by its reciprocal."""
    operands = _form(value, "Div")
    return operands[0] if operands and is_about(operands[1], 1 / factor) else _with(value, "Mul", factor)


def _same(a: Any, b: Any) -> bool:
    return isinstance(a, Value) and isinstance(b, Value) and a.name == b.name


def _erf(value: Any) -> Any:
    """z of 1 + erf(z / sqrt(2))."""
    inner = _form(_with(value, "Add", 1), "Erf")
    return _times(inner[0], math.sqrt(0.5)) if inner else None


def _product(r: Reading, z: Any, other: Any) -> Value | None:
    """What z times another value is, if it is an activation."""
    inner = _form(other, "Sigmoid")
    if inner and _same(inner[0], z):
        return r.activation(z, "silu", 2)
    inner = _form(other, "Tanh")
    inner = _form(inner[0], "Softplus") if inner else ()
    if inner and _same(inner[0], z):
        return r.activation(z, "mish", 2)
    if _same(_erf(other), _times(z, 0.5)):
        return r.activation(_erf(other), "gelu", 2)
    return r.activation(z, "gelu", 2) if _same(_erf(_times(other, 0.5)), z) else None


def _of_constant(r: Reading, kind: str, value: Value, constant: Any) -> Value | None:
    """What a product with a constant, or a division by one, is, if an activation ends there."""
    number = scalar(constant)
    if kind not in ("Mul", "Div") or not number:
        return None
    factor = number if kind == "Mul" else 1 / number
    operands = _form(value, "Mul")
    if math.isclose(factor, 0.5) and len(operands) == 2:
        for z, other in (operands, operands[::-1]):
            if _same(_erf(other), z):
                return r.activation(z, "gelu", 2)
    operands = _form(value, "Clip")
    if math.isclose(factor, 1 / 6, rel_tol=1e-6) and len(operands) == 3 and scalar(operands[1]) == 0 and scalar(operands[2]) == 6:
        z = _with(operands[0], "Add", 3)
        return r.activation(z, "hard_sigmoid") if z is not None else None
    operands = _form(value, "Tanh")
    z = _times(operands[0], 2 / 3) if operands and math.isclose(factor, 1.7159, rel_tol=1e-6) else None
    return r.activation(z, "scaled_tanh") if z is not None else None


# ---- activations ----


def _plain(name: str) -> Callable[[Reading], Value]:
    return lambda r: r.activation(r.x(), name)


def _with_alpha(name: str, key: str, default: float) -> Callable[[Reading], Value]:
    return lambda r: r.activation(r.x(), f"{name}({key}={number(shortest(r.get('alpha', default)))})")


def _gelu(r: Reading) -> Value:
    if r.get("approximate", b"none") != b"none":
        return r.ghost("microbp has only the exact gelu, without approximation")
    return r.activation(r.x(), "gelu")


def _selu(r: Reading) -> Value:
    if any(not math.isclose(r.get(key, value), value, rel_tol=1e-6) for key, value in _SELU.items()):
        return r.ghost(f"its alpha and gamma must be {_SELU['alpha']} and {_SELU['gamma']}")
    return r.activation(r.x(), "selu")


def _celu(r: Reading) -> Value:
    return r.activation(r.x(), "elu") if r.get("alpha", 1.0) == 1 else r.ghost("its alpha must be 1")


def _hard_sigmoid(r: Reading) -> Value:
    """Of another slope than 1 / 6: hard_sigmoid(6 alpha z + 6 beta - 3)."""
    alpha, beta = (shortest(r.get(key, default)) for key, default in (("alpha", 0.2), ("beta", 0.5)))
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return r.activation(r.x(), "hard_sigmoid")
    return r.made(Activation("hard_sigmoid")(ready(r.x()) * (6 * alpha) + (6 * beta - 3)), r.x().axes)


def _hard_swish(r: Reading) -> Value:
    return r.made(ready(r.x()) * Activation("hard_sigmoid")(ready(r.x())), r.x().axes)


def _prelu(r: Reading) -> Value:
    slopes = r.tensor(1)
    if slopes.size == 0 or not (slopes == slopes.flat[0]).all() or not slopes.flat[0] >= 0:
        return r.ghost("microbp has one slope for all columns, of at least 0")
    return r.activation(r.x(), f"leaky_relu(slope={number(shortest(slopes.flat[0]))})")


def _clip(r: Reading) -> Value:
    low, high = (r.operator.attributes.get(key, scalar(r.given(place))) for key, place in (("min", 1), ("max", 2)))
    if high is None and low == 0:
        return r.activation(r.x(), "relu")
    return r.ghost(f"microbp cannot limit numbers to the range {low} to {high}")


def _power(r: Reading) -> Value:
    return r.activation(r.x(), "square") if scalar(r.given(1)) == 2 else r.ghost("microbp has only the power 2")


def _where(r: Reading) -> Value:
    """A softplus that is z itself for large z."""
    condition, z, other = r.inputs
    compared = _form(condition, "Greater")
    if compared and _same(compared[0], z) and (scalar(compared[1]) or 0) >= 15 and _form(other, "Softplus"):
        return r.activation(z, "softplus", 3)
    return r.ghost("microbp cannot choose between numbers")


# ---- arithmetic ----


def _arithmetic(r: Reading) -> Value:
    """Add, Sub, Mul, Div, Sum."""
    kind, operands = r.operator.type.replace("Sum", "Add"), r.inputs
    if len(operands) != 2 or all(isinstance(one, Value) for one in operands):
        return _of_values(r, kind)
    swapped = not isinstance(operands[0], Value)
    value, constant = operands[::-1] if swapped else operands
    found = _of_constant(r, kind, value, constant) if kind == "Mul" or not swapped else None
    if found is not None:
        return found
    if value.node is None:  # part of an activation that may still come
        return r.ghost(value.why)._replace(why=value.why)
    return _with_constant(r, kind, value, r.tensor(0 if swapped else 1), swapped)


def _of_values(r: Reading, kind: str) -> Value:
    if len(r.inputs) == 2:
        a, b = r.inputs
        if kind == "Mul":
            product = _product(r, a, b) or _product(r, b, a)
            if product or _same(a, b):
                return product or r.activation(a, "square", 2)
        if kind == "Div":
            inner = _form(_with(b, "Add", 1), "Abs")
            if inner and _same(inner[0], a):
                return r.activation(a, "softsign", 2)
            return r.ghost("microbp cannot divide a value by a value")
        if a.node is None or b.node is None:
            return r.ghost("")._replace(why=a.why or b.why)
    found = [r.x(i) for i in range(len(r.inputs))]
    axes = same_layout(found)
    nodes = [ready(one) if ready(one).grid == ready(found[0]).grid else seen(one, ready(found[0]).grid) for one in found]
    if kind == "Sub":
        return r.made(nodes[0] - nodes[1], axes)
    return r.made(nodes[0] if len(nodes) == 1 else (multiply if kind == "Mul" else add)(*nodes), axes)


def _with_constant(r: Reading, kind: str, x: Value, constant: Array, swapped: bool) -> Value:
    """A value and a constant; swapped: the constant is first."""
    x, own = x._replace(axes=((),) * (constant.ndim - len(x.axes)) + x.axes), r.key(0 if swapped else 1)
    weights = _form(x, "dense")
    joins = kind == "Add" and weights and weights[0].bias is None and x.uses == 1 and constant.ndim > 0
    one = None if joins else scalar(constant)
    if kind == "Div" and swapped:
        return r.ghost("microbp cannot divide a number by a value")
    if kind == "Div" and not constant.all():
        raise ValueError("it divides by 0")
    if one is not None:
        node = ready(x)
        changed = {"Add": node.__add__, "Sub": node.__rsub__ if swapped else node.__sub__, "Mul": node.__mul__, "Div": node.__truediv__}
        return r.made(changed[kind](one), x.axes)
    node, flat, order = _aligned(x, constant)
    if joins and node is x.node:
        return r.dense(Weights(weights[0].node, weights[0].weight, flat, (*weights[0].key, *own)), x.axes)
    if kind == "Sub" and swapped:
        node, kind = -node, "Add"
    key = (kind, *own, node.width, order)
    if kind == "Div" and x.op == "centred" and x.uses == 1:
        mean, base, names = x.form[1]
        return r.made(r.layer((*names, *key), Standardize, mean=mean, std=flat)(base), x.axes)
    if kind == "Add" and x.op == "scaled" and x.uses == 1:
        weight, base, names = x.form[1]
        return r.made(r.layer((*names, *key), Scale, weight=weight, bias=flat)(base), x.axes)
    if kind in ("Mul", "Div"):
        factor = flat if kind == "Mul" else 1 / flat.astype(np.float64)
        return r.made(r.layer(key, lambda: Scale(bias=False), weight=factor)(node), x.axes, ("scaled", (factor, node, key)))
    layer = r.layer(key, lambda: Scale(gain=False), bias=flat if kind == "Add" else -flat)
    return r.made(layer(node), x.axes, ("centred", (flat, node, key)) if kind == "Sub" else None)


def _aligned(x: Value, constant: Array) -> tuple[Node, Array, Any]:
    """A node, and a constant as a vector with a number for each of its columns; and what tells its order from others."""
    rank, sizes = len(x.axes), x.sizes
    shape = (1,) * (rank - constant.ndim) + constant.shape
    wide = [axis for axis, size in enumerate(shape) if size != 1] or [rank - 1]
    if any(shape[axis] not in (1, sizes[axis]) or x.axes[axis] == ROWS for axis in wide):
        raise ValueError(f"a constant of shape {constant.shape} does not fit the value that it is combined with")
    others = [rank for i, axis in enumerate(x.axes) if i != wide[0] for rank, _ in axis]
    innermost = not x.axes[wide[0]] or min(x.axes[wide[0]])[0] > max(others, default=0)
    if len(wide) == 1 and innermost:
        node, vector = columns(x, wide[0], constant.reshape(-1))
        assert vector is not None
        factors = [*x.axes[wide[0]]]
        return node, vector, () if factors == sorted(factors) else tuple(factors)
    return *_whole(x, constant.reshape(shape), sizes), x.axes


def _whole(x: Value, constant: Array, sizes: list[int]) -> tuple[Node, Array]:
    """The same for all numbers of a row."""
    axes = x.axes
    if ROWS not in axes:
        raise ValueError("rows are mixed with other numbers")
    batch = axes.index(ROWS)
    sizes[batch] = 1
    if math.prod(sizes) > max(2**20, 64 * constant.size):
        raise ValueError("a constant is repeated for too many numbers")
    factors = [factor for axis in axes for factor in axis if factor[0]]
    full = np.broadcast_to(constant, sizes).reshape([size for _, size in factors])
    return seen(x, ()), full.transpose(np.argsort([rank for rank, _ in factors])).reshape(-1)


_KNOWN_IN = {  # operators that are known as a part of others only
    "Erf": "gelu, z / 2 (1 + erf(z / sqrt(2)))",
    "Greater": "softplus, which is z for large z",
}
READERS: dict[str, Callable[[Reading], Any]] = {
    "Abs": _plain("abs"),
    "Add": _arithmetic,
    "Celu": _celu,
    "Clip": _clip,
    "Cos": _plain("cos"),
    "Div": _arithmetic,
    "Elu": _with_alpha("elu", "alpha", 1.0),
    "Exp": _plain("exp"),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "LeakyRelu": _with_alpha("leaky_relu", "slope", 0.01),
    "Mish": _plain("mish"),
    "Mul": _arithmetic,
    "Neg": lambda r: r.made(-ready(r.x()), r.x().axes),
    "PRelu": _prelu,
    "Pow": _power,
    "Relu": _plain("relu"),
    "Selu": _selu,
    "Sigmoid": _plain("sigmoid"),
    "Sin": _plain("sin"),
    "Softplus": _plain("softplus"),
    "Softsign": _plain("softsign"),
    "Sub": _arithmetic,
    "Sum": _arithmetic,
    "Swish": lambda r: r.activation(r.x(), "silu") if r.get("alpha", 1.0) == 1 else r.ghost("its alpha must be 1"),
    "Tanh": _plain("tanh"),
    "Where": _where,
} | {kind: lambda r, whole=whole: r.ghost(f"microbp has it only as a part of {whole}") for kind, whole in _KNOWN_IN.items()}
