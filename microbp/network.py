"""Network: a compiled graph with its parameters, the same class for both backends."""

from __future__ import annotations

import contextlib
import json
import math
import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from . import backend as backends
from . import description, graph, tensors_file, threads
from .arrays import Array, as_list
from .graph import Activation, Dense, Dropout, Input, Node, layer_settings
from .specs import Init, table, unknown

_ndarray, _empty = np.ndarray, np.empty  # a look into np is a hundredth of a prediction


def seed_or_new(seed: int | None) -> int:
    """The seed, checked; None draws one."""
    if seed is None:
        return int.from_bytes(os.urandom(8)) >> 1
    try:
        value = operator.index(seed)
    except TypeError:
        raise TypeError(f"seed must be a whole number or None, not {seed!r}") from None
    if not 0 <= value < 2**64:
        raise ValueError(f"seed must be at least 0 and below 2**64, not {value}")
    return value


def _dtype_name(dtype: Any) -> str:
    try:
        name = str(np.dtype(dtype))
    except TypeError:
        name = str(dtype)
    if name not in ("float32", "float64"):
        raise ValueError(f'dtype must be "float32" or "float64", not {name!r}')
    return name


def _nodes(value: Node | Sequence[Node], what: str) -> list[Node]:
    if not isinstance(value, Node | list | tuple):
        raise TypeError(f"Network: {what} must be a node or a list of nodes, not {value!r}")
    return [value] if isinstance(value, Node) else list(value)


