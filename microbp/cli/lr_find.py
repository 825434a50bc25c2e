"""`microbp lr-find`: looks for a learning rate by a range test on the rows to train on."""

from __future__ import annotations

import json

from ..tables import model
from . import files
from .options import LrFindOptions
from .runs import build, chosen, gathered


def run(options: LrFindOptions) -> None:
    """Prints the rates that the test suggests, and draws it."""
    read = [options.data, options.test_file, options.config]
    files.check_writable(options.force, read, {"plot": options.plot})
    plot = files.plot_module(options.plot)
    data = gathered(options)
    choices = chosen(options, data)
    trainer = build(options, data, choices, None if isinstance(options.lr, str) else options.lr)
    result = model.find_rate(trainer, data, choices.batch)
    rates = {name: getattr(result, name) for name in ("suggestion", "valley", "steep", "minimum")}
    if plot and options.plot:
        files.write_whole(options.plot, plot.lr_find(result).figure.savefig)
    if options.json:
        print(json.dumps(rates))
    else:
        print("\n".join([*(f"{name:10} {rate:.3g}" for name, rate in rates.items()), f"train by it: --lr {rates['suggestion']:.3g}"]))
