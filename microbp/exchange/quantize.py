"""Networks of whole numbers of 8 bits: weights and activations are quantized after training, with ranges from calibration rows."""

from __future__ import annotations

import math
import os
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from ..core import threads
from ..core.backend import BackendName, load, resolve
from ..core.checks import file_path, flag, new_file, one_of
from ..data.arrays import Array, as_array
from ..network.network import Network
from ..network.predicting import check_outs, leading_axes
from ..network.records import OutputInfo
from . import quantized_file
from .shared.fold import fold
from .shared.integers import IntegerStep, Quantum
from .shared.steps import Step, steps

QuantizeMethod = Literal["minmax", "percentile", "mse"]
_PERCENT = 99.99  # the part of a value that "percentile" keeps
_MOST_SUM = 2.0**29  # of |start| without the zero point, and of 255 |weight|: so every sum fits 32 bits
_LEAST, _MOST = 2.0**-100, 2.0**121  # of scales, so that they and their inverses are finite in float32
_LARGEST = float(np.finfo(np.float32).max)
_REPORTED = 4096  # rows of the table of errors
_SAMPLES = 1 << 16  # numbers that "mse" tries ranges with


class QuantizedLayer(NamedTuple):
    """A dense layer of a bp.QuantizedNetwork. error: that of its value, relative to the values of float32: rms(int8 - float32) /
    rms(float32), on the calibration rows."""

    name: str
    inputs: int
    units: int
    activation: str
    nbytes: int
    error: float


def quantize(net: Network, X: Any, method: QuantizeMethod = "percentile") -> QuantizedNetwork:  # noqa: N803
    """Makes a network of whole numbers of 8 bits, which is about a quarter as large and on most processors twice as fast or more.

    X: a few hundred rows like those to predict, as for `net.predict`, at least one: they show how large the values of each layer become.
    Larger values are cut off later. method: how far a value's range reaches. "percentile": over 99.98 % of the numbers;
    "mse": so far that the mean squared error of X is least; "minmax": over all. docs/int8.md and bench/INT8.md compare them.

    A chain of dense layers with any activations can be quantized, also with bp.Conv and bp.Pool; bp.Standardize or bp.Scale before the
    first layer stays in float32, others become part of the weights, as batch norms do. Weights have a scale for each unit, and activations
    one for each layer (Jacob et al. 2018). `net` does not change.

    ValueError: a node has no form in int8, or X or a parameter is not finite. TypeError: `net` is not a bp.Network.

    >>> net = bp.mlp([4, 16, 3], seed=0)
    >>> X = np.random.default_rng(0).normal(size=(200, 4))
    >>> q = bp.quantize(net, X)
    >>> q.nbytes, bool(np.abs(q.predict(X) - net.predict(X)).max() < 0.05)
    (268, True)
    """
    if not isinstance(net, Network):
        raise TypeError(f"quantize: net must be a bp.Network, not {type(net).__name__}")
    chosen: QuantizeMethod = one_of(*get_args(QuantizeMethod))("quantize: method", method)
    rows = as_array(X, "quantize: X")
    with np.errstate(over="ignore"):
        rows = rows.astype(np.float32)
    if rows.ndim == 0 or not len(rows):
        raise ValueError("quantize: X has no rows, but needs at least one, and better a few hundred")
    if not np.isfinite(rows).all():
        raise ValueError("quantize: X contains NaN, or numbers that are not finite in float32: leave these rows out")
    return _Quantizing(net, rows, chosen).network()


