"""bp.from_torch: a traced module, operation by operation.

PyTorch has the channels of images before their positions; microbp has them last. A value knows which of its axes are the channels, and
of a flattened image, where each of PyTorch's columns is: weights are put in order once, and predictions move nothing.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from ...network.layers import Activation, BatchNorm, Dense, Dropout, Embedding, LayerNorm, Scale
from ...network.network import DType, Network
from ...network.nodes import Ids, Node, concat
from ...network.positions.layers import Conv, Flatten, Last, Pool, Unflatten
from ...network.positions.recurrent import GATES, Recurrent
from .trace import ACTIVATIONS, ARITHMETIC, PLAIN, RESHAPES, States, Trace, Value, array_of, flat_order, key_of, library


def from_torch(module: Any, input_shape: Any = None, dtype: DType | None = None) -> Network:
    """Makes a network of a module of PyTorch, with its weights: net.predict gives what the module gives in eval mode.

    The module is traced by torch.fx, so `forward` may do what does not depend on values: Linear, activations, Dropout, BatchNorm,
    LayerNorm, Conv1d and Conv2d, pools, RNN, GRU, LSTM, Embedding, EmbeddingBag of sums, their functions, arithmetic, cat, slices, and
    changes of shape that keep the order of columns. Layers have the names of their modules, with _ for dots. A Softmax, LogSoftmax or
    Sigmoid at the end becomes the output activation, so that net.predict gives probabilities.

    input_shape: of a row, as PyTorch has it: (channels, height, width), (length, features) for a GRU, () for one id. A list of shapes for
    several inputs. None: from the first Linear or norm.
    dtype: None: that of the module's parameters, if it is float64, else float32.

    X has its channels last, as everywhere in microbp: (rows, height, width, channels) where PyTorch has (rows, channels, height, width).
    Sequences need batch_first=True. ImportError: PyTorch is not installed. ValueError: microbp does not have a module; the text names it.

    >>> import torch
    >>> module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3), torch.nn.Softmax(dim=1))
    >>> net = bp.from_torch(module)
    >>> list(net.tensors), net.outputs[0].activation
    (['0.weight', '0.bias', '2.weight', '2.bias'], 'softmax')
    >>> with torch.no_grad():
    ...     np.allclose(net.predict(np.ones((2, 4))), module(torch.ones(2, 4)), atol=1e-6)
    True
    """
    torch = library()
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"from_torch: the module must be a torch.nn.Module, not {type(module).__name__}")
    if isinstance(module, import_module(".module", __package__).Module):
        raise TypeError("from_torch: net.to_torch() made this module; copy its state_dict into net.tensors instead")
    return _Reading(torch, module, input_shape).network(dtype)


class _Reading(Trace):
    def network(self, dtype: DType | None) -> Network:
        inputs = []
        for node in self.nodes:
            try:
                self.made[node] = self._value(node)
            except (ValueError, TypeError, IndexError, AttributeError) as error:
                if str(error).startswith("from_torch"):
                    raise
                raise ValueError(f"from_torch: {self._place(node)}: {error}") from None
            if node in self.shapes:
                inputs.append(self.made[node].node)
        ends = self.made[self.nodes[-1]]
        ends = list(ends.values()) if isinstance(ends, dict) else list(ends) if isinstance(ends, tuple | list) else [ends]
        for value in ends:
            if not isinstance(value, Value):
                raise ValueError(f"from_torch: the module must return tensors of rows, not {type(value).__name__}")
            if value.order is not None:
                raise ValueError(
                    "from_torch: the module returns a flattened image, whose columns have another order in microbp; return the image"
                )
        return self.building.network(inputs, [(value.node, value.final) for value in ends], dtype or str(self.dtype).removeprefix("torch."))

    def _value(self, node: Any) -> Any:
        if node in self.shapes:
            return self._input(node)
        arguments = self.torch.fx.node.map_arg(list(node.args), lambda one: self.made[one])
        if node.op == "output":
            return arguments[0]
        result = self.results[node]
        is_constant = not _has_value([arguments, self.torch.fx.node.map_arg(dict(node.kwargs), lambda one: self.made[one])])
        if is_constant or isinstance(result, int | float | bool | self.torch.Size | self.torch.dtype | self.torch.device):
            return result
        if any(isinstance(value, Value) and value.final for value in arguments):
            raise ValueError("it follows the softmax or sigmoid at the end of the module")
        key = key_of(node, self._module(node))
        row = _ROWS.get(key)
        if row is None or (self._module(node) is None and key in _MODULES_ONLY):
            what = "it as a function, only as a module" if row else "it"
            raise ValueError(f"microbp does not have {what}; write it with what help(bp.from_torch) lists")
        value = row(self, node, *arguments)
        if isinstance(value, Value) and (value.shape != self._shape(node) or not _fits(value)):
            made = f"{value.node!r}, but PyTorch has rows of shape {self._shape(node)}"
            raise ValueError(f"microbp has {made}; leave out ceil_mode and operations on rows, and pass batch_first=True")
        return value

    # ---- layers ----

    def linear(self, node: Any, x: Value) -> Value:
        module = self._module(node)
        if x.axis != len(x.shape) - 1:
            raise ValueError("its columns are not the channels")
        if x.order is not None and self.calls.count(node.target) > 1:
            raise ValueError("it is shared, and reads a flattened image")
        make = partial(Dense, module.out_features, bias=module.bias is not None)
        made = self._put(node, x.node, make, weight=self._columns(module.weight, x), bias=module.bias)
        return Value(made, (*x.shape[:-1], module.out_features), x.axis)

    def conv(self, node: Any, x: Value) -> Value:
        module = self._module(node)
        if module.groups != 1 or module.padding_mode != "zeros":
            raise ValueError(f"groups={module.groups} and padding_mode={module.padding_mode} are not there; write groups=1 and zeros")
        self._check_images(x)
        weight = np.moveaxis(array_of(module.weight), 1, -1).reshape(module.out_channels, -1)
        settings = {"stride": module.stride, "pad": module.padding, "dilation": module.dilation}
        make = partial(Conv, module.out_channels, module.kernel_size, bias=module.bias is not None, **settings)
        return _images(self._put(node, x.node, make, weight=weight, bias=module.bias))

    def batch_norm(self, node: Any, x: Value) -> Value:
        module = self._module(node)
        if x.axis != 0:
            raise ValueError("its columns are not the channels")
        if module.running_mean is None or module.momentum is None:
            raise ValueError("it has no running statistics with a momentum")
        weight = np.ones(module.num_features) if module.weight is None else module.weight
        tensors = {"weight": weight, "bias": module.bias, "running_mean": module.running_mean, "running_var": module.running_var}
        made = self._put(
            node, x.node, partial(BatchNorm, module.momentum, module.eps), **{k: self._columns(v, x) for k, v in tensors.items()}
        )
        return replace(x, node=made)

    def layer_norm(self, node: Any, x: Value) -> Value:
        module = self._module(node)
        if tuple(module.normalized_shape) != x.shape[-1:] or x.axis != len(x.shape) - 1:
            raise ValueError(f"normalized_shape must be the columns of a row or of a position, not {tuple(module.normalized_shape)}")
        tensors = {"weight": self._columns(module.weight, x), "bias": self._columns(module.bias, x)}
        return replace(x, node=self._put(node, x.node, partial(LayerNorm, module.eps), **tensors))

    def dropout(self, node: Any, x: Value, *_: Any) -> Value:
        if self._module(node) is None and self._settings(node, p=0.5, training=node.op == "call_function")[1]:
            raise ValueError("it drops numbers in predictions too: write training=self.training")
        return replace(x, node=Dropout(self._settings(node, p=0.5)[0])(x.node))

    def embedding(self, node: Any, x: Value) -> Value:
        module = self._module(node)
        sums = type(module).__name__ == "EmbeddingBag"
        if sums and (module.mode != "sum" or module.padding_idx is not None):
            raise ValueError('it must have mode="sum", and no padding_idx')
        if not isinstance(x.node, Ids):
            raise ValueError("it must read an input")
        levels, units = module.weight.shape
        make = partial(Embedding, levels, units, combine="sum" if sums else "concat", max_norm=module.max_norm)
        made = self._put(node, x.node, make, weight=module.weight)
        positions = () if sums else x.shape
        return Value(Unflatten(*positions)(made) if positions else made, (*positions, units), len(positions))

    def recurrent(self, node: Any, x: Value, *state: Any) -> Any:
        module = self._module(node)
        kind = type(module).__name__
        cell = {"RNN": "tanh", "GRU": "gru", "LSTM": "lstm"}[kind]
        if state or node.kwargs.get("hx") is not None:
            raise ValueError("it starts from a state that is not 0")
        if not module.batch_first or module.proj_size or getattr(module, "nonlinearity", "tanh") != "tanh":
            raise ValueError("it must have batch_first=True, no proj_size, and nonlinearity tanh")
        if x.axis != len(x.shape) - 1 or len(x.shape) != 2:
            raise ValueError("it must read a sequence of shape (length, columns)")
        at, states = x.node, States()
        for number in range(module.num_layers):
            ways = ["", "_reverse"][: 1 + module.bidirectional]
            done = [self._direction(node, at, cell, f"_l{number}{way}") for way in ways]
            at = done[0] if len(done) == 1 else concat(done)
            states += [Value(Last()(at), (module.hidden_size,), 0)] if len(done) == 1 else []
            if module.dropout and number < module.num_layers - 1:
                at = Dropout(module.dropout)(at)
        out = Value(at, (x.shape[0], at.width), 1)
        return out, (states, None) if kind == "LSTM" else states

    def _direction(self, node: Any, x: Node, cell: str, part: str) -> Node:
        module = self._module(node)
        weight = np.hstack([array_of(getattr(module, f"weight_{what}{part}")) for what in ("ih", "hh")])
        bias = None
        if module.bias:
            of_x, of_h = (array_of(getattr(module, f"bias_{what}{part}")) for what in ("ih", "hh"))
            count = (GATES[cell] - (cell == "gru")) * module.hidden_size
            bias = np.concatenate([of_x[:count] + of_h[:count], of_x[count:], of_h[count:]])
        settings: dict[str, Any] = {"cell": cell, "reverse": part.endswith("reverse"), "bias": module.bias}
        return self._put(
            node, x, partial(Recurrent, module.hidden_size, **settings), "" if part == "_l0" else part, weight=weight, bias=bias
        )

    # ---- without parameters ----

    def activation(self, node: Any, x: Value, *_: Any) -> Value:
        name, parameters = ACTIVATIONS[key := key_of(node, self._module(node))]
        for setting, needed in PLAIN.get(key, {}).items():
            if self._settings(node, **{setting: needed})[0] != needed:
                raise ValueError(f"{setting} must be {needed!r}")
        if name == "sigmoid" and self._is_last(node):
            return replace(x, final="sigmoid")
        values = self._settings(node, **{theirs: default for theirs, (_, default) in parameters.items()})
        spec = Activation(name, **{ours: value for (ours, _), value in zip(parameters.values(), values, strict=True)})  # type: ignore[arg-type]
        return replace(x, node=spec(x.node))

    def softmax(self, node: Any, x: Value, *_: Any) -> Value:
        (dim,) = self._settings(node, dim=None)
        axes = len(x.shape) + 1
        if not self._is_last(node) or (1 if dim is None and axes == 2 else dim) not in (x.axis + 1, x.axis + 1 - axes):
            raise ValueError("microbp has it at the end of a module only, over the columns")
        return replace(x, final="softmax")

    def _is_last(self, node: Any) -> bool:
        return [user.op for user in node.users] == ["output"]

    def power(self, node: Any, x: Value, exponent: Any) -> Value:
        return replace(x, node=x.node**exponent)

    def arithmetic(self, node: Any, *operands: Any) -> Value:
        key = ARITHMETIC[key_of(node, None)]
        if node.kwargs:
            raise ValueError(f"{', '.join(node.kwargs)} is not there")
        values = [one for one in operands if isinstance(one, Value)]
        if len(values) == 2:
            self._check_same(values)
        elif len(operands) == 2 and any(isinstance(one, self.torch.Tensor) and one.numel() > 1 for one in operands):
            return self._constant(node, key, *operands)
        numbers = [one.node if isinstance(one, Value) else float(one) for one in operands]
        return replace(values[0], node=getattr(operator, key)(*numbers))

    def _constant(self, node: Any, key: str, a: Any, b: Any) -> Value:
        """Arithmetic with a vector of the module: a scale."""
        x, constant = (a, b) if isinstance(a, Value) else (b, a)
        wide = constant.reshape((1,) * (1 + len(x.shape) - constant.dim()) + tuple(constant.shape))
        if wide.numel() != wide.shape[x.axis + 1] or wide.numel() != x.shape[x.axis] or (key == "truediv" and x is b):
            raise ValueError(f"a tensor of shape {tuple(constant.shape)} is not one number for each column")
        vector, one = self._columns(array_of(constant.ravel()), x), np.ones(constant.numel())
        rows: dict[str, tuple[Any, Any]] = {"mul": (vector, None), "truediv": (1 / vector, None), "add": (None, vector)}
        rows["sub"] = (None, -vector) if x is a else (-one, vector)
        weight, bias = rows[key]
        make = partial(Scale, weight is not None, bias is not None)
        return replace(x, node=self.building.put(node.name, x.node, make, not constant.requires_grad, weight=weight, bias=bias))

    def _check_same(self, values: Sequence[Value], apart: bool = False) -> None:
        """ValueError: the values differ in how they lie. apart: except in how many columns they have."""
        first = values[0]
        for other in values[1:]:
            shapes = [list(value.shape) for value in (first, other)]
            for shape in shapes:
                shape[first.axis] = 0 if apart else shape[first.axis]
            if other.axis != first.axis or shapes[0] != shapes[1] or not (apart or np.array_equal(first.flat, other.flat)):
                raise ValueError(f"its operands have the shapes {first.shape} and {other.shape}, or another order of columns")

    def cat(self, node: Any, values: list[Value], *dims: int) -> Value:
        dim = (*dims, node.kwargs.get("dim", node.kwargs.get("axis", 0)))[0] % (len(values[0].shape) + 1)
        self._check_same(values, apart=True)
        axis = values[0].axis
        if dim != axis + 1:
            raise ValueError("it must join columns, or channels")
        made, width = concat([value.node for value in values]), sum(value.shape[axis] for value in values)
        shape = list(values[0].shape)
        shape[axis] = width
        order = None
        if any(value.order is not None for value in values):
            starts = np.cumsum([0, *(value.node.width for value in values)])
            order = np.concatenate([value.flat + start for value, start in zip(values, starts, strict=False)])
        return Value(made, tuple(shape), axis, order)

    def chunks(self, node: Any, x: Value, *_: Any) -> tuple[Value, ...]:
        found, start = [], 0
        for part in self.results[node]:
            shape = tuple(part.shape[1:])
            if shape[: x.axis] + shape[x.axis + 1 :] != x.shape[: x.axis] + x.shape[x.axis + 1 :] or x.order is not None:
                raise ValueError("it must part columns, or channels")
            found.append(Value(x.node[:, start : start + shape[x.axis]], shape, x.axis))
            start += shape[x.axis]
        return tuple(found)

    def item(self, node: Any, x: Any, key: Any) -> Any:
        if not isinstance(x, Value):
            found = x[key] if isinstance(key, int) and -len(x) <= key < len(x) else None
            if found is None:
                raise ValueError("microbp gives the states h of recurrent modules of one direction only, one layer at a time: h[-1]")
            return found
        keys = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in keys:
            at = keys.index(Ellipsis)
            keys[at : at + 1] = [slice(None)] * (2 + len(x.shape) - len(keys) + keys.count(None))
        cuts = [(axis, one) for axis, one in enumerate(keys) if one != slice(None)]
        if None in keys and len(cuts) == keys.count(None):
            return self.reshape(node, x)
        is_flat = len(x.shape) == 1
        if len(cuts) == 1 and cuts[0][0] == x.axis + 1 and x.order is None and (is_flat or isinstance(cuts[0][1], slice)):
            return Value(x.node[:, cuts[0][1]], self._shape(node), x.axis)
        if len(x.shape) == 2 and cuts in [[(2 - x.axis, -1)], [(2 - x.axis, x.shape[1 - x.axis] - 1)]]:
            return Value(Last()(x.node), (x.node.width,), 0)
        raise ValueError("it must be some columns, x[:, 2:5], or the last position, x[:, -1]")

    # ---- shapes ----

    def reshape(self, node: Any, x: Value | States, *_: Any, **__: Any) -> Value:
        if isinstance(x, States):
            if len(x) != 1:
                raise ValueError("write h[-1]")
            x = x[0]
        shape = self._shape(node)
        if shape == x.shape:
            return x
        if math.prod(shape) != math.prod(x.shape) or len(shape) not in (1, 2, 3):
            raise ValueError(f"rows of shape {x.shape} cannot become rows of shape {shape}")
        flat = x.flat
        is_plain = np.array_equal(flat, np.arange(len(flat)))
        if len(shape) == 1:
            return Value(Flatten()(x.node) if x.node.grid else x.node, shape, 0, None if is_plain else flat)
        axis = self._axis(node, len(shape))
        positions = shape[:axis] + shape[axis + 1 :]
        if not np.array_equal(flat, flat_order(shape, axis)):
            raise ValueError("it changes the order of columns")
        return Value(Unflatten(*positions)(x.node), shape, axis)

    def transpose(self, node: Any, x: Value, *_: Any) -> Value:
        moved = self._moved(node, len(x.shape))
        if [axis for axis in moved if axis != x.axis] != sorted(axis for axis in moved if axis != x.axis):
            raise ValueError("it exchanges the height and the width")
        return replace(x, shape=tuple(x.shape[axis] for axis in moved), axis=moved.index(x.axis))

    # ---- positions ----

    def _check_images(self, x: Value) -> None:
        if x.axis != 0 or len(x.shape) < 2:
            raise ValueError(f"it must read channels and positions, not {x.shape}")

    def pool(self, node: Any, x: Value, *_: Any) -> Value:
        self._check_images(x)
        kind = "mean" if "avg" in key_of(node, self._module(node)) else "max"
        names = {"kernel_size": None, "stride": None, "padding": 0} | ({"dilation": 1} if kind == "max" else {})
        size, stride, *others = self._settings(node, **names)
        if any(one not in (default, (default,), (default, default)) for one, default in zip(others, (0, 1), strict=False)):
            raise ValueError("padding and dilation are not there; pad before, in the convolution")
        if kind == "mean" and self._settings(node, divisor_override=None) != [None]:
            raise ValueError("divisor_override is not there")
        return _images(Pool(size, stride or size, kind)(x.node))  # type: ignore[arg-type]

    def pool_to(self, node: Any, x: Value, *_: Any) -> Value:
        """A pool whose result has a given size."""
        self._check_images(x)
        to = self._shape(node)[1:]
        if any(length % end for length, end in zip(x.node.grid, to, strict=True)):
            raise ValueError(f"{x.node.grid} positions are not a multiple of {to}")
        kind: Any = "mean" if "avg" in key_of(node, self._module(node)) else "max"
        return _images(Pool([length // end for length, end in zip(x.node.grid, to, strict=True)], kind=kind)(x.node))

    def mean(self, node: Any, x: Value, *_: Any) -> Value:
        (dim,) = self._settings(node, dim=None)
        dims = {one % (len(x.shape) + 1) for one in (dim if isinstance(dim, tuple | list) else [dim])} if dim is not None else set()
        if not dims or dims != {axis + 1 for axis in range(len(x.shape)) if axis != x.axis}:
            raise ValueError("it must be the mean of all positions")
        pooled = Pool(x.node.grid, kind="mean")(x.node)
        shape = self._shape(node)
        return Value(Flatten()(pooled), shape, 0) if len(shape) == 1 else Value(pooled, shape, x.axis)


def _images(node: Node) -> Value:
    return Value(node, (node.width, *node.grid), 0)


def _has_value(found: Any) -> bool:
    if isinstance(found, dict):
        found = list(found.values())
    return isinstance(found, Value | States) or (isinstance(found, tuple | list) and any(map(_has_value, found)))


def _fits(value: Value) -> bool:
    positions = value.shape[: value.axis] + value.shape[value.axis + 1 :]
    return value.node.width == value.shape[value.axis] and math.prod(value.node.grid) == math.prod(positions)


_Row = Callable[..., Any]
_MODULES_ONLY: dict[str, _Row] = {
    "linear": _Reading.linear,
    **dict.fromkeys(("conv1d", "conv2d"), _Reading.conv),
    **dict.fromkeys(("batchnorm1d", "batchnorm2d"), _Reading.batch_norm),
    "layernorm": _Reading.layer_norm,
    **dict.fromkeys(("embedding", "embeddingbag"), _Reading.embedding),
    **dict.fromkeys(("rnn", "gru", "lstm"), _Reading.recurrent),
}
_ROWS: dict[str, _Row] = {  # what microbp has: the name without _ of a module, a function or a method -> its reader
    **_MODULES_ONLY,
    **dict.fromkeys(ACTIVATIONS, _Reading.activation),
    **dict.fromkeys(ARITHMETIC, _Reading.arithmetic),
    **dict.fromkeys(RESHAPES, _Reading.reshape),
    **dict.fromkeys(("softmax", "logsoftmax"), _Reading.softmax),
    **dict.fromkeys(("permute", "transpose"), _Reading.transpose),
    **dict.fromkeys(("maxpool1d", "maxpool2d", "avgpool1d", "avgpool2d"), _Reading.pool),
    **dict.fromkeys(("adaptiveavgpool1d", "adaptiveavgpool2d", "adaptivemaxpool1d", "adaptivemaxpool2d"), _Reading.pool_to),
    **dict.fromkeys(("cat", "concat", "concatenate"), _Reading.cat),
    **dict.fromkeys(("chunk", "split"), _Reading.chunks),
    "dropout": _Reading.dropout,
    "getitem": _Reading.item,
    "mean": _Reading.mean,
    "pow": _Reading.power,
}
