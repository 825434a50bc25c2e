"""The options of each command: the fields of a frozen dataclass.

To add an option, add a field with its name. The field's `kind` is a function that converts the text to a value, or raises a ValueError
that names the valid values. It imports what it needs when it is called, so that `microbp --help` is fast.
"""

# ruff: noqa: RUF009  # the calls make fields

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..core.checks import whole_number
from ..tables.defaults import LEAST_EPOCHS, MOST_EPOCHS, SIZES

if TYPE_CHECKING:
    from ..core.specs import Loss, OptimizerSpec
    from ..network.layers import Activation
    from ..settings.schedules import Schedule

Kind = Callable[[str], Any]


# ---- from text to values ----


def _whole(text: str, least: int, bits: int) -> int:
    try:
        value: Any = int(text)
    except ValueError:
        value = text  # whole_number raises an error for text
    return whole_number(value, "the value", least, bits)


def _count(text: str) -> int:
    return _whole(text, least=1, bits=31)


def _seed(text: str) -> int:
    return _whole(text, least=0, bits=64)


def _number(text: str, is_valid: Callable[[float], bool], valid: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not is_valid(value):
        raise ValueError(f"the value must be {valid}, not {text!r}")
    return value


def _rate(text: str) -> float | str:
    return text if text == "auto" else _number(text, lambda value: 0 < value < float("inf"), "a positive number such as 0.001, or auto")


def _decay(text: str) -> float:
    return _number(text, lambda value: 0 <= value < float("inf"), "a number of at least 0, such as 0.001")


def _dropout(text: str) -> float:
    return _number(text, lambda value: 0 <= value < 1, "a number of at least 0 and below 1, such as 0.2")


def _fraction(text: str) -> float:
    return _number(text, lambda value: 0 < value < 1, "a fraction between 0 and 1, such as 0.2")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def _widths(text: str) -> tuple[int | None, ...]:
    """Parses widths. None as the first or last width stands for the input or output width of the data."""
    parts = text.split("-")
    inner = parts[(parts[0] == "x") : len(parts) - (parts[-1] == "y")]
    if len(parts) < 2 or not all(part.isascii() and part.isdecimal() and int(part) > 0 for part in inner):
        raise ValueError(
            f"the value must be two or more positive widths joined by '-', not {text!r}; for example 64-128-10, "
            "or x-128-y with the input and output widths of the data"
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


# ---- fields ----


def _operand(group: str, help: str, metavar: str, kind: Kind = str) -> Any:
    """A field for a positional argument."""
    return field(metadata={"is_option": False, "kind": kind, "group": group, "argparse": {"help": help, "metavar": metavar}})


def _option(group: str, metavar: str, help: str, kind: Kind = str, default: Any = None) -> Any:
    """A field for an option. default: a value, or text that `kind` converts."""
    settings = {"help": help, "metavar": metavar, "default": default}
    return field(metadata={"is_option": True, "kind": kind, "group": group, "argparse": settings})


def _switch(group: str, help: str) -> Any:
    """A field for an option without a value: True if the option is given."""
    return field(metadata={"is_option": True, "kind": None, "group": group, "argparse": {"help": help, "action": "store_true"}})


def _choices(values: Any) -> str:
    """The distinct values as text, such as "16, 32 or 128". They are the defaults for different numbers of rows."""
    *others, last = dict.fromkeys(map(str, values))
    return f"{', '.join(others)} or {last}" if others else last


_FORMATS = "digits, or a file or pipe: CSV, TSV, Parquet, .npy, libsvm text, or .npz with "
_THREADS = "maximum number of threads (default: the number of processors)"
_CONFIG = "TOML file with values for these options; the command line overrides it"
_FOR_CLASSES = _choices("-".join(map(str, size.for_classes)) for size in SIZES)
_FOR_NUMBERS = _choices("-".join(map(str, size.for_numbers)) for size in SIZES)


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """The data, and how to split it."""

    data: str = _operand("data", f"{_FORMATS}X and y, or with x_train, y_train, x_test and y_test", "DATA")
    target: str | None = _option("data", "COLUMN", "column to predict (default: target, label, class or y, else the last column)")
    drop: tuple[str, ...] = _option("data", "COLUMN,...", "columns to ignore (default: none)", _names, default=())
    test: float = _option("data", "FRACTION", "fraction of the rows held out for the test (default: %(default)s)", _fraction, default=0.2)
    test_file: str | None = _option("data", "FILE", "file with the test rows, instead of --test (default: none)")
    validation: float = _option(
        "data",
        "FRACTION",
        "fraction of the remaining rows held out for validation, to choose the best epoch (default: %(default)s)",
        _fraction,
        default=0.1,
    )
    stream: bool = _switch("data", "read the file in pieces, for files larger than memory; rows are shuffled within a piece")


@dataclass(frozen=True, kw_only=True)
class NetOptions(TableOptions):
    """The network and its training."""

    net: tuple[int | None, ...] | None = _option(
        "network",
        "WIDTHS",
        "widths of inputs, hidden layers and outputs, such as 64-128-10; x and y stand for the input and output widths of the data, as in "
        f"x-50-50-y (default: hidden layers {_FOR_CLASSES} for classes; {_FOR_NUMBERS} for numbers, depending on the number of rows)",
        _widths,
    )
    activation: Activation = _option(
        "network", "SPEC", "activation of the hidden layers (default: %(default)s)", _activation, default="relu"
    )
    dropout: float = _option(
        "network", "FLOAT", "dropout rate after each hidden layer (default: %(default)s, no dropout)", _dropout, default=0.0
    )
    loss: Loss | None = _option(
        "training",
        "SPEC",
        "loss (default: cross_entropy if the target is text or has at most 20 different whole numbers, else mse)",
        _loss,
    )
    optimizer: OptimizerSpec = _option("training", "SPEC", "optimizer (default: %(default)s)", _optimizer, default="adam")
    decay: float | None = _option(
        "training",
        "FLOAT",
        "weight decay (default: for adam, 1 / training rows for classes and 0.3 / training rows for numbers; for other optimizers, their "
        "own default)",
        _decay,
    )
    batch: int | None = _option(
        "training", "INT", f"rows per update (default: {_choices(size.batch for size in SIZES)} depending on the number of rows)", _count
    )
    seed: int = _option(
        "general", "INT", "seed for the split, the initial weights and the order of rows (default: %(default)s)", _seed, default=0
    )
    threads: int | None = _option("general", "INT", _THREADS, _count)


@dataclass(frozen=True, kw_only=True)
class TrainOptions(NetOptions):
    """The options of `microbp train`."""

    lr: float | Literal["auto"] | None = _option(
        "training",
        "FLOAT",
        "learning rate, or auto to find one by a range test (default: for adam "
        f"{_choices(size.lr for size in SIZES)} depending on the number of rows; for other optimizers, their own default)",
        _rate,
    )
    schedule: Schedule | str | None = _option(
        "training", "SPEC", "schedule of the learning rate, or constant (default: cosine, which falls to 0 at the end)", _schedule
    )
    epochs: int | None = _option(
        "training",
        "INT",
        f"passes over the training rows (default: {LEAST_EPOCHS} to {MOST_EPOCHS[0]} for classes, "
        f"{LEAST_EPOCHS} to {MOST_EPOCHS[1]} for numbers, depending on the number of rows)",
        _count,
    )
    patience: int | None = _option(
        "training", "EPOCHS", "stop after EPOCHS epochs without a lower validation loss (default: do not stop early)", _count
    )
    checkpoint: Path | None = _option(
        "training",
        "FILE",
        "save the run to FILE every minute, at the end, and when it is interrupted (default: the file of --resume, else do not save)",
        Path,
    )
    resume: Path | None = _option(
        "training",
        "FILE",
        "continue a run that --checkpoint saved, with its options. The run is saved to FILE again, or to the file of --checkpoint if that "
        "is given (default: start a new run)",
        Path,
    )
    out: Path | None = _option(
        "output",
        "FILE",
        "save the network to FILE in safetensors format (default: data.safetensors for data.csv, or "
        "data-2.safetensors if that exists; for digits, do not save)",
        Path,
    )
    plot: Path | None = _option(
        "output", "FILE", "save a plot of the learning curves and predictions to FILE: .png, .svg or .pdf (default: none)", Path
    )
    force: bool = _switch("output", "overwrite existing files")
    json: bool = _switch("output", "print the report as one JSON object")
    config: Path | None = _option("general", "FILE", _CONFIG, Path)


@dataclass(frozen=True, kw_only=True)
class LrFindOptions(NetOptions):
    """The options of `microbp lr-find`."""

    plot: Path | None = _option(
        "output", "FILE", "save a plot of the loss against the learning rate to FILE: .png, .svg or .pdf (default: none)", Path
    )
    force: bool = _switch("output", "overwrite an existing file")
    json: bool = _switch("output", "print the rates as one JSON object")
    config: Path | None = _option("general", "FILE", _CONFIG, Path)


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """The options of `microbp predict`."""

    model: Path = _operand("data", "network saved by microbp train", "MODEL", Path)
    data: str = _operand("data", f"{_FORMATS}X or x_test. DATA must have the columns used in training; the target may be absent", "DATA")
    stream: bool = _switch("data", "read the file in pieces, for files larger than memory")
    out: Path | None = _option("output", "FILE", "write the predictions to FILE (default: standard output)", Path)
    force: bool = _switch("output", "overwrite an existing file")
    json: bool = _switch("output", "write JSON lines instead of CSV")
    threads: int | None = _option("general", "INT", _THREADS, _count)


@dataclass(frozen=True, kw_only=True)
class InfoOptions:
    """The options of `microbp info`."""

    file: Path = _operand("data", "network or checkpoint saved by microbp train, or a file saved from Python", "FILE", Path)


class Command(NamedTuple):
    """A command: its options and its help."""

    options: type[Any]
    help: str
    description: str
    examples: tuple[str, ...]
    has_specs: bool = False  # whether its options include names of losses, optimizers, ...


COMMANDS = {
    "train": Command(
        TrainOptions,
        "train a network",
        "Trains a network on a table and reports its quality on test rows. Unset options are chosen from the data.",
        (
            "microbp train digits --plot digits.png",
            "microbp train adult.csv --target income --drop id,name --checkpoint run.safetensors",
            "microbp train adult.csv --resume run.safetensors",
            'microbp train prices.csv --net x-64-64-y --loss "huber(delta=0.5)" --lr auto',
        ),
        has_specs=True,
    ),
    "predict": Command(
        PredictOptions,
        "predict with a saved network",
        "Predicts the target for each row: the class and the probabilities of all classes, or a number.",
        (
            "microbp predict adult.safetensors new.csv",
            "microbp predict adult.safetensors new.csv --json --out predictions.jsonl",
        ),
    ),
    "info": Command(
        InfoOptions,
        "show a saved network",
        "Shows the layers, the target and the columns of a saved network.",
        ("microbp info adult.safetensors",),
    ),
    "lr-find": Command(
        LrFindOptions,
        "search for a learning rate",
        "Trains on 100 batches with rising learning rates, and prints rates at which the loss falls. The network is not saved.",
        (
            "microbp lr-find adult.csv --target income --plot rates.png",
            "microbp lr-find adult.csv --target income --optimizer sgd_momentum",
        ),
        has_specs=True,
    ),
}


def names() -> dict[str, list[str]]:
    """The valid names for each SPEC option."""
    from ..core.specs import table
    from ..settings import schedules

    kinds: tuple[Literal["activation", "loss", "optimizer"], ...] = ("activation", "loss", "optimizer")
    return {kind: list(table(kind)) for kind in kinds} | {"schedule": [name for name in schedules.NAMED if name != "delay"]}
