"""Models of PyTorch and scikit-learn as their exporters write them. As a program, it writes the files that test_read.py reads:

    python tests/exchange/onnx/exported.py        (needs torch, onnxscript, skl2onnx)

A file has its rows and the predictions of its library for them in the metadata, as texts "x" and "y".
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

FILES = Path(__file__).parent / "files"


def torch_models() -> dict:
    """(module, the shape of x, "" or how many ids there are) by name."""
    import torch
    from torch import nn

    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 6), nn.Linear(6, 6), nn.Linear(10, 2)

        def forward(self, x):
            h = torch.tanh(self.a(x))
            g = torch.sigmoid(self.b(h)) * h + h
            return self.c(torch.cat([g - h * 2, x], 1))

    class Recurrent(nn.Module):
        def __init__(self, kind, last, **settings):
            super().__init__()
            self.r, self.last = kind(3, 4, batch_first=True, **settings), last
            self.l = nn.Linear(8 if settings.get("bidirectional") else 4, 2)

        def forward(self, x):
            h, _ = self.r(x)
            return self.l(h[:, -1] if self.last else h)

    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.e, self.l = nn.Embedding(7, 3), nn.Linear(6, 2)

        def forward(self, x):
            return self.l(self.e(x).flatten(1))

    activations = {
        **{"relu": nn.ReLU(), "gelu": nn.GELU(), "silu": nn.SiLU(), "elu": nn.ELU(1.5), "leaky_relu": nn.LeakyReLU(0.2), "selu": nn.SELU()},
        **{"hard_sigmoid": nn.Hardsigmoid(), "mish": nn.Mish(), "softplus": nn.Softplus(), "softsign": nn.Softsign(), "prelu": nn.PReLU()},
        **{"hard_swish": nn.Hardswish(), "celu": nn.CELU()},
    }
    models = {name: (nn.Sequential(nn.Linear(3, 4), one, nn.Linear(4, 2)), (3, 3)) for name, one in activations.items()}
    norm = nn.BatchNorm1d(4)
    models |= {
        "softmax": (nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Tanh(), nn.Linear(4, 3), nn.Softmax(1)), (3, 3)),
        "norms": (nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.ReLU(), norm, nn.Tanh(), nn.Linear(4, 2), nn.Sigmoid()), (3, 3)),
        "skip": (Skip(), (3, 4)),
        "image": (
            nn.Sequential(
                *(nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)),
                *(nn.Conv2d(3, 2, 2), nn.ReLU(), nn.AvgPool2d(2, 1), nn.Flatten(), nn.Linear(16, 2)),
            ),
            (3, 1, 12, 8),
        ),
        "mean": (nn.Sequential(nn.Conv2d(2, 3, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)), (3, 2, 8, 6)),
        "series": (nn.Sequential(nn.Conv1d(2, 3, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(12, 2)), (3, 2, 8)),
        "table": (Table(), (3, 2)),
        "rnn": (Recurrent(nn.RNN, True), (3, 5, 3)),
        "gru": (Recurrent(nn.GRU, True), (3, 5, 3)),
        "gru_each": (Recurrent(nn.GRU, False), (3, 5, 3)),
        "lstm": (Recurrent(nn.LSTM, True), (3, 5, 3)),
        "both": (Recurrent(nn.LSTM, False, bidirectional=True), (3, 5, 3)),
    }
    return models


def torch_files(dynamo: bool, folder: Path, names: list[str] | None = None) -> Iterator[tuple[str, Path]]:
    """Exports the models; the name and the file of each."""
    import numpy as np
    import onnx
    import torch

    torch.manual_seed(0)
    for name, (module, shape) in torch_models().items():
        x = torch.randint(0, 7, shape) if name == "table" else torch.randn(shape).round(decimals=1)
        for one in module.modules():
            if getattr(one, "running_var", None) is not None:
                one.running_mean.normal_()
                one.running_var.uniform_(0.5, 2)
        module.eval()
        if names is not None and name not in names:
            continue
        path = folder / f"torch_{'' if dynamo else 'old_'}{name}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if dynamo:
                rows = ({0: torch.export.Dim("rows")},)
                torch.onnx.export(module, (x,), path, dynamo=True, dynamic_shapes=rows, external_data=False, verbose=False)
            else:  # version 17 has no Gelu: exporters write it as erf
                axes = {"x": {0: "rows"}, "y": {0: "rows"}}
                torch.onnx.export(
                    module, (x,), path, dynamo=False, input_names=["x"], output_names=["y"], dynamic_axes=axes, opset_version=17
                )
        _finish(onnx, path, np.asarray(x), module(x).detach().numpy())
        yield name, path


def sklearn_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """The same of models of scikit-learn."""
    import numpy as np
    import onnx
    from skl2onnx import to_onnx
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = np.random.default_rng(0).normal(size=(60, 3)).round(1).astype(np.float32)
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 0.5)
    settings = {"hidden_layer_sizes": (4,), "max_iter": 20, "random_state": 0}
    models = {
        "regressor": (MLPRegressor(activation="tanh", **settings), x[:, 0] * 2),
        "classes": (MLPClassifier(**settings), y),
        "two": (MLPClassifier(activation="logistic", **settings), y > 0),
        "texts": (MLPClassifier(**settings), np.array(["a", "b", "c"])[y]),
        "labels": (MLPClassifier(**settings), x[:, :2] > 0),
        "pipeline": (make_pipeline(StandardScaler(), MLPClassifier(**settings)), y),
        "pipeline_regressor": (make_pipeline(StandardScaler(), MLPRegressor(**settings)), x[:, 0]),
    }
    for name, (model, targets) in models.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(x, targets)
            found = to_onnx(model, x[:1], options={"zipmap": False} if name == "texts" else None)
        path = folder / f"sklearn_{name}.onnx"
        path.write_bytes(found.SerializeToString())
        expected = model.predict_proba(x[:3])[:, 1:] if name == "two" else getattr(model, "predict_proba", model.predict)(x[:3])
        _finish(onnx, path, x[:3], expected)
        yield name, path


def _finish(onnx, path: Path, x, y) -> None:
    """Puts the rows into the metadata, and takes out what says where in the program a node comes from."""
    model = onnx.load(path)
    del model.graph.value_info[:], model.metadata_props[:], model.graph.metadata_props[:]
    model.producer_version = ""
    for node in model.graph.node:
        node.ClearField("doc_string")
        del node.metadata_props[:]
    for one in (*model.graph.input, *model.graph.output):
        del one.metadata_props[:]
    texts = {
        name: json.dumps({"shape": a.shape, "data": [float(f"{one:.8g}") for one in a.ravel().tolist()]})
        for name, a in (("x", x), ("y", y))
    }
    onnx.helper.set_model_props(model, texts)
    path.write_bytes(model.SerializeToString())


def main() -> None:
    for old in FILES.glob("*.onnx"):
        old.unlink()
    FILES.mkdir(exist_ok=True)
    few = ["gelu", "silu", "softplus", "norms", "skip", "image", "mean", "table", "lstm"]
    for files in (torch_files(True, FILES, few), torch_files(False, FILES), sklearn_files(FILES)):
        for name, path in files:
            print(name, path.stat().st_size, file=sys.stderr)


if __name__ == "__main__":
    main()