class Network:
    """The network from `inputs` to `outputs` (a node each, or lists of nodes), with parameters of its own.

    seed=None draws a seed, kept in `seed`. backend: "compiled" or "reference"; None takes MICROBP_BACKEND, else "compiled".
    n_threads: how many threads may share large work; None: the processors that this process may use, at most MICROBP_NUM_THREADS, else
    OMP_NUM_THREADS. Results have the same bits for any number.
    """

    def __init__(
        self,
        inputs: Node | Sequence[Node],
        outputs: Node | Sequence[Node],
        dtype: Any = "float32",
        seed: int | None = None,
        backend: str | None = None,
        n_threads: int | None = None,
    ) -> None:
        limit = threads.check(n_threads)
        text, arrays = graph.write(_nodes(inputs, "inputs"), _nodes(outputs, "outputs"))
        core = backends.load(backend).Net(text, _dtype_name(dtype), seed_or_new(seed))
        self._adopt(core, backends.resolve(backend), arrays, limit)
        self._write_arrays()

    def _adopt(self, core: backends.CoreNet, backend: str, arrays: dict[str, Array], n_threads: int | None) -> None:
        self._core = core
        self._backend = backend
        self.n_threads = n_threads
        self._arrays = arrays  # initial weights that layers brought along, by layer name
        self._dtype = np.dtype(core.dtype)
        self._params = np.asarray(memoryview(core.params))
        self._buffers = np.asarray(memoryview(core.buffers))
        described = description.read(core.text())
        self._tensors = MappingProxyType(self._views(core, described))
        self._input_widths = tuple(entry.width for entry in described.inputs)
        self._output_widths = tuple(entry.width for entry in described.outputs)
        # Predictions of these nets need no look at the arrays in Python: the compiled backend's checks are enough.
        one_array = backend == "compiled" and len(self._output_widths) == len(self._input_widths) == 1
        self._plain_width = self._output_widths[0] if one_array else None

    @classmethod
    def _from(cls, core: backends.CoreNet, backend: str, arrays: dict[str, Array], n_threads: int | None) -> Self:
        net = cls.__new__(cls)
        net._adopt(core, backend, arrays, n_threads)
        return net

    def _views(self, core: backends.CoreNet, described: description.Description) -> dict[str, Array]:
        views = {}
        for vector, rows in ((self._params, core.tensors()), (self._buffers, core.buffer_tensors())):
            for layer, name, offset, inputs, outputs in rows:
                flat = vector[offset : offset + inputs * outputs]
                is_matrix = name == "weight" and described.layers[layer].kind == "dense"
                views[f"{layer}.{name}"] = flat.reshape(inputs, outputs).T if is_matrix else flat
        return {name: view for layer in described.layers for name, view in views.items() if name.startswith(f"{layer}.")}

    def _write_arrays(self) -> None:
        for layer, array in self._arrays.items():
            self._tensors[f"{layer}.weight"][...] = array

    # ---- what it is ----

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the parameters and of all arithmetic."""
        return self._dtype

    @property
    def seed(self) -> int:
        """The seed that the parameters were drawn with."""
        return self._core.seed

    @property
    def backend(self) -> str:
        """ "compiled" or "reference"."""
        return self._backend

    @property
    def params(self) -> Array:
        """All parameters as one flat writable view: the weights of dense layers in order, each (in, out) row-major, then all biases
        and scales."""
        return self._params

    @property
    def buffers(self) -> Array:
        """What is saved but not trained, the running statistics of batch_norm layers, as one flat writable view."""
        return self._buffers

    @property
    def tensors(self) -> Mapping[str, Array]:
        """Views of parameters and buffers by name: "dense_0.weight" of shape (out, in), "dense_0.bias" of shape (out,);
        "batch_norm_0.weight", ".bias", ".running_mean", ".running_var" of shape (width,)."""
        return self._tensors

    @property
    def layers(self) -> list[description.Layer]:
        """The layers with parameters, in the order of their first use."""
        return list(description.read(self.text()).layers.values())

    @property
    def inputs(self) -> list[description.InputInfo]:
        """The inputs, with node and width."""
        return description.read(self.text()).inputs

    @property
    def outputs(self) -> list[description.OutputInfo]:
        """The outputs, with node, width and activation."""
        return description.read(self.text()).outputs

    def text(self) -> str:
        """The graph as text, with every default written out."""
        return self._core.text()

    def __repr__(self) -> str:
        head = f"microbp.Network: {len(self._params):,} parameters, {self._dtype}, seed {self.seed}, {self._backend} backend"
        return f"{head}\n{description.table(description.read(self.text()))}"

    @property
    def notes(self) -> dict[str, Any]:
        """What a program wants to know beside the network, such as the names of classes: a JSON object that copies and files keep.

        The dict is a copy: assign one to change the notes, `net.notes |= {"classes": names}`; at most 16 MiB as text.
        """
        try:
            notes = json.loads(self._core.notes or "{}")
        except (ValueError, RecursionError):
            notes = None
        if not isinstance(notes, dict):
            raise ValueError("notes: the network carries a text that is no JSON object; another program than Python wrote it")
        return notes

    @notes.setter
    def notes(self, notes: Mapping[str, Any]) -> None:
        if not isinstance(notes, Mapping):
            raise TypeError(f"notes must be a dict, not {type(notes).__name__}")
        try:
            text = json.dumps(dict(notes), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        except (TypeError, ValueError) as error:
            raise type(error)(f"notes must be what JSON can say: {error}") from error
        self._core.notes = text if notes else ""

    # ---- changing it ----

    @property
    def n_threads(self) -> int | None:
        """How many threads may share large work; None: as many as the processors and the environment allow. May be set at any time."""
        return self._n_threads

    @n_threads.setter
    def n_threads(self, n_threads: int | None) -> None:
        self._n_threads = threads.check(n_threads)
        self._core.threads = threads.choose(self._n_threads, self._backend)

    def init(self, seed: int | None = None) -> None:
        """Draws the parameters anew; None draws a new seed too. Layers with an array of their own get that array again."""
        self._core.init(seed_or_new(seed))
        self._write_arrays()

    def freeze(self, layer: str | None = None) -> None:
        """Training leaves the layer's parameters as they are; None: every layer's."""
        self._set_frozen(layer, True)

    def unfreeze(self, layer: str | None = None) -> None:
        """Training moves the layer's parameters again; None: every layer's."""
        self._set_frozen(layer, False)

    def _set_frozen(self, layer: str | None, frozen: bool) -> None:
        self._check_layer(layer)
        self._core.freeze(layer, frozen)

    def set_layer(
        self,
        layer: str | None = None,
        *,
        lr: float | None = None,
        l1: float | None = None,
        l2: float | None = None,
        max_norm: float | None = None,
    ) -> None:
        """Sets what is given of a layer's settings, as in Dense; layer=None: every layer's that has it (norms have
        lr alone). max_norm=0 takes the limit away."""
        self._check_layer(layer)
        for name, value in layer_settings("set_layer", lr=lr, l1=l1, l2=l2, max_norm=max_norm).items():
            self._core.set_layer(layer, name, value)

    def set_output(self, i: int, *, activation: str | None) -> None:
        """Sets the activation of the i-th output, which predict(X, link=True) applies: "identity", "softmax", "sigmoid" or "exp".

        None: not chosen. Predictions are then raw outputs, until a Trainer chooses the activation that its loss implies.
        """
        if activation is not None and activation not in table("output_activation"):
            raise unknown("output activation", activation, table("output_activation"))
        self._core.set_output(operator.index(i), activation)

    @contextlib.contextmanager
    def _without_activations(self) -> Iterator[None]:
        """Meanwhile no output activation is chosen, so that no loss contradicts one; afterwards they are as before."""
        chosen = [output.activation for output in self.outputs]
        try:
            for i in range(len(chosen)):
                self._core.set_output(i, None)
            yield
        finally:
            for i, activation in enumerate(chosen):
                self._core.set_output(i, activation)

    def _check_layer(self, layer: str | None) -> None:
        names = [entry.name for entry in self.layers]
        if layer is not None and layer not in names:
            raise unknown("layer", layer, names)

    # ---- predicting ----

    def predict(self, X: Any, link: bool = False, out: Any = None, at: str | int | None = None) -> Any:  # noqa: N803
        """The raw outputs for every row of X; leading axes are carried over, so (features,) gives (outputs,).

        link: after the output activations (probabilities, rates); an output whose activation is not chosen stays raw.
        out: array (or list of arrays) of the net's dtype to write to.
        at: the values of a layer, by its name, or of a node, by its number in `print(net)`, instead of the outputs.
        """
        if self._plain_width is not None and at is None and type(X) is _ndarray and X.ndim == 2 and (out is None or type(out) is _ndarray):
            try:
                y = _empty((len(X), self._plain_width), self._dtype) if out is None else out
                self._core.predict(X, y, not link, -1)
                return y
            except (TypeError, ValueError):
                pass  # converted below, or refused there with the shapes
        if at is not None and link:
            raise ValueError("predict: link applies to outputs, not to at=; leave one of them out")
        xs = as_list(X, len(self._input_widths), "X", "input")
        lead = self._leading_axes(xs)
        node = -1 if at is None else self._find_node(at)
        widths = self._output_widths if at is None else (description.read(self.text()).nodes[node].width,)
        outs = self._outs(out, xs, [(*lead, width) for width in widths])
        rows = math.prod(lead)
        if rows:
            matrices = [x if x.ndim == 2 else x.reshape(rows, -1) for x in xs]
            self._core.predict(matrices, [o if o.ndim == 2 else o.reshape(rows, -1) for o in outs], not link, node)
        return outs[0] if len(outs) == 1 else outs

    def _leading_axes(self, xs: list[Array]) -> tuple[int, ...]:
        for i, (x, width) in enumerate(zip(xs, self._input_widths, strict=True)):
            if x.ndim == 0 or x.shape[-1] != width:
                name = "X" if len(xs) == 1 else f"X[{i}]"
                raise ValueError(f"{name} has shape {x.shape}; its last axis must be the input's {width} features")
            if x.shape[:-1] != xs[0].shape[:-1]:
                raise ValueError(f"X[0] has shape {xs[0].shape}, but X[{i}] has shape {x.shape}: all inputs need the same rows")
        return tuple(xs[0].shape[:-1])

    def _find_node(self, at: str | int) -> int:
        described = description.read(self.text())
        if isinstance(at, str):
            if at not in described.layers:
                raise unknown("layer", at, described.layers)
            nodes = described.layers[at].nodes
            if len(nodes) > 1:
                raise ValueError(f"layer {at!r} is used at nodes {', '.join(map(str, nodes))}: give the node, for example at={nodes[0]}")
            return nodes[0]
        node = operator.index(at)
        if not 0 <= node < len(described.nodes):
            raise ValueError(f"at={node}: the network's nodes are 0 to {len(described.nodes) - 1}")
        return node

    def _outs(self, out: Any, xs: list[Array], shapes: list[tuple[int, ...]]) -> list[Array]:
        if out is None:
            return [np.empty(shape, self._dtype) for shape in shapes]
        outs = [out] if len(shapes) == 1 else list(out)
        if len(outs) != len(shapes):
            raise ValueError(f"out has {len(outs)} arrays; the network has {len(shapes)} outputs")
        for i, (array, shape) in enumerate(zip(outs, shapes, strict=True)):
            self._check_out(array, shape, "out" if len(outs) == 1 else f"out[{i}]")
            if any(np.shares_memory(array, other) for other in [*xs, *outs[:i], self._params]):
                raise ValueError("out shares memory with X, another output or the parameters; give an array of its own")
        return outs

    def _check_out(self, out: Any, shape: tuple[int, ...], what: str) -> None:
        if not isinstance(out, np.ndarray):
            raise TypeError(f"{what} must be an ndarray, not {type(out).__name__}")
        if out.dtype != self._dtype or out.shape != shape:
            raise ValueError(f"{what} has dtype {out.dtype} and shape {out.shape}; it must have {self._dtype} and {shape}")
        if not out.flags.writeable:
            raise ValueError(f"{what} is read-only")
        rows_contiguous = shape[-1] == 1 or out.strides[-1] == out.itemsize
        if not (out.flags.c_contiguous or (out.ndim == 2 and rows_contiguous)):
            raise ValueError(f"{what} must be C-contiguous (a 2-D one at least in each row)")

    # ---- copies and files ----

    def copy(self) -> Self:
        """An equal network with parameters of its own."""
        core = backends.load(self._backend).Net.read(self._core.write())
        return self._from(core, self._backend, dict(self._arrays), self._n_threads)

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (type(self), self._core.write(), self._backend, self._arrays, self._n_threads)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the network to a safetensors file: all of it, or nothing."""
        self._core.save(os.fspath(path))

    def load_tensors(self, path: str | os.PathLike[str]) -> None:
        """Takes the values of all `tensors` from a safetensors file of any library, by name and shape: "dense_0.weight" (out, in).

        F64, F32, F16 and BF16 become the network's dtype. Other tensors of the file are left alone. ValueError names what is missing or
        of another shape; then nothing has changed.
        """
        found = tensors_file.read(path, {name: view.shape for name, view in self._tensors.items()}, self._dtype)
        for name, values in found.items():
            self._tensors[name][...] = values


