"""From the words of a command line, and the file of --config, to the options of a command. Only this file knows argparse."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, NoReturn

from ..tables.errors import Argument, ArgumentError
from .options import COMMANDS, EXIT_CODES, Kind


def parse(argv: Sequence[str] | None = None) -> tuple[str, Any]:
    """The name of the command, and its options; a wrong argument exits with 2."""
    said = _parser({}).parse_args(argv)
    options = COMMANDS[said.command].options
    if getattr(said, "config", None):
        try:
            configured = _read_config(options, said.config)
        except ArgumentError as error:
            refuse(said.command, error)
        said = _parser(configured).parse_args(argv)
    return said.command, options(**{option.name: getattr(said, option.name) for option in fields(options)})


def refuse(command: str, error: ArgumentError) -> NoReturn:
    """Exits with 2, and says in a line which argument is wrong."""
    _Parser(prog=f"microbp {command}").error(f"argument {error.text(spell)}")


def spell(argument: Argument) -> str:
    """How the command line writes an argument."""
    if argument.name == "data":
        return "DATA"
    option = f"--{argument.name.replace('_', '-')}"
    return option if argument.value is None else f"{option} {argument.value}"


class _Parser(argparse.ArgumentParser):
    """Its errors have one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}; see {self.prog} --help\n")


def _parser(defaults: Mapping[str, Any]) -> _Parser:
    """The parser of all commands; defaults: instead of those that the options have."""
    parser = _Parser(prog="microbp", description="Small and medium dense neural networks, trained in C.", epilog=EXIT_CODES)
    commands = parser.add_subparsers(metavar="command", dest="command", required=True)
    for name, command in COMMANDS.items():
        of_command = commands.add_parser(name, help=command.help, description=command.description, epilog=command.epilog)
        for option in fields(command.options):
            flag = spell(Argument(option.name)) if option.metadata["is_option"] else option.name
            settings, kind = dict(option.metadata["argparse"]), option.metadata["kind"]
            if kind:
                settings["type"] = _shown(kind)
            of_command.add_argument(flag, **settings)
        of_command.set_defaults(**defaults)
    return parser


def _shown(kind: Kind) -> Kind:
    """A kind whose errors argparse shows as they are."""

    def parse(text: str) -> Any:
        try:
            return kind(text)
        except (TypeError, ValueError) as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


# ---- options from a file ----


def read(options: type[Any], said: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """The values of options that a file gives by their names, checked as those of the command line; ArgumentError if one is wrong."""
    known = {option.name: option for option in fields(options)}
    return {name: _value(known[name], value, where) for name, value in said.items()}


def _value(option: Field[Any], value: Any, where: Path) -> Any:
    kind = option.metadata["kind"]
    if isinstance(value, bool) == (kind is not None) or isinstance(value, dict):
        right = "true or false" if kind is None else "a text or a number"
        raise ArgumentError(option.name, f"{where}: it must be {right}, not {value!r}")
    if kind is None:
        return value
    try:
        return kind(",".join(map(str, value)) if isinstance(value, list) else str(value))
    except (TypeError, ValueError) as error:
        raise ArgumentError(option.name, f"{where}: {error}") from None


def _read_config(options: type[Any], path: Path) -> dict[str, Any]:
    import tomllib

    from ..core.specs import unknown

    names = {option.name.replace("_", "-"): option.name for option in fields(options) if option.metadata["is_option"]}
    del names["config"]
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArgumentError("config", f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ArgumentError("config", f"{path}: {error}") from None
    said = {key.replace("_", "-"): value for key, value in said.items()}
    for key in said:
        if key not in names:
            raise ArgumentError("config", f"{path}: {unknown('option', key, names)}")
    return read(options, {names[key]: value for key, value in said.items()}, path)
