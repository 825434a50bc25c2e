"""What a network computes: predictions and Jacobians; their inputs, the nodes to read, and the arrays to write to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Literal, TypeAlias, cast

import numpy as np

from ..core.backend import CoreState
from ..core.checks import flag, one_of, whole_number
from ..core.specs import unknown
from ..core.text import brief, counted
from ..data.arrays import Array, unchecked
from ..data.by_output import number_of
from ..data.ids import IdsForm, as_inputs
from ..data.lengths import Sequences
from ..data.positions import fits
from ..data.rows import sized_inputs
from ..data.sparse import memory_of
from .nodes import Node
from .records import NodeInfo, Records
from .states.state import State, of_call
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
    _pieces: list[Pieces]  # at most one, made by the first prediction with a state
    _places: Places
    _shapes: tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]  # of a row of each input, of each output
    _plain_width: int | None
    _sequences: Sequences

    def predict(
        self,
        X: Any,  # noqa: N803
        raw: bool = False,
        out: Array | Sequence[Array] | None = None,
        at: Place | Sequence[Place] | None = None,
        training: bool = False,
        seed: int | None = None,
        lengths: Any = None,
        state: State | None = None,
    ) -> Prediction:
        """Returns the predictions for each row of X: probabilities, rates or numbers. If an output has no activation set, its raw values
        are returned.

        X: shape (rows, features) and any real dtype; a list of arrays for a net with several inputs. Other leading axes are kept:
        (features,) gives (outputs,). For a bp.Grid or a bp.Sequence (rows, height, width, channels), (rows, length, width), or
        (rows, all numbers of a row), without other leading axes.
        raw: if True, returns the outputs before the output activations (the values that the loss gets).
        out: an array of the net's dtype and the result's shape to write to; a list of arrays for several outputs.
        at: the name of a layer (the node after it), the number of a node in `print(net)`, or a node that this network was made of: returns
        its values instead of the outputs. Output activations are not applied to them, so `raw` makes no difference. A list of these returns
        a list of arrays, in one forward pass. "output" (of several: "output_0", "output_1", ...) is an output as without `at`, unless a
        layer has this name.
        training: if True, dropout and noise are drawn as in the first training step; the mean and spread of predictions with several seeds
        estimate how sure the net is (Monte-Carlo dropout, Gal & Ghahramani 2016). batch_norm uses its running statistics.
        seed: for training=True, 0 to 2**64 - 1; None: the net's seed. What is drawn depends on seed, node, row number and column.
        state: from `net.state(rows)`: recurrent layers go on from it, and it becomes the state after X, which has any number of positions,
        (rows, positions, width), or one, (rows, width). The predictions are those of these positions, with the same bits as in one call.
        lengths: for a bp.Sequence, how many positions of each row are there, (rows,); for several sequences a list of these. Predictions of
        positions beyond a length are 0; X may have any values there.
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
        if state is not None:
            return self._go_on(X, raw, out, at, training, seed, state, lengths)
        try:
            if training is False and seed is None and lengths is None and self._is_compiled:
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
        return self._predict(X, flag("predict: raw", raw), out, at, self._seed(flag("predict: training", training), seed), None, lengths)

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
        state: State | CoreState | None = None,
        lengths: Any = None,
    ) -> Prediction:
        """`predict` for anything that contains numbers, and both backends. state: one of a backend may have more rows than X."""
        xs, read_lengths = (as_inputs(X, self._ids), None) if lengths is None else sized_inputs(X, lengths, self._ids, self._sequences)
        lead = leading_axes(xs, self._shapes[0])
        goes_on = of_call(state, math.prod(lead), "predict", self._backend) if isinstance(state, State) else state
        is_list = _is_list(at) or (at is None and len(self._output_widths) > 1)
        places = find_places(self._records, self._places, at)
        shapes = [(*lead, *shape) for shape in (self._shapes[1] if places is None else [shape for _, shape in places])]
        if out is None:
            outs = [np.empty(shape, self._dtype) for shape in shapes]
        else:
            outs = check_outs(out, shapes, self._dtype, is_list)
            if self._backend == "reference":
                check_apart(outs, xs, self._params)
        if rows := math.prod(lead):
            read, written = ([one if one.ndim == 2 and lead else one.reshape(rows, -1) for one in arrays] for arrays in (xs, outs))
            given: Any = read if read_lengths is None else {"x": read, "lengths": read_lengths}
            self._core.predict(given, written, raw, None if places is None else [place for place, _ in places], seed, goes_on)
        return outs if is_list else outs[0]

    def _go_on(
        self,
        X: Any,  # noqa: N803
        raw: Any,
        out: Any,
        at: Any,
        training: Any,
        seed: Any,
        state: Any,
        lengths: Any,
    ) -> Prediction:
        """`predict` with a state, by the same network for sequences of as many positions as X has."""
        if not isinstance(state, State):
            of_call(state, 0, "predict", self._backend)  # raises the error
        if not self._pieces:
            self._pieces.append(Pieces(self))
        pieces = self._pieces[0]
        if (
            pieces.plain is not None
            and type(X) is _ndarray
            and out is at is seed is lengths is None
            and training is False
            and type(state) is State
        ):
            try:  # the usual case, of one position
                if X.ndim == pieces.ndim and len(X) == state._rows:
                    y = _empty((len(X), pieces.plain), self._dtype)
                    pieces.one._core.predict(X if pieces.ndim == 2 else X.reshape(-1, 1), y, raw, None, None, state._core)
                    return y
            except (TypeError, ValueError):
                pass  # the code below raises an error that names the argument, or predicts what the backend does not read as it is
        net, squeezed = pieces.of(self, X)
        seed, raw = self._seed(flag("predict: training", training), seed), flag("predict: raw", raw)
        if lengths is not None and net is pieces.one:
            return self._go_on_one(X, raw, out, at, seed, state, lengths, pieces)
        if squeezed is None:
            return net._predict(X, raw, out, at, seed, state, lengths)
        places = find_places(self._records, self._places, at)
        has_axis = [len(shape) > 1 for shape in (self._shapes[1] if places is None else [shape for _, shape in places])]
        is_list = _is_list(at) or (at is None and len(has_axis) > 1)
        if out is not None:
            given = list(out) if is_list else [out]
            taken = [one[:, 0] if axis and np.ndim(one) == 3 else one for one, axis in zip(given, has_axis, strict=True)]
            net._predict(squeezed, raw, taken if is_list else taken[0], at, seed, state, lengths)
            return out
        found = net._predict(squeezed, raw, None, at, seed, state, lengths)
        spread = [one[:, None] if axis else one for one, axis in zip(found if is_list else [found], has_axis, strict=True)]
        return spread if is_list else spread[0]

    def _go_on_one(self, x: Any, raw: bool, out: Any, at: Any, seed: int | None, state: State, lengths: Any, pieces: Pieces) -> Prediction:
        """One position, with lengths: a graph has lengths only of several positions, so it is the first of two, of which no row has the
        second."""
        net, xs = pieces.nets[2], pieces.doubled(self, x)
        rows = len(xs if len(self._input_widths) == 1 else xs[pieces.input])
        net._sequences.read(lengths, rows, longest=1)
        places = find_places(net._records, net._places, at)
        shapes = net._shapes[1] if places is None else [shape for _, shape in places]
        is_list = _is_list(at) or (at is None and len(shapes) > 1)
        axis = (1,) if pieces.has_axis(self, x) else ()
        wanted = [(rows, *axis, *shape[1:]) if len(shape) > 1 else (rows, *shape) for shape in shapes]
        outs = [np.empty(shape, self._dtype) for shape in wanted] if out is None else check_outs(out, wanted, self._dtype, is_list)
        found = net._predict(xs, raw, None, at, seed, state, lengths)
        for to, one, shape in zip(outs, found if is_list else [found], wanted, strict=True):
            to[...] = one[:, 0].reshape(shape) if one.ndim == 3 else one
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
        lead = leading_axes(xs, self._shapes[0])
        lengths = self._input_widths if by_inputs else (len(self._params),)
        widths = self._output_widths if number is None else self._output_widths[number : number + 1]
        found = _empty_arrays([(*lead, width, length) for width in widths for length in lengths], self._dtype)
        if rows := math.prod(lead):
            written = [array.reshape(rows, width * length) for array, (width, length) in zip(found, product(widths, lengths), strict=True)]
            read = [x if x.ndim == 2 else x.reshape(rows, -1) for x in xs]
            self._core.jacobian(read, written, by_inputs, -1 if number is None else number)
        grouped = found if len(lengths) == 1 else [found[i : i + len(lengths)] for i in range(0, len(found), len(lengths))]
        return grouped[0] if len(widths) == 1 else grouped


