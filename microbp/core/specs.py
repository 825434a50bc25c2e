"""Formulas by name and parameters: what users write, checked against the backend's tables, and the one token it becomes."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterable, Iterator
from typing import ClassVar, Literal, NamedTuple, Self

from . import backend
from .checks import real
from .text import call, number, read_call, read_number

_PARAMETER = re.compile(r"(\w+)=([^\[(]+)([\[(][^\])]+[\])])")  # name=default[low,high)

# The names in the tables, for type checkers.
ActivationName = Literal[
    "identity", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "softplus", "softsign", "sigmoid", "hard_sigmoid", "tanh",
    "scaled_tanh",
]  # fmt: skip
LossName = Literal["mse", "half_sse", "mae", "huber", "quantile", "poisson", "bce", "hinge", "cross_entropy"]
InitName = Literal[
    "normal", "uniform", "glorot_normal", "glorot_uniform", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform", "zeros"
]
OutputActivationName = Literal["identity", "sigmoid", "exp", "softmax"]
OptimizerName = Literal[
    "sgd", "sgd_momentum", "sgd_nesterov", "momentum", "momentum_nesterov", "asgd", "adagrad", "adadelta", "rmsprop", "rmsprop_momentum",
    "rmsprop_centered", "rmsprop_centered_momentum", "adam", "adam_amsgrad", "adamw", "adamw_amsgrad", "adamax", "nadam", "radam",
    "adabelief", "lion", "ftrl", "rprop_minus", "irprop_minus", "irprop_plus", "lamb", "rprop",
]  # fmt: skip


class Range(NamedTuple):
    """A parameter's default, and the interval of its valid values as mathematics writes it."""

    default: float
    text: str


class Formula(NamedTuple):
    """A row of the backend's table."""

    parameters: dict[str, Range]
    detail: str
    meaning: str


@functools.cache
def table(kind: str) -> dict[str, Formula]:
    """The formulas of a kind: activation, loss, optimizer, initializer or output_activation. Every backend has the same."""
    return {name: Formula(_ranges(kind, text), detail, meaning) for name, text, detail, meaning in backend.load().formulas(kind)}


def _ranges(kind: str, text: str) -> dict[str, Range]:
    ranges = {key: Range(float(default), interval) for key, default, interval in _PARAMETER.findall(text)}
    if kind == "optimizer":  # a choice that every optimizer offers, whatever its row
        ranges["decay_bias"] = Range(0.0, "[0,1]")
    return ranges


def unknown(what: str, name: object, valid: Iterable[str]) -> ValueError:
    """The error for a name that is not there: the nearest one that is, and the whole list."""
    names = list(valid)
    near = _nearest(str(name), names)
    hint = ";" if near is None else f"; did you mean {near!r}?"
    return ValueError(f"unknown {what} {name!r}{hint} valid: {', '.join(names) or 'none'}")


def _nearest(name: str, names: list[str]) -> str | None:
    """The name that is the same but for its case, else one that begins so, else the most similar one."""
    import difflib  # only an error needs it, and importing it takes 2 ms

    folded = {known.lower(): known for known in names}
    begun = [known for known in folded if name and known.startswith(name.lower())]
    near = min(begun, key=len) if begun else next(iter(difflib.get_close_matches(name.lower(), folded, n=1)), None)
    return near and folded[near]


_DETAILS = {"loss": "output activation", "optimizer": "state"}  # what the detail of a row is


def _described(kind: str) -> Iterator[str]:
    """For each formula of a kind: its name with parameters and defaults; indented, its meaning, ranges and detail."""
    import textwrap  # for help only

    for name, row in table(kind).items():
        defaults = ", ".join(f"{key}={valid.default:g}" for key, valid in row.parameters.items())
        yield f"\n{name}({defaults})" if defaults else f"\n{name}"
        facts = [f"{key} in {valid.text}" for key, valid in row.parameters.items()]
        facts += [f"{_DETAILS[kind]}: {row.detail}"] if row.detail else []
        for text in filter(None, (row.meaning, ", ".join(facts))):
            yield textwrap.fill(text, 100, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)


class Listing:
    """A docstring followed by all formulas of a kind, which are written when somebody asks for it."""

    def __init__(self, text: str | None, kind: str) -> None:
        self.text = inspect.cleandoc(text or "")
        self.kind = kind

    def __get__(self, instance: object, owner: type) -> str:
        return "\n".join([self.text, *_described(self.kind)])


