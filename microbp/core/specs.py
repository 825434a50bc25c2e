"""Formulas with parameters: parses those that users pass as text or objects, checks them against the backend's tables, and writes them as
graph text."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Self

from . import backend
from .attributes import Quiet
from .checks import real, whole_number
from .text import brief, call, nearest, numbers, read_call, read_number, read_numbers

_PARAMETER = re.compile(r"(\w+)=([^\[(]+)([\[(][^\])]+[\])])")  # name=default[low,high)

# The names in the tables, for type checkers.
ActivationName = Literal[
    "identity", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "softplus", "softsign", "sigmoid", "hard_sigmoid", "tanh",
    "scaled_tanh", "affine", "abs", "square", "exp", "sin", "cos",
]  # fmt: skip
LossName = Literal[
    "mse", "half_sse", "mae", "huber", "smooth_l1", "log_cosh", "quantile", "poisson", "bce", "hinge", "cross_entropy", "kl", "gaussian_nll"
]  # fmt: skip
InitName = Literal[
    "normal",
    "uniform",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "fan_in_uniform",
    "orthogonal",
    "zeros",
]
OutputActivationName = Literal["identity", "sigmoid", "exp", "softmax"]
OptimizerName = Literal[
    "sgd", "sgd_momentum", "sgd_nesterov", "momentum", "momentum_nesterov", "asgd", "adagrad", "adadelta", "rmsprop", "rmsprop_momentum",
    "rmsprop_centered", "rmsprop_centered_momentum", "adam", "adam_amsgrad", "adamw", "adamw_amsgrad", "adamax", "nadam", "radam",
    "adabelief", "lion", "ftrl", "rprop_minus", "irprop_minus", "irprop_plus", "lamb", "rprop",
]  # fmt: skip


class Range(NamedTuple):
    """A parameter's default, and the interval of its valid values, such as (0,1]."""

    default: float
    text: str


class Formula(NamedTuple):
    """A row of the backend's table."""

    parameters: dict[str, Range]
    detail: str
    meaning: str


@functools.cache
def table(kind: str) -> dict[str, Formula]:
    """The formulas of a kind: activation, loss, optimizer, initializer or output_activation; the same in both backends."""
    return {name: Formula(_ranges(kind, text), detail, meaning) for name, text, detail, meaning in backend.load().formulas(kind)}


def _ranges(kind: str, text: str) -> dict[str, Range]:
    ranges = {key: Range(float(default), interval) for key, default, interval in _PARAMETER.findall(text)}
    if kind == "optimizer":  # every optimizer has decay_bias, so the rows do not list it
        ranges["decay_bias"] = Range(0.0, "[0,1]")
    if kind == "loss":  # and every loss has missing
        ranges["missing"] = Range(0.0, "[0,1]")
    return ranges


def unknown(what: str, name: object, valid: Iterable[str]) -> ValueError:
    """The error for an unknown name: the nearest valid one, and all valid ones."""
    names = list(valid)
    near = nearest(name if isinstance(name, str) else brief(name), names)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    return ValueError(f"unknown {what} {brief(name)}{hint} valid: {', '.join(names) or 'none'}")


def described(head: str, *lines: str) -> Iterator[str]:
    """An entry of a list in a docstring: the head, then the lines that are not empty, wrapped and indented."""
    import textwrap  # for help only

    yield f"\n{head}"
    for line in filter(None, lines):
        yield textwrap.fill(line, 100, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)


def _formulas(kind: str) -> Iterator[str]:
    """For each formula of a kind: its name with parameters and defaults, its meaning, ranges, and a loss's output activation."""
    for name, row in table(kind).items():
        own = {key: valid for key, valid in row.parameters.items() if key != "missing"}  # which every loss has
        defaults = ", ".join(f"{key}={valid.default:g}" for key, valid in own.items())
        facts = [f"{key} in {valid.text}" for key, valid in own.items()]
        facts += [f"output activation: {row.detail}"] if kind == "loss" else []
        yield from described(f"{name}({defaults})" if defaults else name, row.meaning, ", ".join(facts))


def _number(what: str, text: str) -> float | list[float]:
    try:
        if text.startswith("[") and text.endswith("]"):
            return read_numbers(text[1:-1])
        return read_number(text)
    except ValueError:
        raise ValueError(f"{what} must be a number, not {text!r}") from None


class Listing:
    """A docstring that ends with a list of all formulas of a kind; the list is written when the docstring is read."""

    def __init__(self, text: str | None, kind: str) -> None:
        self.text = inspect.cleandoc(text or "")
        self.kind = kind

    def __get__(self, instance: object, owner: type) -> str:
        return "\n".join([self.text, *_formulas(self.kind)])