class Pieces:
    """The same network for sequences of other lengths, which share its parameters. They are made once and kept."""

    __slots__ = ("growth", "input", "ndim", "nets", "one", "plain", "step")
    _MOST = 8  # nets of other lengths; each has memory of its own for predictions

    def __init__(self, net: Any) -> None:
        """ValueError if a node does not work position by position."""
        self.one = net._make_length(1)
        self.nets = {1: self.one, 2: net._make_length(2)}
        growth = [two - one for one, two in zip(self.one._input_widths, self.nets[2]._input_widths, strict=True)]
        self.growth = growth
        self.input = next(i for i, step in enumerate(growth) if step)  # the first input that is a sequence
        self.step = growth[self.input]  # its numbers at each position
        one_array = self.one._is_compiled and len(self.one._output_widths) == len(growth) == 1
        of_ids = self.one._ids[self.input] is not None
        self.plain = self.one._output_widths[0] if one_array and (self.step == 1 or not of_ids) else None
        self.ndim = 1 if of_ids else 2  # of an X of one position

    def of(self, net: Any, x: Any) -> tuple[Any, Any]:
        """The network for the positions of X; the inputs without their axis of positions, if that has the length 1;
        else None."""
        xs = self._read(net, x)
        shape, of_ids = xs[self.input].shape, self.one._ids[self.input] is not None
        numbers = math.prod(shape[1:]) if len(shape) > 1 or of_ids else math.prod(shape)
        positions = numbers // self.step
        if not 0 < len(shape) < 4 or numbers % self.step or positions < 1 or (len(shape) == 3 and (of_ids or shape[2] != self.step)):
            name = "X" if len(xs) == 1 else f"X[{self.input}]"
            one = "(rows,)" if of_ids and self.step == 1 else f"(rows, {self.step})"
            several = f"(rows, positions{' x ' + str(self.step) if self.step > 1 else ''})" if of_ids else f"(rows, positions, {self.step})"
            raise ValueError(f"predict: {name} has shape {shape}; with a state it must be {several}, or {one} for one position")
        if positions not in self.nets:
            if len(self.nets) == self._MOST:
                del self.nets[next(length for length in self.nets if length > 1)]
            self.nets[positions] = net._make_length(positions)
        if positions > 1 or not self.has_axis(net, x) or self.one._shapes == net._shapes:
            return self.nets[positions], None
        squeezed = [one[:, 0] if one.ndim == 3 else one for one in xs]
        return self.nets[positions], squeezed if len(xs) > 1 else squeezed[0]

    def _read(self, net: Any, x: Any) -> list[Array]:
        """The inputs of any number of positions. Ids are checked later, because those beyond a length may be any number."""
        return as_inputs(x, tuple(form and form._replace(columns=1, hash=True) for form in net._ids))

    def has_axis(self, net: Any, x: Any) -> bool:
        """Whether an X of one position has an axis of positions."""
        return np.ndim(x if len(net._input_widths) == 1 else x[self.input]) == self.ndim + 1

    def doubled(self, net: Any, x: Any) -> Any:
        """The inputs of one position, with a second one of zeros."""
        each = [one.reshape(-1, step) if step else one for one, step in zip(self._read(net, x), self.growth, strict=True)]
        made = [np.hstack([one, np.zeros_like(one)]) if step else one for one, step in zip(each, self.growth, strict=True)]
        return made if len(made) > 1 else made[0]


