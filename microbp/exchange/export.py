"""`bp.export`: writes a model as a file that needs no microbp."""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from ..core.checks import file_path, flag, string
from ..core.text import brief
from ..core.whole_file import replacing
from ..many.ensemble import Ensemble
from ..network.network import Network
from ..settings import optimizers
from ..settings.optimizers import Optimizer
from ..tables.fitted.table_model import TableModel
from ..tables.preparation import Preparation
from .quantize import QuantizedNetwork
from .shared.together import together

FORMATS = (".onnx", ".c", ".h")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")


def export(
    model: Network | Ensemble | TableModel | QuantizedNetwork,
    path: str | os.PathLike[str],
    *,
    raw: bool = False,
    fold: bool = False,
    train: bool | str | Optimizer = False,
    name: str = "model",
) -> None:
    """Writes a model as ONNX (.onnx) or as C (.c, or .h with static functions), by the ending of `path`.

    The file predicts what `model.predict` does: output activations and the unit of targets included. Dropout and noise, which predictions
    do not have, are left out. A model of a table takes the columns as they are in the table, `model.net` the features of the network.

    model: a network; an ensemble, whose mean is written; a model of a table; for C also a quantized network.
    raw: if True, the outputs before output activations.
    fold: for ONNX, whether batch norms become part of the weights (bp.fold). C files always have them folded.
    train: for C, whether the file can train too: True for "sgd", or an optimizer: bp.SGD, bp.Momentum, bp.Adam, bp.AdamW, or a text such as
        "adam(lr=0.001)".
    name: of the graph in ONNX; in C the functions are name_predict, name_check, ...

    ValueError: the format does not have what the model needs (the text names the node), another ending. TypeError: another model. OSError:
    the file cannot be written; an existing file stays as it was.

    >>> net = bp.mlp([4, 8, 3], seed=0)
    >>> net.set_output(0, "softmax")
    >>> bp.export(net, "model.onnx")
    >>> bp.export(net, "model.c")
    """
    where = Path(os.fsdecode(file_path(path)))
    suffix = where.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"export: the file name must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, not {brief(str(path))}")
    flag("export: raw", raw)
    if not _NAME.fullmatch(string("export: name", name)):
        raise ValueError(f"export: name must be a letter, then at most 62 letters, digits and _, not {brief(name)}")
    if suffix == ".onnx":
        data = _onnx(model, raw, flag("export: fold", fold), train, name)
    else:
        if fold:
            raise ValueError("export: fold is for .onnx; C files have batch norms folded anyway: leave it out")
        data = _c(model, raw, train, name, suffix == ".h").encode()
    with replacing(where) as temporary:
        temporary.write_bytes(data)


def _onnx(model: Any, raw: bool, fold: bool, train: Any, name: str) -> bytes:
    if train is not False:
        raise ValueError("export: train is for .c and .h; an ONNX file only predicts")
    if isinstance(model, QuantizedNetwork):
        raise ValueError("export: a quantized network is written as .c or .h; for ONNX, export the network that it was made of")
    net, weights, preparation = _parts(model)
    data: bytes = _room("onnx.write").onnx_bytes(net, preparation, weights, raw=raw, fold=fold, name=name)
    return data


def _c(model: Any, raw: bool, train: Any, name: str, header: bool) -> str:
    optimizer = _optimizer(train)
    if isinstance(model, QuantizedNetwork):
        if optimizer:
            raise ValueError("export: a quantized network cannot be trained; export the network that it was made of")
        text: str = _room("c.int8").int8_source(model, raw=raw, name=name, header=header)
        return text
    net, weights, preparation = _parts(model)
    text = _room("c.source").c_source(net, preparation, weights, raw=raw, train=optimizer, name=name, header=header)
    return text


def _optimizer(train: Any) -> str | None:
    """The text of the optimizer; None: the file does not train."""
    if isinstance(train, bool):
        return "sgd" if train else None
    return optimizers.parse(train).text if isinstance(train, Optimizer) else string("export: train", train)


def _parts(model: Any) -> tuple[Network, list[float] | None, Preparation | None]:
    """The network, the weights of the members whose outputs it has, and how a table becomes its inputs."""
    preparation = None
    if isinstance(model, TableModel):
        model, preparation = model.net, model.preparation
    if not isinstance(model, Network | Ensemble):
        advice = "; pass its net" if hasattr(model, "net") else ""
        raise TypeError(f"export: model must be a bp.Network, a bp.Ensemble or a bp.TableModel, not {type(model).__name__}{advice}")
    return (*together(model), preparation)


def _room(module: str) -> Any:
    """The writer of a format, imported when it is used."""
    return import_module(f".{module}", __package__)
