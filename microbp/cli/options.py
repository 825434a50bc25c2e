"""The options of each command: the fields of a frozen dataclass.

To add an option, add a field with its name. The field's `kind` is a function that converts the text to a value, or raises a ValueError
that names the valid values (../tables/fitted/arguments.py).
"""

# ruff: noqa: RUF009  # the calls make fields

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..tables.fitted import arguments
from ..tables.fitted.arguments import Kind
from ..tables.recipe import BUDGETS, HIDDEN, MOST_EPOCHS, RATES

if TYPE_CHECKING:
    from ..core.specs import Loss, OptimizerSpec
    from ..network.layers import Activation
    from ..settings.schedules import Schedule

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
    """The distinct values as text, such as "16, 32 or 128"."""
    *others, last = dict.fromkeys(map(str, values))
    return f"{', '.join(others)} or {last}" if others else last


_FORMATS = (
    "digits, - for standard input, or a file or pipe: CSV, TSV, JSON, JSON lines, Excel (.xlsx), Parquet, Arrow, .npy, libsvm text, or "
    ".npz with "
)
_NO_HEADER = "the first line of DATA is a row; it does not name the columns (default: decided by the types of its cells)"
_STRICT = "stop at the first cell that should be a number and is not, and at the first assumption about DATA"
_THREADS = "maximum number of threads (default: the number of processors{})"
_CONFIG = "TOML file with values for these options; the command line overrides it"
_WIDTHS = _choices(budget.width for budget in BUDGETS.values())


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """The data, and how to split it."""

    data: str = _operand("data", f"{_FORMATS}X and y, or with x_train, y_train, x_test and y_test", "DATA")
    target: str | None = _option("data", "COLUMN", "column to predict (default: target, label, class or y, else the last column)")
    drop: tuple[str, ...] = _option("data", "COLUMN,...", "columns to ignore (default: none)", arguments.names, default=())
    keep: tuple[str, ...] = _option(
        "data", "COLUMN,...", "columns to use although they look like row numbers or ids (default: none)", arguments.names, default=()
    )
    missing: tuple[str, ...] = _option(
        "data", "WORD,...", "words for missing values, besides the usual ones such as NA (default: none)", arguments.words, default=()
    )
    no_header: bool = _switch("data", _NO_HEADER)
    test: float = _option(
        "data", "FRACTION", "fraction of the rows held out for the test, 0 for none (default: %(default)s)", arguments.share, default=0.2
    )
    test_file: str | None = _option("data", "FILE", "file with the test rows, instead of --test (default: none)")
    validation: float = _option(
        "data",
        "FRACTION",
        "fraction of the remaining rows held out for validation, to choose the best epoch (default: %(default)s)",
        arguments.fraction,
        default=0.1,
    )
    split: str = _option(
        "data",
        "HOW",
        "how to choose the rows for test and validation: random (for classes, from each class in proportion), last (of the file), "
        "time:COLUMN (the latest rows), or group:COLUMN (rows with the same value stay together) (default: %(default)s)",
        arguments.how,
        default="random",
    )
    weight: str | None = _option("data", "COLUMN", "column with the weights of rows; 0 leaves a row out (default: all 1)")
    stream: bool = _switch("data", "read the file in pieces, for files larger than memory; rows are shuffled within a piece")


@dataclass(frozen=True, kw_only=True)
class NetOptions(TableOptions):
    """The network and its training."""

    net: tuple[int | None, ...] | None = _option(
        "network",
        "WIDTHS",
        "widths of inputs, hidden layers and outputs, such as 64-128-10; x and y stand for the input and output widths of the data, as in "
        f"x-50-50-y (default: {HIDDEN} hidden layers of {_WIDTHS} units, by the budget)",
        arguments.widths,
    )
    activation: Activation = _option(
        "network", "SPEC", "activation of the hidden layers (default: %(default)s)", arguments.activation, default="gelu"
    )
    dropout: float | None = _option(
        "network", "FLOAT", "dropout rate after each hidden layer (default: 0, or 0.2 if no number has bins)", arguments.dropout
    )
    loss: Loss | None = _option(
        "training",
        "SPEC",
        "loss (default: cross_entropy if the target is text or has at most 20 different whole numbers, else mse)",
        arguments.loss,
    )
    class_weight: str | None = _option(
        "training",
        "WEIGHTS",
        "balanced: in training, all classes count alike, however rare (default: all rows count alike)",
        arguments.class_weight,
    )
    optimizer: OptimizerSpec = _option("training", "SPEC", "optimizer (default: %(default)s)", arguments.optimizer, default="adam")
    decay: float | None = _option(
        "training",
        "FLOAT",
        "weight decay (default: that of the optimizer)",
        arguments.decay,
    )
    batch: int | None = _option(
        "training",
        "INT",
        "rows per update (default: 64, 128 or 256, by the number of rows)",
        arguments.count,
    )
    budget: str = _option(
        "training",
        "NAME",
        "how long to train: fast, normal or best take about 1, 10 or 60 seconds of a processor core for each 20,000 rows "
        "(default: %(default)s)",
        arguments.budget,
        default="normal",
    )
    seed: int = _option(
        "general", "INT", "seed for the split, the initial weights and the order of rows (default: %(default)s)", arguments.seed, default=0
    )
    threads: int | None = _option("general", "INT", _THREADS.format(", divided by the processes of mpiexec"), arguments.count)


