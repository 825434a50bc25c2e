"""The command line: what may be asked. Each command imports what it needs only when it runs, so that --help answers at once."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

_EXIT = "Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted."
_DATA = (
    "digits, or a file or pipe: CSV, TSV, Parquet, .npz (X and y, or x_train, y_train, x_test, y_test, of which predict takes x_test), "
    ".npy, libsvm text"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0, 1 for a failure, 130 when interrupted; a wrong argument exits with 2."""
    if sys.stdout is None:
        return _fail("standard output is closed: send it to /dev/null if nobody is to read it", 1)
    try:
        arguments = _parse(argv)
        arguments.run(arguments)
        sys.stdout.flush()
    except argparse.ArgumentTypeError as error:
        arguments.parser.error(str(error))
    except KeyboardInterrupt as error:
        return _fail(str(error) or "interrupted", 130)
    except BrokenPipeError:  # the reader of our output has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ImportError, OSError, MemoryError, FloatingPointError, ValueError) as error:
        return _fail(_one_line(error), 1)
    return 0


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _fail(text: str, code: int) -> int:
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(f"microbp: error: {text}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    """Tells what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; {self.prog} --help tells more\n")


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="microbp", description="Small and medium dense neural networks, trained in C.", epilog=_EXIT)
    commands = parser.add_subparsers(metavar="command", required=True)
    _add_train(commands)
    _add_predict(commands)
    _add_info(commands)
    _add_lr_find(commands)
    arguments = parser.parse_args(argv)
    if getattr(arguments, "config", None):
        arguments.parser.set_defaults(**_configured(arguments))
        arguments = parser.parse_args(argv)
    return arguments


def _add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="train a network",
        description="Trains a network and reports how well it does on rows that it has not seen. What is not said is chosen by the data.",
        epilog=f"A formula's parameters go in parentheses: leaky_relu(slope=0.2), adam(lr=0.001,weight_decay=0.0001). {_EXIT}",
    )
    train.set_defaults(run=_train, parser=train)
    _add_data(train)
    _add_training(train)
    add = train.add_argument
    add("--schedule", type=_schedule, help="of the learning rate: constant, or one such as one_cycle(lr=0.01) (default: cosine, down to 0)")
    add("--epochs", type=_count, help="passes over the training rows (default: 100 for digits, fewer for many rows)")
    add("--patience", type=_count, metavar="EPOCHS", help="stop after so many without a lower validation loss (default: do not stop)")
    add(
        "--out",
        type=Path,
        metavar="FILE",
        help="save the network as safetensors (default: DATA's name, numbered if taken; none for digits)",
    )
    add("--plot", type=Path, metavar="FILE", help="draw how it learnt and what it predicts: .png, .svg or .pdf")
    add("--checkpoint", type=Path, metavar="FILE", help="save the run to FILE every minute, and when it ends or is interrupted")
    add("--resume", type=Path, metavar="FILE", help="go on with the run that --checkpoint saved; its options are those that it began with")
    add("--force", action="store_true", help="let --out, --plot and --checkpoint overwrite files")
    add("--json", action="store_true", help="print the report as one JSON object")
    add("--config", type=Path, metavar="FILE", help="TOML file of these options, by the same names; the command line wins")


def _add_data(command: Any) -> None:
    add = command.add_argument
    add("data", metavar="DATA", help=_DATA)
    add("--target", metavar="COLUMN", help="what to predict (default: target, label, class or y, else the last column)")
    add("--drop", type=_names, default=[], metavar="COLUMN,...", help="columns to leave out")
    add("--test", type=_fraction, default=0.2, help="fraction of the rows held out for the test (default: %(default)s)")
    add("--test-file", metavar="FILE", help="the rows of the test, instead of a fraction")
    add("--validation", type=_fraction, default=0.1, help="fraction of the other rows that choose the best epoch (default: %(default)s)")
    add("--stream", action="store_true", help="read what is larger than memory by pieces, within which rows are shuffled")


def _add_training(command: Any) -> None:
    add = command.add_argument
    add("--net", type=_widths, help="widths of inputs, hidden layers and outputs, x and y for the data's own: x-50-50-y "
        "(default: 64-128-10 for digits; by the number of rows)")  # fmt: skip
    add("--activation", type=_formula("Activation"), default="relu", help="of the hidden layers, such as tanh (default: %(default)s)")
    add("--dropout", type=_share, default=0.0, metavar="RATE", help="after each hidden layer (default: none)")
    add(
        "--loss", type=_formula("Loss"), help="such as bce or huber (default: cross_entropy for texts and up to 20 whole numbers, else mse)"
    )
    add("--optimizer", type=_formula("OptimizerSpec"), default="adam", help="such as sgd_momentum (default: %(default)s)")
    add("--lr", type=_rate_or_auto, help="learning rate; auto: by a range test (default: for adam by the number of rows)")
    add("--decay", type=_rate_or_none, help="weight decay (default: for adam 1 / rows for classes, 0.3 / rows for numbers)")
    add("--batch", type=_count, help="rows per step (default: by the number of rows)")
    add("--seed", type=_seed, default=0, help="of split, initial weights and shuffling (default: %(default)s)")
    add("--threads", type=_count, help="at most so many (default: as many as there are processors)")


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser(
        "predict",
        help="predict by a saved network",
        description="Predicts for raw rows with the columns of the training: writes CSV of labels and probabilities, or of numbers.",
        epilog=_EXIT,
    )
    predict.set_defaults(run=_predict, parser=predict)
    add = predict.add_argument
    add("model", type=Path, metavar="MODEL", help="what microbp train wrote")
    add("data", metavar="DATA", help=_DATA)
    add("--out", type=Path, metavar="FILE", help="where to write (default: standard output)")
    add("--force", action="store_true", help="let --out overwrite a file")
    add("--json", action="store_true", help="write JSON lines instead of CSV")
    add("--stream", action="store_true", help="read piece by piece what is larger than memory")
    add("--threads", type=_count, help="at most so many (default: as many as there are processors)")


