"""The reference of the command line, from the table of its commands and options."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from microbp.cli.options import COMMANDS

from .text import directive, fence, inline


def pages() -> Iterator[tuple[str, str]]:
    """(file, Markdown) of the page."""
    parts = ["# The command line", "`microbp COMMAND --help` prints the same texts. Options may be in a TOML file: see `--config`."]
    for name, command in COMMANDS.items():
        parts += [f"## microbp {name}", inline(command.description), _usage(name, command), f"```{{program}} microbp {name}\n```"]
        groups = dict.fromkeys(option.metadata["group"] for option in fields(command.options))
        for group in sorted(groups, key="general".__eq__):
            parts.append(f"### {group.capitalize()} of {name}")
            parts += [_option(option) for option in fields(command.options) if option.metadata["group"] == group]
    yield "command-line", "\n\n".join(parts) + "\n"


def _usage(name: str, command: Any) -> str:
    operands = [option.metadata["argparse"]["metavar"] for option in fields(command.options) if not option.metadata["is_option"]]
    return fence("text", "\n".join([" ".join(["microbp", name, *operands, "[options]"]), "", *command.examples]))


def _option(option: Any) -> str:
    settings = option.metadata["argparse"]
    text = settings["help"].replace("%(default)s", str(settings.get("default")))
    if not option.metadata["is_option"]:
        return directive("option", settings["metavar"], inline(text))
    flag = "--" + option.name.replace("_", "-")
    return directive("option", f"{flag} {settings['metavar']}" if "metavar" in settings else flag, inline(text))
