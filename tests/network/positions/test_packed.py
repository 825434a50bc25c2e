"""Sequences of different length against PyTorch's packed sequences, in float64."""

import numpy as np
import pytest

import microbp as bp

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional
pack, unpack = torch.nn.utils.rnn.pack_padded_sequence, torch.nn.utils.rnn.pad_packed_sequence

MODULES = {"tanh": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}


def layers(net, names, cell, columns):
    """PyTorch's layer in both directions, with the weights of two recurrent layers."""
    units = net.tensors[f"{names[0]}.weight"].shape[1] - columns
    module = MODULES[cell](columns, units, batch_first=True, bidirectional=True, dtype=torch.float64)
    values = {}
    for name, end in zip(names, ("", "_reverse"), strict=True):
        weight, bias = net.tensors[f"{name}.weight"], net.tensors[f"{name}.bias"]
        of_h = np.concatenate([np.zeros(2 * units), bias[3 * units :]]) if cell == "gru" else np.zeros(len(bias))
        values |= {f"weight_ih_l0{end}": weight[:, :columns], f"weight_hh_l0{end}": weight[:, columns:]}
        values |= {f"bias_ih_l0{end}": bias[: len(weight)], f"bias_hh_l0{end}": of_h}
    module.load_state_dict({key: torch.tensor(np.ascontiguousarray(value)) for key, value in values.items()})
    return module


@pytest.mark.parametrize("cell", MODULES)
@pytest.mark.parametrize("seed", range(5))
def test_recurrent_layers_equal_packed_sequences(cell, seed):
    random = np.random.default_rng(seed)
    rows, length, columns, units = 7, 9, 4, 5
    s = bp.Sequence(length, columns)
    options = {"cell": cell, "bias_init": "normal"}
    both = bp.concat([bp.Recurrent(units, name="there", **options)(s), bp.Recurrent(units, name="back", reverse=True, **options)(s)])
    both = bp.BatchNorm(name="norm")(both)
    net = bp.Network(s, [bp.Dense(3, name="tags")(both), bp.Last()(both)], dtype="float64", seed=seed)
    t = bp.Trainer(net, ["cross_entropy", "mse"])
    lengths = random.integers(1, length + 1, rows)
    lengths[0] = length
    x = random.normal(size=(rows, length, columns))
    labels, targets = random.integers(0, 3, (rows, length)), random.normal(size=(rows, 2 * units))
    x[np.arange(length) >= lengths[:, None]] = np.nan
    loss = t.backward(x, [labels, targets], lengths=lengths, input_grads=True)

    there = torch.tensor(np.arange(length) < lengths[:, None])
    a = torch.tensor(np.nan_to_num(x), requires_grad=True)
    module = layers(net, ("there", "back"), cell, columns)
    packed = pack(a, torch.tensor(lengths), batch_first=True, enforce_sorted=False)
    y = unpack(module(packed)[0], batch_first=True, total_length=length)[0]
    normed = torch.zeros_like(y)
    norm = torch.nn.BatchNorm1d(2 * units, dtype=torch.float64)
    normed[there] = norm(y[there])
    dense = torch.nn.Linear(2 * units, 3, dtype=torch.float64)
    dense.load_state_dict({key: torch.tensor(np.ascontiguousarray(net.tensors[f"tags.{key}"])) for key in ("weight", "bias")})
    last = normed[torch.arange(rows), torch.tensor(lengths - 1)]
    expected = F.cross_entropy(dense(normed)[there], torch.tensor(labels)[there]) + F.mse_loss(last, torch.tensor(targets))
    expected.backward()

    np.testing.assert_allclose(loss, expected.item(), rtol=1e-12)
    np.testing.assert_allclose(np.reshape(t.input_grads, a.shape), a.grad.numpy(), rtol=1e-11, atol=1e-11)
    found = {f"{layer}.{name}": t.grads[at : at + ins * outs].reshape(ins, outs) for layer, name, at, ins, outs in net._core.tensors()}
    np.testing.assert_allclose(found["tags.weight"], dense.weight.grad.numpy().T, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(found["norm.weight"][0], norm.weight.grad.numpy(), rtol=1e-11, atol=1e-11)
    for name, end in (("there", ""), ("back", "_reverse")):
        parts = [getattr(module, f"weight_{part}_l0{end}").grad for part in ("ih", "hh")]
        np.testing.assert_allclose(found[f"{name}.weight"], torch.cat(parts, 1).numpy().T, rtol=1e-11, atol=1e-11)
        bias = getattr(module, f"bias_ih_l0{end}").grad.numpy()
        np.testing.assert_allclose(found[f"{name}.bias"][0, : len(bias)], bias, rtol=1e-11, atol=1e-11)
    t.step(x, [labels, targets], lengths=lengths)
    np.testing.assert_allclose(net.tensors["norm.running_mean"], norm.running_mean.numpy(), rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(net.tensors["norm.running_var"], norm.running_var.numpy(), rtol=1e-11, atol=1e-12)
