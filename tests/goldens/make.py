"""Writes the files of this version, which every later version must load: python tests/goldens/make.py

They are in a folder with the version's name; expected.json has the expected predictions. The folder of a released version must not change.
Until the release, run this again when the format or a default changes, and check the difference.
"""

import json
import sys
from pathlib import Path

import numpy as np

import microbp as bp

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import graphs  # noqa: E402

ROWS = 3


def rows_for(net):
    """Inputs without random numbers."""
    rows = [np.sin(np.arange(1, ROWS * entry.width + 1)).reshape(ROWS, -1) for entry in net.inputs]
    return rows[0] if len(rows) == 1 else rows


def predictions(net):
    """The net's predictions for these inputs, after its output activations, as lists of hexadecimal numbers."""
    outputs = net.predict(rows_for(net))
    return [[value.hex() for value in out.ravel().tolist()] for out in (outputs if isinstance(outputs, list) else [outputs])]


def networks():
    for i, shape in enumerate(graphs.SHAPES):
        net = graphs.network(shape, ("tanh", "relu", "leaky_relu(slope=0.2)")[i % 3], dtype=("float32", "float64")[i % 2], seed=i)
        if i % 2:
            net.notes = {"classes": ["\u00e9t\u00e9", "winter"]}
            net.freeze(net.layers[0].name)
        yield shape, net


def trained(path):
    """A trainer saved in the middle of a fit and loaded again: with a schedule, an average, and the best epoch so far."""
    net, labels = bp.mlp([3, 4, 2], seed=11), np.arange(ROWS) % 2
    t = bp.Trainer(net, "cross_entropy", bp.Adam(0.01), seed=12, clip_norm=10, average=bp.EMA(0.9))
    t.fit(
        rows_for(net), labels, epochs=3, batch_size=2, validation=(rows_for(net), labels), patience=3, schedule=bp.Cosine(0.02),
        callback=lambda record: t.save(path),
    )  # fmt: skip
    return bp.Trainer.load(path)


def main():
    folder = HERE / bp.__version__
    folder.mkdir(exist_ok=True)
    expected = {}
    for name, net in networks():
        net.save(folder / f"{name}.safetensors")
        expected[name] = {"predictions": predictions(net), "text": net.text(), "seed": net.seed, "notes": net.notes}
    t = trained(folder / "trainer.safetensors")
    expected["trainer"] = {"predictions": predictions(t.net), "text": t.net.text(), "seed": t.net.seed, "notes": {}}
    expected["trainer"] |= {"steps": t.steps, "loss": t.history["loss"], "next": t.step(rows_for(t.net), np.arange(ROWS) % 2).hex()}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
