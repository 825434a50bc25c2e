"""Network: a compiled graph with its parameters. One class for both backends."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Self, TypeAlias
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np
from numpy.typing import ArrayLike

from .._doors import door
from ..core import backend as backends
from ..core import threads
from ..core.backend import BackendName
from ..core.checks import new_file, or_none, own_file, string, whole_number
from ..core.specs import OutputActivationName, table, unknown
from ..core.text import brief
from ..data.arrays import Array, Views, columns_of
from ..data.ids import as_inputs, form_of
from ..data.lengths import Sequences
from . import graph_text, predicting, records, reuse, tensors_file
from .layers import layer_settings
from .nodes import Node, node_list
from .predicting import Place, Predicts
from .states.state import State

DType: TypeAlias = Literal["float32", "float64"] | type[Any] | np.dtype[Any]


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


class Network(Predicts):
    """A network from `inputs` to `outputs`. It has its own parameters: another network of the same nodes is independent.

    inputs, outputs: nodes or lists of nodes. The network contains all nodes that the outputs depend on; all bp.Input nodes among them must
    be listed in inputs.
    dtype: "float32" or "float64", for the parameters and all arithmetic.
    seed: for the initial parameters, 0 to 2**64 - 1; None: a random seed, which the attribute `seed` contains.
    backend: "compiled", or "reference" (pure Python, slow); None: the environment variable MICROBP_BACKEND, else "compiled".
    n_threads: the maximum number of threads for large work; None: the number of processors that this process may use, limited by
    MICROBP_NUM_THREADS if it is set, else by OMP_NUM_THREADS, else shared by MPI's processes. Results have the same bits for any number.

    >>> x = bp.Input(4)
    >>> h = bp.Dense(8, activation="relu")(x)
    >>> net = bp.Network(x, bp.Dense(2)(bp.concat([h, x])), seed=0)
    >>> net.predict(np.zeros((5, 4))).shape
    (5, 2)
    """

    __slots__ = (
        *("__weakref__", "_copied", "_ids", "_input_widths", "_is_compiled", "_n_threads", "_output_widths", "_places", "_plain_width"),
        *("_pieces", "_sequences", "_shapes"),
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
        written = graph_text.write(node_list(inputs, "inputs"), node_list(outputs, "outputs"))
        core = backends.load(backend).Net(written.text, _dtype_name(dtype), seed_or_new(seed))
        self._adopt(core, backends.resolve(backend), written.arrays, limit)
        self._places.update(written.places)
        if tensors := written.arrays | written.values:
            self._write(tensors)

    def _adopt(self, core: backends.CoreNet, backend: str, arrays: dict[str, Array], n_threads: int | None) -> None:
        self._core = core
        self._backend = backend
        self.n_threads = n_threads
        self._arrays = arrays
        self._pieces = []
        self._places: WeakKeyDictionary[Node, int] = WeakKeyDictionary()  # the numbers of the nodes that it was made of
        self._copied: reuse.Copied = WeakValueDictionary()
        self._records = records.Records(core)
        self._dtype = np.dtype(core.dtype)
        self._params = np.asarray(memoryview(core.params))
        self._buffers = np.asarray(memoryview(core.buffers))
        self._tensors = Views(self._views(self._params, self._buffers), "net.tensors")
        self._input_widths = tuple(entry.width for entry in self.inputs)
        self._output_widths = tuple(math.prod(entry.row_shape) for entry in self.outputs)
        self._shapes = tuple(entry.row_shape for entry in self.inputs), tuple(entry.row_shape for entry in self.outputs)
        # The compiled backend checks matrices itself; with one input and one output, they are not in lists.
        self._is_compiled = backend == "compiled" and all(len(shape) == 1 for shape in (*self._shapes[0], *self._shapes[1]))
        self._sequences = Sequences(core)
        self._ids = tuple(form_of(entry.width, entry.levels, entry.hash) for entry in self.inputs)
        one_array = self._is_compiled and len(self._output_widths) == len(self._input_widths) == 1
        self._plain_width = self._output_widths[0] if one_array and not any(self._ids) else None

    @classmethod
    def _from(cls, core: backends.CoreNet, backend: str, arrays: dict[str, Array], n_threads: int | None) -> Self:
        net = cls.__new__(cls)
        net._adopt(core, backend, arrays, n_threads)
        return net

    def _views(self, params: Array, buffers: Array) -> dict[str, Array]:
        kinds = {name: nodes[0].operation for name, nodes in self._records.uses.items()}
        views: dict[str, dict[str, Array]] = {name: {} for name in self._records.layer_names}
        for vector, rows in ((params, self._core.tensors()), (buffers, self._core.buffer_tensors())):
            for layer, name, offset, inputs, outputs in rows:
                flat = vector[offset : offset + inputs * outputs]
                table = flat.reshape(inputs, outputs) if name == "weight" and kinds[layer] in ("dense", "embedding", "recurrent") else flat
                views[layer][f"{layer}.{name}"] = table.T if kinds[layer] in ("dense", "recurrent") else table
        return {name: view for of_layer in views.values() for name, view in of_layer.items()}

    def _restore(self, params: Array, buffers: Array) -> None:
        """Copies values into the network's own tensors. params, buffers: laid out as the network's."""
        self._write(self._views(params, buffers))

    def _write(self, tensors: Mapping[str, Array]) -> None:
        """Changes tensors; a prediction in another thread sees all of the new values or none."""
        with self._core.hold():
            params, buffers = self.params.copy(), self._buffers.copy()
            views = self._views(params, buffers)
            for name, values in tensors.items():
                views[name][...] = values
            self._core.assign(params, buffers)

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
            if self._arrays:
                self._write(self._arrays)

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

    def standardize(self, X: Any) -> None:  # noqa: N803
        """Sets the statistics of all bp.Standardize layers that are not frozen: mean and standard deviation of the values that each gets
        for the rows of X, which must all be finite. `fit` calls it for layers that have none yet.

        X: as in `predict`. ValueError: there is no such layer, or a value is not finite; nothing has changed.

        >>> x = bp.Input(3)
        >>> net = bp.Network(x, bp.Dense(1)(bp.Standardize()(x)), seed=0)
        >>> net.standardize([[1, 2, 3], [1, 4, 9]])
        >>> net.tensors["standardize_0.mean"], net.tensors["standardize_0.std"]
        (array([1., 3., 6.], dtype=float32), array([1., 1., 3.], dtype=float32))
        """
        xs = as_inputs(X, self._ids)
        rows = math.prod(predicting.leading_axes(xs, self._shapes[0]))
        self._core.standardize(
            [x if x.ndim == 2 else x.reshape(rows, width) for x, width in zip(xs, self._input_widths, strict=True)], True
        )

    def flush(self) -> None:
        """Brings all parameters up to date: those of sparse layers may have missed `Trainer.step`s whose batch did not name them.

        `params`, `tensors`, `predict`, `save`, copies, and the records of `fit` and `epochs` need no flush; only an array that you have
        kept from `params`, `tensors` or `Trainer.state` does. RuntimeError: another thread trains the network.

        >>> net = bp.mlp([3, 1], seed=0)
        >>> net.flush()
        """
        self._core.flush()

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

    def set_output(
        self, i: int | str, activation: OutputActivationName | None, mean: ArrayLike | None = None, std: ArrayLike | None = None
    ) -> None:
        """Sets the activation that `predict` applies to output i: "identity", "softmax", "sigmoid" or "exp".

        i: the number of the output, the first is 0, or its name (`net.outputs[i].name`). activation None: none; predictions are raw outputs
        until a Trainer sets the activation that its loss needs.
        mean, std: of the targets, for "identity": a number, or one per column of the output. Predictions are then mean + std x raw output,
        and trainers learn from (target - mean) / std. With "gaussian_nll", they are 2 log(std) and 1 for a column of log-variances. None:
        predictions are raw outputs.

        >>> net = bp.mlp([2, 3], seed=0)
        >>> net.set_output(0, "softmax")
        >>> round(float(net.predict([1.0, 2.0]).sum()), 3), net.outputs[0].activation
        (1.0, 'softmax')
        """
        number = predicting.find_output(self._records, i, "set_output", "i")
        if or_none(string)("set_output: activation", activation) not in (None, *table("output_activation")):
            raise unknown("output activation", activation, table("output_activation"))
        if mean is None is std:
            self._core.set_output(number, activation)
            return
        if activation != "identity" or mean is None or std is None:
            raise ValueError('set_output: mean and std belong together, and to the activation "identity"')
        width = self.outputs[number].width
        self._core.set_scale(number, *(columns_of(values, width, f"set_output: {what}") for what, values in (("mean", mean), ("std", std))))

    def _check_layer(self, layer: str | None) -> None:
        if layer is not None and string("layer", layer) not in self._records.uses:
            raise unknown("layer", layer, self._records.layer_names)

    # ---- sequences in pieces ----

    def state(self, rows: int) -> State:
        """A new state of this many rows, all 0: what the recurrent layers remember between calls. Pass it to `predict`, or to `step`,
        `backward` and `evaluate` of a Trainer, and row i goes on where row i ended.

        ValueError: no recurrent layer starts from zeros, or one runs in reverse.

        >>> x = bp.Sequence(20, 3)
        >>> net = bp.Network(x, bp.Dense(2)(bp.Recurrent(8, cell="gru")(x)), seed=0)
        >>> state = net.state(1)
        >>> for number in range(3):
        ...     y = net.predict(np.full((1, 3), number), state=state)  # one position; the next call remembers it
        >>> y.shape
        (1, 2)
        """
        core = self._core.state(whole_number(rows, "state: rows"))
        return State(core, self._records.carried_names, self._backend)

    def _make_length(self, positions: int) -> Network:
        net = Network._from(self._core.with_length(positions), self._backend, {}, self._n_threads)
        net._places = self._places
        return net

    # ---- parts, and new graphs ----

    def part(self, inputs: Place | Iterable[Place] | None = None, outputs: Place | Iterable[Place] | None = None) -> Network:
        """A network of the nodes between `inputs` and `outputs`. It shares its parameters and buffers with this network.

        inputs, outputs: a node or a list of nodes: the name of a layer (the node after it), the number of a node in `print(net)`, or a node
        that this network was made of. Each of `inputs` becomes an input of the part. None: the inputs that the outputs depend on; the
        outputs that depend on the inputs.

        `params`, `buffers` and the gradients and states of trainers are those of the whole network. `tensors`, `layers` and `nodes` are the
        part's own, and so are frozen layers, settings of layers, output activations and notes. A trainer of a part changes only layers of
        the part that are not frozen in it. Copies, pickles and files contain the part alone, as a network with its own values. One thread
        at a time may train the network and its parts.
        ValueError: the outputs depend on an input of the network that is not covered, no output depends on one of `inputs`, or a name is
        unknown.

        >>> x = bp.Input(8)
        >>> code = bp.Dense(2, activation="tanh", name="code")(x)
        >>> net = bp.Network(x, bp.Dense(8, name="out")(code), seed=0)
        >>> decoder = net.part(inputs="code")
        >>> decoder.predict([0.5, -0.5]).shape, list(decoder.tensors)
        ((8,), ['out.weight', 'out.bias'])
        >>> decoder.tensors["out.bias"][:] = 1
        >>> float(net.tensors["out.bias"][0])
        1.0
        """
        begin, end = reuse.part_ends(self._records, self._places, inputs, outputs)
        core = self._core.part(begin, end)
        names = {row[0] for row in core.layers()}
        arrays = {key: array for key, array in self._arrays.items() if key.partition(".")[0] in names}
        part = Network._from(core, self._backend, arrays, self._n_threads)
        place = {number: i for i, number in enumerate([*begin, *reuse.between(self._records, begin, end)])}
        part._places.update({node: place[number] for node, number in self._places.items() if number in place})
        return part

    def __call__(self, nodes: Node | Sequence[Node], prefix: str = "") -> Any:
        """Puts the layers of this network into a new graph: a trained network becomes the trunk of a new one.

        nodes: a node, or a list of nodes for a network with several inputs. prefix: put before the names of the layers, for example where
        two networks have layers of the same name.
        Returns the node of the output, or a list of nodes for several outputs: their values before output activations.

        A bp.Network that is made of these nodes gets copies of the layers: their names, their settings, whether they are frozen, and their
        values at the time when it is made, converted to its dtype; `init` draws them again. Like a layer that is called twice, a network
        that is called twice with the same prefix shares its layers between the calls.
        ValueError, TypeError: the nodes do not fit the inputs.

        >>> trunk = bp.mlp([4, 8, 8], seed=0)
        >>> trunk.freeze()
        >>> x = bp.Input(4)
        >>> net = bp.Network(x, bp.Dense(2, name="head")(trunk(x)), seed=1)
        >>> [(layer.name, layer.frozen) for layer in net.layers]
        [('dense_0', True), ('dense_1', True), ('head', False)]
        >>> bool((net.tensors["dense_0.weight"] == trunk.tensors["dense_0.weight"]).all())
        True
        """
        found = reuse.put(self, self._copied, nodes, prefix)
        return found[0] if len(found) == 1 else found

    # ---- other libraries ----

    def to_sklearn(self, classes: Sequence[Any] | None = None) -> Any:
        """Makes a fitted model of scikit-learn with a copy of the weights: an MLPClassifier if predictions are probabilities (softmax,
        sigmoid), else an MLPRegressor. For a chain of dense layers, all hidden ones with the same activation: identity, relu, sigmoid or
        tanh. Weights are the same to the last bit, predictions within rounding.

        classes: what the classifier predicts, in ascending order, one for each output (two for one sigmoid output). None:
        `notes["classes"]`, else 0, 1, ... bp.from_sklearn makes a network of such a model, with the same weights.
        ValueError: scikit-learn does not have such a network; the text names the layer. ImportError: scikit-learn is not installed.

        >>> net = bp.mlp([4, 8, 3], activation="tanh", dtype="float64", seed=0)
        >>> net.set_output(0, "softmax")
        >>> model = net.to_sklearn(classes=["blue", "green", "red"])
        >>> X = np.ones((2, 4))
        >>> np.allclose(model.predict_proba(X), net.predict(X)), model.predict(X).shape
        (True, (2,))
        """
        return door("Network.to_sklearn")(self, classes)

    def to_torch(self) -> Any:
        """Makes a torch.nn.Module with a copy of the parameters, whose state_dict has the names of `tensors`. module(X) gives what
        `predict` gives, module(X, raw=True) the raw outputs that losses take; several inputs are several arguments. It can be trained:
        module.train() draws dropout and noise, and updates batch norms; frozen layers need no gradients.

        Shapes are those of `predict`, with channels last; rows with `lengths` cannot be passed. To bring trained weights
        back, write `net.tensors[name][...] = values` for each tensor of its state_dict. ImportError: PyTorch is not installed.

        >>> import torch
        >>> net = bp.mlp([4, 8, 3], seed=0)
        >>> module = net.to_torch()
        >>> list(module.state_dict()) == list(net.tensors)
        True
        >>> X = np.ones((2, 4), "float32")
        >>> np.allclose(module(torch.from_numpy(X)).detach(), net.predict(X), atol=1e-6)
        True
        """
        return door("Network.to_torch")(self)

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
        twin._places.update(self._places)
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
    bp.from_onnx and bp.from_keras read files of other formats.

    >>> bp.mlp([2, 1], seed=7).save("net.safetensors")
    >>> bp.load("net.safetensors").seed
    7
    """
    limit = threads.check(n_threads)
    with own_file(path) as name:
        return Network._from(backends.load(backend).Net.load(name), backends.resolve(backend), {}, limit)
