"""What a network computes: predictions and Jacobians; their inputs, the nodes to read, and the arrays to write to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Literal, TypeAlias, cast

import numpy as np

from ..core.checks import flag, one_of, whole_number
from ..core.specs import unknown
from ..core.text import brief, counted
from ..data.arrays import Array, unchecked
from ..data.by_output import number_of
from ..data.ids import IdsForm, as_inputs
from ..data.sparse import memory_of
from .nodes import Node
from .records import NodeInfo, Records
from .view import NetworkView

# An array, or a list of arrays for a net with several outputs. The type of a net does not contain its number of outputs, so type checkers
# treat the result as an array and accept a list too.
Prediction: TypeAlias = Array | Any
Place: TypeAlias = str | int | Node  # the name of a layer or an output, the number of a node, or a node that the network was made of
Places: TypeAlias = Mapping[Node, int]  # the numbers of the nodes that a network was made of
_ndarray, _empty = np.ndarray, np.empty  # looking up a name in np takes 1 % of the time of a small prediction


class Predicts(NetworkView):
    """What a network computes from inputs. Network has the attributes."""

    __slots__ = ()

    _input_widths: tuple[int, ...]
    _ids: tuple[IdsForm | None, ...]
    _output_widths: tuple[int, ...]
    _is_compiled: bool
    _places: Places
    _plain_width: int | None

    def predict(
        self,
        X: Any,  # noqa: N803
        raw: bool = False,
        out: Array | Sequence[Array] | None = None,
        at: Place | Sequence[Place] | None = None,
        training: bool = False,
        seed: int | None = None,
    ) -> Prediction:
        """Returns the predictions for each row of X: probabilities, rates or numbers. If an output has no activation set, its raw values
        are returned.

        X: shape (rows, features) and any real dtype; a list of arrays for a net with several inputs. Other leading axes are kept:
        (features,) gives (outputs,).
        raw: if True, returns the outputs before the output activations (the values that the loss gets).
        out: an array of the net's dtype and the result's shape to write to; a list of arrays for several outputs.
        at: the name of a layer (the node after it), the number of a node in `print(net)`, or a node that this network was made of: returns
        its values instead of the outputs. Output activations are not applied to them, so `raw` makes no difference. A list of these returns
        a list of arrays, in one forward pass. "output" (of several: "output_0", "output_1", ...) is an output as without `at`, unless a
        layer has this name.
        training: if True, dropout and noise are drawn as in the first training step; the mean and spread of predictions with several seeds
        estimate how sure the net is (Monte-Carlo dropout, Gal & Ghahramani 2016). batch_norm uses its running statistics.
        seed: for training=True, 0 to 2**64 - 1; None: the net's seed. What is drawn depends on seed, node, row number and column.
        Returns an array, or a list of arrays for a net with several outputs. ValueError or TypeError if an argument does not fit.

        >>> net = bp.mlp([2, 8, 3], seed=0)
        >>> net.set_output(0, "softmax")
        >>> net.predict(np.zeros((5, 2))).sum(axis=1)
        array([1., 1., 1., 1., 1.], dtype=float32)
        >>> net.predict(np.zeros((5, 2)), at="dense_0").shape
        (5, 8)
        >>> code, probabilities = net.predict(np.zeros((5, 2)), at=["dense_0", "output"])
        >>> x = bp.Input(2)
        >>> uncertain = bp.Network(x, bp.Dense(1)(bp.Dropout(0.5)(bp.Dense(8)(x))), seed=0)
        >>> drawn = [uncertain.predict(np.ones((5, 2)), training=True, seed=k) for k in range(20)]
        >>> np.std(drawn, axis=0).shape
        (5, 1)
        """
        try:
            if training is False and seed is None and self._is_compiled:
                if self._plain_width is None:
                    if at is None:
                        return self._plain_lists(X, raw, out)
                elif out is None or type(out) is _ndarray:
                    if type(X) is _ndarray:
                        x, rows = X, len(X) if X.ndim == 2 else None
                    else:
                        x = unchecked(X, 1, "X", "input")
                        rows = x.shape[0] if len(x.shape) == 2 else None
                    place, width = None, self._plain_width
                    if at is not None:
                        node = find_node(
                            self._records, self._places, cast(Place, at)
                        )  # ValueError or TypeError if it is not a layer or a node
                        place, width = node.node, node.width
                    if out is not None:
                        y = out
                    elif rows is not None:
                        y = _empty((rows, width), self._dtype)
                    else:
                        y = _empty(width, self._dtype)
                    self._core.predict(x, y, raw, place)
                    return y
        except (TypeError, ValueError, KeyError):
            pass  # the code below raises an error that names the argument, or predicts what the backend does not read as it is
        return self._predict(X, flag("predict: raw", raw), out, at, self._seed(flag("predict: training", training), seed))

    def _plain_lists(self, x: Any, raw: bool, out: Any) -> Prediction:
        """The predictions of several inputs or outputs, of arrays that the compiled backend checks itself."""
        if type(x) is _ndarray and out is None and x.ndim == 2:  # the usual case, of one input; the backend refuses another number
            rows, dtype, new = len(x), self._dtype, []
            for width in self._output_widths:  # a list comprehension takes 10 % of the time of a small prediction
                new.append(_empty((rows, width), dtype))
            self._core.predict(x, new, raw)
            return new if len(new) > 1 else new[0]
        first = x
        if len(self._input_widths) > 1:
            first = x[0]
            for one in x:
                if type(one) is not _ndarray:
                    raise TypeError
        elif type(x) is not _ndarray:
            first = x = unchecked(x, 1, "X", "input")
        if out is not None:
            for one in out if len(self._output_widths) > 1 else (out,):
                if type(one) is not _ndarray:
                    raise TypeError
            outs = out
        elif len(first.shape) == 2:
            rows, dtype = first.shape[0], self._dtype
            outs = [_empty((rows, width), dtype) for width in self._output_widths]
        else:
            if any(self._ids):
                raise TypeError  # a vector may be a column of ids
            outs = [_empty(width, self._dtype) for width in self._output_widths]
        self._core.predict(x, outs, raw)
        return outs[0] if type(outs) is list and len(outs) == 1 else outs

    def _seed(self, training: bool, seed: int | None) -> int | None:
        """The seed of dropout and noise; None: without them."""
        if seed is not None and not training:
            raise ValueError("predict: seed is for the numbers that training=True draws: pass training=True, or no seed")
        if not training:
            return None
        return self._core.seed if seed is None else whole_number(seed, "predict: seed", least=0, bits=64)

    def _predict(
        self,
        X: Any,  # noqa: N803
        raw: bool,
        out: Array | Sequence[Array] | None,
        at: Place | Sequence[Place] | None,
        seed: int | None,
    ) -> Prediction:
        """`predict` for anything that contains numbers, and both backends."""
        xs = as_inputs(X, self._ids)
        lead = leading_axes(xs, self._input_widths)
        is_list = _is_list(at) or (at is None and len(self._output_widths) > 1)
        places = find_places(self._records, self._places, at)
        shapes = [(*lead, width) for width in (self._output_widths if places is None else [width for _, width in places])]
        if out is None:
            outs = [np.empty(shape, self._dtype) for shape in shapes]
        else:
            outs = check_outs(out, shapes, self._dtype, is_list)
            if self._backend == "reference":
                check_apart(outs, xs, self._params)
        if rows := math.prod(lead):
            read, written = ([one if one.ndim == 2 else one.reshape(rows, -1) for one in arrays] for arrays in (xs, outs))
            self._core.predict(read, written, raw, None if places is None else [place for place, _ in places], seed)
        return outs if is_list else outs[0]

    def jacobian(self, X: Any, by: Literal["params", "inputs"] = "params", output: str | int | None = None) -> Prediction:  # noqa: N803
        """The derivatives of each row's raw outputs with respect to the parameters or to the inputs: shape (rows, outputs, parameters) or
        (rows, outputs, features), in the net's dtype.

        X: as in `predict`; other leading axes are kept. by: "params", in the order of `params`, or "inputs".
        output: the name or number of the only output that is wanted; None: all.
        Raw outputs are those before the output activations. As in `predict`, there is no dropout or noise, and batch_norm uses its running
        statistics. The derivatives by the parameters of frozen layers are 0, as in `Trainer.grads`; penalties do not count.
        Returns an array; for several outputs a list of arrays; for several inputs with by="inputs" a list of arrays, one per input, in
        place of each array. Pass X in parts if the result is too large for the memory: MemoryError.

        >>> net = bp.mlp([2, 4, 3], activation="tanh", seed=0)
        >>> X = np.ones((5, 2))
        >>> net.jacobian(X).shape, net.jacobian(X, by="inputs").shape
        ((5, 3, 27), (5, 3, 2))

        A step of Gauss and Newton, damped as by Levenberg and Marquardt, on a net with one output:

        >>> X = np.linspace(-1, 1, 50).reshape(-1, 1)
        >>> net = bp.mlp([1, 6, 1], activation="tanh", dtype="float64", seed=0)
        >>> for _ in range(30):
        ...     J, error = net.jacobian(X)[:, 0], np.sin(3 * X[:, 0]) - net.predict(X)[:, 0]
        ...     net.params += np.linalg.solve(J.T @ J + 0.1 * np.eye(J.shape[1]), J.T @ error)
        >>> bool(abs(error).max() < 0.01)
        True
        """
        by_inputs = one_of("params", "inputs")("jacobian: by", by) == "inputs"
        number = None if output is None else find_output(self._records, output, "jacobian", "output")
        xs = as_inputs(X, self._ids)
        lead = leading_axes(xs, self._input_widths)
        lengths = self._input_widths if by_inputs else (len(self._params),)
        widths = self._output_widths if number is None else self._output_widths[number : number + 1]
        found = _empty_arrays([(*lead, width, length) for width in widths for length in lengths], self._dtype)
        if rows := math.prod(lead):
            written = [array.reshape(rows, width * length) for array, (width, length) in zip(found, product(widths, lengths), strict=True)]
            read = [x if x.ndim == 2 else x.reshape(rows, -1) for x in xs]
            self._core.jacobian(read, written, by_inputs, -1 if number is None else number)
        grouped = found if len(lengths) == 1 else [found[i : i + len(lengths)] for i in range(0, len(found), len(lengths))]
        return grouped[0] if len(widths) == 1 else grouped


def _empty_arrays(shapes: Sequence[tuple[int, ...]], dtype: np.dtype[Any]) -> list[Array]:
    try:
        return [np.empty(shape, dtype) for shape in shapes]
    except (MemoryError, ValueError):  # NumPy raises ValueError for more elements than it can count
        size = sum(map(math.prod, shapes)) * dtype.itemsize
        raise MemoryError(f"jacobian: the result has {size:,} bytes, which do not fit in memory: pass fewer rows at a time") from None


def leading_axes(xs: Sequence[Array], widths: Sequence[int]) -> tuple[int, ...]:
    """The axes before the features, the same for all inputs."""
    for i, (x, width) in enumerate(zip(xs, widths, strict=True)):
        if x.ndim == 0 or x.shape[-1] != width:
            name = "X" if len(xs) == 1 else f"X[{i}]"
            raise ValueError(f"{name} has shape {x.shape}; its last axis must have length {width}, the number of features")
        if x.shape[:-1] != xs[0].shape[:-1]:
            raise ValueError(f"X[0] and X[{i}] must have equal shapes except for the last axis, not {xs[0].shape} and {x.shape}")
    return tuple(xs[0].shape[:-1])


def find_output(records: Records, output: str | int, call: str, argument: str) -> int:
    """The number of the output with this name or number. ValueError or TypeError, with the call and its argument: there is none."""
    names = [entry.name for entry in records.outputs]
    what = f"{call}: {argument}, unless it is the name of an output,"
    number = number_of(output, names) if isinstance(output, str) else whole_number(output, what, least=0)
    if number is None:
        raise unknown(f"output in {call}:", output, names)
    if number >= len(names):
        raise ValueError(f"{call}: there is no output {brief(output)}: the net has {counted(len(names), 'output')}, numbered from 0")
    return number


def find_node(records: Records, places: Places, at: Place, what: str = "at") -> NodeInfo:
    """The node itself, that with this number, or that where the layer with this name is used. what: the argument, for errors."""
    if isinstance(at, Node):
        if at not in places:
            raise ValueError(f"{what} ({at!r}) is not a node that this network was made of: use the name of a layer, or a number that "
                             "print(net) shows")  # fmt: skip
        return records.nodes[places[at]]
    if not isinstance(at, str):
        number = whole_number(at, f"{what}, unless it is a node or the name of a layer,", least=0)
        if number >= len(records.nodes):
            raise ValueError(f"{what} must be a node number from 0 to {len(records.nodes) - 1}, not {number}")
        return records.nodes[number]
    found = records.uses.get(at)
    if not found:
        raise unknown("layer", at, records.layer_names)
    if len(found) > 1:
        numbers = ", ".join(str(node.node) for node in found)
        raise ValueError(f"layer {at!r} is used at nodes {numbers}; choose one of them, for example {what}={found[0].node}")
    return found[0]


def find_place(records: Records, places: Places, at: Place) -> tuple[int, int]:
    """What a backend calls the place, a node's number or -1 - i for output i; and its width."""
    if isinstance(at, str) and at not in records.uses:
        outputs = records.outputs
        names = ["output"] if len(outputs) == 1 else [f"output_{i}" for i in range(len(outputs))]
        if at in names:
            i = names.index(at)
            return -1 - i, outputs[i].width
    node = find_node(records, places, at)
    return node.node, node.width


