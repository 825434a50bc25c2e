"""Programs of parts and trunks, whose gradients and steps are compared with PyTorch's."""

import numpy as np
import pytest

import microbp as bp

pytestmark = pytest.mark.peers
RANDOM = np.random.default_rng(0)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch is not installed")


def dense(torch, net, name):
    """A torch layer with the values of a layer of the net."""
    units, inputs = net.tensors[f"{name}.weight"].shape
    layer = torch.nn.Linear(inputs, units).double()
    layer.load_state_dict({key: torch.tensor(net.tensors[f"{name}.{key}"].copy()) for key in ("weight", "bias")})
    return layer


def compare(torch, net, vector, layers, of=lambda parameter: parameter.grad):
    """The tensors in a flat vector that is laid out as net.params, and those of torch's layers."""
    views = net._views(vector, net.buffers)
    for name, layer in layers.items():
        for key, parameter in layer.named_parameters():
            found = of(parameter)
            expected = np.zeros(parameter.shape) if found is None else found.detach().numpy()
            np.testing.assert_allclose(views[f"{name}.{key}"], expected, rtol=1e-12, atol=1e-14, err_msg=f"{name}.{key}")


def actor_and_critic(backend):
    obs = bp.Input(4)
    h = bp.Dense(16, activation="relu", name="actor_1")(bp.Dense(16, activation="relu", name="actor_0")(obs))
    action = bp.Dense(1, activation="tanh", name="actor_2")(h)
    h = bp.Dense(16, activation="relu", name="critic_0")(bp.concat([obs, action]))
    q = bp.Dense(1, name="critic_2")(bp.Dense(16, activation="relu", name="critic_1")(h))
    net = bp.Network(obs, [action, q], dtype="float64", seed=0, backend=backend)
    critic, actor = net.part([obs, action], q), net.part(obs, q)
    for layer in critic.layers:
        actor.freeze(layer.name)
    return net, actor, critic


def minus_mean(outputs, targets, weight):
    return float(-outputs.mean()), np.full_like(outputs, -1 / len(outputs))


def test_ddpg(torch, backend):
    """Lillicrap et al. 2016: the critic learns Q(obs, action); the actor is moved by the gradient of Q through the frozen critic."""
    net, actor, critic = actor_and_critic(backend)
    layers = {name: dense(torch, net, name) for name in (layer.name for layer in net.layers)}

    def act(obs):
        h = torch.relu(layers["actor_1"](torch.relu(layers["actor_0"](obs))))
        return torch.tanh(layers["actor_2"](h))

    def value(obs, action):
        h = torch.relu(layers["critic_1"](torch.relu(layers["critic_0"](torch.cat([obs, action], 1)))))
        return layers["critic_2"](h)

    of_critic = bp.Trainer(critic, "mse", bp.Adam(lr=0.01))
    of_actor = bp.Trainer(actor, minus_mean, bp.Adam(lr=0.01))
    optimizers = {
        name: torch.optim.Adam([p for key, layer in layers.items() if key.startswith(name) for p in layer.parameters()], lr=0.01)
        for name in ("actor", "critic")
    }
    for _ in range(4):
        obs, action, target = RANDOM.normal(size=(32, 4)), RANDOM.normal(size=(32, 1)), RANDOM.normal(size=(32, 1))
        loss = of_critic.step([obs, action], target)
        expected = torch.nn.functional.mse_loss(value(torch.tensor(obs), torch.tensor(action)), torch.tensor(target))
        optimizers["critic"].zero_grad()
        expected.backward()
        optimizers["critic"].step()
        assert loss == pytest.approx(expected.item(), rel=1e-12)

        loss = of_actor.backward(obs, target)
        of_actor.apply()
        expected = -value(torch.tensor(obs), act(torch.tensor(obs))).mean()
        optimizers["actor"].zero_grad()
        expected.backward()
        optimizers["actor"].step()
        assert loss == pytest.approx(expected.item(), rel=1e-12)
        compare(torch, net, of_actor.grads, {name: layer for name, layer in layers.items() if name.startswith("actor")})
        assert not any(of_actor.grads[view].any() for view in places(net, "critic"))
    compare(torch, net, net.params, layers, of=lambda parameter: parameter)


