"""What may be asked of the command line, and what it means: the arguments of each command are the fields of a frozen dataclass.

A new option is a new field. The field's name is the option's; its kind makes the value of the text, or raises a ValueError that says what
would be right. Kinds import what they need only when they are called, so that --help answers at once.
"""

# ruff: noqa: RUF009  # the calls make fields

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from ..core.specs import Loss, OptimizerSpec
    from ..network.layers import Activation
    from ..settings.schedules import Schedule

Kind = Callable[[str], Any]

EXIT_CODES = "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."


# ---- what an argument's text means ----


def _number(text: str, kind: type[Any], holds: Callable[[Any], bool], right: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not holds(value):
        raise ValueError(f"{text!r} must be {right}")
    return value


def _count(text: str) -> int:
    return int(_number(text, int, lambda value: 1 <= value < 2**31, "a whole number of at least 1"))


def _seed(text: str) -> int:
    return int(_number(text, int, lambda value: 0 <= value < 2**64, "a whole number of at least 0 and below 2**64"))


def _rate(text: str) -> float | str:
    if text == "auto":
        return text
    return float(_number(text, float, lambda value: 0 < value < float("inf"), "a positive number, such as 0.001, or auto"))


def _decay(text: str) -> float:
    return float(_number(text, float, lambda value: 0 <= value < float("inf"), "a number of at least 0, such as 0.001"))


def _share(text: str) -> float:
    return float(_number(text, float, lambda value: 0 <= value < 1, "a number of at least 0 and below 1, such as 0.2"))


def _fraction(text: str) -> float:
    return float(_number(text, float, lambda value: 0 < value < 1, "a fraction between 0 and 1, such as 0.2"))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _widths(text: str) -> tuple[int | None, ...]:
    """Widths; None at either end is the data's own."""
    parts = text.split("-")
    inner = parts[(parts[0] == "x") : len(parts) - (parts[-1] == "y")]
    if len(parts) < 2 or not all(part.isascii() and part.isdecimal() and int(part) > 0 for part in inner):
        raise ValueError(
            f"{text!r} must be two or more widths of at least 1, joined by '-', such as 64-128-10, or x-128-y for the data's own ends"
        )
    return tuple(int(part) if part.isdecimal() else None for part in parts)


def _activation(text: str) -> Activation:
    from ..network.layers import Activation

    return Activation.parse(text)


def _loss(text: str) -> Loss:
    from ..core.specs import Loss

    return Loss.parse(text)


def _optimizer(text: str) -> OptimizerSpec:
    from ..core.specs import OptimizerSpec

    return OptimizerSpec.parse(text)


def _schedule(text: str) -> Schedule | str:
    from ..settings import schedules

    return text if text in ("constant", "cosine") else schedules.parse(text)


# ---- what may be asked ----


def _operand(help: str, metavar: str, kind: Kind = str) -> Any:
    """A field that is an argument without a name, which must be there."""
    return field(metadata={"is_option": False, "kind": kind, "argparse": {"help": help, "metavar": metavar}})


def _option(help: str, kind: Kind = str, metavar: str | None = None, default: Any = None) -> Any:
    """A field that is an option; default: a value, or its text."""
    return field(metadata={"is_option": True, "kind": kind, "argparse": {"help": help, "metavar": metavar, "default": default}})


def _switch(help: str) -> Any:
    """A field that is True if the option is there."""
    return field(metadata={"is_option": True, "kind": None, "argparse": {"help": help, "action": "store_true"}})


_DATA = (
    "digits, or a file or pipe: CSV, TSV, Parquet, .npz (X and y, or x_train, y_train, x_test, y_test, of which predict takes x_test), "
    ".npy, libsvm text"
)
_THREADS = "at most this many threads (default: as many as there are processors)"
_CONFIG = "TOML file of these options, by the same names; the command line wins"


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """The data, and how they are split."""

    data: str = _operand(_DATA, "DATA")
    target: str | None = _option("what to predict (default: target, label, class or y, else the last column)", metavar="COLUMN")
    drop: tuple[str, ...] = _option("columns to leave out", _names, "COLUMN,...", default=())
    test: float = _option("fraction of the rows held out for the test (default: %(default)s)", _fraction, default=0.2)
    test_file: str | None = _option("the rows of the test, instead of a fraction", metavar="FILE")
    validation: float = _option("fraction of the other rows that choose the best epoch (default: %(default)s)", _fraction, default=0.1)
    stream: bool = _switch("read what is larger than memory by pieces, within which rows are shuffled")


@dataclass(frozen=True, kw_only=True)
class NetOptions(TableOptions):
    """The network, and what trains it."""

    net: tuple[int | None, ...] | None = _option(
        "widths of inputs, hidden layers and outputs, x and y for the data's own: x-50-50-y "
        "(default: 64-128-10 for digits; by the number of rows)",
        _widths,
    )
    activation: Activation = _option("of the hidden layers, such as tanh (default: %(default)s)", _activation, default="relu")
    dropout: float = _option("after each hidden layer (default: none)", _share, "RATE", default=0.0)
    loss: Loss | None = _option("such as bce or huber (default: cross_entropy for texts and up to 20 whole numbers, else mse)", _loss)
    optimizer: OptimizerSpec = _option("such as sgd_momentum (default: %(default)s)", _optimizer, default="adam")
    lr: float | Literal["auto"] | None = _option("learning rate; auto: by a range test (default: for adam by the number of rows)", _rate)
    decay: float | None = _option("weight decay (default: for adam 1 / rows for classes, 0.3 / rows for numbers)", _decay)
    batch: int | None = _option("rows per step (default: by the number of rows)", _count)
    seed: int = _option("of split, initial weights and shuffling (default: %(default)s)", _seed, default=0)
    threads: int | None = _option(_THREADS, _count)


@dataclass(frozen=True, kw_only=True)
class TrainOptions(NetOptions):
    """The options of `microbp train`."""

    schedule: Schedule | str | None = _option(
        "of the learning rate: constant, or one such as one_cycle(lr=0.01) (default: cosine, down to 0)", _schedule
    )
    epochs: int | None = _option("passes over the training rows (default: 100 for digits, fewer for many rows)", _count)
    patience: int | None = _option("stop after this many epochs without a lower validation loss (default: do not stop)", _count, "EPOCHS")
    out: Path | None = _option("save the network as safetensors (default: DATA's name, numbered if taken; none for digits)", Path, "FILE")
    plot: Path | None = _option("draw how it learnt and what it predicts: .png, .svg or .pdf", Path, "FILE")
    checkpoint: Path | None = _option("save the run to FILE every minute, and when it ends or is interrupted", Path, "FILE")
    resume: Path | None = _option("go on with the run that --checkpoint saved; its options are those that it began with", Path, "FILE")
    force: bool = _switch("let --out, --plot and --checkpoint overwrite files")
    json: bool = _switch("print the report as one JSON object")
    config: Path | None = _option(_CONFIG, Path, "FILE")


@dataclass(frozen=True, kw_only=True)
class LrFindOptions(NetOptions):
    """The options of `microbp lr-find`."""

    plot: Path | None = _option("draw the loss over the rate: .png, .svg or .pdf", Path, "FILE")
    force: bool = _switch("let --plot overwrite a file")
    json: bool = _switch("print the rates as one JSON object")
    config: Path | None = _option(_CONFIG, Path, "FILE")


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """The options of `microbp predict`."""

    model: Path = _operand("what microbp train wrote", "MODEL", Path)
    data: str = _operand(_DATA, "DATA")
    out: Path | None = _option("where to write (default: standard output)", Path, "FILE")
    force: bool = _switch("let --out overwrite a file")
    json: bool = _switch("write JSON lines instead of CSV")
    stream: bool = _switch("read piece by piece what is larger than memory")
    threads: int | None = _option(_THREADS, _count)


@dataclass(frozen=True, kw_only=True)
class InfoOptions:
    """The options of `microbp info`."""

    file: Path = _operand("what --out or net.save wrote", "FILE", Path)


class Command(NamedTuple):
    """A command: its options, and what its help says."""

    options: type[Any]
    help: str
    description: str
    epilog: str = EXIT_CODES


COMMANDS = {
    "train": Command(
        TrainOptions,
        "train a network",
        "Trains a network and reports how well it does on rows that it has not seen. Options that are left out are chosen by the data.",
        f"A formula's parameters go in parentheses: leaky_relu(slope=0.2), adam(lr=0.001,weight_decay=0.0001). {EXIT_CODES}",
    ),
    "predict": Command(
        PredictOptions,
        "predict by a saved network",
        "Predicts for raw rows with the columns of the training: writes CSV of labels and probabilities, or of numbers.",
    ),
    "info": Command(InfoOptions, "show a saved network", "Shows the nodes, parameters and columns of a saved network."),
    "lr-find": Command(
        LrFindOptions,
        "look for a learning rate",
        "Trains a hundred batches at rates that grow, and prints those at which the loss fell.",
    ),
}
