"""batch_norm and layer_norm: compared with PyTorch; running statistics, modes, sharing, freezing, files and errors."""

from collections import OrderedDict

import cases
import numpy as np
import pytest
from graphs import network, rows_of

import microbp as bp

NORMS = {"batch": bp.BatchNorm, "layer": bp.LayerNorm}
each_norm = pytest.mark.parametrize("kind", NORMS)
RUNNING = ("running_mean", "running_var")


def net_of(layer, width=6, **options):
    x = bp.Input(width)
    return bp.Network(x, layer(x), **{"dtype": "float64", "seed": 0, **options})


def random_net(kind, backend="compiled", **options):
    """dense, norm, relu, dense, with parameters that differ from the initial ones."""
    x = bp.Input(5)
    h = bp.Activation("relu")(NORMS[kind](name="norm", **options)(bp.Dense(8, name="a")(x)))
    net = bp.Network(x, bp.Dense(3, name="b")(h), dtype="float64", seed=1, backend=backend)
    net.params[:] += 0.3 * np.random.default_rng(2).normal(size=len(net.params))
    return net


def batch(rows=12, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(1, 2, (rows, 5)), random.normal(size=(rows, 3))


# ---- compared with PyTorch ----


def torch_twin(net, kind, **options):
    import torch

    norm = torch.nn.BatchNorm1d(8, **options) if kind == "batch" else torch.nn.LayerNorm(8, **options)
    layers = [("a", torch.nn.Linear(5, 8)), ("norm", norm), ("relu", torch.nn.ReLU()), ("b", torch.nn.Linear(8, 3))]
    twin = torch.nn.Sequential(OrderedDict(layers)).double()
    left = twin.load_state_dict({name: torch.tensor(value) for name, value in net.tensors.items()}, strict=False)
    assert not left.unexpected_keys and set(left.missing_keys) <= {"norm.num_batches_tracked"}
    return twin


def test_norms_have_their_own_learning_rate(backend):
    x = bp.Input(3)
    h = bp.LayerNorm(lr=0.5)(bp.BatchNorm()(bp.Dense(4, "tanh")(x)))
    net = bp.Network(x, bp.Dense(2)(h), dtype="float64", seed=0, backend=backend)
    assert [layer.lr for layer in net.layers] == [1, 1, 0.5, 1]
    net.set_layer(l2=0.25, lr=0)  # norms have no l2
    net.set_layer("layer_norm_0", lr=2)
    assert [(layer.lr, layer.l2) for layer in net.layers] == [(0, 0.25), (0, 0), (2, 0), (0, 0.25)]
    with pytest.raises(ValueError, match="l2"):
        net.set_layer("batch_norm_0", l2=1.0)
    with pytest.raises(ValueError, match="lr"):
        net.set_layer("batch_norm_0", lr=-1.0)
    net._core.set_layer(None, "momentum", 0.5)  # dense layers have no momentum
    assert [layer.momentum for layer in net.copy().layers] == [None, 0.5, None, None]
    before = net.text()
    for layer, name, words in (
        (None, "l3", 'no layer has a setting "l3"; valid: lr=1'),
        ("batch_norm_0", "l2", 'layer batch_norm_0 has no setting "l2"; valid: lr=1'),
        (None, "momentum", r"momentum must be in \[0,1\], not 2"),
    ):
        with pytest.raises(ValueError, match=words):
            net._core.set_layer(layer, name, 2.0)
    assert net.text() == before
    before, trainer = net.params.copy(), bp.Trainer(net, "mse", bp.SGD(lr=0.1))
    trainer.step(np.eye(3), np.ones((3, 2)))
    moved = np.zeros(len(before), bool)
    for layer, _, at, rows, cols in net._core.tensors():
        moved[at : at + rows * cols] = layer == "layer_norm_0"
    np.testing.assert_allclose(net.params, before - 0.2 * trainer.grads * moved, rtol=1e-15)
    assert (trainer.grads[moved] != 0).any()


@pytest.mark.peers
@each_norm
@pytest.mark.parametrize("options", [{}, {"eps": 0.1}, {"momentum": 0.7, "eps": 1e-3}])
def test_training_equals_pytorch(backend, kind, options):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    if kind == "layer":
        options = {key: value for key, value in options.items() if key == "eps"}
    net = random_net(kind, backend, **options)
    twin = torch_twin(net, kind, **options)
    t, optimizer = bp.Trainer(net, "mse", bp.SGD(lr=0.1)), torch.optim.SGD(twin.parameters(), lr=0.1)
    for step in range(20):
        x, y = batch(12, step)
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(twin(torch.tensor(x)), torch.tensor(y))
        loss.backward()
        optimizer.step()
        assert t.step(x, y) == pytest.approx(loss.item(), rel=1e-11)
    for name, value in twin.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_allclose(net.tensors[name], value.numpy(), rtol=1e-9, atol=1e-12)
    twin.eval()
    np.testing.assert_allclose(net.predict(x), twin(torch.tensor(x)).detach().numpy(), rtol=1e-9)


@pytest.mark.peers
def test_torch_sequential_loads_the_file(backend, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    net = random_net("batch", backend)
    net.tensors["norm.running_mean"][:] = np.arange(8)
    net.save(tmp_path / "net.safetensors")
    found = safetensors.load_file(tmp_path / "net.safetensors")
    assert list(found) == list(net.tensors) and {"norm.running_mean", "norm.running_var"} <= set(found)
    twin = torch_twin(net, "batch")
    twin.load_state_dict(found, strict=False)
    twin.eval()
    x = batch()[0]
    np.testing.assert_allclose(net.predict(x), twin(torch.tensor(x)).detach().numpy(), rtol=1e-10)


# ---- by hand ----


def test_layer_norm_by_hand(backend):
    net = net_of(bp.LayerNorm(eps=1e-3), 3, backend=backend)
    net.tensors["layer_norm_0.weight"][:], net.tensors["layer_norm_0.bias"][:] = [1, 2, 3], [0, 0, 5]
    root = np.sqrt(2 / 3 + 1e-3)
    np.testing.assert_allclose(net.predict([[1, 2, 3]]), [[-1 / root, 0, 3 / root + 5]], rtol=1e-14)
    np.testing.assert_array_equal(net.predict([[7, 7, 7]]), [[0, 0, 5]])


def test_running_statistics_by_hand(backend):
    net = net_of(bp.BatchNorm(momentum=0.25), 1, backend=backend)
    t = bp.Trainer(net, "mse", bp.SGD(lr=0.0))
    mean, var = (net.tensors[f"batch_norm_0.{name}"] for name in RUNNING)
    assert (mean[0], var[0]) == (0, 1)
    t.step([[1], [3]], [[0], [0]], [1, 5])  # sample_weight does not change the statistics
    assert (mean[0], var[0]) == (0.5, 0.75 + 0.25 * 2)
    x = np.array([[1.0], [3.0]])
    np.testing.assert_allclose(net.predict(x), (x - 0.5) / np.sqrt(1.25 + 1e-5), rtol=1e-14)


def test_large_means_do_not_lose_precision(dtype):
    """The variance is computed in two passes in double, so it is right for numbers far from 0."""
    x = 10_000 + np.random.default_rng(0).normal(size=(500, 40))
    x = x.astype(dtype).astype(float)
    net = net_of(bp.BatchNorm(momentum=1.0), 40, dtype=dtype)
    bp.Trainer(net, "mse").step(x, np.zeros((500, 40)))
    np.testing.assert_allclose(net.tensors["batch_norm_0.running_var"], x.var(axis=0, ddof=1), rtol=4 * cases.EPS[dtype] + 1e-9)
    rows = net_of(bp.LayerNorm(eps=1e-12), 40, dtype=dtype).predict(x)
    np.testing.assert_allclose(rows.var(axis=1), 1, rtol=1e-5)


# ---- when running statistics change ----


def test_only_updates_change_running_statistics(backend):
    net = random_net("batch", backend)
    t, (x, y), before = bp.Trainer(net, "mse"), batch(), net.buffers.copy()
    t.backward(x, y)
    t.evaluate(x, y)
    net.predict(x)
    t.check_gradients(x, y)
    np.testing.assert_array_equal(net.buffers, before)
    t.apply()
    moved = net.buffers.copy()
    assert (moved != before).all()
    t.apply()  # no forward pass in training since the last update
    np.testing.assert_array_equal(net.buffers, moved)
    t.backward(x, y)
    t.reset()
    t.apply()
    np.testing.assert_array_equal(net.buffers, moved)


def test_accumulated_passes_change_running_statistics_in_order(backend):
    net, twin = (net_of(bp.BatchNorm(0.3), 5, backend=backend) for _ in range(2))
    t, other = (bp.Trainer(n, "mse", bp.SGD(lr=0.0)) for n in (net, twin))
    parts = [batch(rows, rows)[0] for rows in (4, 7, 2)]
    t.backward(*[batch(9, 9)[0]] * 2)  # has no effect: the next backward without accumulate overwrites it
    for i, x in enumerate(parts):
        t.backward(x, x, accumulate=i > 0)
        other.step(x, x)
    t.apply()
    np.testing.assert_array_equal(net.buffers, twin.buffers)


def test_a_shared_layer_changes_running_statistics_once_per_use_in_order(backend):
    x, z = bp.Input(2), bp.Input(2)
    layer = bp.BatchNorm(0.5)
    net = bp.Network([x, z], layer(x) + layer(z), dtype="float64", seed=0, backend=backend)
    a, b = np.array([[0.0, 2], [4, 2]]), np.array([[1.0, 1], [1, 5]])
    bp.Trainer(net, "mse", bp.SGD(lr=0.0)).step([a, b], np.zeros((2, 2)))
    np.testing.assert_array_equal(net.tensors["batch_norm_0.running_mean"], (np.array([2, 2]) / 2 + [1, 3]) / 2)
    np.testing.assert_array_equal(net.tensors["batch_norm_0.running_var"], (np.array([1 + 8, 1 + 0]) / 2 + [0, 8]) / 2)


def test_a_failed_step_changes_nothing(backend):
    net = random_net("batch", backend)
    t, (x, y) = bp.Trainer(net, "mse"), batch()
    t.step(x, y)
    before = net.params.copy(), net.buffers.copy(), t.steps
    with pytest.raises(FloatingPointError):
        t.step(np.where(x > 1, np.inf, x), y)
    for a, b in zip(before, (net.params, net.buffers, t.steps), strict=True):
        np.testing.assert_array_equal(a, b)


def test_custom_losses_change_running_statistics_too(backend):
    named, own = random_net("batch", backend), random_net("batch", backend)
    x, y = batch()
    for _ in range(3):
        bp.Trainer(named, "mse", bp.SGD(0.1)).step(x, y)
        bp.Trainer(own, cases.own_mse, bp.SGD(0.1)).step(x, y)
    np.testing.assert_allclose(own.buffers, named.buffers, rtol=1e-12)


@each_norm
def test_init_and_weight_decay(backend, kind):
    net = random_net(kind, backend)
    t = bp.Trainer(net, "mse", bp.SGD(lr=0.0))
    for _ in range(2):
        t.step(*batch())
    net.init(seed=4)
    assert (net.tensors["norm.weight"] == 1).all() and (net.tensors["norm.bias"] == 0).all()
    assert kind == "layer" or ((net.tensors["norm.running_mean"] == 0).all() and (net.tensors["norm.running_var"] == 1).all())
    for decay_bias in (False, True):
        t = bp.Trainer(net, "mse", bp.SGD(lr=0.5, weight_decay=0.1, decay_bias=decay_bias))
        t.backward(*batch())
        t.grads[:] = 0
        before = net.tensors["norm.weight"].copy()
        t.apply()
        np.testing.assert_allclose(net.tensors["norm.weight"], before * (0.95 if decay_bias else 1), rtol=1e-15)


# ---- frozen ----


def test_a_frozen_batch_norm_normalizes_by_its_running_statistics(backend):
    net = random_net("batch", backend)
    t, (x, y) = bp.Trainer(net, "mse", bp.SGD(lr=0.01)), batch()
    for _ in range(3):
        t.step(x, y)
    net.freeze("norm")
    before = {name: value.copy() for name, value in net.tensors.items()}
    assert t.step(x, y) == pytest.approx(t_loss(before, x, y), rel=1e-12)
    for name, value in net.tensors.items():
        assert (value == before[name]).all() == name.startswith("norm.")
    assert t.check_gradients(x, y).error < 1e-6
    t.step(x[:1], y[:1])  # one row is enough
    net.unfreeze()
    t.step(x, y)
    assert all((net.tensors[f"norm.{name}"] != before[f"norm.{name}"]).all() for name in RUNNING)


def t_loss(tensors, x, y):
    z = x @ tensors["a.weight"].T + tensors["a.bias"]
    z = (z - tensors["norm.running_mean"]) / np.sqrt(tensors["norm.running_var"] + 1e-5) * tensors["norm.weight"] + tensors["norm.bias"]
    return ((np.maximum(z, 0) @ tensors["b.weight"].T + tensors["b.bias"] - y) ** 2).mean()


# ---- equal bits ----


@each_norm
def test_the_same_bits_in_threads_and_variants(dtype, kind, monkeypatch):
    results = []
    for isa in cases.FMA_ISAS:
        monkeypatch.setenv("MICROBP_ISA", isa)
        for threads in (1, 3):
            net = net_of(lambda x: NORMS[kind]()(bp.Dense(300, "tanh")(x)), 70, dtype=dtype, n_threads=threads)
            t, x = bp.Trainer(net, "mse", bp.SGD(lr=1.0)), np.random.default_rng(0).normal(size=(333, 70))
            results.append([t.step(x, np.ones((333, 300))), t.step(x, np.ones((333, 300))), net.params.tobytes(), net.buffers.tobytes()])
    assert all(result == results[0] for result in results)


def test_layer_norm_is_independent_of_the_batch(dtype):
    net = net_of(bp.LayerNorm(), 37, dtype=dtype)
    x = rows_of(net, 50)
    together = net.predict(x)
    for i in range(50):
        np.testing.assert_array_equal(together[i], net.predict(x[i]))


# ---- names and files ----


def test_names_and_views(backend):
    net = network("normal_often", backend=backend)
    names = [layer.name for layer in net.layers]
    assert names == ["dense_0", "batch_norm_0", "layer_norm_0", "dense_1"]
    assert [layer.kind for layer in net.layers] == ["dense", "batch_norm", "layer_norm", "dense"]
    assert list(net.tensors) == [
        *("dense_0.weight", "dense_0.bias", "batch_norm_0.weight", "batch_norm_0.bias", "batch_norm_0.running_mean"),
        *("batch_norm_0.running_var", "layer_norm_0.weight", "layer_norm_0.bias", "dense_1.weight", "dense_1.bias"),
    ]
    sizes = {name: value.shape for name, value in net.tensors.items()}
    assert sizes["batch_norm_0.weight"] == sizes["batch_norm_0.running_var"] == (6,)
    assert sum(layer.parameters for layer in net.layers) == len(net.params) and len(net.buffers) == 12
    assert np.shares_memory(net.tensors["batch_norm_0.running_mean"], net.buffers)
    ends = [6 * 6, 6 * 6 + 3 * 18]  # all weights of dense layers come first, then biases and scales in layer order
    parts = ["dense_0.bias", "batch_norm_0.weight", "batch_norm_0.bias", "layer_norm_0.weight", "layer_norm_0.bias", "dense_1.bias"]
    np.testing.assert_array_equal(net.params[ends[1] :], np.concatenate([net.tensors[name] for name in parts]))
    assert "batch_norm_0" in repr(net) and "shared" in repr(net)


@pytest.mark.parametrize("shape", ["normal", "normal_often"])
def test_files_and_copies(backend, dtype, shape, tmp_path):
    net = network(shape, backend=backend, dtype=dtype)
    net.buffers[:] = np.random.default_rng(0).random(len(net.buffers))
    net.freeze("batch_norm_0")
    net.save(tmp_path / "net.safetensors")
    for other in ("compiled", "reference"):
        back = bp.load(tmp_path / "net.safetensors", backend=other)
        assert back.text() == net.text() and "frozen=1" in back.text()
        np.testing.assert_array_equal(back.params, net.params)
        np.testing.assert_array_equal(back.buffers, net.buffers)
        assert back._core.write() == net._core.write()
    np.testing.assert_array_equal(net.copy().buffers, net.buffers)


@each_norm
def test_values_at_a_norm(backend, kind):
    net, x = random_net(kind, backend), batch()[0]
    np.testing.assert_array_equal(net.predict(x, at="norm"), net.predict(x, at=2))


# ---- errors ----


def test_single_rows_are_refused_before_anything_changes(backend):
    net = random_net("batch", backend)
    t, (x, y) = bp.Trainer(net, "mse"), batch(9)
    own = bp.Trainer(random_net("batch", backend), cases.own_mse)
    before, lr = (net.params.copy(), net.buffers.copy()), t.lr
    looped = {"schedule": bp.Constant(0.5), "batch_callback": lambda record: None}
    for call in (
        lambda: t.step(x[:1], y[:1]),
        lambda: t.backward(x[:1], y[:1]),
        lambda: own.step(x[:1], y[:1]),
        lambda: own.fit(x, y, epochs=1, batch_size=4),
        lambda: t.fit(x, y, epochs=1, batch_size=4),
        lambda: t.fit(x, y, epochs=1, batch_size=1),
        *(lambda one=one, size=size: one.fit(x, y, epochs=1, batch_size=size, **looped) for one in (t, own) for size in (1, 2, 4, 8)),
        *(lambda size=size: t.fit(x, y, epochs=1, batch_size=size, accumulate=2) for size in (1, 2, 4, 8)),
    ):
        with pytest.raises(ValueError, match=r"batch_norm .*needs at least 2 rows.*choose a batch size that leaves no single row"):
            call()
    np.testing.assert_array_equal(net.params, before[0])
    np.testing.assert_array_equal(net.buffers, before[1])
    assert t.steps == own.steps == 0
    assert t.lr == own.lr == lr
    for options in ({}, looped):
        t.fit(x, y, epochs=1, batch_size=5, **options)
    net.predict(x[0])
    t.evaluate(x[:1], y[:1])


@pytest.mark.parametrize("accumulate", [2, 3])
def test_each_micro_batch_is_normalized_by_its_own_rows(backend, accumulate):
    x, y = batch(4 * accumulate)
    t, by_hand = (bp.Trainer(random_net("batch", backend), "mse") for _ in range(2))
    t.fit(x, y, epochs=1, batch_size=4, accumulate=accumulate, shuffle=False)
    for first in range(0, len(x), 4):
        by_hand.backward(x[first : first + 4], y[first : first + 4], accumulate=first > 0, total=len(x), first_row=first)
    by_hand.apply()
    np.testing.assert_array_equal(t.net.params, by_hand.net.params)


def test_a_gradient_that_is_not_finite_is_refused(backend):
    """Only the sum over the rows overflows."""
    net = net_of(bp.LayerNorm(), 3, backend=backend, dtype="float32")
    t, before = bp.Trainer(net, "mae", bp.SGD(lr=0.1), [1e39]), net.params.copy()
    with pytest.raises(FloatingPointError, match="the gradient of layer layer_norm_0"):
        t.step(np.array([[1.0, 2, 3]] * 100), np.full((100, 3), -10.0))
    np.testing.assert_array_equal(net.params, before)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("batch_norm", ""),
        ("batch_norm 0 momentum=2", r"momentum must be in \[0,1\], not 2"),
        ("batch_norm 0 eps=0", r"eps must be in \(0,inf\), not 0"),
        ("layer_norm 0 eps=-1", r"eps must be in \(0,inf\), not -1"),
        ("layer_norm 0 momentum=0.1", "momentum"),
        ("layer_norm 0 frozen=2", "0 or 1"),
        ("layer_norm 0 layer=a.b", "layer name"),
        ("layer_norm 0 layer=d", "kind|dense"),
        ("dense 0 layer=n units=3", "dense|layer_norm"),
        ("batch_norm 0 layer=n", "kind|layer_norm"),
        ("layer_norm 0 layer=n eps=0.1", "layer n already exists: remove eps="),
        ("layer_norm 1 layer=n", "3 (columns|features).* has 2"),
        ("layer_norm 0 eps=0.1 eps=0.1", "twice"),
        ("layer_norm 0 layer=x layer=y", "once|twice"),
    ],
)
def test_bad_statements_are_refused(backend, text, words):
    make = type(net_of(bp.LayerNorm(), backend=backend)._core)
    with pytest.raises(ValueError, match=f"line 4: .*({words})"):
        make(f"input 3\ndense 0 layer=d units=2\nlayer_norm 0 layer=n\n{text}\noutput 0\n")


def test_bad_settings_are_refused():
    for make, message in (
        (lambda: bp.BatchNorm(momentum=1.1), r"BatchNorm: momentum must be in \[0,1\], not 1.1"),
        (lambda: bp.BatchNorm(eps=0), r"BatchNorm: eps must be in \(0,inf\), not 0"),
        (lambda: bp.LayerNorm(eps=float("nan")), "LayerNorm: eps must be in .*, not nan"),
        (lambda: bp.LayerNorm(name="a.b"), "LayerNorm: name"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    layer = bp.LayerNorm(name="n")
    with pytest.raises(ValueError, match="layer 'n' is first used on a node of width 3, then on one of width 2"):
        bp.Network([x := bp.Input(3), z := bp.Input(2)], bp.concat([layer(x), layer(z)]))
    with pytest.raises(TypeError, match="BatchNorm needs a node"):
        bp.BatchNorm()([1, 2])