@dataclass(frozen=True, kw_only=True)
class RunOptions(NetOptions):
    """How long to train, and with which rate."""

    lr: float | Literal["auto"] | None = _option(
        "training",
        "FLOAT",
        f"highest learning rate, or auto to find one by a range test (default: for adam {RATES[0]} for classes and {RATES[1]} for "
        "numbers; for other optimizers, their own default). A layer with n inputs gets it divided by the square root of n",
        arguments.rate,
    )
    epochs: int | None = _option(
        "training",
        "INT",
        f"passes over the training rows, for each network (default: 2 to {MOST_EPOCHS}, by the number of rows and the budget)",
        arguments.count,
    )


@dataclass(frozen=True, kw_only=True)
class TrainOptions(RunOptions):
    """The options of `microbp train`."""

    strict: bool = _switch("data", "stop with an error at the first assumption about DATA, instead of reporting it")
    ensemble: int | None = _option(
        "network",
        "INT",
        "number of networks, whose mean is the prediction; 1: a single network (default: up to "
        f"{_choices(budget.ensemble for budget in BUDGETS.values())}, by the budget, and for small tables a linear model)",
        arguments.count,
    )
    schedule: Schedule | str | None = _option(
        "training", "SPEC", "schedule of the learning rate, cosine or constant (default: cos_log, waves that end at 0)", arguments.schedule
    )
    patience: int | None = _option(
        "training",
        "EPOCHS",
        "stop after EPOCHS epochs that are not better for the validation rows (default: do not stop early)",
        arguments.count,
    )
    checkpoint: Path | None = _option(
        "training",
        "FILE",
        "save the run to FILE every minute, at the end, and when it is interrupted, and the networks that are done to FILE.networks "
        "(default: the file of --resume, else do not save)",
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
        "save the networks to FILE in safetensors format (default: data.safetensors for data.csv, or "
        "data-2.safetensors if that exists; for digits, do not save)",
        Path,
    )
    plot: Path | None = _option(
        "output", "FILE", "save a plot of the learning curves and predictions to FILE: .png, .svg or .pdf (default: none)", Path
    )
    report: Path | None = _option(
        "output", "FILE", "save the report with pictures to FILE, an HTML page that needs no network: .html (default: none)", Path
    )
    live: bool = _switch("output", "serve a page to this machine that follows the training, and print its address")
    live_port: int | None = _option(
        "output", "INT", "serve that page at this port, from 1 to 65535; implies --live (default: a free port)", arguments.port
    )
    force: bool = _switch("output", "overwrite existing files")
    json: bool = _switch("output", "print the report as one JSON object")
    config: Path | None = _option("general", "FILE", _CONFIG, Path)


@dataclass(frozen=True, kw_only=True)
class DoctorOptions(RunOptions):
    """The options of `microbp doctor`."""

    json: bool = _switch("output", "print the findings as one JSON object")
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
class ModelOptions:
    """A model, and data to use it on."""

    model: Path = _operand("data", "network saved by microbp train, or exported to ONNX", "MODEL", Path)
    data: str = _operand(
        "data", f"{_FORMATS}X or x_test. DATA must have the columns used in training, and except for predict the target", "DATA"
    )
    no_header: bool = _switch("data", _NO_HEADER)
    strict: bool = _switch("data", _STRICT)
    threads: int | None = _option("general", "INT", _THREADS.format(""), arguments.count)