class Spec:
    """A formula with its parameters; missing parameters take the default of the formula's row."""

    kind: ClassVar[str]
    name: str
    parameters: dict[str, float]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.__doc__ = Listing(cls.__doc__, cls.kind)  # type: ignore[assignment]  # it is read as a text

    def __init__(self, name: str, **parameters: float) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a {self.kind} is a name or a bp.{type(self).__name__}, not {name!r}")
        rows = table(self.kind)
        if name not in rows:
            raise self._unknown(name, rows)
        self.name = name
        self.parameters = {key: self._value(key, value, rows[name].parameters) for key, value in parameters.items()}

    def _unknown(self, name: str, rows: dict[str, Formula]) -> ValueError:
        return unknown(self.kind, name, rows)

    def _value(self, key: str, value: float, ranges: dict[str, Range]) -> float:
        if key not in ranges:
            raise unknown(f"parameter of {self.kind} {self.name!r}:", key, ranges)
        return float(real(ranges[key].text)(f"{self.name}: {key}", value))

    @classmethod
    def parse(cls, value: str | Self) -> Self:
        """From a text, such as one that a program reads: a name, or a name with parameters in parentheses; or from itself.

        >>> bp.Activation.parse("leaky_relu(slope=0.2)")
        Activation('leaky_relu', slope=0.2)
        """
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            return cls(value)  # type: ignore[arg-type]  # the constructor says what is wrong
        name, parameters = read_call(value)
        return cls(name, **{key: read_number(text) for key, text in parameters.items()})

    @property
    def text(self) -> str:
        """The token that stands for it in graph text."""
        return call(self.name, {key: number(value) for key, value in self.parameters.items()})

    @property
    def detail(self) -> str:
        """A loss's output activation, an optimizer's slots and what they start from."""
        return table(self.kind)[self.name].detail

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join([repr(self.name), *(f'{k}={v!r}' for k, v in self.parameters.items())])})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and (self.kind, self.text) == (other.kind, other.text)

    def __hash__(self) -> int:
        return hash((self.kind, self.text))


class Loss(Spec):
    """A loss with parameters: `Loss("quantile", q=0.9)`. The name alone, as in `Trainer(net, loss="quantile")`, takes the defaults.

    The list below has every loss with its parameters and their defaults. In it, o is a raw output, before the output activation; t is
    its target, any number unless the line says otherwise; d = o - t; mean and sum are over the outputs of a row. The loss of a batch is
    the mean of its rows' losses, weighted by sample_weight. A trainer sets the output activation, which `net.predict` applies, in a net
    that has none yet.

    ValueError names a loss or a parameter that is not in the list, and a value outside of its range.

    >>> loss = bp.Loss("quantile", q=0.9)
    >>> loss.name, loss.parameters
    ('quantile', {'q': 0.9})
    >>> bp.Loss.parse("quantile(q=0.9)") == loss
    True
    """

    kind = "loss"

    def __init__(self, name: LossName, **parameters: float) -> None:
        super().__init__(name, **parameters)


class Init(Spec):
    """How initial weights are drawn, with parameters: `Dense(8, init=Init("normal", std=0.1))`. The name alone takes the defaults.

    The list below has every initializer with its parameters and their defaults. In it, in and out are the numbers of a layer's inputs
    and outputs; a weight has the shape (out, in). init="auto" chooses what suits the layer's activation. Biases start at 0.

    ValueError names an initializer or a parameter that is not in the list, and a value outside of its range.

    >>> layer = bp.Dense(100, init=bp.Init("normal", std=0.1))
    >>> x = bp.Input(50)
    >>> net = bp.Network(x, layer(x), seed=0)
    >>> round(float(net.tensors["dense_0.weight"].std()), 2)
    0.1
    """

    kind = "initializer"

    def __init__(self, name: InitName, **parameters: float) -> None:
        super().__init__(name, **parameters)
        if self.name == "array":  # which the graph's text has where a layer was given one
            raise ValueError("init: give the array itself, as in bp.Dense(8, init=weights)")


class OptimizerSpec(Spec):
    """A row of the optimizers' table with parameters; the settings classes in `optimizers` become one. "rprop" is PyTorch's iRprop-."""

    kind = "optimizer"

    def __init__(self, name: str, **parameters: float) -> None:
        super().__init__("irprop_minus" if name == "rprop" else name, **parameters)
