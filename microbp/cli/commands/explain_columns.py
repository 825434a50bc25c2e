"""`microbp explain-columns`: the importance of each column by permutation."""

from __future__ import annotations

import json

from .. import files
from ..options import ExplainColumnsOptions


def run(options: ExplainColumnsOptions) -> None:
    """Prints how much the loss grows when a column is shuffled, and saves the plot."""
    files.check_writable(options.force, [options.model, options.data], {"plot": options.plot})
    plot = files.plot_module(options.plot)
    model, data = files.model_and_data(options)
    found = model.importance(data, repeats=options.repeats, seed=options.seed, no_header=options.no_header, strict=options.strict)
    mean, std = found.importances_mean.tolist(), found.importances_std.tolist()
    if plot and options.plot:
        axes = plot.importance([found.columns[i] for i in found.order], [mean[i] for i in found.order])
        files.write_whole(options.plot, axes.figure.savefig)
    if options.json:
        columns = {found.columns[i]: {"mean": mean[i], "std": std[i]} for i in found.order}
        print(json.dumps({"loss": found.loss, "baseline": found.baseline, "columns": columns}))
    else:
        print(found)