class QuantizedNetwork:
    """A network of whole numbers, from `bp.quantize`. Predictions have the same bits on every processor.

    `steps` are its arrays and the exact arithmetic, `layers` what each dense layer costs and how exact it is; `print(q.report)` is a table
    of that. `save` writes a file; `bp.export(q, "model.c")` writes C code of it.

    >>> q = bp.quantize(bp.mlp([2, 8, 3], seed=0), np.ones((1, 2)))
    >>> q, q.layers[0].name, q.steps[1].weight.dtype
    (QuantizedNetwork(2 layers, 132 bytes), 'dense_0', dtype('int8'))
    """

    def __init__(
        self,
        made: tuple[IntegerStep, ...],
        output: OutputInfo,
        input_shape: tuple[int, ...],
        layers: tuple[QuantizedLayer, ...],
        backend: str,
        n_threads: int | None,
    ) -> None:
        self.steps, self.output, self.input_shape, self.layers = made, output, input_shape, layers
        self.backend, self.n_threads = backend, n_threads
        limit = threads.choose(n_threads, backend)
        self._core = load(backend).Int8([step.core() for step in made], output.activation, output.mean, output.std, limit)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Saves the network to a safetensors file, which `QuantizedNetwork.load` reads. OSError: it cannot be written; an existing file
        stays as it was.

        >>> q = bp.quantize(bp.mlp([2, 8, 3], seed=0), np.ones((1, 2)))
        >>> q.save("net8.safetensors")
        >>> bp.QuantizedNetwork.load("net8.safetensors")
        QuantizedNetwork(2 layers, 132 bytes)
        """
        quantized_file.write(os.fsdecode(new_file(path)), self.steps, output=self.output, input_shape=self.input_shape, layers=self.layers)

    @classmethod
    def load(cls, path: str | os.PathLike[str], backend: BackendName | None = None, n_threads: int | None = None) -> QuantizedNetwork:
        """Loads a network that `save` wrote. backend, n_threads: as in bp.Network. ValueError: the file is damaged, or another one.
        OSError: it cannot be read.

        >>> net = bp.mlp([2, 8, 3], seed=0)
        >>> bp.quantize(net, np.ones((1, 2))).save("net8.safetensors")
        >>> bp.QuantizedNetwork.load("net8.safetensors").predict([1, 1]).shape
        (3,)
        """
        limit = threads.check(n_threads)
        steps, others = quantized_file.read(os.fsdecode(file_path(path)))
        try:
            layers = tuple(QuantizedLayer(*fields) for fields in others["layers"])
            output, shape = quantized_file.output_of(others["output"]), tuple(map(int, others["input_shape"]))
            return cls(steps, output, shape, layers, resolve(backend), limit)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise quantized_file.damaged(os.fsdecode(path), error) from None

    def __reduce__(self) -> tuple[Any, ...]:
        return QuantizedNetwork, (self.steps, self.output, self.input_shape, self.layers, self.backend, self.n_threads)

    def predict(self, X: Any, raw: bool = False, out: Array | None = None) -> Array:  # noqa: N803
        """Returns the predictions for each row of X, in float32: as `Network.predict`, with the same shapes. A NaN in X counts as the least
        number of the range. raw: without the output activation, and without the mean and std of targets.

        >>> q = bp.quantize(bp.mlp([2, 8, 3], seed=0), np.ones((1, 2)))
        >>> q.predict(np.ones((5, 2))).shape, q.predict([1, 1]).shape
        ((5, 3), (3,))
        """
        x = as_array(X, "X")
        lead = leading_axes([x], (self.input_shape,))
        shape = (*lead, *self.output.row_shape)
        made = np.empty(shape, np.float32) if out is None else check_outs(out, [shape], np.dtype(np.float32), False)[0]
        if rows := math.prod(lead):
            of_x, of_made = (one if one.ndim == 2 and len(lead) == 1 else one.reshape(rows, -1) for one in (x, made))
            self._core.predict(of_x, of_made, flag("predict: raw", raw))
        return made

    @property
    def nbytes(self) -> int:
        """The bytes of its arrays: weights, starts, scales."""
        return sum(step.nbytes for step in self.steps)

    @property
    def report(self) -> str:
        """A table: of each layer the bytes, and the error of its value relative to float32.

        >>> net = bp.mlp([2, 8, 1], seed=0)
        >>> print(bp.quantize(net, np.random.default_rng(0).normal(size=(100, 2))).report)
        layer    inputs  units  activation  bytes   error
        dense_0       2      8  relu           80  0.47 %
        dense_1       8      1  identity       16   2.2 %
        """
        rows = [("layer", "inputs", "units", "activation", "bytes", "error")]
        for one in self.layers:
            error = f"{100 * one.error:.2g} %"
            rows.append((one.name, f"{one.inputs:,}", f"{one.units:,}", one.activation, f"{one.nbytes:,}", error))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        texts = (
            "  ".join(
                cell.ljust(width) if i in (0, 3) else cell.rjust(width) for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        )
        return "\n".join(texts)

    def __repr__(self) -> str:
        return f"QuantizedNetwork({len(self.layers)} layers, {self.nbytes:,} bytes)"


class _Quantizing:
    """One call of quantize."""

    def __init__(self, net: Network, rows: Array, method: QuantizeMethod) -> None:
        if len(net.inputs) != 1 or len(net.outputs) != 1:
            raise ValueError(
                f"quantize: the network has {len(net.inputs)} inputs and {len(net.outputs)} outputs, but must have one of each"
            )
        if net.inputs[0].levels is not None:
            raise ValueError("quantize: the input is ids, which have no form in int8: quantize needs an input of numbers")
        self.net, self.rows, self.method = fold(net), rows, method
        lead = leading_axes([rows], (net.inputs[0].row_shape,))
        self.rows = rows.reshape(math.prod(lead), -1)
        self.walk = steps(self.net)
        for step in self.walk:
            for name, tensor in step.tensors.items():
                if not np.isfinite(tensor).all():
                    raise ValueError(f"quantize: {name} of {step.place} contains NaN or infinity")
        self.made: list[IntegerStep] = []
        self.errors: list[float] = []
        self.columns = self.rows.shape[1]
        self.before = (np.zeros(self.columns), np.ones(self.columns))  # mean and factor of the input: (x - mean) factor
        self.after: tuple[Array, Array] | None = None  # a factor and an addend of each column that the next weights include
        self.y: Quantum | None = None  # how the last value is stored

    def made_step(self, step: IntegerStep) -> None:
        self.made.append(step)
        self.y = step.y

    def made_input(self, at: Step) -> None:
        """The step that makes whole numbers of the input; `at` is the last node before them."""
        mean, factor = self.before
        with np.errstate(over="ignore"):
            values = (self.rows.astype(np.float64) - mean) * factor
        y = self.quantum(values)
        scale = np.clip(factor / y.scale, -_LARGEST, _LARGEST)
        if (scale == scale[0]).all():
            scale = scale[:1]
        shift = np.clip(mean, -_LARGEST, _LARGEST).astype(np.float32) if mean.any() else None
        if shift is not None and len(scale) == 1:
            scale = np.broadcast_to(scale, self.columns)
        self.made_step(IntegerStep("quantize", at.place, (), self.columns, None, y, scale=scale.astype(np.float32), mean=shift))

    def quantum(self, values: Array) -> Quantum:
        """How numbers like these are stored."""
        low, high = _RANGES[self.method](np.minimum(np.maximum(values, -_LARGEST), _LARGEST).ravel().astype(np.float64))
        return _quantum(low, high)

    # ---- the nodes ----

    def network(self) -> QuantizedNetwork:
        """Makes the steps of all nodes, and a network of them."""
        last, output = 0, self.net.outputs[0]
        for step in self.walk:
            if step.node.operation not in _NODES:
                raise self.refusal(step, "this kind of node has no form in int8")
        for i, step in enumerate(self.walk):
            node = step.node
            if node.operation != "input" and (len(node.operands) != 1 or node.operands[0] != self.walk[i - 1].node.node):
                raise self.refusal(step, "the network is not a chain, in which each node reads the one before it")
            _NODES[node.operation](self, step)
            last = i if node.operation == "dense" else last
        if any(step.node.operation != "grid" for step in self.walk[last + 1 :]) or not self.made or self.walk[-1].node.node != output.node:
            raise self.refusal(self.walk[-1], "the last node must be a dense layer, whose values are the outputs")
        self.made[-1] = self.made[-1]._replace(y=None)
        layers = [step for step in self.made if step.weight is not None]
        described = tuple(
            QuantizedLayer(step.name, step.weight.shape[1], step.width, step.activation, step.nbytes, error)
            for step, error in zip(layers, self.errors, strict=True)
            if step.weight is not None
        )
        return QuantizedNetwork(tuple(self.made), output, self.net.inputs[0].row_shape, described, self.net.backend, self.net.n_threads)

    @staticmethod
    def refusal(step: Step, why: str) -> ValueError:
        return ValueError(
            f"quantize: {step.place}: {why}; quantize chains of dense layers, convolutions and pools, or the chain that is a part of this "
            "network: net.part"
        )

    def skip(self, step: Step) -> None:
        """The input, and views of it: grids, rows of all positions."""

    def affine(self, step: Step) -> None:
        """standardize and scale: before the first dense layer in float, later in its weights."""
        tensors = {name: tensor.astype(np.float64) for name, tensor in step.tensors.items()}
        width = step.node.width
        if step.node.operation == "standardize":
            factor = 1 / tensors["std"]
            addend = -tensors["mean"] * factor
        else:
            factor, addend = tensors.get("weight", np.ones(width)), tensors.get("bias", np.zeros(width))
        if self.made:
            old, plus = self.after or (np.ones(width), np.zeros(width))
            self.after = old * factor, plus * factor + addend
            return
        factor, addend = (np.tile(one, self.columns // width) for one in (factor, addend))
        mean, times = self.before
        times = times * factor
        # A factor of nearly 0 stays large enough for (x - mean) times to be the addend.
        least = np.maximum(np.abs(mean * times - addend) * _LEAST, _LEAST)
        times = np.where(np.abs(times) < least, least, times)
        self.before = mean * factor / times * self.before[1] - addend / times, times

    def dense(self, step: Step) -> None:
        """A dense layer with its activation."""
        if not self.made:
            self.made_input(step)
        node, x = step.node, self.y
        assert x is not None
        weight = step.tensors["weight"].astype(np.float64)
        bias = step.tensors.get("bias", np.zeros(len(weight))).astype(np.float64)
        if self.after is not None:
            factor, addend = (np.tile(one, weight.shape[1] // len(one)) for one in self.after)
            weight, bias, self.after = weight * factor, bias + weight @ addend, None
        values = self.values(node.node)
        if not np.isfinite(values).all():
            raise ValueError(f"quantize: the values of {step.place} are NaN or infinite for some rows of X: leave these rows out")
        y = self.quantum(values)
        whole, start, scale = _whole(weight, bias, x)
        made = IntegerStep(
            "dense", node.layer or "", node.grid, node.width, x, y, whole, start, scale, activation=node.activation or "identity"
        )
        self.made_step(made)
        self.errors.append(self.error(values))

    def place(self, step: Step) -> None:
        """A window or a pool."""
        if not self.made:
            self.made_input(step)
        node = step.node
        assert node.window is not None
        if self.after is not None:
            factor, addend = self.after
            if (node.window.kind == "max" and (factor <= 0).any()) or (any(node.window.pad) and addend.any()):
                why = "the scale or batch norm before it cannot become part of the weights after it: put it before the activation"
                raise self.refusal(step, why)
        below = next(one.node for one in self.walk if one.node.node == node.operands[0])
        high, wide = (1,) * (2 - len(below.grid)) + below.grid
        self.made_step(
            IntegerStep(
                node.operation, step.place, node.grid, node.width, self.y, self.y, window=node.window, operand=(high, wide, below.width)
            )
        )

    # ---- measures ----

    def values(self, node: int) -> Array:
        """The float values of a node on the calibration rows."""
        found: Array = np.asarray(self.net.predict(self.rows, at=node))
        return found

    def error(self, values: Array) -> float:
        """That of the chain up to now, relative to these values."""
        rows = self.rows[:_REPORTED]
        core = load(self.net.backend).Int8([*(step.core() for step in self.made[:-1]), self.made[-1]._replace(y=None).core()])
        out = np.empty((len(rows), values[0].size), np.float32)
        core.predict(rows, out, True)
        exact = values[: len(rows)].reshape(out.shape).astype(np.float64)
        size = math.sqrt(np.square(exact).mean())
        return math.sqrt(np.square(out - exact).mean()) / size if size else 0.0


def _quantum(low: float, high: float) -> Quantum:
    """Stores numbers from low to high, and 0 exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float(np.float32(min(max((high - low) / 255, _LEAST), _MOST))) if high > low else 1.0
    return Quantum(scale, int(min(max(round(-low / scale), 0), 255)))