def places(net, prefix):
    return [slice(at, at + rows * units) for name, _, at, rows, units in net._core.tensors() if name.startswith(prefix)]


def test_tied_towers(torch, backend):
    tower = bp.mlp([5, 8, 3], activation="tanh", dtype="float64", seed=0, backend=backend)
    a, b = bp.Input(5), bp.Input(5)
    net = bp.Network([a, b], bp.Dense(1, name="head")(tower(a) * tower(b)), dtype="float64", seed=1, backend=backend)
    layers = {name: dense(torch, net, name) for name in ("dense_0", "dense_1", "head")}
    x, z, y = RANDOM.normal(size=(12, 5)), RANDOM.normal(size=(12, 5)), RANDOM.normal(size=(12, 1))
    one, other = (layers["dense_1"](torch.tanh(layers["dense_0"](torch.tensor(rows)))) for rows in (x, z))
    expected = torch.nn.functional.mse_loss(layers["head"](one * other), torch.tensor(y))
    expected.backward()
    t = bp.Trainer(net, "mse")
    assert t.backward([x, z], y) == pytest.approx(expected.item(), rel=1e-12)
    compare(torch, net, t.grads, layers)


def test_the_decoder_of_an_autoencoder(torch, backend):
    x = bp.Input(7)
    code = bp.Dense(3, activation="tanh", name="code")(x)
    net = bp.Network(
        x, bp.Dense(7, name="out")(bp.Dense(5, activation="softplus", name="wide")(code)), dtype="float64", seed=0, backend=backend
    )
    decoder = net.part(inputs=code)
    layers = {name: dense(torch, net, name) for name in ("code", "wide", "out")}
    codes, y = RANDOM.normal(size=(9, 3)), RANDOM.normal(size=(9, 7))
    inputs = torch.tensor(codes, requires_grad=True)
    expected = torch.nn.functional.mse_loss(layers["out"](torch.nn.functional.softplus(layers["wide"](inputs))), torch.tensor(y))
    expected.backward()
    t = bp.Trainer(decoder, "mse")
    assert t.backward(codes, y, input_grads=True) == pytest.approx(expected.item(), rel=1e-12)
    compare(torch, decoder, t.grads, {name: layers[name] for name in ("wide", "out")})
    np.testing.assert_allclose(t.input_grads, inputs.grad.numpy(), rtol=1e-12, atol=1e-15)
    assert not any(t.grads[place].any() for place in places(net, "code"))


def test_a_new_head_on_a_loaded_trunk(torch, backend, tmp_path):
    bp.mlp([4, 9, 6], activation="tanh", dtype="float64", seed=0, backend=backend).save(tmp_path / "trunk")
    trunk = bp.load(tmp_path / "trunk", backend=backend)
    x = bp.Input(4)
    net = bp.Network(x, bp.Dense(2, name="head")(bp.Activation("tanh")(trunk(x))), dtype="float64", seed=1, backend=backend)
    layers = {name: dense(torch, net, name) for name in ("dense_0", "dense_1", "head")}
    t = bp.Trainer(net, "mse", bp.SGD(lr=0.1))
    optimizer = torch.optim.SGD([p for layer in layers.values() for p in layer.parameters()], lr=0.1)
    for frozen in (True, False):
        for name in ("dense_0", "dense_1"):
            (net.freeze if frozen else net.unfreeze)(name)
            layers[name].requires_grad_(not frozen)
        for _ in range(3):
            rows, y = RANDOM.normal(size=(8, 4)), RANDOM.normal(size=(8, 2))
            h = torch.tanh(layers["dense_1"](torch.tanh(layers["dense_0"](torch.tensor(rows)))))
            expected = torch.nn.functional.mse_loss(layers["head"](h), torch.tensor(y))
            optimizer.zero_grad()
            expected.backward()
            optimizer.step()
            assert t.step(rows, y) == pytest.approx(expected.item(), rel=1e-12)
        compare(torch, net, net.params, layers, of=lambda parameter: parameter)
