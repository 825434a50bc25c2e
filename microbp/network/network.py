"""Network: a compiled graph with its parameters. One class for both backends."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, TypeAlias

import numpy as np

from ..core import backend as backends
from ..core import threads
from ..core.attributes import Closed
from ..core.backend import BackendName
from ..core.checks import file_path, flag, new_file, or_none, string, whole_number
from ..core.specs import OutputActivationName, table, unknown
from ..core.text import brief, counted
from ..data.arrays import Array, Views, as_array, as_list, assign
from . import graph_text, predicting, records, summary, tensors_file
from . import notes as json_notes
from .layers import layer_settings
from .nodes import Node, node_list
from .predicting import Prediction

DType: TypeAlias = Literal["float32", "float64"] | type[Any] | np.dtype[Any]
_ndarray, _empty = np.ndarray, np.empty  # looking up a name in np takes 1 % of the time of a small prediction


def seed_or_new(seed: int | None) -> int:
    """The checked seed; if it is None, a random one."""
    if seed is None:
        return int.from_bytes(os.urandom(8)) >> 1
    return whole_number(seed, "seed", least=0, bits=64)


def _dtype_name(dtype: Any) -> str:
    needs = f'dtype must be "float32" or "float64", not {brief(dtype)}'
    if not isinstance(dtype, str | type | np.dtype):
        raise TypeError(needs)
    try:
        name = str(np.dtype(dtype))
    except TypeError:
        name = ""
    if name not in ("float32", "float64"):
        raise ValueError(needs)
    return name


class Network(Closed):
    """A network from `inputs` to `outputs`. It has its own parameters: another network of the same nodes is independent.

    inputs, outputs: nodes or lists of nodes. The network contains all nodes that the outputs depend on; all bp.Input nodes among them must
    be listed in inputs.
    dtype: "float32" or "float64", for the parameters and all arithmetic.
    seed: for the initial parameters, 0 to 2**64 - 1; None: a random seed, which the attribute `seed` contains.
    backend: "compiled", or "reference" (pure Python, slow); None: the environment variable MICROBP_BACKEND, else "compiled".
    n_threads: the maximum number of threads for large work; None: the number of processors that this process may use, limited by
    MICROBP_NUM_THREADS if it is set, else by OMP_NUM_THREADS. Results have the same bits for any number.

    >>> x = bp.Input(4)
    >>> h = bp.Dense(8, activation="relu")(x)
    >>> net = bp.Network(x, bp.Dense(2)(bp.concat([h, x])), seed=0)
    >>> net.predict(np.zeros((5, 4))).shape
    (5, 2)
    """

    __slots__ = (
        *("__weakref__", "_core", "_backend", "_n_threads", "_arrays", "_dtype", "_params", "_buffers", "_tensors"),
        *("_records", "_input_widths", "_output_widths", "_is_compiled", "_plain_width"),
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
        text, arrays = graph_text.write(node_list(inputs, "inputs"), node_list(outputs, "outputs"))
        core = backends.load(backend).Net(text, _dtype_name(dtype), seed_or_new(seed))
        self._adopt(core, backends.resolve(backend), arrays, limit)
        self._write_arrays()

    def _adopt(self, core: backends.CoreNet, backend: str, arrays: dict[str, Array], n_threads: int | None) -> None:
        self._core = core
        self._backend = backend
        self.n_threads = n_threads
        self._arrays = arrays  # initial weights and biases given as arrays, by the tensor's name
        self._records = records.Records(core)
        self._dtype = np.dtype(core.dtype)
        self._params = np.asarray(memoryview(core.params))
        self._buffers = np.asarray(memoryview(core.buffers))
        self._tensors = Views(self._views(self._params, self._buffers), "net.tensors")
        self._input_widths = tuple(entry.width for entry in self.inputs)
        self._output_widths = tuple(entry.width for entry in self.outputs)
        # The compiled backend checks arrays itself; with one input and one output, they are not in lists.
        self._is_compiled = backend == "compiled"
        one_array = self._is_compiled and len(self._output_widths) == len(self._input_widths) == 1
        self._plain_width = self._output_widths[0] if one_array else None

    @classmethod
    def _from(cls, core: backends.CoreNet, backend: str, arrays: dict[str, Array], n_threads: int | None) -> Self:
        net = cls.__new__(cls)
        net._adopt(core, backend, arrays, n_threads)
        return net

    def _views(self, params: Array, buffers: Array) -> dict[str, Array]:
        dense = {name for name, nodes in self._records.uses.items() if nodes[0].operation == "dense"}
        views: dict[str, dict[str, Array]] = {name: {} for name in self._records.layer_names}
        for vector, rows in ((params, self._core.tensors()), (buffers, self._core.buffer_tensors())):
            for layer, name, offset, inputs, outputs in rows:
                flat = vector[offset : offset + inputs * outputs]
                is_matrix = name == "weight" and layer in dense
                views[layer][f"{layer}.{name}"] = flat.reshape(inputs, outputs).T if is_matrix else flat
        return {name: view for of_layer in views.values() for name, view in of_layer.items()}

    def _write_arrays(self) -> None:
        if self._arrays:
            self._write(self._arrays)

    def _write(self, tensors: Mapping[str, Array]) -> None:
        """Changes tensors; a prediction in another thread sees all of the new values or none."""
        with self._core.hold():
            params, buffers = self._params.copy(), self._buffers.copy()
            views = self._views(params, buffers)
            for name, values in tensors.items():
                views[name][...] = values
            self._core.assign(params, buffers)

    # ---- parts of the network ----

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the parameters and of all arithmetic."""
        return self._dtype

    @property
    def seed(self) -> int:
        """The seed of the initial parameters."""
        return self._core.seed

    @property
    def backend(self) -> str:
        """ "compiled" or "reference"."""
        return self._backend

    @property
    def params(self) -> Array:
        """All parameters as one flat writable view: the weights of dense layers in order, each (in, out) row-major, then all biases
        and scales. The property always returns the same array, which keeps the memory alive. Assigning to `params` writes into it.

        >>> net = bp.mlp([2, 3, 1], seed=0)
        >>> len(net.params)
        13
        >>> net.params[:] = 0
        >>> net.predict([1.0, 2.0])
        array([0.], dtype=float32)
        """
        return self._params

    @params.setter
    def params(self, values: Any) -> None:  # also called by `net.params *= 0.9`; writes into the same memory
        assign(self._params, values, "params")

    @property
    def buffers(self) -> Array:
        """Values that are saved but not trained, as one flat writable view: the running statistics of batch_norm layers."""
        return self._buffers

    @buffers.setter
    def buffers(self, values: Any) -> None:
        assign(self._buffers, values, "buffers")

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
        """All nodes, in the order of `print(net)`, as records with the fields node, operation, operands, width, layer, activation, amount.

        >>> net = bp.mlp([2, 3, 1], seed=0)
        >>> [(node.operation, node.width) for node in net.nodes]
        [('input', 2), ('dense', 3), ('dense', 1)]
        """
        return self._records.nodes.copy()

    @property
    def layers(self) -> list[records.LayerInfo]:
        """The layers with parameters, in order of first use: name, sizes, settings, and the nodes where each is used.

        >>> net = bp.mlp([2, 3, 1], seed=0)
        >>> [(layer.name, layer.activation, layer.parameters) for layer in net.layers]
        [('dense_0', 'relu', 9), ('dense_1', 'identity', 4)]
        """
        return self._records.layers.copy()

    @property
    def inputs(self) -> list[records.InputInfo]:
        """The inputs, with node and width."""
        return self._records.inputs.copy()

    @property
    def outputs(self) -> list[records.OutputInfo]:
        """The outputs, with node, width and activation (None: not set yet)."""
        return self._records.outputs

    def text(self) -> str:
        """The graph as text, with all defaults; microbp.h documents it.

        >>> x = bp.Input(3)
        >>> print(bp.Network(x, x + x).text(), end="")
        input 3
        add 0 0
        output 1
        """
        return self._core.text()

    def __repr__(self) -> str:
        return f"{self._title()}\n{summary.text(self._records)}"

    def _repr_html_(self) -> str:
        """The network as an HTML table, for notebooks."""
        return summary.html(self._records, self._title())

    def _title(self) -> str:
        parameters = "1 parameter" if len(self._params) == 1 else f"{len(self._params):,} parameters"
        return f"microbp.Network: {parameters}, {self._dtype}, seed {self.seed}, {self._backend} backend"

    @property
    def notes(self) -> json_notes.Notes:
        """A JSON object for your own use, such as the names of classes. Copies and files keep it.

        Set it to a dict of at most 16 MiB as JSON text. It cannot be changed in place.

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

    # ---- changing the network ----

    @property
    def n_threads(self) -> int | None:
        """The maximum number of threads for large work. None: determined by the processors and the environment. Can be set at any time."""
        return self._n_threads

    @n_threads.setter
    def n_threads(self, n_threads: int | None) -> None:
        self._n_threads = threads.check(n_threads)
        self._core.threads = threads.choose(self._n_threads, self._backend)

    def init(self, seed: int | None = None) -> None:
        """Draws the initial parameters again. seed=None: uses a random seed. Weights and biases given as arrays get those values.

        >>> net = bp.mlp([2, 1], seed=0)
        >>> before = net.params.copy()
        >>> net.init(seed=1)
        >>> bool((net.params == before).all()), net.seed
        (False, 1)
        """
        with self._core.hold():
            self._core.init(seed_or_new(seed))
            self._write_arrays()

    def freeze(self, layer: str | None = None) -> None:
        """Stops training the layer: its parameters and running statistics stay as they are. None: all layers.

        >>> net = bp.mlp([2, 3, 1])
        >>> net.freeze("dense_0")
        >>> [layer.frozen for layer in net.layers]
        [True, False]
        """
        self._set_frozen(layer, True)

    def unfreeze(self, layer: str | None = None) -> None:
        """Trains the layer again. None: all layers.

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
        self._records.changed()

    def set_layer(
        self,
        layer: str | None = None,
        *,
        lr: float | None = None,
        l1: float | None = None,
        l2: float | None = None,
        max_norm: float | None = None,
        bias_lr: float | None = None,
    ) -> None:
        """Changes the given settings of a layer; help(bp.Dense) explains them. layer=None: changes all layers that have the setting (norms
        and scales have only lr). max_norm=0 removes the limit.

        >>> net = bp.mlp([2, 3, 1])
        >>> net.set_layer(l2=1e-4)
        >>> net.set_layer("dense_1", lr=0.5)
        >>> [(layer.lr, layer.l2) for layer in net.layers]
        [(1.0, 0.0001), (0.5, 0.0001)]
        """
        self._check_layer(layer)
        # lr is last, because all layers have it: if another setting is refused, nothing has changed
        for name, value in layer_settings("set_layer", l1=l1, l2=l2, max_norm=max_norm, bias_lr=bias_lr, lr=lr).items():
            self._core.set_layer(layer, name, value)
        self._records.changed()

    def set_output(self, i: int, activation: OutputActivationName | None) -> None:
        """Sets the activation that `predict` applies to output i (the first is 0): "identity", "softmax", "sigmoid" or "exp".

        None: no activation; predictions are raw outputs until a Trainer sets the activation that its loss needs.

        >>> net = bp.mlp([2, 3], seed=0)
        >>> net.set_output(0, "softmax")
        >>> round(float(net.predict([1.0, 2.0]).sum()), 3), net.outputs[0].activation
        (1.0, 'softmax')
        """
        number = whole_number(i, "set_output: i", least=0)
        if number >= len(self._output_widths):
            count = counted(len(self._output_widths), "output")
            raise ValueError(f"there is no output {brief(number)}: the net has {count}, numbered from 0")
        if or_none(string)("set_output: activation", activation) not in (None, *table("output_activation")):
            raise unknown("output activation", activation, table("output_activation"))
        self._core.set_output(number, activation)

    def _check_layer(self, layer: str | None) -> None:
        if layer is not None and string("layer", layer) not in self._records.uses:
            raise unknown("layer", layer, self._records.layer_names)

    # ---- predicting ----

    def predict(
        self,
        X: Any,  # noqa: N803
        raw: bool = False,
        out: Array | Sequence[Array] | None = None,
        at: str | int | None = None,
    ) -> Prediction:
        """Returns the predictions for each row of X: probabilities, rates or numbers. If an output has no activation set, its raw values
        are returned.

        X: shape (rows, features) and any real dtype; a list of arrays for a net with several inputs. Other leading axes are kept:
        (features,) gives (outputs,).
        raw: if True, returns the outputs before the output activations (the values that the loss gets).
        out: an array of the net's dtype and the result's shape to write to; a list of arrays for several outputs.
        at: the name of a layer, or the number of a node in `print(net)`: returns its values instead of the outputs. Output activations
        are not applied to them, so `raw` makes no difference.
        Returns an array, or a list of arrays for a net with several outputs. ValueError or TypeError if an argument does not fit.

        >>> net = bp.mlp([2, 8, 3], seed=0)
        >>> net.set_output(0, "softmax")
        >>> net.predict(np.zeros((5, 2))).sum(axis=1)
        array([1., 1., 1., 1., 1.], dtype=float32)
        >>> net.predict(np.zeros((5, 2)), at="dense_0").shape
        (5, 8)
        """
        try:
            if self._plain_width is not None and (out is None or type(out) is _ndarray):
                x = X if type(X) is _ndarray else as_array(X, "X")
                number, width = -1, self._plain_width
                if at is not None:
                    node = predicting.find_node(self._records, at)
                    number, width = node.node, node.width
                if x.ndim == 2:
                    y = _empty((len(x), width), self._dtype) if out is None else out
                    self._core.predict(x, y, raw, number)
                    return y
                if x.ndim == 1:
                    y = _empty(width, self._dtype) if out is None else out
                    self._core.predict(x[None], y[None], raw, number)
                    return y
            elif self._is_compiled and out is None and at is None:
                return predicting.plain(self._core, X, raw, len(self._input_widths), self._output_widths, self._dtype)
        except (TypeError, ValueError):
            pass  # the code below raises an error that names the argument, or predicts what the backend does not read as it is
        return self._predict(X, flag("predict: raw", raw), out, at)

    def _predict(self, X: Any, raw: bool, out: Array | Sequence[Array] | None, at: str | int | None) -> Prediction:  # noqa: N803
        """`predict` for anything that contains numbers, and both backends."""
        xs = as_list(X, len(self._input_widths), "X", "input")
        lead = predicting.leading_axes(xs, self._input_widths)
        node = None if at is None else predicting.find_node(self._records, at)
        shapes = [(*lead, width) for width in (self._output_widths if node is None else (node.width,))]
        if out is None:
            outs = [np.empty(shape, self._dtype) for shape in shapes]
        else:
            outs = predicting.check_outs(out, shapes, self._dtype)
            if self._backend == "reference":
                predicting.check_apart(outs, xs, self._params)
        if rows := math.prod(lead):
            read, written = ([one if one.ndim == 2 else one.reshape(rows, -1) for one in arrays] for arrays in (xs, outs))
            self._core.predict(read, written, raw, -1 if node is None else node.node)
        return outs[0] if len(outs) == 1 else outs

    # ---- copies and files ----

    def copy(self) -> Self:
        """An independent copy. copy.copy and copy.deepcopy do the same.

        >>> net = bp.mlp([2, 1], seed=0)
        >>> other = net.copy()
        >>> other.params[:] = 0
        >>> bool(net.params.any())
        True
        """
        core = backends.load(self._backend).Net.read(self._core.write())
        twin = self._from(core, self._backend, dict(self._arrays), self._n_threads)
        return twin._with(self._attributes)

    @property
    def _attributes(self) -> dict[str, Any]:
        """The attributes of a subclass."""
        return dict(getattr(self, "__dict__", {}))

    def _with(self, attributes: Mapping[str, Any]) -> Self:
        for name, value in attributes.items():
            setattr(self, name, value)
        return self

    def __copy__(self) -> Self:
        return self.copy()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        memo[id(self)] = twin = self.copy()
        return twin._with(copy.deepcopy(self._attributes, memo))

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (type(self), self._core.write(), self._backend, self._arrays, self._n_threads), self._attributes or None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves the network to a safetensors file, which bp.load reads. OSError if it cannot be written or is read-only; an
        existing file then stays intact.

        >>> bp.mlp([2, 1], seed=7).save("net.safetensors")
        >>> bp.load("net.safetensors").seed
        7
        """
        self._core.save(new_file(path))

    def load_tensors(self, path: str | os.PathLike[str]) -> None:
        """Loads all `tensors` from a safetensors file of any library, by name and shape: "dense_0.weight" (out, in).

        F64, F32, F16 and BF16 are converted to the network's dtype. Other tensors in the file are ignored. If a tensor is missing or has
        another shape, ValueError names it, and nothing changes.

        >>> other = bp.mlp([2, 1])
        >>> other.save("weights.safetensors")
        >>> net = bp.mlp([2, 1], dtype="float64")
        >>> net.load_tensors("weights.safetensors")
        >>> bool((net.params == other.params).all())
        True
        """
        self._write(tensors_file.read(path, {name: view.shape for name, view in self._tensors.items()}, self._dtype))


def _unpickle(cls: type[Network], data: bytes, backend: str, arrays: dict[str, Array], n_threads: int | None) -> Network:
    return cls._from(backends.load(backend).Net.read(data), backend, arrays, n_threads)


def load(path: str | os.PathLike[str], backend: BackendName | None = None, n_threads: int | None = None) -> Network:
    """Loads a network that `save` wrote, with its notes, frozen layers and output activations; also the network of a trainer's file.

    backend, n_threads: as in bp.Network. OSError if the file cannot be read, ValueError if it is damaged or not a microbp file.

    >>> bp.mlp([2, 1], seed=7).save("net.safetensors")
    >>> bp.load("net.safetensors").seed
    7
    """
    limit = threads.check(n_threads)
    return Network._from(backends.load(backend).Net.load(file_path(path)), backends.resolve(backend), {}, limit)