class Spec(metaclass=Quiet):
    """A formula with its parameters; parameters that are not given have their default values."""

    kind: ClassVar[str]
    aliases: ClassVar[dict[str, str]] = {}  # other names, and the names of their formulas
    name: str
    parameters: dict[str, Any]  # numbers; of a loss also tuples of numbers

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.__doc__ = Listing(cls.__doc__, cls.kind)  # type: ignore[assignment]  # its __get__ returns a string

    def __init__(self, name: str, **parameters: Any) -> None:
        if not isinstance(name, str):
            raise TypeError(f"{self.kind} must be a name or a bp.{type(self).__name__}, not {brief(name)}")
        name, in_text = read_call(name)
        for key in in_text.keys() & parameters.keys():
            raise ValueError(f"{self.kind} {name!r}: {key} is given twice, in the text and as an argument")
        given = {key: _number(f"{name}: {key}", text) for key, text in in_text.items()} | parameters
        name, rows = self.aliases.get(name, name), table(self.kind)
        if name not in rows:
            raise self._unknown(name, rows)
        self.name = name
        self.parameters = {key: self._value(key, value, rows[name].parameters) for key, value in given.items()}

    def _unknown(self, name: str, rows: dict[str, Formula]) -> ValueError:
        return unknown(self.kind, name, rows)

    def _value(self, key: str, value: Any, ranges: dict[str, Range]) -> Any:
        if key not in ranges:
            raise unknown(f"parameter of {self.kind} {self.name!r}:", key, ranges)
        return float(real(ranges[key].text)(f"{self.name}: {key}", value))

    @classmethod
    def parse(cls, value: str | Self) -> Self:
        """Parses text: a name, or a name with parameters in parentheses. An object of the class is returned as it is.

        >>> bp.Loss.parse("quantile(q=0.9)"), bp.Activation.parse("leaky_relu(slope=0.2)"), bp.Init.parse("normal(std=0.1)")
        (Loss('quantile', q=0.9), Activation('leaky_relu', slope=0.2), Init('normal', std=0.1))
        """
        return value if isinstance(value, cls) else cls(value)  # type: ignore[arg-type]  # the constructor refuses other types

    @property
    def text(self) -> str:
        """The formula as written in graph text."""
        return call(self.name, {key: numbers(value) for key, value in self.parameters.items()})

    @property
    def detail(self) -> str:
        """A loss's output activation; an optimizer's slots, with their initial values; names of a solver's numbers."""
        return table(self.kind)[self.name].detail

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join([repr(self.name), *(f'{k}={v!r}' for k, v in self.parameters.items())])})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and (self.kind, self.text) == (other.kind, other.text)

    def __hash__(self) -> int:
        return hash((self.kind, self.text))


