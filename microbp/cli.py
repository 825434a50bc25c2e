"""The command line: what may be asked. Each command imports what it needs only when it runs, so that --help answers at once."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0, 1 for a failure, 130 when interrupted; a wrong argument exits with 2."""
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except argparse.ArgumentTypeError as error:
        arguments.parser.error(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except (ImportError, OSError, MemoryError, FloatingPointError, ValueError) as error:
        return _fail(str(error), 1)
    return 0


def _fail(text: str, code: int) -> int:
    print(f"microbp: error: {text}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="microbp", description="Small and medium dense neural networks, trained in C.")
    commands = parser.add_subparsers(metavar="command", required=True)
    _add_train(commands)
    _add_info(commands)
    return parser


def _add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="train a network",
        description="Trains a network and reports its loss and accuracy on rows that it has not seen.",
        epilog="A formula's parameters go in parentheses: leaky_relu(slope=0.2), adam(lr=0.001,weight_decay=0.0001).",
    )
    train.set_defaults(run=_train, parser=train)
    add = train.add_argument
    add("task", choices=["digits"], help="digits: 1797 handwritten digits of 8x8 pixels, from scikit-learn")
    add("--net", type=_widths, default="64-128-10", help="widths of inputs, hidden layers and outputs (default: %(default)s)")
    add("--activation", type=_formula("Activation"), default="relu", help="of the hidden layers, such as tanh (default: %(default)s)")
    add("--loss", type=_formula("Loss"), default="cross_entropy", help="such as bce or mse (default: %(default)s)")
    add("--optimizer", type=_formula("OptimizerSpec"), default="adam(lr=0.003)", help="such as sgd_momentum (default: %(default)s)")
    add("--lr", type=_rate, help="learning rate (default: the optimizer's)")
    add("--epochs", type=_count, default=100, help="passes over the training rows (default: %(default)s)")
    add("--batch", type=_count, default=32, help="rows per step (default: %(default)s)")
    add("--test", type=_fraction, default=0.2, help="fraction of the rows held out for the test (default: %(default)s)")
    add("--seed", type=_seed, default=0, help="of split, initial weights and shuffling (default: %(default)s)")
    add("--out", type=Path, metavar="FILE", help="save the network as safetensors")
    add("--plot", type=Path, metavar="FILE", help="draw the curves of loss and accuracy: .png, .svg or .pdf")
    add("--json", action="store_true", help="print the report as one JSON object")


def _add_info(commands: Any) -> None:
    info = commands.add_parser("info", help="show a saved network", description="Shows the nodes and parameters of a saved network.")
    info.set_defaults(run=_info, parser=info)
    info.add_argument("file", type=Path, help="what --out or net.save wrote")


def _train(arguments: argparse.Namespace) -> None:
    from . import train_command

    train_command.run(arguments)


def _info(arguments: argparse.Namespace) -> None:
    from .network import load

    print(load(arguments.file))


# ---- what an argument's text means, or what would be right ----


def _widths(text: str) -> list[int]:
    parts = text.split("-")
    if len(parts) < 2 or not all(part.isascii() and part.isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} must be two or more widths of at least 1, joined by '-', such as 64-128-10")
    return [int(part) for part in parts]


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


def _rate(text: str) -> float:
    return float(_number(text, float, lambda value: 0 < value < float("inf"), "a positive number, such as 0.001"))


def _fraction(text: str) -> float:
    return float(_number(text, float, lambda value: 0 < value < 1, "a fraction between 0 and 1, such as 0.2"))
