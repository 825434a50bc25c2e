"""The reference of Python: a page for each theme, from the docstrings."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from types import ModuleType
from typing import Any

import microbp as bp

from .text import directive, inline, markdown


@dataclass(frozen=True)
class Theme:
    """A page: its file, title, and the modules whose public names it explains."""

    file: str
    title: str
    modules: tuple[str, ...]


# The first page that has a name's module, or a folder of it, is the page of the name.
THEMES = (
    Theme("networks", "Networks and their nodes", ("network.mlp", "network.network", "network.nodes", "network.states")),
    Theme("layers", "Layers", ("network", "core.specs")),
    Theme("optimizers", "Optimizers", ("settings.optimizers", "settings.solvers", "training.flat")),
    Theme("schedules", "Schedules of the learning rate", ("settings.schedules", "settings.curves", "settings.plateau")),
    Theme("metrics", "Metrics", ("settings.class_metrics", "settings.number_metrics", "settings.metrics")),
    Theme("training", "Training", ("training", "settings")),
    Theme("seeing", "See it learn", ("explaining", "diagnosis", "reports")),
    Theme("several", "Several networks", ("many",)),
    Theme("tables", "Tables", ("tables",)),
    Theme("streams", "Streams and hashes", ("online", "data")),
    Theme("exchange", "Other formats, C and int8", ("exchange", "core")),
)  # fmt: skip
_AFTER = {"Loss": "training", "Activation": "layers"}  # whose theme is not that of their module
# Public modules: their page, title, and names.
MODULES = {
    "plot": ("plots", "Plots", lambda: [name for name in bp.plot.__all__ if callable(getattr(bp.plot, name))]),
    "sklearn": ("sklearn", "Estimators for scikit-learn", lambda: list(bp.sklearn.__all__)),
    "threads": ("threads", "Threads", lambda: ["register"]),
}


def theme_of(name: str) -> Theme:
    """The page of a public name."""
    module = getattr(bp, name).__module__.removeprefix("microbp.")
    for theme in THEMES:
        if _AFTER.get(name, theme.file) == theme.file and any(
            f"{module}.".startswith(f"{own}.") or name in _AFTER for own in theme.modules
        ):
            return theme
    raise LookupError(f"no page of the reference has bp.{name} of {module}; add the module to THEMES in docs/manual/python_pages.py")


def pages() -> Iterator[tuple[str, str]]:
    """(file, Markdown) of each page."""
    names: dict[Theme, list[str]] = {theme: [] for theme in THEMES}
    for name in sorted(bp.__all__, key=lambda name: (not name[0].islower(), name.lower())):
        names[theme_of(name)].append(name)
    for theme, own in names.items():
        if own:
            yield theme.file, _page(theme.title, "", {f"bp.{name}": getattr(bp, name) for name in own})
    for module, (file, title, listed) in MODULES.items():
        home = getattr(bp, module)
        yield file, _page(title, markdown(inspect.getdoc(home) or ""), {f"bp.{module}.{name}": getattr(home, name) for name in listed()})


def _page(title: str, text: str, objects: dict[str, Any]) -> str:
    rows = [f"| `{name}` | {inline(_first_sentence(value))} |" for name, value in objects.items()]
    index = "| name | what |\n|---|---|\n" + "\n".join(rows)
    return "\n\n".join([f"# {title}", text, index, *(_entry(name, value) for name, value in objects.items())]) + "\n"


def _first_sentence(value: object) -> str:
    text = re.split(r"\n\n|\n(?=    |- |\w+: |>>> )", inspect.getdoc(value) or "")[0].replace("\n", " ")
    return re.split(r"(?<=[^.][.:]) (?=[A-Z`(])", text)[0].rstrip(":")


def _entry(name: str, value: Any) -> str:
    if isinstance(value, ModuleType):
        raise TypeError(f"{name} is a module")
    if not isinstance(value, type):
        return directive("py:function", name + _signature(value), _body(value, set(_parameters(value))))
    own = dict(members(value))
    known = {*_parameters(value), *own, *((field.name for field in fields(value)) if is_dataclass(value) else ()), *_annotations(value)}
    inside = [_member(value, member, found) for member, found in own.items()]
    return directive("py:class", name + _signature(value), "\n\n".join([_body(value, known), *inside]))


def members(cls: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties of a class that microbp defines, without those of other public classes: names and objects."""
    for name, value in inspect.getmembers_static(cls):
        home = next((base for base in cls.__mro__ if name in vars(base)), object)
        made = getattr(value, "__module__", None) or home.__module__  # scikit-learn adds methods such as set_fit_request
        is_ours = {home.__module__.partition(".")[0], made.partition(".")[0]} == {"microbp"}
        is_here = home is cls or getattr(bp, home.__name__, None) is not home
        is_one = inspect.isroutine(value) or isinstance(value, property | functools.cached_property)
        if is_ours and is_here and is_one and not name.startswith("_"):
            yield name, value


def _member(cls: type, name: str, value: Any) -> str:
    if isinstance(value, property | functools.cached_property):
        return directive("py:property", name, _body(value))
    method = getattr(cls, name)
    options = ":classmethod:\n" if isinstance(value, classmethod) else ":staticmethod:\n" if isinstance(value, staticmethod) else ""
    return directive("py:method", name + _signature(method), markdown(inspect.getdoc(method) or "", set(_parameters(method))), options)


def _body(value: Any, arguments: set[str] = frozenset()) -> str:
    return markdown(inspect.getdoc(value) or "", arguments)


def _annotations(cls: type) -> Iterator[str]:
    for base in cls.__mro__:
        yield from vars(base).get("__annotations__", {})


def _parameters(function: Any) -> list[str]:
    try:
        return list(inspect.signature(function).parameters)
    except (ValueError, TypeError):
        return []


def _signature(function: Any) -> str:
    """The parameters with their defaults; types and shapes are in the text."""
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return "()"
    plain = [each.replace(annotation=each.empty) for each in signature.parameters.values() if each.name != "self"]
    return re.sub(
        r"<(?:class|function|factory)[^>]*>|<[^>]*>", "...", str(signature.replace(parameters=plain, return_annotation=signature.empty))
    )