@dataclass(frozen=True, kw_only=True)
class PredictOptions(ModelOptions):
    """The options of `microbp predict`."""

    stream: bool = _switch("data", "read the file in pieces, for files larger than memory")
    id: tuple[str, ...] = _option(
        "output", "COLUMN,...", "columns of DATA to write before the prediction (default: none)", arguments.names, default=()
    )
    out: Path | None = _option("output", "FILE", "write the predictions to FILE (default: standard output)", Path)
    force: bool = _switch("output", "overwrite an existing file")
    json: bool = _switch("output", "write JSON lines instead of CSV")


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(ModelOptions):
    """The options of `microbp evaluate`."""

    stream: bool = _switch("data", "read the file in pieces, for files larger than memory")
    json: bool = _switch("output", "print the metrics as one JSON object")


@dataclass(frozen=True, kw_only=True)
class ExplainColumnsOptions(ModelOptions):
    """The options of `microbp explain-columns`."""

    repeats: int = _option("data", "INT", "shuffles of each column (default: %(default)s)", arguments.count, default=5)
    seed: int = _option("general", "INT", "seed of the shuffles (default: %(default)s)", arguments.seed, default=0)
    plot: Path | None = _option("output", "FILE", "save a bar chart to FILE: .png, .svg or .pdf (default: none)", Path)
    force: bool = _switch("output", "overwrite an existing file")
    json: bool = _switch("output", "print the result as one JSON object")


@dataclass(frozen=True, kw_only=True)
class InfoOptions:
    """The options of `microbp info`."""

    file: Path = _operand(
        "data", "network or checkpoint saved by microbp train, a file saved from Python, or one of ONNX or Keras", "FILE", Path
    )


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """The options of `microbp export`."""

    model: Path = _operand("data", "network saved by microbp train or from Python, or a file of ONNX or Keras", "MODEL", Path)
    output: Path = _operand("output", "file to write: .onnx, .c or .h", "OUT", Path)
    raw: bool = _switch("output", "outputs before the output activations")
    features: bool = _switch("output", "take the prepared features of the network, not the columns of a table")
    fold: bool = _switch("output", "for ONNX: make batch norms part of the weights (C files always do)")
    train: str | None = _option(
        "output", "SPEC", "for C: also train, by sgd, momentum, adam or adamw with settings, such as adam(lr=0.001) (default: only predict)"
    )
    name: str = _option(
        "output", "NAME", "of the graph; in C the functions are NAME_predict, NAME_check, ... (default: %(default)s)", default="model"
    )
    force: bool = _switch("output", "overwrite an existing file")


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
            "microbp train digits --plot digits.png --report digits.html",
            "microbp train adult.csv --target income --drop id,name --checkpoint run.safetensors",
            "microbp train adult.csv --resume run.safetensors",
            "mpiexec -n 4 microbp train adult.csv",
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
            "microbp predict adult.safetensors new.csv --id name,street",
        ),
    ),
    "evaluate": Command(
        EvaluateOptions,
        "measure a saved network on new rows",
        "Prints the metrics of a saved network for rows whose target is known. Rows without a target are left out.",
        ("microbp evaluate adult.safetensors new.csv", "microbp evaluate adult.safetensors new.csv --json"),
    ),
    "explain-columns": Command(
        ExplainColumnsOptions,
        "rank the columns by their importance",
        "Shuffles each column and prints how much the loss of a saved network grows: the mean and standard deviation of the repeats.",
        ("microbp explain-columns adult.safetensors adult.csv --plot importance.png",),
    ),
    "info": Command(
        InfoOptions,
        "show a saved network",
        "Shows the layers, the target and the columns of a saved network, and what is in files of ONNX, Keras and other safetensors.",
        ("microbp info adult.safetensors", "microbp info adult.onnx"),
    ),
    "export": Command(
        ExportOptions,
        "write a saved network as ONNX or C",
        "Writes a saved network as ONNX, or as a C file that needs no library. It takes the columns of the table, if there is one.",
        ("microbp export adult.safetensors adult.onnx", "microbp export adult.safetensors adult.c --name adult"),
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
    "doctor": Command(
        DoctorOptions,
        "find what is wrong with a table or a training",
        "Looks for faults of the table, and of the first network that microbp train would train, before and after its training. For each "
        "prints what is wrong and what to write. The network is not saved.",
        ("microbp doctor adult.csv --target income", "microbp doctor adult.csv --target income --lr 1 --json"),
        has_specs=True,
    ),
}


def names() -> dict[str, list[str]]:
    """The valid names for each SPEC option."""
    from ..core.specs import table
    from ..settings import schedules

    kinds: tuple[Literal["activation", "loss", "optimizer"], ...] = ("activation", "loss", "optimizer")
    return {kind: list(table(kind)) for kind in kinds} | {"schedule": [name for name in schedules.NAMED if name != "delay"]}
