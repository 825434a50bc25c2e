"""Network: a compiled graph with its parameters, the same class for both backends."""

from __future__ import annotations

import contextlib
import math
import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, Self, TypeAlias

import numpy as np

from ..core import backend as backends
from ..core import threads
from ..core.attributes import Closed
from ..core.backend import BackendName
from ..core.checks import flag, whole_number
from ..core.specs import OutputActivationName, table, unknown
from ..data.arrays import Array, as_array, as_list
from . import graph_text, predicting, records, summary, tensors_file
from . import notes as json_notes
from .layers import layer_settings
from .nodes import Node
from .predicting import Prediction

DType: TypeAlias = Literal["float32", "float64"] | type[Any] | np.dtype[Any]
_ndarray, _empty = np.ndarray, np.empty  # a look into np is a hundredth of a prediction


def seed_or_new(seed: int | None) -> int:
    """The seed, checked; None draws one."""
    if seed is None:
        return int.from_bytes(os.urandom(8)) >> 1
    return whole_number(seed, "seed", least=0, bits=64)


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


class Network(Closed):
    """The network from `inputs` to `outputs`, with parameters of its own: a second one made of the same nodes is independent.

    inputs, outputs: a node each, or lists of nodes. The network takes the nodes that the outputs depend on, and all their inputs must
    be listed.
    dtype: "float32" or "float64", of the parameters and of all arithmetic.
    seed: of the initial parameters, 0 to 2**64 - 1; None draws one, which `seed` then tells.
    backend: "compiled", or "reference", which is slow and plain Python; None: what MICROBP_BACKEND says, else "compiled".
    n_threads: how many threads may share large work; None: the processors that this process may use, at most MICROBP_NUM_THREADS, else
    OMP_NUM_THREADS. Results have the same bits for any number.

    >>> x = bp.Input(4)
    >>> h = bp.Dense(8, activation="relu")(x)
    >>> net = bp.Network(x, bp.Dense(2)(bp.concat([h, x])), seed=0)
    >>> net.predict(np.zeros((5, 4))).shape
    (5, 2)
    """

    __slots__ = (
        *("__weakref__", "_core", "_backend", "_n_threads", "_arrays", "_dtype", "_params", "_buffers", "_tensors"),
        *("_input_widths", "_output_widths", "_plain_width"),
    )

    def __init__(
        self,
        inputs: Node | Sequence[Node],
        outputs: Node | Sequence[Node],
        dtype: DType = "float32",
        seed: int | None = None,
        backend: BackendName | None = None,
        n_threads: int | None = None,
    ) -> None:
        limit = threads.check(n_threads)
        text, arrays = graph_text.write(_nodes(inputs, "inputs"), _nodes(outputs, "outputs"))
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
        self._tensors = MappingProxyType(self._views())
        self._input_widths = tuple(entry.width for entry in self.inputs)
        self._output_widths = tuple(entry.width for entry in self.outputs)
        # Predictions of these nets need no look at the arrays in Python: the compiled backend's checks are enough.
        one_array = backend == "compiled" and len(self._output_widths) == len(self._input_widths) == 1
        self._plain_width = self._output_widths[0] if one_array else None

    @classmethod
    def _from(cls, core: backends.CoreNet, backend: str, arrays: dict[str, Array], n_threads: int | None) -> Self:
        net = cls.__new__(cls)
        net._adopt(core, backend, arrays, n_threads)
        return net

    def _views(self) -> dict[str, Array]:
        layers = self.layers
        dense = {layer.name for layer in layers if layer.kind == "dense"}
        views: dict[str, dict[str, Array]] = {layer.name: {} for layer in layers}
        for vector, rows in ((self._params, self._core.tensors()), (self._buffers, self._core.buffer_tensors())):
            for layer, name, offset, inputs, outputs in rows:
                flat = vector[offset : offset + inputs * outputs]
                is_matrix = name == "weight" and layer in dense
                views[layer][f"{layer}.{name}"] = flat.reshape(inputs, outputs).T if is_matrix else flat
        return {name: view for of_layer in views.values() for name, view in of_layer.items()}

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
        and scales. The view stays valid as long as it is held, and is the same each time.

        >>> net = bp.mlp([2, 3, 1], seed=0)
        >>> len(net.params)
        13
        >>> net.params[:] = 0
        >>> net.predict([1.0, 2.0])
        array([0.], dtype=float32)
        """
        return self._params

    @params.setter
    def params(self, values: Any) -> None:  # so that `net.params *= 0.9` works; the memory stays the same
        self._params[...] = as_array(values, "params")

    @property
    def buffers(self) -> Array:
        """What is saved but not trained, the running statistics of batch_norm layers, as one flat writable view."""
        return self._buffers

    @buffers.setter
    def buffers(self, values: Any) -> None:
        self._buffers[...] = as_array(values, "buffers")

    @property
    def tensors(self) -> Mapping[str, Array]:
        """Views of parameters and buffers by name, in layer order: "dense_0.weight" of shape (out, in), "dense_0.bias" of shape (out,);
        "batch_norm_0.weight", ".bias", ".running_mean", ".running_var" of shape (width,).

        >>> net = bp.mlp([2, 3, 1], seed=0)
        >>> {name: view.shape for name, view in net.tensors.items()}
        {'dense_0.weight': (3, 2), 'dense_0.bias': (3,), 'dense_1.weight': (1, 3), 'dense_1.bias': (1,)}
        """
        return self._tensors

    @property
    def nodes(self) -> list[records.NodeInfo]:
        """All nodes, as `print(net)` shows them: node, operation, operands, width, layer, activation, amount.

        >>> net = bp.mlp([2, 3, 1], seed=0)
        >>> [(node.operation, node.width) for node in net.nodes]
        [('input', 2), ('dense', 3), ('dense', 1)]
        """
        return records.nodes(self._core)

    @property
    def layers(self) -> list[records.LayerInfo]:
        """The layers with parameters, in the order of their first use: name, sizes, settings, and the nodes where each is used.

        >>> net = bp.mlp([2, 3, 1], seed=0)
        >>> [(layer.name, layer.activation, layer.parameters) for layer in net.layers]
        [('dense_0', 'relu', 9), ('dense_1', 'identity', 4)]
        """
        return records.layers(self._core)

    @property
    def inputs(self) -> list[records.InputInfo]:
        """The inputs, with node and width."""
        return records.inputs(self._core)

    @property
    def outputs(self) -> list[records.OutputInfo]:
        """The outputs, with node, width and activation (None: not chosen)."""
        return records.outputs(self._core)

    def text(self) -> str:
        """The graph as text, with every default written out; microbp.h explains it.

        >>> x = bp.Input(3)
        >>> print(bp.Network(x, x + x).text(), end="")
        input 3
        add 0 0
        output 1
        """
        return self._core.text()

    def __repr__(self) -> str:
        return f"{self._title()}\n{summary.text(self._core)}"

    def _repr_html_(self) -> str:
        """The same as an HTML table, for notebooks."""
        return summary.html(self._core, self._title())

    def _title(self) -> str:
        return f"microbp.Network: {len(self._params):,} parameters, {self._dtype}, seed {self.seed}, {self._backend} backend"

    @property
    def notes(self) -> json_notes.Notes:
        """What a program wants to know beside the network, such as the names of classes: a JSON object that copies and files keep.

        It can be set as a whole only, to a dict of at most 16 MiB as JSON text; what it holds cannot be changed in place.

        >>> net = bp.mlp([2, 1])
        >>> net.notes = {"classes": ["cat", "dog"]}
        >>> net.notes |= {"version": 2}
        >>> net.notes
        {'classes': ['cat', 'dog'], 'version': 2}
        """
        return json_notes.read(self._core.notes)

    @notes.setter
    def notes(self, notes: Mapping[str, Any]) -> None:
        self._core.notes = json_notes.write(notes)

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
        """Draws the parameters anew; None draws a new seed too. Layers with an array of their own get that array again.

        >>> net = bp.mlp([2, 1], seed=0)
        >>> before = net.params.copy()
        >>> net.init(seed=1)
        >>> bool((net.params == before).all()), net.seed
        (False, 1)
        """
        self._core.init(seed_or_new(seed))
        self._write_arrays()

    def freeze(self, layer: str | None = None) -> None:
        """Training leaves the layer's parameters and running statistics as they are; None: every layer's.

        >>> net = bp.mlp([2, 3, 1])
        >>> net.freeze("dense_0")
        >>> [layer.frozen for layer in net.layers]
        [True, False]
        """
        self._set_frozen(layer, True)

    def unfreeze(self, layer: str | None = None) -> None:
        """Training moves the layer's parameters again; None: every layer's.

        >>> net = bp.mlp([2, 3, 1])
        >>> net.freeze()
        >>> net.unfreeze("dense_1")
        >>> [layer.frozen for layer in net.layers]
        [True, False]
        """
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
        """Sets what is given of a layer's settings, as in bp.Dense; layer=None: every layer's that has it (norms have
        lr alone). max_norm=0 takes the limit away.

        >>> net = bp.mlp([2, 3, 1])
        >>> net.set_layer(l2=1e-4)
        >>> net.set_layer("dense_1", lr=0.5)
        >>> [(layer.lr, layer.l2) for layer in net.layers]
        [(1.0, 0.0001), (0.5, 0.0001)]
        """
        self._check_layer(layer)
        for name, value in layer_settings("set_layer", lr=lr, l1=l1, l2=l2, max_norm=max_norm).items():
            self._core.set_layer(layer, name, value)

    def set_output(self, i: int, activation: OutputActivationName | None) -> None:
        """Sets the activation of the i-th output, which `predict` applies: "identity", "softmax", "sigmoid" or "exp".

        None: not chosen. Predictions are then raw outputs, until a Trainer chooses the activation that its loss implies.

        >>> net = bp.mlp([2, 3], seed=0)
        >>> net.set_output(0, "softmax")
        >>> round(float(net.predict([1.0, 2.0]).sum()), 3), net.outputs[0].activation
        (1.0, 'softmax')
        """
        if activation is not None and activation not in table("output_activation"):
            raise unknown("output activation", activation, table("output_activation"))
        self._core.set_output(operator.index(i), activation)

    def _check_layer(self, layer: str | None) -> None:
        names = [row[0] for row in self._core.layers()]
        if layer is not None and layer not in names:
            raise unknown("layer", layer, names)

    # ---- predicting ----

    def predict(
        self,
        X: Any,  # noqa: N803
        raw: bool = False,
        out: Array | Sequence[Array] | None = None,
        at: str | int | None = None,
    ) -> Prediction:
        """What the outputs mean for each row of X: probabilities, rates, numbers. An output whose activation is not chosen stays raw.

        X: (rows, features), or any other leading axes, which are carried over: (features,) gives (outputs,). Of any real dtype; a list
        of arrays for a net with several inputs.
        raw: True gives the values before the output activations, as the loss takes them.
        out: an array of the net's dtype and of the result's shape to write to; a list of them for several outputs.
        at: the name of a layer, or the number of a node in `print(net)`, to get its values instead of the outputs. Output activations
        are not applied to them, so `raw` makes no difference.
        Returns an array; for a net with several outputs, a list of arrays. ValueError or TypeError if something does not fit.

        >>> net = bp.mlp([2, 8, 3], seed=0)
        >>> net.set_output(0, "softmax")
        >>> net.predict(np.zeros((5, 2))).sum(axis=1)
        array([1., 1., 1., 1., 1.], dtype=float32)
        >>> net.predict(np.zeros((5, 2)), at="dense_0").shape
        (5, 8)
        """
        if self._plain_width is not None and at is None and type(X) is _ndarray and X.ndim == 2 and (out is None or type(out) is _ndarray):
            try:
                y = _empty((len(X), self._plain_width), self._dtype) if out is None else out
                self._core.predict(X, y, raw, -1)
                return y
            except (TypeError, ValueError):
                pass  # converted below, or refused there with the shapes
        return self._predict(X, flag("predict: raw", raw), out, at)

    def _predict(self, X: Any, raw: bool, out: Array | Sequence[Array] | None, at: str | int | None) -> Prediction:  # noqa: N803
        """The same for anything that holds numbers."""
        xs = as_list(X, len(self._input_widths), "X", "input")
        lead = predicting.leading_axes(xs, self._input_widths)
        node = None if at is None else predicting.find_node(self._core, at)
        shapes = [(*lead, width) for width in (self._output_widths if node is None else (node.width,))]
        if out is None:
            outs = [np.empty(shape, self._dtype) for shape in shapes]
        else:
            outs = predicting.check_outs(out, shapes, self._dtype, [*xs, self._params])
        if rows := math.prod(lead):
            read, written = ([one if one.ndim == 2 else one.reshape(rows, -1) for one in arrays] for arrays in (xs, outs))
            self._core.predict(read, written, raw, -1 if node is None else node.node)
        return outs[0] if len(outs) == 1 else outs

    # ---- copies and files ----

    def copy(self) -> Self:
        """An equal network with parameters of its own. copy.copy and copy.deepcopy do the same.

        >>> net = bp.mlp([2, 1], seed=0)
        >>> other = net.copy()
        >>> other.params[:] = 0
        >>> bool(net.params.any())
        True
        """
        core = backends.load(self._backend).Net.read(self._core.write())
        return self._from(core, self._backend, dict(self._arrays), self._n_threads)

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.copy()

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (type(self), self._core.write(), self._backend, self._arrays, self._n_threads)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the network to a safetensors file: all of it, or nothing. bp.load reads it. OSError if the file cannot be written.

        >>> bp.mlp([2, 1], seed=7).save("net.safetensors")
        >>> bp.load("net.safetensors").seed
        7
        """
        self._core.save(os.fspath(path))

    def load_tensors(self, path: str | os.PathLike[str]) -> None:
        """Takes the values of all `tensors` from a safetensors file of any library, by name and shape: "dense_0.weight" (out, in).

        F64, F32, F16 and BF16 become the network's dtype. Other tensors of the file are left alone. ValueError names what is missing or
        of another shape; then nothing has changed.

        >>> other = bp.mlp([2, 1])
        >>> other.save("weights.safetensors")
        >>> net = bp.mlp([2, 1], dtype="float64")
        >>> net.load_tensors("weights.safetensors")
        >>> bool((net.params == other.params).all())
        True
        """
        found = tensors_file.read(path, {name: view.shape for name, view in self._tensors.items()}, self._dtype)
        for name, values in found.items():
            self._tensors[name][...] = values


@contextlib.contextmanager
def without_activations(net: Network) -> Iterator[None]:
    """Meanwhile no output activation of the network is chosen, so that no loss contradicts one; afterwards they are as before."""
    chosen = [output.activation for output in net.outputs]
    try:
        for i in range(len(chosen)):
            net.set_output(i, None)
        yield
    finally:
        for i, activation in enumerate(chosen):
            net.set_output(i, activation)


def _unpickle(cls: type[Network], data: bytes, backend: str, arrays: dict[str, Array], n_threads: int | None) -> Network:
    return cls._from(backends.load(backend).Net.read(data), backend, arrays, n_threads)


def load(path: str | os.PathLike[str], backend: BackendName | None = None, n_threads: int | None = None) -> Network:
    """The network that `save` wrote, with its notes, frozen layers and output activations; of a trainer's file, its network.

    backend, n_threads: as in bp.Network. OSError if the file cannot be read, ValueError if it is damaged or no microbp file.

    >>> bp.mlp([2, 1], seed=7).save("net.safetensors")
    >>> bp.load("net.safetensors").seed
    7
    """
    limit = threads.check(n_threads)
    return Network._from(backends.load(backend).Net.load(os.fspath(path)), backends.resolve(backend), {}, limit)