def _is_list(at: Any) -> bool:
    """Whether these are several places. A record of a node or layer is a tuple too, but no list of places."""
    return type(at) in (list, tuple)


def find_places(records: Records, places: Places, at: Place | Sequence[Place] | None) -> list[tuple[int, int]] | None:
    """The places of one name, number or node, or of a list of them; None: all outputs."""
    if at is None:
        return None
    if not _is_list(at):
        return [find_place(records, places, cast(Place, at))]
    if not at:
        raise ValueError("predict: at is an empty list; name at least one layer or node, or leave it out")
    return [find_place(records, places, one) for one in cast("Sequence[Place]", at)]


def check_outs(out: Any, shapes: Sequence[tuple[int, ...]], dtype: np.dtype[Any], is_list: bool) -> list[Array]:
    """Checks the arrays to write to and returns them. is_list: whether `out` must be a list."""
    expected = f"out must be a list of {counted(len(shapes), 'array')}, one per output"
    try:
        outs = list(out) if is_list else [out]
    except TypeError:
        raise TypeError(f"{expected}, not {type(out).__name__}") from None
    if len(outs) != len(shapes):
        raise ValueError(f"{expected}, but its length is {len(outs)}")
    for i, (array, shape) in enumerate(zip(outs, shapes, strict=True)):
        _check_out(array, shape, dtype, f"out[{i}]" if is_list else "out")
    return outs


