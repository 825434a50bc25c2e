"""bp.from_keras: the models of Keras 2 (.h5) and Keras 3 (.keras, .h5), layer by layer. Keras has channels last, as microbp has."""

from __future__ import annotations

import math
import os
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from ..core.checks import file_path
from ..core.text import counted
from ..data.arrays import Array
from ..network.layers import Activation, BatchNorm, Dense, Dropout, Embedding, GaussianNoise, LayerNorm, Standardize
from ..network.network import Network
from ..network.nodes import Ids, Input, Node, add, concat, multiply
from ..network.positions.inputs import Grid, Sequence
from ..network.positions.layers import Conv, Flatten, Last, Pool, Repeat, Unflatten
from ..network.positions.recurrent import GATES, Recurrent
from .keras_file import WAYS, Weights, h5_file, keras_file
from .shared.building import Building


def from_keras(path: str | os.PathLike[str]) -> Network:
    """Makes a network of a model that Keras saved, with its weights: net.predict gives what model.predict gives. Keras is not needed.

    path: an .h5 file of Keras 2 or 3, or a .keras file: a Sequential or Functional model, also of other such models, of Dense, Embedding,
    Conv1D, Conv2D, SimpleRNN, GRU, LSTM, Bidirectional, BatchNormalization, LayerNormalization, Normalization, pools, activations,
    Dropout, GaussianNoise, Add, Subtract, Multiply, Average, Concatenate, Flatten, Reshape, RepeatVector, Rescaling.
    Layers have their names in Keras. A softmax or sigmoid at the end becomes the output activation. The network is float32, or float64 if
    the weights are.

    A convolution with padding="same" that needs one more zero behind than before gets a larger window, whose first weights are 0.
    ImportError: h5py is not installed. OSError: the file cannot be read. ValueError: it is damaged, or has a layer that microbp does not
    have: the text names it.

    >>> net = bp.from_keras("model.keras")  # doctest: +SKIP
    """
    if hasattr(path, "get_config"):
        raise TypeError(f'from_keras: path must be a file, not a model of Keras; save it first: {type(path).__name__}.save("model.keras")')
    try:
        import h5py  # imported here: h5py is optional
    except ImportError:
        raise ImportError('files of Keras need h5py, which is not installed: python -m pip install "microbp[keras]"') from None
    name = os.fsdecode(file_path(path))
    with open(name, "rb") as file:  # an OSError of its own, if it cannot be read
        is_zip = file.read(4) == b"PK\3\4"
    try:
        return _Reading(*(keras_file if is_zip else h5_file)(h5py, name)).network()
    except (ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"from_keras: {os.fspath(path)}: {error}") from None
    except (OSError, KeyError, TypeError, AttributeError, IndexError, RuntimeError, ArithmeticError) as error:
        raise ValueError(f"from_keras: {os.fspath(path)} is damaged, or is not a model of Keras: {error!r}") from error


# ---- the model ----


class _Place:
    """A layer of the model. path: its name, after those of the models around it. groups: of their weights in a .keras file."""

    def __init__(self, reading: _Reading, kind: str, config: dict[str, Any], path: tuple[str, ...], groups: tuple[str, ...]) -> None:
        self.reading, self.kind, self.config, self.path, self.groups = reading, kind, config, path, groups
        self.is_last = False

    def get(self, key: str, default: Any = None) -> Any:
        return self.config.get(key, default)

    def needs(self, **settings: Any) -> None:
        """ValueError: a setting has another value than microbp has."""
        for key, value in settings.items():
            given = self.get(key, value)
            if given != value and (given is not None or key == "merge_mode"):
                raise ValueError(f"{key} must be {value!r}, not {given!r}")

    def has(self, key: str, default: bool = True) -> bool:
        return bool(self.get(key, default))

    def arrays(self, *shapes: tuple[int | None, ...]) -> list[Array]:
        found = self.reading.weights(self.path, self.groups)
        if len(found) < len(shapes):
            raise ValueError(f"it has {len(found)} weights, but needs {len(shapes)}")
        return [read(*shape) for read, shape in zip(found, shapes, strict=False)]

    def put(self, x: Node, make: Any, **tensors: Any) -> Node:
        return self.reading.building.put("/".join(self.path), x, make, not self.has("trainable"), **tensors)

    def activate(self, x: Node, given: Any) -> tuple[Node, str | None]:
        """The node after an activation, and the output activation if it is the last one of the model."""
        given = given["config"] if isinstance(given, dict) and isinstance(given.get("config"), str) else given
        if given in ("softmax", "sigmoid") and self.is_last:
            return x, given
        if given in ("hard_sigmoid", "leaky_relu") and self.reading.version < "3":
            raise ValueError(f"the activation {given} of Keras 2 is another function")
        spec = _ACTIVATIONS.get(given or "linear") if isinstance(given, str | None) else None
        if spec is None:
            raise ValueError(f"microbp does not have the activation {given!r} here")
        return x if spec == "identity" else Activation.parse(spec)(x), None


