"""`microbp evaluate`: the metrics of a saved network for rows whose target is known."""

from __future__ import annotations

import json

from ...tables.fitted import report
from .. import files
from ..options import EvaluateOptions


def run(options: EvaluateOptions) -> None:
    """Prints the metrics."""
    model, data = files.model_and_data(options)
    metrics = model.evaluate(data, stream=options.stream, no_header=options.no_header, strict=options.strict)
    print(json.dumps(metrics) if options.json else report.metrics(metrics))
