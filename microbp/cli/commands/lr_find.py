"""`microbp lr-find`: searches for a learning rate with a range test on the training rows."""

from __future__ import annotations

import json
from dataclasses import fields

from ...core.text import printable
from ...tables.fitted import runs
from .. import files, parser
from ..options import LrFindOptions, NetOptions
from .resume import settings

_MEANINGS = {
    "suggestion": "the same as valley",
    "valley": "about halfway along the longest decrease of the loss",
    "steep": "where the loss falls most steeply",
    "minimum": "a tenth of the rate with the lowest loss",
}


def run(options: LrFindOptions) -> None:
    """Prints the suggested rates, and saves the plot."""
    read = [options.data, options.test_file, options.config]
    files.check_writable(options.force, read, {"plot": options.plot})
    plot = files.plot_module(options.plot)
    chosen = settings(options)
    data, _ = runs.gathered(runs.split_of(options.data, chosen), chosen)
    result = runs.find_rate(data, runs.choose(data, chosen), chosen)
    rates = {name: getattr(result, name) for name in _MEANINGS}
    if plot and options.plot:
        files.write_whole(options.plot, plot.lr_find(result).figure.savefig)
    if options.json:
        print(json.dumps(rates))
    else:
        for name, meaning in _MEANINGS.items():
            print(f"{name:12}{rates[name]:<10.3g}{meaning}")
        same = parser.command_line("train", options, [field.name for field in fields(NetOptions)])
        print(f"to use it: {printable(same)} --lr {rates['suggestion']:.3g}")