_Made = Node | tuple[Node, str | None]  # a node, and the output activation after it


class _Reading:
    def __init__(self, config: Any, weights: Weights, version: str) -> None:
        self.config, self.weights, self.version, self.building = config, weights, version, Building()

    def network(self) -> Network:
        if self.config.get("class_name") not in _MODELS:
            raise ValueError(f"a {self.config.get('class_name')} cannot be read: it must be a Sequential or Functional model")
        inputs: list[Node] = []
        outputs = self.graph(self.config["config"], None, inputs, None)
        dtypes = {values.dtype for values in self.building.values.values()}
        dtype = "float64" if np.dtype("float64") in dtypes else "float32"
        return self.building.network(inputs, outputs, dtype)

    def graph(self, config: Any, outer: _Place | None, inputs: list[Node], given: list[Node] | None) -> list[tuple[Node, str | None]]:
        """The outputs of a model. inputs: gets its inputs. outer, given: of a model in another: its place, and what it reads."""
        layers, ends, starts = _layers(config)
        ends = _renumbered(layers, ends, self.version)
        path, groups, is_last = (outer.path, outer.groups, outer.is_last) if outer else ((), (), True)
        places, numbers = {}, Counter[str]()
        for layer in layers:
            kind, name = layer["class_name"], layer["name"]
            group = re.sub(r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", kind)).lower()
            group += f"_{numbers[kind]}" * (numbers[kind] > 0)  # as Keras 3 numbers the layers of a class
            places[name] = _Place(self, kind, layer["config"], (*path, name), (*groups, group))
            numbers[kind] += 1
        used = Counter(operand for layer in layers for call in layer["calls"] for operand in call)
        made: dict[tuple[str, int], tuple[Node, str | None]] = {}
        for name, node in zip(starts, given or [], strict=given is not None):
            made[name, 0] = node, None
        waiting = [(layer["name"], i, call) for layer in layers for i, call in enumerate(layer["calls"] or [()])]
        waiting = [one for one in waiting if one[:2] not in made]
        while waiting:
            left = []
            for name, i, operands in waiting:
                if any(operand not in made for operand in operands):
                    left.append((name, i, operands))
                    continue
                place = places[name]
                place.is_last = is_last and (name, i) in ends and not used[name, i]
                try:
                    made[name, i] = self._call(place, [made[operand] for operand in operands], layers)
                except (ValueError, TypeError) as error:
                    text = str(error)
                    raise ValueError(
                        text if text.startswith("layer ") else f'layer "{"/".join(place.path)}" ({place.kind}): {text}'
                    ) from None
            if len(left) == len(waiting):
                raise ValueError(f'layer "{left[0][0]}" reads a layer that is not there')
            waiting = left
        inputs[:] = [made[name, 0][0] for name in starts]
        return [made[end] for end in ends]

    def _call(self, place: _Place, operands: list[tuple[Node, str | None]], layers: Any) -> tuple[Node, str | None]:
        if place.kind == "InputLayer":
            return _input(place, layers), None
        if any(final for _, final in operands):
            raise ValueError("it follows the softmax or sigmoid at the end of the model")
        nodes = [node for node, _ in operands]
        if place.kind in _MODELS:
            made = self.graph(place.config, place, [], nodes)
            if len(made) != 1:
                raise ValueError(f"it has {len(made)} outputs, but a model in another one must have 1")
            return made[0]
        if place.kind not in _ROWS:
            raise ValueError("microbp does not have this layer")
        if (len(nodes) == 1) == (place.kind in _SEVERAL):
            raise ValueError(f"it reads {counted(len(nodes), 'tensor')}, but microbp's reads {'several' if len(nodes) == 1 else 'one'}")
        found = _ROWS[place.kind](place, *nodes)
        return found if isinstance(found, tuple) else place.activate(found, place.get("activation") if place.kind in _ACTIVATED else None)


def _layers(config: Any) -> tuple[list[dict[str, Any]], list[tuple[str, int]], list[str]]:
    """The layers of a model, each with its calls: lists of the layers that are read, each with the number of its call; the same of the
    outputs; the names of the inputs."""
    given = config["layers"] if isinstance(config, dict) else config  # a list: Sequential, before Keras 2.2.3
    layers = [layer | {"name": layer["config"]["name"], "calls": []} for layer in given]
    if not isinstance(config, dict) or "output_layers" not in config:
        if layers and layers[0]["class_name"] != "InputLayer":  # a Sequential model without an input layer
            shape = layers[0]["config"].get("batch_input_shape") or (isinstance(config, dict) and config.get("build_input_shape"))
            layers.insert(0, {"class_name": "InputLayer", "config": {"batch_shape": shape}, "name": "", "calls": []})
        for before, layer in pairwise(layers):
            layer["calls"] = [[(before["name"], 0)]]
        return layers, [(layers[-1]["name"], 0)], [layers[0]["name"]]
    for layer, one in zip(layers, given, strict=True):
        layer["calls"] = [list(_tensors(call)) for call in one["inbound_nodes"]]
    ends, starts = (list(_tensors(config[key])) for key in ("output_layers", "input_layers"))
    return layers, ends, [name for name, _ in starts]


def _renumbered(layers: list[dict[str, Any]], ends: list[tuple[str, int]], version: str) -> list[tuple[str, int]]:
    """The outputs, with the calls of models numbered from 0. Keras counts the graph of a Functional model itself as its call 0: Keras 3
    where its value is an output, Keras 2 in `calls` too."""
    counts = {layer["name"]: len(layer["calls"]) for layer in layers if layer["class_name"] in _MODELS}
    if version >= "3":
        functional = {layer["name"] for layer in layers if layer["class_name"] == "Functional"}
        return [(name, i - (name in functional and i > 0)) for name, i in ends]
    calls = [call for layer in layers for call in layer["calls"]]
    shifted = {name for one in (ends, *calls) for name, i in one if i == counts.get(name)}
    for call in calls:
        call[:] = [(name, i - (name in shifted)) for name, i in call]
    return [(name, i - (name in shifted)) for name, i in ends]


def _tensors(found: Any) -> Iterator[tuple[str, int]]:
    """The layers, and the numbers of their calls, in the description of what a layer reads: ["dense", 0, 0] or {"keras_history": ...}."""
    if isinstance(found, dict):
        history = found.get("keras_history")
        for one in [history] if history else found.values():
            yield from _tensors(one)
    elif isinstance(found, list):
        if len(found) in (3, 4) and isinstance(found[0], str):
            if found[2] != 0:
                raise ValueError(
                    f'output {found[2]} of layer "{found[0]}" cannot be read: microbp reads the first only, and has states by net.state'
                )
            yield found[0], int(found[1])
        else:
            for one in found:
                yield from _tensors(one)


def _input(place: _Place, layers: Any) -> Node:
    shape = place.get("batch_shape") or place.get("batch_input_shape")
    if not shape:
        raise ValueError("it has no shape: build the model before it is saved")
    sizes = shape[1:]
    if None in sizes:
        raise ValueError(f"its shape {tuple(shape)} has no fixed length; microbp needs one, and reads shorter rows with lengths=")
    readers = [layer for layer in layers if any((place.path[-1], 0) in call for call in layer["calls"])]
    for layer in readers:
        if layer["class_name"] == "Embedding":
            return Ids(math.prod(sizes), layer["config"]["input_dim"])
    if len(sizes) not in (1, 2, 3):
        raise ValueError(f"a row has 1 to 3 axes, not {len(sizes)}")
    make: Any = (Input, Sequence, Grid)[len(sizes) - 1]
    return make(*sizes)  # type: ignore[no-any-return]


# ---- layers ----


def _dense(p: _Place, x: Node) -> Node:
    units, bias = p.get("units"), p.has("use_bias")
    weight, *biases = p.arrays((x.width, units), *[(units,)] * bias)
    return p.put(x, partial(Dense, units, bias=bias), weight=weight.T, bias=biases[0] if bias else None)


def _conv(p: _Place, x: Node) -> Node:
    p.needs(groups=1, data_format="channels_last")
    units, bias = p.get("filters"), p.has("use_bias")
    size, stride, dilation = (tuple(_list(p.get(key, 1), len(x.grid))) for key in ("kernel_size", "strides", "dilation_rate"))
    kernel, *biases = p.arrays((*size, x.width, units), *[(units,)] * bias)
    pad = (0,) * len(size)
    if p.get("padding") == "same":
        totals = _same(x.grid, size, stride, dilation)
        odd = [total % 2 for total in totals]
        if any(is_odd and d > 1 for is_odd, d in zip(odd, dilation, strict=True)):
            raise ValueError('padding "same" with dilation needs a size with as many zeros before as behind')
        kernel = np.pad(kernel, [*((one, 0) for one in odd), (0, 0), (0, 0)])
        size, pad = kernel.shape[:-2], tuple((total + 1) // 2 for total in totals)
    elif p.get("padding") != "valid":
        raise ValueError(f"padding must be valid or same, not {p.get('padding')!r}")
    make = partial(Conv, units, size, stride, pad, dilation, bias=bias)
    return p.put(x, make, weight=kernel.reshape(-1, units).T, bias=biases[0] if bias else None)


def _same(*sides: Any) -> list[int]:
    """The zeros of padding "same" along each axis. sides: lengths, sizes, strides, dilations."""
    return [max((-(-n // s) - 1) * s + d * (k - 1) + 1 - n, 0) for n, k, s, d in zip(*sides, strict=True)]


def _list(value: Any, count: int) -> list[int]:
    return list(value) if isinstance(value, list | tuple) else [value] * count


def _pool(p: _Place, x: Node, kind: Any) -> Node:
    p.needs(data_format="channels_last")
    size = _list(p.get("pool_size"), len(x.grid))
    stride = _list(p.get("strides") or size, len(x.grid))
    if p.get("padding") == "same" and any(_same(x.grid, size, stride, (1, 1)[: len(size)])):
        raise ValueError('padding "same" adds positions, which microbp does not have for pools')
    return Pool(size, stride, kind)(x)


def _pool_all(p: _Place, x: Node, kind: Any) -> Node:
    p.needs(data_format="channels_last")
    pooled = Pool(x.grid, kind=kind)(x)
    return pooled if p.get("keepdims") else Flatten()(pooled)


def _batch_norm(p: _Place, x: Node) -> Node:
    _check_axis(p, x)
    p.needs(renorm=False)
    center, scale = p.has("center"), p.has("scale")
    found = iter(p.arrays(*[(x.width,)] * (2 + center + scale)))
    weight, bias = (next(found) if scale else np.ones(x.width, "f")), (next(found) if center else np.zeros(x.width, "f"))
    make = partial(BatchNorm, 1 - p.get("momentum", 0.99), p.get("epsilon", 1e-3))
    return p.put(x, make, weight=weight, bias=bias, running_mean=next(found), running_var=next(found))


def _layer_norm(p: _Place, x: Node) -> Node:
    _check_axis(p, x)
    p.needs(rms_scaling=False)
    center, scale = p.has("center"), p.has("scale")
    found = iter(p.arrays(*[(x.width,)] * (center + scale)))
    weight, bias = (next(found) if scale else None), (next(found) if center else None)
    return p.put(x, partial(LayerNorm, p.get("epsilon", 1e-3)), weight=weight, bias=bias)


def _standardize(p: _Place, x: Node) -> Node:
    _check_axis(p, x)
    p.needs(invert=False)
    if p.get("mean") is None:
        mean, variance = p.arrays((x.width,), (x.width,))
    else:
        mean, variance = (np.broadcast_to(np.ravel(np.asarray(p.get(key), "f")), (x.width,)) for key in ("mean", "variance"))
    return p.put(x, Standardize, mean=mean, std=np.maximum(np.sqrt(variance), 1e-7))


def _check_axis(p: _Place, x: Node) -> None:
    """ValueError: a norm is not over the columns."""
    axis = p.get("axis", -1)
    if (axis[0] if isinstance(axis, list) and len(axis) == 1 else axis) not in (-1, len(x.grid) + 1):
        raise ValueError(f"axis must be the last one, not {axis}")


def _embedding(p: _Place, x: Node) -> Node:
    if not isinstance(x, Ids):
        raise ValueError("it must read an input")
    p.needs(mask_zero=False)
    levels, units = p.get("input_dim"), p.get("output_dim")
    (weight,) = p.arrays((levels, units))
    made = p.put(x, partial(Embedding, levels, units), weight=weight)
    return Unflatten(x.width)(made)


def _recurrent(p: _Place, x: Node, backwards: bool = False) -> Node:
    p.needs(activation="tanh", recurrent_activation="sigmoid", reset_after=True, return_state=False, time_major=False)
    p.needs(go_backwards=backwards)
    cell: Any = {"SimpleRNN": "tanh", "GRU": "gru", "LSTM": "lstm"}[p.kind]
    units, bias, wide = p.get("units"), p.has("use_bias"), GATES[cell] * p.get("units")
    if cell == "gru" and not p.get("reset_after"):
        raise ValueError("reset_after must be True")
    kernel, state, *biases = p.arrays((x.width, wide), (units, wide), *[(2, wide) if cell == "gru" else (wide,)] * bias)
    weight, vector = np.vstack([kernel, state]).T, biases[0] if bias else None
    if cell == "gru":  # Keras has the gates z, r, n
        order = np.r_[units : 2 * units, :units, 2 * units : wide]
        weight = weight[order]
        if vector is not None:
            of_x, of_h = vector[:, order]
            vector = np.concatenate([(of_x + of_h)[: 2 * units], of_x[2 * units :], of_h[2 * units :]])
    made = p.put(x, partial(Recurrent, units, cell, backwards, bias=bias), weight=weight, bias=vector)
    return made if p.get("return_sequences") else Last()(made)


def _bidirectional(p: _Place, x: Node) -> Node:
    p.needs(merge_mode="concat")
    inner, found = p.get("layer"), []
    if inner["class_name"] not in ("SimpleRNN", "GRU", "LSTM") or (p.get("backward_layer") or inner)["class_name"] != inner["class_name"]:
        raise ValueError("microbp does not have this layer in both directions")
    if not inner["config"].get("return_sequences"):
        raise ValueError("return_sequences must be True: the last state of the backward layer is at the first position")
    for i, way in enumerate(WAYS):
        config = ((p.get("backward_layer") if i else None) or inner)["config"] | {"go_backwards": bool(i), "trainable": p.has("trainable")}
        found.append(_recurrent(_Place(p.reading, inner["class_name"], config, (*p.path, way), (*p.groups, way)), x, bool(i)))
    return concat(found)


def _reshape(p: _Place, x: Node) -> Node:
    sizes = list(p.get("target_shape"))
    numbers = x.width * x.positions
    known = math.prod(size for size in sizes if size != -1)
    sizes = [numbers // known if size == -1 else size for size in sizes]
    if math.prod(sizes) != numbers or len(sizes) not in (1, 2, 3):
        raise ValueError(f"rows of {numbers} numbers cannot have the shape {tuple(sizes)}")
    flat = Flatten()(x) if x.grid else x
    return Unflatten(*sizes[:-1])(flat) if len(sizes) > 1 else flat


def _join(p: _Place, *xs: Node) -> Node:
    if p.get("axis", -1) not in (-1, len(xs[0].grid) + 1):
        raise ValueError(f"axis must be the last one, not {p.get('axis')}")
    return concat(xs)


def _relu(p: _Place, x: Node) -> Node:
    p.needs(threshold=0)
    if p.get("max_value") is not None:
        raise ValueError("max_value is not there")
    return Activation("leaky_relu", slope=p.get("negative_slope") or 0)(x) if p.get("negative_slope") else Activation("relu")(x)


def _softmax(p: _Place, x: Node) -> _Made:
    _check_axis(p, x)
    return p.activate(x, "softmax")


# Activations by their names in Keras. softmax is an output activation only.
_ACTIVATIONS: dict[str, Activation | str] = {
    **{name: name for name in ("relu", "elu", "selu", "gelu", "silu", "mish", "softplus", "softsign", "sigmoid", "hard_sigmoid", "tanh")},
    "linear": "identity",
    "swish": "silu",
    "exponential": "exp",
    "leaky_relu": "leaky_relu(slope=0.2)",
}
_ACTIVATED = ("Activation", "Dense", "Conv1D", "Conv2D")  # their setting activation is applied to their value
_SEVERAL = ("Add", "Subtract", "Multiply", "Average", "Concatenate")  # layers that read several
_MODELS = ("Sequential", "Functional", "Model")
_ROWS: dict[str, Callable[..., _Made]] = {  # what microbp has: the class in Keras -> its reader
    "Dense": _dense,
    "Embedding": _embedding,
    **dict.fromkeys(("Conv1D", "Conv2D"), _conv),
    **dict.fromkeys(("SimpleRNN", "GRU", "LSTM"), _recurrent),
    "Bidirectional": _bidirectional,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "Normalization": _standardize,
    **dict.fromkeys(("MaxPooling1D", "MaxPooling2D"), partial(_pool, kind="max")),
    **dict.fromkeys(("AveragePooling1D", "AveragePooling2D"), partial(_pool, kind="mean")),
    **dict.fromkeys(("GlobalMaxPooling1D", "GlobalMaxPooling2D"), partial(_pool_all, kind="max")),
    **dict.fromkeys(("GlobalAveragePooling1D", "GlobalAveragePooling2D"), partial(_pool_all, kind="mean")),
    **dict.fromkeys(("Activation", "ActivityRegularization"), lambda p, x: x),
    "ReLU": _relu,
    "LeakyReLU": lambda p, x: Activation("leaky_relu", slope=p.get("negative_slope", p.get("alpha", 0.3)))(x),
    "ELU": lambda p, x: Activation("elu", alpha=p.get("alpha", 1.0))(x),
    "Softmax": _softmax,
    "Rescaling": lambda p, x: Activation("affine", factor=p.get("scale"), addend=p.get("offset", 0.0))(x),
    "Dropout": lambda p, x: Dropout(p.get("rate"))(x),
    "GaussianNoise": lambda p, x: GaussianNoise(p.get("stddev"))(x),
    "Add": lambda p, *xs: add(*xs),
    "Subtract": lambda p, a, b: a - b,
    "Multiply": lambda p, *xs: multiply(*xs),
    "Average": lambda p, *xs: add(*xs) / len(xs),
    "Concatenate": _join,
    "Flatten": lambda p, x: Flatten()(x) if x.grid else x,
    "Reshape": _reshape,
    "RepeatVector": lambda p, x: Repeat(p.get("n"))(x),
}