class Loss(Spec):
    """A loss with parameters: `Loss("quantile", q=0.9)` or `Loss("quantile(q=0.9)")`. A name without parameters uses the defaults.

    A parameter may be a list with a number for each output: `Loss("bce", pos_weight=[1, 20])`, `Loss("bce(pos_weight=[1 20])")`. Not so
    those of losses of a whole row: cross_entropy, kl, gaussian_nll. The list q of `Loss("quantile", q=[0.05, 0.5, 0.95])` has a number
    for each column of a target: with T targets, an output has 3 T columns, first the 0.05-quantiles of all targets. `target_columns`
    computes T. With gaussian_nll an output has 2 T columns, first the T means.

    The list below has every loss, with its parameters and their defaults. Here o is a raw output, before the output activation; t is its
    target, which may be any number unless noted; d = o - t; mean and sum are over the outputs of a row. The loss of a batch is the mean
    over its rows, weighted by sample_weight. A trainer sets the output activation of a net that has none yet; `net.predict` applies it.

    missing=True, which every loss has: targets that are NaN, and labels that are -1, are not there. A mean is then over the targets that
    are there, as in PyTorch's loss(outputs[mask], targets[mask]); a row of probabilities with a NaN is not there. By default NaN makes the
    loss NaN, which is an error, and so is a label of -1.

    ValueError: unknown losses or parameters, and values out of range.

    >>> loss = bp.Loss("quantile", q=0.9)
    >>> loss.name, loss.parameters
    ('quantile', {'q': 0.9})
    >>> bp.Loss.parse("quantile(q=0.9)") == loss
    True
    >>> t = bp.Trainer(bp.mlp([2, 2], seed=0), loss=bp.Loss("mse", missing=True))
    >>> t.evaluate(np.zeros((2, 2)), [[1, np.nan], [np.nan, 3]])
    5.0
    """

    kind = "loss"

    def __init__(self, name: LossName, **parameters: float | Sequence[float]) -> None:
        if isinstance(parameters.get("missing"), bool):
            parameters["missing"] = float(parameters["missing"])  # type: ignore[arg-type]
        super().__init__(name, **parameters)
        missing = self.parameters.pop("missing", 0)
        if missing not in (0, 1):
            raise ValueError(f"{self.name}: missing must be True or False, not {brief(missing)}")
        if missing:  # False is as if it were not given
            self.parameters["missing"] = True
        lengths = [len(value) for value in self.parameters.values() if isinstance(value, tuple)]
        if lengths:
            backend.load().target_columns(self.text, max(lengths))  # refuses lists where a loss has none

    @property
    def missing(self) -> bool:
        """Whether targets may be missing."""
        return "missing" in self.parameters

    def _value(self, key: str, value: Any, ranges: dict[str, Range]) -> Any:
        if not (isinstance(value, list | tuple) or getattr(value, "ndim", 0) == 1):
            return super()._value(key, value, ranges)
        if len(value) == 0:
            raise ValueError(f"{self.name}: {key} must be a number, or a list with at least one")
        return tuple(super(Loss, self)._value(key, one, ranges) for one in value)

    @property
    def needs_rows(self) -> bool:
        """Whether it is a loss of all targets of a row, so that rows have weights and single targets have none."""
        has_lists = any(isinstance(value, tuple) for value in self.parameters.values())
        return self.detail == "softmax" or (not has_lists and self.target_columns(2) == 1)

    def target_columns(self, columns: int) -> int:
        """How many target columns an output of this many columns has with this loss. ValueError: the loss does not fit this number.

        >>> bp.Loss("mse").target_columns(6), bp.Loss("gaussian_nll").target_columns(6), bp.Loss("quantile", q=[0.1, 0.9]).target_columns(6)
        (6, 3, 3)
        """
        return backend.load().target_columns(self.text, whole_number(columns, "columns"))


class Init(Spec):
    """How initial weights or biases are drawn, with parameters: `Dense(8, init=Init("normal", std=0.1))`. A name without
    parameters uses the defaults.

    init="auto" and bias_init="auto" depend on the layer's activation, by the results of bench/training/initial_weights.py:
        identity, affine: glorot_uniform, biases zeros
        relu, leaky_relu, elu, selu, gelu, softsign, abs: glorot_uniform, biases glorot_uniform
        tanh, scaled_tanh, square, exp, sin, cos: glorot_uniform, biases fan_in_uniform
        silu, mish: lecun_normal, biases fan_in_uniform
        softplus, sigmoid, hard_sigmoid: he_normal, biases fan_in_uniform
    If init is not "auto", bias_init="auto" is zeros. Of bp.Recurrent, see there.

    The list below has every initializer, with its parameters and their defaults. Here in and out are the numbers of a layer's inputs and
    outputs, for weights and biases; the weight has shape (out, in).

    ValueError: unknown initializers or parameters, and values out of range.

    >>> layer = bp.Dense(100, init=bp.Init("normal", std=0.1))
    >>> x = bp.Input(50)
    >>> net = bp.Network(x, layer(x), seed=0)
    >>> round(float(net.tensors["dense_0.weight"].std()), 2)
    0.1
    """

    kind = "initializer"

    def __init__(self, name: InitName, **parameters: float) -> None:
        super().__init__(name, **parameters)
        if self.name == "array":  # used only in graph text, for a layer whose init is an array
            raise ValueError('init="array" is not valid; pass the array itself: bp.Dense(8, init=weights)')


class OptimizerSpec(Spec):
    """A row of the table of optimizers, with parameters. bp.Adam() and other settings are converted to an OptimizerSpec. "rprop" is
    irprop_minus, as in PyTorch."""

    kind = "optimizer"
    aliases: ClassVar[dict[str, str]] = {"rprop": "irprop_minus"}

    @classmethod
    def parse(cls, value: Any) -> Any:
        """Text or a spec; text that names a solver becomes a SolverSpec."""
        is_solver = isinstance(value, str) and read_call(value)[0] in table("solver")
        return SolverSpec(value) if is_solver else super().parse(value)

    def _unknown(self, name: str, rows: dict[str, Formula]) -> ValueError:
        return unknown(self.kind, name, {**rows, **table("solver")})


class SolverSpec(OptimizerSpec):
    """A row of the table of solvers, optimizers that use the loss of the same rows several times in a step: bp.LBFGS()."""

    kind = "solver"
    aliases: ClassVar[dict[str, str]] = {}