def _whole(weight: Array, bias: Array, x: Quantum) -> tuple[Array, Array, Array]:
    """The whole weights of a dense layer, its starts, and the scales of its sums."""
    most = np.abs(weight).max(axis=1)
    least = np.maximum(np.abs(weight).sum(axis=1) * 255, np.abs(bias) / x.scale) / _MOST_SUM
    scale = np.maximum(most / 127, least)
    scale = np.where(scale > 0, scale, 1.0) * x.scale
    scale = np.clip(scale, 2.0**-126, _LARGEST).astype(np.float32)
    exact = scale.astype(np.float64)[:, None]
    whole = np.clip(np.rint(weight * x.scale / exact), -127, 127).astype(np.int8)
    start = np.rint(bias / exact[:, 0]) - x.zero * whole.sum(axis=1, dtype=np.int64)
    return whole, start.astype(np.int32), scale


def _minmax(values: Array) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def _percentile(values: Array) -> tuple[float, float]:
    low, high = np.percentile(values, [100 - _PERCENT, _PERCENT])
    return float(low), float(high)


def _mse(values: Array) -> tuple[float, float]:
    """Shrinks the range as long as the mean squared error of rounding and cutting falls."""
    low, high = _minmax(values)
    some = values[:: max(1, len(values) // _SAMPLES)]
    best = (math.inf, 0.0, 0.0)
    for part in np.linspace(1, 0.3, 36):
        scale, zero = _quantum(part * low, part * high)
        error = float(np.square((np.clip(np.rint(some / scale) + zero, 0, 255) - zero) * scale - some).sum())
        best = min(best, (error, float(part * low), float(part * high)))
    return best[1:]


_RANGES = {"minmax": _minmax, "percentile": _percentile, "mse": _mse}
_NODES = {
    "input": _Quantizing.skip, "grid": _Quantizing.skip, "standardize": _Quantizing.affine, "scale": _Quantizing.affine,
    "dense": _Quantizing.dense, "window": _Quantizing.place, "pool": _Quantizing.place,
}  # fmt: skip
