"""Modules of PyTorch: in both directions the same predictions, gradients and names."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
from graphs import SHAPES, network, rows_of

import microbp as bp
from microbp.reference.formulas import ACTIVATIONS, OUTPUT_ACTIVATIONS
from microbp.reference.layers import SETTINGS

pytest.importorskip("torch", reason="torch is not installed")

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from microbp.exchange.shared.fold import fold
from microbp.exchange.torch import module as written
from microbp.exchange.torch import trace

pytestmark = pytest.mark.peers
TOLERANCES = {"float32": 1e-6, "float64": 1e-12}


def tensors_of(x):
    return [torch.from_numpy(np.ascontiguousarray(one)) for one in (x if isinstance(x, list) else [x])]


def check_close(found, expected, dtype):
    """found: of PyTorch."""
    found, expected = (list(one) if isinstance(one, list | tuple) else [one] for one in (found, expected))
    for one, other in zip(found, expected, strict=True):
        assert tuple(one.shape) == other.shape
        np.testing.assert_allclose(one.detach().numpy(), other, rtol=0, atol=TOLERANCES[dtype] * max(1, np.abs(other).max()))


# ---- from microbp ----


def test_every_kind_of_node_and_every_formula_has_a_row():
    assert set(SETTINGS) <= set(written.KINDS)
    assert set(written.KINDS) == {node.operation for shape in (*SHAPES, "embedded") for node in network(shape, "relu").nodes}
    assert set(written.ACTIVATIONS) == set(ACTIVATIONS)
    assert set(written.OUTPUT_ACTIVATIONS) == set(OUTPUT_ACTIVATIONS)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("shape", [*SHAPES, "embedded"])
def test_modules_predict_the_same(shape, dtype):
    net = network(shape, "gelu", dtype=dtype)
    module, x = net.to_torch().eval(), rows_of(net, 7)
    check_close(module(*tensors_of(x)), net.predict(x), dtype)
    for i, output in enumerate(net.outputs):
        width = output.width
        net.set_output(i, "identity", mean=np.arange(width), std=np.full(width, 3.0)) if i else net.set_output(i, "softmax")
    check_close(net.to_torch().eval()(*tensors_of(x)), net.predict(x), dtype)
    check_close(net.to_torch().eval()(*tensors_of(x), raw=True), net.predict(x, raw=True), dtype)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_the_same(name):
    specs = {"leaky_relu": "leaky_relu(slope=0.3)", "elu": "elu(alpha=0.7)", "affine": "affine(factor=2, addend=-1)"}
    x = bp.Input(1)
    net = bp.Network(x, bp.Activation.parse(specs.get(name, name))(x), dtype="float64")
    z = np.linspace(-40, 40, 161)[:, None] / (8 if name == "exp" else 1)
    found = net.to_torch()(torch.from_numpy(z)).numpy()
    np.testing.assert_allclose(found, net.predict(z), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", ["chain", "normal", "scaled", "image", "recurrent", "cuts"])
def test_gradients_are_the_same(shape):
    net = network(shape, "tanh", dtype="float64")
    net = net if shape == "normal" else fold(net)  # without dropout
    x = rows_of(net, 6)
    module = net.to_torch().train()
    targets = [np.ones((6, *output.row_shape)) for output in net.outputs]
    t = bp.Trainer(net, loss="mse" if len(targets) == 1 else ["mse"] * len(targets), optimizer="sgd")
    t.backward(x, targets[0] if len(targets) == 1 else targets)
    outputs = module(*tensors_of(x), raw=True)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    sum(((one - 1) ** 2).mean() for one in outputs).backward()
    grads = net._views(t.grads, net.buffers)
    for name, parameter in module.named_parameters():
        np.testing.assert_allclose(parameter.grad.numpy(), grads[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_state_dicts_have_the_names_and_go_both_ways(tmp_path):
    net, other = (network("normal", "relu", seed=seed) for seed in (1, 2))
    module = net.to_torch().eval()
    assert {name: tuple(values.shape) for name, values in module.state_dict().items()} == {
        name: values.shape for name, values in net.tensors.items()
    }
    x = rows_of(net, 5)
    module.load_state_dict({name: torch.from_numpy(values.copy()) for name, values in other.tensors.items()})
    check_close(module(*tensors_of(x)), other.predict(x), "float32")
    save_file = pytest.importorskip("safetensors.torch", reason="safetensors is not installed").save_file
    save_file(module.state_dict(), tmp_path / "state.safetensors")
    net.load_tensors(tmp_path / "state.safetensors")
    assert net.params.tobytes() == other.params.tobytes()
    check_close(pickle.loads(pickle.dumps(module))(*tensors_of(x)), other.predict(x), "float32")


def test_modules_can_be_trained():
    torch.manual_seed(0)
    x = bp.Input(3)
    h = bp.GaussianNoise(0.1)(bp.Dropout(0.1)(bp.BatchNorm(name="norm")(bp.Dense(8, "relu", name="first")(x))))
    net = bp.Network(x, bp.Dense(1)(h), seed=0)
    net.freeze("first")
    module = net.to_torch()
    rows = torch.randn(64, 3)
    optimizer = torch.optim.Adam((p for p in module.parameters() if p.requires_grad), lr=0.02)
    assert not torch.equal(module(rows), module(rows))  # dropout and noise
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = ((module(rows, raw=True) - rows.sum(1, keepdim=True)) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < losses[0] / 2
    state = module.state_dict()
    assert (state["first.weight"].numpy() == net.tensors["first.weight"]).all()
    assert (state["norm.running_mean"].numpy() != net.tensors["norm.running_mean"]).all()


# ---- from PyTorch ----


class Function(nn.Module):
    """forward is f(self, *x)."""

    def __init__(self, f, **modules):
        super().__init__()
        self.f = f
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.f(self, x)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(3, 5)
        self.gain = nn.Parameter(torch.linspace(1, 2, 5))
        self.register_buffer("mean", torch.linspace(-1, 1, 4))

    def forward(self, x, z):
        h = F.elu(self.a(x - self.mean), 0.7) * self.gain + torch.sigmoid(self.b(z)) / (self.gain + 1)
        p, q = h.split([2, 3], 1)
        return torch.cat([p, q * 2, 1 - h], dim=-1), self.b(z)


def residual(self, x):
    h = F.relu(self.a(x))
    return self.o(torch.cat([h + self.b(h), F.max_pool2d(x, 1)], 1).flatten(1))


def activations(self, x):
    h = self.o(x)
    found = [
        *(f(h) for f in (F.relu, F.selu, F.silu, F.mish, F.softsign, torch.sigmoid, torch.abs, torch.exp, torch.sin, F.gelu)),
        *(f(h) for f in (torch.cos, torch.square, F.softplus, F.hardsigmoid, torch.tanh, self.elu, self.leaky)),
        *(h.relu(), h.tanh(), h**2, -h, F.leaky_relu(h), F.elu(h, alpha=0.3), h.sigmoid().contiguous()),
    ]
    return torch.cat(found, 1)


S = nn.Sequential
MODULES = {
    "mlp": (lambda: S(nn.Linear(4, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.LayerNorm(8), nn.Linear(8, 3), nn.Softmax(dim=1)), None),
    "single": (lambda: nn.Linear(3, 2), None),
    "activations": (lambda: Function(activations, o=nn.Linear(3, 2), elu=nn.ELU(0.5), leaky=nn.LeakyReLU(0.2)), None),
    "image": (
        lambda: S(
            *(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, stride=2, bias=False)),
            *(nn.SiLU(), nn.Flatten(), nn.BatchNorm1d(36), nn.Dropout(0.2), nn.LayerNorm(36), nn.Linear(36, 5), nn.Sigmoid()),
        ),
        (2, 10, 14),
    ),
    "signal": (
        lambda: S(
            *(nn.Conv1d(3, 4, 3, padding="same", dilation=2), nn.GELU(), nn.AvgPool1d(2), nn.BatchNorm1d(4), nn.Conv1d(4, 2, 2)),
            *(nn.Tanh(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(2, 1)),
        ),
        (3, 12),
    ),
    "two inputs": (Two, [(4,), (3,)]),
    "lstm": (lambda: Function(lambda s, x: s.o(s.r(x)[0][:, -1]), r=nn.LSTM(3, 4, batch_first=True), o=nn.Linear(4, 2)), (6, 3)),
    "gru": (
        lambda: Function(lambda s, x: s.o(s.r(x)[1][-1]), r=nn.GRU(3, 4, 2, batch_first=True, dropout=0.1), o=nn.Linear(4, 2)),
        (6, 3),
    ),
    "both directions": (
        lambda: Function(
            lambda s, x: s.o(s.r(x)[0]).mean(dim=1), r=nn.RNN(3, 4, 2, batch_first=True, bidirectional=True, bias=False), o=nn.Linear(8, 2)
        ),
        (6, 3),
    ),
    "convolution, then lstm": (
        lambda: Function(
            lambda s, x: s.o(s.r(F.leaky_relu(s.c(x), 0.3).transpose(1, 2))[0][:, -1, :]),
            c=nn.Conv1d(3, 5, 3),
            r=nn.LSTM(5, 4, batch_first=True),
            o=nn.Linear(4, 2),
        ),
        (3, 9),
    ),
    "one id": (lambda: Function(lambda s, x: s.o(s.e(x)), e=nn.Embedding(7, 3), o=nn.Linear(3, 2)), None),
    "ids": (
        lambda: Function(lambda s, x: s.r(s.e(x))[1].squeeze(0), e=nn.Embedding(7, 3), r=nn.GRU(3, 4, batch_first=True)),
        (5,),
    ),
    "bag": (lambda: Function(lambda s, x: s.o(F.softplus(s.e(x))), e=nn.EmbeddingBag(7, 3, mode="sum"), o=nn.Linear(3, 2)), (4,)),
    "unsqueeze": (
        lambda: Function(lambda s, x: s.o(s.c(x.unsqueeze(1)).relu_().view(x.size(0), -1)), c=nn.Conv1d(1, 3, 2), o=nn.Linear(12, 2)),
        (5,),
    ),
    "channels last": (
        lambda: Function(lambda s, x: s.o(s.c(x.permute(0, 3, 1, 2)).mean((2, 3))), c=nn.Conv2d(2, 5, 3), o=nn.Linear(5, 2)),
        (6, 7, 2),
    ),
    "residual": (
        lambda: Function(residual, a=nn.Conv2d(2, 3, 3, padding=1), b=nn.Conv2d(3, 3, 3, padding=1), o=nn.Linear(60, 2)),
        (2, 3, 4),
    ),
    "slices": (
        lambda: Function(lambda s, x: s.o(x[:, 1:3] - x[:, 3:].square() + x[..., :2] / 3 - (-x[:, :2])), o=nn.Linear(2, 2)),
        (5,),
    ),
    "one column": (lambda: Function(lambda s, x: torch.tanh(s.o(x).squeeze(-1) + x[:, 2]), o=nn.Linear(4, 1)), None),
    "moved": (lambda: Function(lambda s, x: s.o(x.permute(0, 2, 1, 3).flatten(1)), o=nn.Linear(24, 2)), (2, 3, 4)),
    "shared": (lambda: Function(lambda s, x: F.relu(s.o(F.relu(s.o(x)))), o=nn.Linear(4, 4)), None),
    "decoder": (lambda: S(nn.Linear(5, 12), nn.ReLU(), nn.Unflatten(1, (1, 3, 4)), nn.Conv2d(1, 2, 2)), None),
    "flattened beside": (
        lambda: Function(lambda s, x: s.o(torch.cat([s.c(x).flatten(1), x.flatten(1)], 1)), c=nn.Conv2d(2, 3, 2), o=nn.Linear(42, 2)),
        (2, 3, 4),
    ),
    "softmax of channels": (lambda: Function(lambda s, x: s.c(x).softmax(1), c=nn.Conv2d(2, 3, 2)), (2, 3, 4)),
}


def made(name, dtype="float64"):
    """A module with random statistics, and the shapes of its inputs."""
    torch.manual_seed(0)
    build, shape = MODULES[name]
    module = build().to(getattr(torch, dtype))
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return module, shape


def rows_for(net, shape, dtype):
    """Rows as PyTorch and as microbp have them."""
    theirs, ours = [], []
    for i, entry in enumerate(net.inputs):
        if entry.levels:
            x = torch.randint(0, entry.levels, (5, entry.width) if shape else (5,))
        else:
            sizes = (shape[i] if isinstance(shape, list) else shape) or (entry.width,)
            x = torch.randn(5, *sizes, dtype=getattr(torch, dtype))
        theirs.append(x)
        ours.append(x.numpy() if entry.levels or tuple(x.shape[1:]) == entry.row_shape else np.moveaxis(x.numpy(), 1, -1))
    return theirs, ours if len(ours) > 1 else ours[0]


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", MODULES)
def test_networks_predict_what_the_module_gives(name, dtype):
    module, shape = made(name, dtype)
    before, was_training = copy.deepcopy(module.state_dict()), module.training
    net = bp.from_torch(module, shape)
    assert module.training == was_training and all(torch.equal(values, before[key]) for key, values in module.state_dict().items())
    theirs, ours = rows_for(net, shape, dtype)
    with torch.no_grad():
        found = module.eval()(*theirs)
    found = [one.reshape(5, -1) if one.dim() < 3 else one.movedim(1, -1) for one in (found if isinstance(found, tuple) else [found])]
    expected = net.predict(ours)
    check_close(found, expected, dtype)
    assert net.dtype == dtype


def test_activations_become_part_of_layers_that_nothing_else_reads():
    net = bp.from_torch(made("mlp")[0])
    assert [node.operation for node in net.nodes] == ["input", "dense", "batch_norm", "layer_norm", "dense"]
    assert net.layers[0].activation == "relu" and net.outputs[0].activation == "softmax"
    shared = bp.from_torch(made("shared")[0])
    assert [node.operation for node in shared.nodes] == ["input", "dense", "activation", "dense", "activation"]


def test_names_settings_and_frozen_layers_come_along():
    module = S(S(nn.Linear(4, 3), nn.BatchNorm1d(3, eps=0.1, momentum=0.3)), nn.Dropout(0.25), nn.Linear(3, 1))
    module[0][0].requires_grad_(False)
    net = bp.from_torch(module, dtype="float64")
    assert [(layer.name, layer.frozen) for layer in net.layers] == [("0_0", True), ("0_1", False), ("2", False)]
    assert net.layers[1].eps == 0.1 and net.layers[1].momentum == pytest.approx(0.3) and net.nodes[3].amount == 0.25
    assert net.dtype == "float64"
    assert (net.tensors["2.weight"] == module[2].weight.detach().numpy()).all()


def test_names_that_become_the_same_are_numbered():
    module = S(OrderedDict([("a_b", nn.Linear(2, 3)), ("a", S(OrderedDict(b=nn.Linear(3, 3), é=nn.Linear(3, 3), ü=nn.Linear(3, 1))))]))
    assert [layer.name for layer in bp.from_torch(module).layers] == ["a_b", "a_b_1", "a__", "a___1"]


def test_log_softmax_gives_probabilities():
    module = S(nn.Linear(4, 3), nn.LogSoftmax(dim=-1))
    x = torch.randn(3, 4)
    np.testing.assert_allclose(bp.from_torch(module).predict(x.numpy()), module(x).exp().detach().numpy(), atol=1e-6)


def test_every_row_of_the_table_is_read():
    from microbp.exchange.torch import reader

    assert set(trace.ACTIVATIONS) <= set(reader._ROWS)
    assert {ours for ours, _ in trace.ACTIVATIONS.values()} | {"identity", "affine", "scaled_tanh"} == set(ACTIVATIONS)


WRONG = {
    "glu": (
        lambda: S(nn.Linear(4, 4), S(nn.Linear(4, 4), nn.GLU())),
        None,
        r'module "1\.1" \(torch\.nn\.GLU\): microbp does not have it; ',
    ),
    "approximate": (lambda: S(nn.Linear(4, 4), nn.GELU("tanh")), None, r'module "1" \(torch\.nn\.GELU\): approximate must be \'none\''),
    "threshold": (lambda: S(nn.Linear(4, 4), nn.Softplus(threshold=1)), None, "threshold must be 20"),
    "dropout": (lambda: Function(lambda s, x: F.dropout(s.l(x)), l=nn.Linear(3, 3)), None, "write training=self.training"),
    "both states": (
        lambda: Function(lambda s, x: s.r(x)[1][-1], r=nn.GRU(3, 4, batch_first=True, bidirectional=True)),
        (5, 3),
        "of one direction only",
    ),
    "groups": (lambda: S(nn.Conv2d(2, 2, 1, groups=2)), (2, 3, 3), r"groups=2"),
    "padded pool": (lambda: S(nn.Conv2d(2, 2, 1), nn.MaxPool2d(3, padding=1)), (2, 6, 6), "padding and dilation"),
    "ceil_mode": (lambda: S(nn.Conv2d(2, 2, 1), nn.MaxPool2d(2, ceil_mode=True)), (2, 5, 5), "leave out ceil_mode"),
    "no shape": (lambda: S(nn.Conv2d(2, 2, 1)), None, r"write input_shape=\(1, 28, 28\)"),
    "shape": (lambda: S(nn.Linear(2, 2)), (3,), r"cannot be called with rows of shape \(3,\)"),
    "shapes": (lambda: S(nn.Linear(2, 2)), [(2,), (2,)], "input_shape has 2 shapes, but the module has 1 input"),
    "softmax inside": (lambda: S(nn.Linear(2, 2), nn.Softmax(1), nn.Linear(2, 2)), None, "at the end of a module only"),
    "sequence first": (lambda: Function(lambda s, x: s.r(x)[0], r=nn.GRU(3, 4)), (5, 3), "batch_first=True"),
    "control flow": (lambda: Function(lambda s, x: x if x.sum() > 0 else -x), (3,), "forward must not depend on values"),
    "function": (lambda: Function(lambda s, x: F.layer_norm(s.l(x), (3,)), l=nn.Linear(3, 3)), None, "function layer_norm"),
    "flattened": (lambda: S(nn.Conv2d(1, 2, 2), nn.Flatten()), (1, 4, 4), "returns a flattened image"),
    "cell state": (lambda: Function(lambda s, x: s.r(x)[1][1][-1], r=nn.LSTM(3, 4, batch_first=True)), (5, 3), "states h"),
    "rows": (lambda: Function(lambda s, x: s.l(x).sum(0), l=nn.Linear(3, 3)), None, "method sum"),
    "mean of rows": (lambda: Function(lambda s, x: s.l(x).mean(0), l=nn.Linear(3, 3)), None, "the mean of all positions"),
    "even": (lambda: S(nn.Conv1d(3, 4, 2, padding="same")), (3, 7), 'pad="same" needs odd sizes'),
    "columns": (lambda: Function(lambda s, x: s.l(x)[:, [0, 2]], l=nn.Linear(3, 3)), None, "module|getitem"),
    "row": (lambda: Function(lambda s, x: s.l(x)[0], l=nn.Linear(3, 3)), None, r"some columns, x\[:, 2:5\]"),
    "several inputs": (lambda: Function(lambda s, x: s.l(x) + s.l(x)[:, 1], l=nn.Linear(3, 3)), None, "its operands have the shapes"),
    "constant": (lambda: Function(lambda s, x: torch.cat([s.l(x), s.l.weight], 1), l=nn.Linear(3, 3)), None, "function cat"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.filterwarnings("ignore:Using padding='same'")
def test_what_microbp_does_not_have_is_named(name):
    build, shape, text = WRONG[name]
    with pytest.raises(ValueError, match=text) as caught:
        bp.from_torch(build(), shape)
    assert str(caught.value).startswith("from_torch: ")


def test_other_objects_are_refused():
    with pytest.raises(TypeError, match=r"the module must be a torch\.nn\.Module, not dict"):
        bp.from_torch({})
    with pytest.raises(TypeError, match=r"net\.to_torch\(\) made this module; copy its state_dict into net\.tensors"):
        bp.from_torch(bp.mlp([2, 1]).to_torch())
    with pytest.raises(TypeError, match="the module has 1 inputs, but got 2"):
        bp.mlp([2, 1]).to_torch()(torch.zeros(1, 2), torch.zeros(1, 2))


def test_a_missing_library_is_explained():
    code = "import sys; sys.modules['torch'] = None; import microbp as bp\n"
    for call in ("bp.from_torch(None)", "bp.mlp([2, 1]).to_torch()"):
        done = subprocess.run([sys.executable, "-P", "-c", code + call], capture_output=True, text=True, check=False)
        assert "modules of PyTorch need PyTorch, which is not installed: python -m pip install torch" in done.stderr
