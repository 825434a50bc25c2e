"""Settings as text: numbers, and names with settings in parentheses, as in graph text, in files and on the command line. And parts of
errors: the name nearest to a misspelled one, and short texts of values."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

# Names in other libraries -> our names for the same thing or the most similar one.
_SYNONYMS = {
    "swish": "silu", "logistic": "sigmoid", "none": "identity", "xavier": "glorot_uniform", "xavier_uniform": "glorot_uniform",
    "xavier_normal": "glorot_normal", "kaiming_uniform": "he_uniform", "kaiming_normal": "he_normal", "l1": "mae", "l2": "mse",
    "l1_loss": "mae", "mse_loss": "mse", "nll": "cross_entropy", "nll_loss": "cross_entropy", "log_loss": "cross_entropy",
    "categorical_crossentropy": "cross_entropy", "sparse_categorical_crossentropy": "cross_entropy", "binary_crossentropy": "bce",
    "bceloss": "bce", "smooth_l1_loss": "smooth_l1", "smoothl1loss": "smooth_l1", "kldivloss": "kl", "kl_div": "kl",
    "kl_divergence": "kl", "gaussiannllloss": "gaussian_nll", "logcosh": "log_cosh", "pinball": "quantile", "acc": "accuracy",
    "sequential": "mlp", "model": "network", "linear": "identity dense",
}  # fmt: skip


def number(value: float) -> str:
    """A number as the backends read it: decimal if 15 digits represent it exactly and it is 0 or 1e-8 <= |value| < 1e22,
    else hexadecimal."""
    is_short = float(f"{value:.15g}") == value and (value == 0 or 1e-8 <= abs(value) < 1e22)
    return repr(value) if is_short else value.hex()


def read_number(text: str) -> float:
    """Reads what `number` wrote."""
    try:
        return float.fromhex(text) if "x" in text.lower() else float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    except OverflowError:
        return -math.inf if text.lstrip().startswith("-") else math.inf


def readable(text: str) -> str:
    """The text with the hexadecimal numbers that `number` wrote as decimals, for people."""
    return re.sub(r"-?0x[0-9a-f.]+p[-+]?\d+", lambda match: repr(float.fromhex(match[0])), text)


def numbers(value: float | tuple[float, ...]) -> str:
    """A number, True as 1, or a list of numbers: [0.05 0.5]."""
    if value is True:
        return "1"
    return f"[{' '.join(map(number, value))}]" if isinstance(value, tuple) else number(value)


def read_numbers(inside: str) -> list[float]:
    """Reads what `numbers` wrote between brackets; commas are allowed too."""
    return [read_number(word) for word in inside.replace(",", " ").split()]


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """[the most likely name], or [] if none is similar. Ignores case. Prefers our name for a name in another library, then the shortest of
    the names that start with `name`, then a name with the same letters in another order, then the most similar one."""
    import difflib  # only errors need it, and importing it takes 2 ms

    folded, word = {known.lower(): known for known in names}, name.lower()
    near = [known for known in _SYNONYMS.get(word, "").split() if known in folded]
    near += sorted((known for known in folded if word and known.startswith(word)), key=len)
    near += sorted(difflib.get_close_matches(word, folded), key=lambda known: sorted(known) != sorted(word))
    return [folded[known] for known in near[:1]]


def call(name: str, settings: Mapping[str, str]) -> str:
    """`name(key=value,...)`, without parentheses if there are no settings."""
    inside = ",".join(f"{key}={value}" for key, value in settings.items())
    return f"{name}({inside})" if inside else name


def read_call(text: str) -> tuple[str, dict[str, str]]:
    """Reads what `call` wrote: the name and its settings. Any other text is a name without settings; ValueError if it has an unclosed
    parenthesis."""
    match = re.fullmatch(r"\s*(\w+)\s*(?:\((.*)\))?\s*", text)
    if not match and "(" in text and not text.rstrip().endswith(")"):
        raise ValueError(f"{text!r} must end with ')'")
    if not match:
        return text, {}
    settings: dict[str, str] = {}
    for key, value in map(_setting, _parts(match[2] or "")):
        if key in settings:
            raise ValueError(f"{text!r}: {key} is given twice")
        settings[key] = value
    return match[1], settings


def _setting(part: str) -> tuple[str, str]:
    key, sign, value = (piece.strip() for piece in part.partition("="))
    if not sign:
        raise ValueError(f"settings must be written name=value, not {part!r}")
    return key, value


def _parts(inside: str) -> list[str]:
    """The parts between commas outside of parentheses and brackets."""
    parts, depth = [""], 0
    for letter in inside:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part.strip()]


def brief(value: object) -> str:
    """A value in an error: an array by its shape; a class of microbp with the advice to call it; anything else by the start of its repr."""
    kind, shape = type(value).__name__, getattr(value, "shape", ())
    if isinstance(value, type):
        return f"the class {value.__name__}" + f" (add parentheses: bp.{value.__name__}(...))" * value.__module__.startswith("microbp.")
    if isinstance(shape, tuple) and shape:
        return f"{'an array' if kind == 'ndarray' else f'a {kind}'} of shape {shape}"
    try:
        text = repr(value).replace("\n", " ")
    except ValueError:  # Python does not write integers of more than 4300 digits
        text = f"{kind} of {int(value).bit_length()} bits" if isinstance(value, int) else f"a {kind}"
    return text if len(text) <= 200 else f"{text[:200]}..."


def printable(text: str) -> str:
    """The text with the characters escaped, as repr does, that a terminal would obey or that could hide others; also line ends."""
    return text if text.isprintable() else "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def counted(count: int, noun: str) -> str:
    """A count with its noun: 1 row, 2 rows, 3 classes."""
    plural = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count} {noun}{plural}"
