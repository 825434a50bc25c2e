"""`microbp export`: writes a saved network as ONNX or C."""

from __future__ import annotations

import math

from ...core.text import counted
from ...exchange import formats
from ...exchange.export import FORMATS, export
from ...many.ensemble import Ensemble
from ...many.loading import load
from ...network.network import Network
from ...tables.fitted.table_model import TableModel, of_net
from ...tables.preparation import Preparation
from ...tables.readers.errors import ArgumentError
from ..files import advising, check_writable
from ..options import ExportOptions


def run(options: ExportOptions) -> None:
    """Writes the file, and prints what it takes."""
    if options.output.suffix.lower() not in FORMATS:
        raise ArgumentError("output", f"the file name must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, not {str(options.output)!r}")
    check_writable(options.force, [options.model], {"output": options.output})
    model = formats.quantized(options.model) or _model(options)
    export(model, options.output, raw=options.raw, fold=options.fold, train=options.train or False, name=options.name)
    if isinstance(model, TableModel):
        takes = counted(len(model.columns), "column")
    else:
        shapes = [entry.row_shape for entry in model.inputs] if isinstance(model, Network | Ensemble) else [model.input_shape]
        takes = counted(sum(map(math.prod, shapes)), "feature")
    print(f"wrote {options.output}: {options.output.stat().st_size:,} bytes; takes {takes}")


def _model(options: ExportOptions) -> Network | Ensemble | TableModel:
    """The network of the file; the model of a table, if it is of one and its columns are wanted."""
    net = formats.read(options.model)
    if net is None:
        with advising("give a file written by microbp, or one of ONNX or Keras"):
            net = load(options.model)
    if options.features or Preparation.of(net, options.model) is None:
        return net
    return of_net(net, str(options.model))