def check_apart(outs: Sequence[Array], xs: Sequence[Array], params: Array) -> None:
    """Refuses arrays to write to that share memory with each other, an input or the parameters, as the compiled backend does itself."""
    others = [("the net's parameters", params), *((f"input {i}", memory) for i, x in enumerate(xs) for memory in memory_of(x))]
    for i, out in enumerate(outs):
        for name, other in others:
            if np.shares_memory(out, other):
                raise ValueError(f"output {i} shares memory with {name}: use separate memory")
        others.append((f"output {i}", out))


def _check_out(out: Any, shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> None:
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{what} must be an ndarray, not {type(out).__name__}")
    if out.dtype != dtype or out.shape != shape:
        raise ValueError(f"{what} must have dtype {dtype} and shape {shape}, not {out.dtype} and {out.shape}")
    if not out.flags.writeable:
        raise ValueError(f"{what} is read-only; pass a writable array")
    rows_contiguous = shape[-1] == 1 or out.strides[-1] == out.itemsize
    if not (out.flags.c_contiguous or (out.ndim == 2 and rows_contiguous)):
        raise ValueError(f"{what} must be C-contiguous; in a 2-D array it is enough that each row is contiguous")
    if out.ndim == 2 and len(out) > 1 and abs(out.strides[0]) < shape[-1] * out.itemsize:
        raise ValueError(
            f"{what} has rows that share memory (its strides are {out.strides}); pass an array such as np.empty({shape}, {str(dtype)!r})"
        )