def _unpickle(cls: type[Network], data: bytes, backend: str, arrays: dict[str, Array], n_threads: int | None) -> Network:
    return cls._from(backends.load(backend).Net.read(data), backend, arrays, n_threads)


def load(path: str | os.PathLike[str], backend: str | None = None, n_threads: int | None = None) -> Network:
    """The network that `save` wrote."""
    limit = threads.check(n_threads)
    return Network._from(backends.load(backend).Net.load(os.fspath(path)), backends.resolve(backend), {}, limit)


def mlp(
    widths: Sequence[int],
    activation: str | Activation = "relu",
    dtype: Any = "float32",
    seed: int | None = None,
    backend: str | None = None,
    init: str | Init = "auto",
    bias: bool = True,
    n_threads: int | None = None,
    dropout: float = 0.0,
) -> Network:
    """A chain of dense layers: mlp([64, 128, 10]) takes 64 features to 10 outputs; the last layer is linear.

    dropout: the rate of a bp.Dropout after each hidden layer; 0: none.
    """
    if len(widths) < 2:
        raise ValueError(f"mlp: widths needs the inputs and at least one layer, for example [64, 128, 10], not {list(widths)!r}")
    activation = Activation.parse(activation)
    x = Input(widths[0])
    node: Node = x
    for width in widths[1:-1]:
        node = Dense(width, activation, init, bias)(node)
        node = Dropout(dropout)(node) if dropout else node
    return Network(x, Dense(widths[-1], init=init, bias=bias)(node), dtype, seed, backend, n_threads)