def _empty_arrays(shapes: Sequence[tuple[int, ...]], dtype: np.dtype[Any]) -> list[Array]:
    try:
        return [np.empty(shape, dtype) for shape in shapes]
    except (MemoryError, ValueError):  # NumPy raises ValueError for more elements than it can count
        size = sum(map(math.prod, shapes)) * dtype.itemsize
        raise MemoryError(f"jacobian: the result has {size:,} bytes, which do not fit in memory: pass fewer rows at a time") from None


def leading_axes(xs: Sequence[Array], shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The axes before the features, the same for all inputs. shapes: of a row of each input."""
    if any(len(shape) > 1 for shape in shapes):
        return _leading_axis(xs, shapes)
    for i, (x, (width,)) in enumerate(zip(xs, shapes, strict=True)):
        if x.ndim == 0 or x.shape[-1] != width:
            name = "X" if len(xs) == 1 else f"X[{i}]"
            raise ValueError(f"{name} has shape {x.shape}; its last axis must have length {width}, the number of features")
        if x.shape[:-1] != xs[0].shape[:-1]:
            raise ValueError(f"X[0] and X[{i}] must have equal shapes except for the last axis, not {xs[0].shape} and {x.shape}")
    return tuple(xs[0].shape[:-1])


def _leading_axis(xs: Sequence[Array], shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The same if inputs have several positions: one axis, of rows, or none for a single row."""
    found: list[tuple[int, ...]] = []
    for i, (x, shape) in enumerate(zip(xs, shapes, strict=True)):
        numbers = math.prod(shape)
        lead: tuple[int, ...] = ()
        if x.shape[1:] == (numbers,) or fits(x.shape[1:], shape):
            lead = tuple(x.shape[:1])
        elif x.shape != (numbers,) and not fits(x.shape, shape):
            name = "X" if len(xs) == 1 else f"X[{i}]"
            row = f"{', '.join(map(str, shape))}"
            raise ValueError(f"{name} has shape {x.shape}; the network needs shape (rows, {row}), or (rows, {numbers})")
        found.append(lead)
    if len(set(found)) > 1:
        raise ValueError(f"all inputs must have the same number of rows, not {', '.join(str(*one) or 'one row' for one in found)}")
    return found[0]


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


def find_place(records: Records, places: Places, at: Place) -> tuple[int, tuple[int, ...]]:
    """What a backend calls the place, a node's number or -1 - i for output i; and the shape of a row there."""
    if isinstance(at, str) and at not in records.uses:
        outputs = records.outputs
        names = ["output"] if len(outputs) == 1 else [f"output_{i}" for i in range(len(outputs))]
        if at in names:
            i = names.index(at)
            return -1 - i, outputs[i].row_shape
    node = find_node(records, places, at)
    return node.node, node.row_shape


def _is_list(at: Any) -> bool:
    """Whether these are several places. A record of a node or layer is a tuple too, but no list of places."""
    return type(at) in (list, tuple)


def find_places(records: Records, places: Places, at: Place | Sequence[Place] | None) -> list[tuple[int, tuple[int, ...]]] | None:
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