def _add_info(commands: Any) -> None:
    info = commands.add_parser(
        "info", help="show a saved network", description="Shows the nodes, parameters and columns of a saved network."
    )
    info.set_defaults(run=_info, parser=info)
    info.add_argument("file", type=Path, help="what --out or net.save wrote")


def _add_lr_find(commands: Any) -> None:
    find = commands.add_parser(
        "lr-find",
        help="look for a learning rate",
        description="Trains a hundred batches at rates that grow, and tells at which of them the loss fell.",
        epilog=_EXIT,
    )
    find.set_defaults(run=_lr_find, parser=find)
    _add_data(find)
    _add_training(find)
    add = find.add_argument
    add("--plot", type=Path, metavar="FILE", help="draw the loss over the rate: .png, .svg or .pdf")
    add("--force", action="store_true", help="let --plot overwrite a file")
    add("--json", action="store_true", help="print the rates as one JSON object")
    add("--config", type=Path, metavar="FILE", help="TOML file of these options, by the same names; the command line wins")


def _train(arguments: argparse.Namespace) -> None:
    from . import train_command

    train_command.run(arguments)


def _predict(arguments: argparse.Namespace) -> None:
    from . import predict_command

    predict_command.run(arguments)


def _info(arguments: argparse.Namespace) -> None:
    from . import predict_command

    predict_command.info(arguments)


def _lr_find(arguments: argparse.Namespace) -> None:
    from . import train_command

    train_command.find_rate(arguments)


# ---- options from a file ----


def _configured(arguments: argparse.Namespace) -> dict[str, Any]:
    """What --config says, as defaults of the options."""
    import tomllib

    from .specs import unknown

    parser, path = arguments.parser, arguments.config
    actions = {action.dest: action for action in parser._actions if action.option_strings and action.dest not in ("help", "config")}
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        parser.error(f"argument --config: {path}: {error.strerror}")
    except ValueError as error:
        parser.error(f"argument --config: {path}: {error}")
    defaults = {}
    for key, value in said.items():
        name = key.replace("-", "_")
        if name not in actions:
            parser.error(f"argument --config: {path}: {unknown('option', key, [known.replace('_', '-') for known in actions])}")
        action = actions[name]
        is_switch = action.nargs == 0
        if is_switch != isinstance(value, bool) or isinstance(value, dict):
            parser.error(
                f"argument --config: {path}: {key} must be {'true or false' if is_switch else 'a text or a number'}, not {value!r}"
            )
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        defaults[action.dest] = value if is_switch else _typed(parser, action, text)
    return defaults


def _typed(parser: argparse.ArgumentParser, action: argparse.Action, text: str) -> Any:
    try:
        return action.type(text) if callable(action.type) else text
    except argparse.ArgumentTypeError as error:
        parser.error(str(argparse.ArgumentError(action, str(error))))


# ---- what an argument's text means, or what would be right ----


def _widths(text: str) -> list[int | None]:
    """Widths; None at either end is the data's own."""
    parts = text.split("-")
    inner = parts[(parts[0] == "x") : len(parts) - (parts[-1] == "y")]
    if len(parts) < 2 or not all(part.isascii() and part.isdecimal() and int(part) > 0 for part in inner):
        raise argparse.ArgumentTypeError(
            f"{text!r} must be two or more widths of at least 1, joined by '-', such as 64-128-10, or x-128-y for the data's own ends"
        )
    return [int(part) if part.isdecimal() else None for part in parts]


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _formula(kind: str) -> Callable[[str], Any]:
    """A parser of `name` and `name(key=value,...)` for the class of that name."""

    def parse(text: str) -> Any:
        from . import graph, specs

        spec = graph.Activation if kind == "Activation" else getattr(specs, kind)
        try:
            return spec.parse(text)
        except (TypeError, ValueError) as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


def _schedule(text: str) -> Any:
    from . import schedules

    try:
        return text if text in ("constant", "cosine") else schedules.parse(text)
    except (TypeError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _number(text: str, kind: type[Any], holds: Callable[[Any], bool], right: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not holds(value):
        raise argparse.ArgumentTypeError(f"{text!r} must be {right}")
    return value


def _count(text: str) -> int:
    return int(_number(text, int, lambda value: 1 <= value < 2**31, "a whole number of at least 1"))


def _seed(text: str) -> int:
    return int(_number(text, int, lambda value: 0 <= value < 2**64, "a whole number of at least 0 and below 2**64"))


def _rate_or_auto(text: str) -> float | str:
    if text == "auto":
        return text
    return float(_number(text, float, lambda value: 0 < value < float("inf"), "a positive number, such as 0.001, or auto"))


def _rate_or_none(text: str) -> float:
    return float(_number(text, float, lambda value: 0 <= value < float("inf"), "a number of at least 0, such as 0.001"))


def _share(text: str) -> float:
    return float(_number(text, float, lambda value: 0 <= value < 1, "a number of at least 0 and below 1, such as 0.2"))


def _fraction(text: str) -> float:
    return float(_number(text, float, lambda value: 0 < value < 1, "a fraction between 0 and 1, such as 0.2"))
