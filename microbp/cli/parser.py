"""Parses the command line and the --config file into the options of a command. Only this file uses argparse."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, NoReturn

from ..core.text import printable
from ..tables.fitted import arguments
from ..tables.fitted.arguments import Kind
from ..tables.readers.errors import Argument, ArgumentError
from . import build_flags
from .options import COMMANDS, Command, names

_WIDTH = 100  # the maximum width of help
_EXAMPLES = "examples:\n  microbp train adult.csv --target income\n  microbp predict adult.safetensors new.csv"
_EXIT_CODES = "exit codes:\n  0 success, 1 failure, 2 wrong usage, 130 interrupted"


def parse(argv: Sequence[str] | None = None) -> tuple[str, Any]:
    """Returns the name of the command and its options. Exits with code 2 for a wrong argument."""
    parser, words = _parser({}), sys.argv[1:] if argv is None else argv
    if words and not words[0].startswith("-") and words[0] not in COMMANDS:
        parser.error(_unknown_command(words[0]))
    parsed, unused = parser.parse_known_args(argv)
    if parsed.build_flags:
        print(build_flags.line(parsed.build_flags))
        parser.exit()
    if parsed.command is None:
        parser.print_help()
        parser.exit()
    options = COMMANDS[parsed.command].options
    if unused:
        _Parser(prog=f"microbp {parsed.command}").error(_unused(unused[0], options))
    if getattr(parsed, "config", None):
        try:
            configured = _read_config(options, parsed.config)
        except ArgumentError as error:
            refuse(parsed.command, error)
        parsed = _parser(configured).parse_args(argv)
    return parsed.command, options(**{option.name: getattr(parsed, option.name) for option in fields(options)})


def _unknown_command(name: str) -> str:
    text = _unknown("command", name, COMMANDS)
    return f"{text}; to train on a table: microbp train {shlex.quote(name)}" if Path(name).is_file() else text


def _unknown(what: str, name: str, valid: Iterable[str]) -> str:
    from ..core.specs import unknown

    return str(unknown(what, name, valid))


def _unused(argument: str, options: type[Any]) -> str:
    """The error for an argument that the command does not have."""
    if not argument.startswith("-"):
        return f"unexpected argument {argument!r}"
    flags = [spell(Argument(option.name)) for option in fields(options) if option.metadata["is_option"]]
    return _unknown("option", argument.partition("=")[0], [*flags, "--help"])


def refuse(command: str, error: ArgumentError, options: Any = None) -> NoReturn:
    """Prints one line that names the wrong argument, and the file of --config if the value is from that file. Exits with code 2.

    options: the parsed options; None if they could not be parsed.
    """
    name, *parts = error.args
    config = getattr(options, "config", None)
    configured = _read_config(type(options), config) if config else {}
    if name in configured and configured[name] == getattr(options, name):
        error = ArgumentError(name, f"{config}: ", *parts)
    _Parser(prog=f"microbp {command}").error(f"argument {error.text(spell)}")


_OPERANDS = {"table": "DATA", "output": "OUT"}  # positional arguments


def spell(argument: Argument) -> str:
    """An argument as written on the command line."""
    if argument.name in _OPERANDS:
        return _OPERANDS[argument.name]
    option = f"--{argument.name.replace('_', '-')}"
    return option if argument.value is None else f"{option} {shlex.quote(str(argument.value))}"


def command_line(command: str, options: Any, names: Sequence[str]) -> str:
    """The command line to type in a shell: command, data, and those options in `names` whose values are not the defaults."""
    _, plain = parse([command, "--", options.data])
    words = ["microbp", command, options.data]
    for name in names:
        value = getattr(options, name)
        if value != getattr(plain, name):
            words += [spell(Argument(name))] if value is True else [spell(Argument(name)), typed(value)]
    return shlex.join(words)


def typed(value: Any) -> str:
    """The value of an option as text for the command line."""
    if not isinstance(value, tuple):
        return str(getattr(value, "text", value))
    if isinstance(value[0], str):
        return ",".join(value)
    return "-".join(str(width or "xy"[i > 0]) for i, width in enumerate(value))


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line. `ending` returns the last part of the help; it is called only to print the help."""

    def __init__(self, ending: Callable[[], str] = lambda: "", **settings: Any) -> None:
        super().__init__(formatter_class=_formatter, add_help=False, **settings)
        self._ending = ending

    def error(self, message: str) -> NoReturn:
        self.exit(2, printable(f"{self.prog}: error: {message}; see {self.prog} --help") + "\n")

    def format_help(self) -> str:
        self.epilog = self._ending()
        return super().format_help()


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=26, width=_columns())


def _columns() -> int:
    return min(_WIDTH, shutil.get_terminal_size().columns) - 2


class _Joined(argparse.Action):
    """Joins the values of an option that is given several times."""

    def __call__(self, parser: object, namespace: argparse.Namespace, values: Any, *_: object) -> None:
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, values if before is self.default else (*before, *values))


