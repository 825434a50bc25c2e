"""Numbers and arrays as C text."""

from __future__ import annotations

import numpy as np

from ...data.arrays import Array

_TYPES = {"f": "float", "d": "double", "i": "int32_t", "l": "int64_t", "b": "int8_t", "B": "uint8_t"}
_PER_LINE = 12


def literals(values: Array) -> list[str]:
    """The numbers of an array, each with the fewest digits that are read back as the same number."""
    flat = np.ascontiguousarray(values).ravel()
    if flat.dtype.kind != "f":
        return [str(value) for value in flat.tolist()]
    if not np.isfinite(flat).all():
        raise ValueError("C: a number is not finite")
    texts = [text.removesuffix(".0") for text in flat.astype(str).tolist()]
    if flat.dtype == np.float64:
        return texts
    return [f"{text}f" if "." in text or "e" in text else text for text in texts]


def literal(value: float) -> str:
    """A float32 as C text."""
    return literals(np.array([value], np.float32))[0]


def constant(name: str, values: Array) -> str:
    """The definition of an array of constants."""
    texts = literals(values)
    lines = [",".join(texts[i : i + _PER_LINE]) for i in range(0, len(texts), _PER_LINE)]
    rows = ",\n".join(lines)
    return f"static const {_TYPES[values.dtype.char]} {name}[{len(texts)}] = {{\n{rows}}};"


def quoted(text: str) -> str:
    """A C string: letters beyond ASCII as bytes of UTF-8."""
    escaped = "".join(
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}" for byte in text.encode("utf-8", "replace")
    )
    return f'"{escaped.replace("@", "@@")}"'


def how_many(shape: str) -> str:
    """How many numbers: "1 number", "28 x 28 numbers"."""
    return f"{shape} number{'s' * (shape != '1')}"


def comment(text: str) -> str:
    """Text that cannot end the comment that it is in."""
    text = text.replace("*/", "* /").replace("/*", "/ *").replace("@", "@@").replace("\n", " ")
    return text.encode("ascii", "backslashreplace").decode()
