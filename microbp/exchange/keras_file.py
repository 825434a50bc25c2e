"""The description and the weights in files of Keras. A file may be damaged, or made to harm: every array's size is known before it is
read, and nothing of the file is run."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from ..data.arrays import Array

_LARGEST_TEXT = 2**26  # bytes of a model's description; those of real models have less than 1 MB
_LARGEST_FILE = 2**32  # bytes of the weights in a .keras file, which are read at once; Keras does not compress them
_INFLATED = 20  # how much smaller a .keras file with more than 64 MB of weights may be
_DEFLATED = 1100  # HDF5's compression makes numbers at most 1,032 times smaller
WAYS = ("forward_layer", "backward_layer")  # of a Bidirectional
Weights = Callable[[tuple[str, ...], tuple[str, ...]], list[Any]]  # a layer: its name after those of the models around it; their groups


def _text(data: bytes | str, size: int) -> Any:
    if size > _LARGEST_TEXT:
        raise ValueError(f"its description has {size} bytes, but must have at most {_LARGEST_TEXT}")
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("its description is nested too deeply") from None


def h5_file(h5py: Any, name: str) -> tuple[Any, Weights, str]:
    """The description of the model in an .h5 file, its weights, and the version of Keras."""
    file = h5py.File(name, "r")
    if "model_config" not in file.attrs:
        raise ValueError("it has weights, but no model: save it by model.save, not by save_weights")
    text = file.attrs["model_config"]
    groups = file["model_weights"]

    def weights(place: tuple[str, ...], _: Any) -> list[Any]:
        group = groups[place[0]]
        keys = sorted((key for key in group.attrs if key.startswith("weight_names")), key=lambda key: (len(key), key))  # long ones in parts
        names = [one.decode() if isinstance(one, bytes) else str(one) for key in keys for one in group.attrs[key]]
        return [_array(file, group, one) for one in names if all(_is_in(part, one.split("/")) for part in place[1:])]

    return _text(text, len(text)), weights, str(file.attrs.get("keras_version", "2"))


def _is_in(part: str, names: list[str]) -> bool:
    """Whether the path of a weight leads through a layer; "forward_layer" of a Bidirectional has the name forward_..."""
    return part in names or (part in WAYS and any(name.startswith(part.removesuffix("layer")) for name in names))


def keras_file(h5py: Any, name: str) -> tuple[Any, Weights, str]:
    """The same of a .keras file."""
    with zipfile.ZipFile(name) as archive:
        data, most = {}, min(_LARGEST_FILE, 2**26 + _INFLATED * os.path.getsize(name))
        for member, largest in (("metadata.json", 2**16), ("config.json", _LARGEST_TEXT), ("model.weights.h5", most)):
            if (size := archive.getinfo(member).file_size) > largest:
                raise ValueError(f"{member} has {size} bytes, but must have at most {largest}")
            data[member] = archive.read(member)
    file = h5py.File(io.BytesIO(data["model.weights.h5"]), "r")
    known: dict[str, dict[Any, Any]] = {}  # the layers in a group, by their names

    def named(group: Any) -> dict[Any, Any]:
        if group.name not in known:
            known[group.name] = {one["vars"].attrs.get("name"): one for one in group.values() if "vars" in one}
        return known[group.name]

    def weights(place: tuple[str, ...], groups: tuple[str, ...]) -> list[Any]:
        at = file
        for name, group in zip(place, groups, strict=True):
            layers = at.get("layers")  # newer versions of Keras 3 write the names of layers as well
            at = at[group] if layers is None else named(layers).get(name) or layers[group]
        found = at["cell" if "cell" in at else "."]["vars"]
        return [_array(file, found, str(i)) for i in range(len(found))]

    return _text(data["config.json"], len(data["config.json"])), weights, str(json.loads(data["metadata.json"])["keras_version"])


def _array(file: Any, group: Any, name: str) -> Any:
    """A function that reads an array, if it has a shape that its layer can have."""
    found = group[name]

    def read(*shape: int | None) -> Array:
        given = tuple(found.shape)
        if len(given) != len(shape) or any(need not in (None, have) for have, need in zip(given, shape, strict=True)):
            raise ValueError(f"its weight {name} has shape {given}, but needs {tuple('any' if n is None else n for n in shape)}")
        if found.file.filename != file.filename or found.external or found.is_virtual or found.dtype.kind != "f":
            raise ValueError(f"its weight {name} is not an array of numbers in this file")
        if found.nbytes > _DEFLATED * found.id.get_storage_size():
            raise ValueError(f"its weight {name} is not complete")
        return np.asarray(found[()])

    return read