class _Version(argparse.Action):
    """Prints the version and exits."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        from importlib.metadata import version  # takes 20 ms to import

        print(f"microbp {version('microbp')}")
        parser.exit()


def _parser(defaults: Mapping[str, Any]) -> _Parser:
    """The parser for all commands. defaults: values that replace the options' defaults, by name."""
    parser = _Parser(
        lambda: "\n\n".join(["details:\n  microbp COMMAND --help", _EXAMPLES, _EXIT_CODES]),
        prog="microbp",
        usage="%(prog)s COMMAND ...",
        description="Trains small and medium dense neural networks on tables, and predicts with them.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    general = parser.add_argument_group("options")
    general.add_argument("-h", "--help", action="help", help="show this help and exit")
    general.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    building = parser.add_argument_group("options to compile C programs, which print words for a compiler and exit")
    for option, help in build_flags.OPTIONS.items():
        building.add_argument(option, action="append_const", const=option, dest="build_flags", help=help)
    for name, command in COMMANDS.items():
        _add(commands.add_parser(name, help=command.help, **_texts(name, command)), command, defaults)
    return parser


def _texts(name: str, command: Command) -> dict[str, Any]:
    """The texts of the help before and after the options, as arguments of add_parser."""
    operands = [option.metadata["argparse"]["metavar"] for option in fields(command.options) if not option.metadata["is_option"]]
    has_options = len(operands) < len(fields(command.options))
    usage = " ".join([f"microbp {name}", *operands, *["[options]"] * has_options])
    return {
        "prog": f"microbp {name}",
        "usage": usage,
        "description": textwrap.fill(command.description, _columns()),
        "ending": lambda: _ending(command),
    }


def _ending(command: Command) -> str:
    parts = ["\n".join(["examples:", *(f"  {example}" for example in command.examples)]), _EXIT_CODES]
    return "\n\n".join([_names(command), *parts] if command.has_specs else parts)


def _names(command: Command) -> str:
    """The valid names for each SPEC option."""
    options = [option.name for option in fields(command.options)]
    lines = [_hanging(f"  {f'{kind}:':12}", ", ".join(valid)) for kind, valid in names().items() if kind in options]
    head = 'SPEC is a name, or a name with parameters, such as "leaky_relu(slope=0.2)":'
    return "\n".join([head, *lines, _hanging("  parameters: ", "see help(bp.Activation), help(bp.Loss), help(bp.Adam) in Python")])


def _hanging(head: str, text: str) -> str:
    """Wraps a text after `head`; the following lines are indented by the length of `head`."""
    return textwrap.fill(text, _columns(), initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False)


def _add(parser: argparse.ArgumentParser, command: Command, defaults: Mapping[str, Any]) -> None:
    """Adds the options of a command, in groups."""
    options = fields(command.options)
    titles = dict.fromkeys(option.metadata["group"] for option in options) | {"general": None}
    groups = {title: parser.add_argument_group(title) for title in sorted(titles, key="general".__eq__)}
    for option in options:
        flag = spell(Argument(option.name)) if option.metadata["is_option"] else option.name
        settings, kind = dict(option.metadata["argparse"]), option.metadata["kind"]
        if kind:
            settings["type"] = _with_plain_errors(kind)
        if kind is arguments.names:
            settings["action"] = _Joined
        groups[option.metadata["group"]].add_argument(flag, **settings)
    groups["general"].add_argument("-h", "--help", action="help", help="show this help and exit")
    parser.set_defaults(**defaults)


def _with_plain_errors(kind: Kind) -> Kind:
    """Wraps `kind` so that argparse shows its error text unchanged."""

    def parse(text: str) -> Any:
        try:
            return kind(text)
        except (TypeError, ValueError) as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


# ---- options from a file ----


def read(options: type[Any], values: Mapping[str, Any], where: Path) -> dict[str, Any]:
    """Option values from a file, checked like those of the command line; ArgumentError if one is invalid."""
    known = {option.name: option for option in fields(options)}
    return {name: _value(known[name], value, where) for name, value in values.items()}


def _value(option: Field[Any], value: Any, where: Path) -> Any:
    kind = option.metadata["kind"]
    if isinstance(value, bool) == (kind is not None) or isinstance(value, dict):
        valid = "true or false" if kind is None else "a string, a number or a list"
        raise ArgumentError(option.name, f"{where}: the value must be {valid}, not {value!r}")
    if kind is None:
        return value
    try:
        return kind(",".join(map(str, value)) if isinstance(value, list) else str(value))
    except (TypeError, ValueError) as error:
        raise ArgumentError(option.name, f"{where}: {error}") from None


def _read_config(options: type[Any], path: Path) -> dict[str, Any]:
    import tomllib

    from ..tables.readers.opening import opened

    valid = {option.name.replace("_", "-"): option.name for option in fields(options) if option.metadata["is_option"]}
    del valid["config"]
    try:
        with opened(path) as file:
            values = tomllib.loads(file.read().decode("utf-8"))
    except OSError as error:
        raise ArgumentError("config", f"{path}: {error.strerror}") from None
    except RecursionError:
        raise ArgumentError("config", f"{path}: its values are nested too deeply; they must be strings, numbers or lists") from None
    except ValueError as error:
        raise ArgumentError("config", f"{path}: {error}") from None
    values = {key.replace("_", "-"): value for key, value in values.items()}
    for key in values:
        if key not in valid:
            raise ArgumentError("config", f"{path}: {_unknown('option', key, valid)}")
    return read(options, {valid[key]: value for key, value in values.items()}, path)
