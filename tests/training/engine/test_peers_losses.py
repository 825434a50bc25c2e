"""Training with gradients of one's own, compared with PyTorch and JAX in float64: agents, generators, contrastive losses, several tasks."""

from collections import OrderedDict

import numpy as np
import pytest

import microbp as bp

pytestmark = pytest.mark.peers
RNG = np.random.default_rng(0)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch is not installed")


def twin_of(torch, net, layers):
    """The same network in PyTorch. layers: a name for each dense layer, with a module without parameters after it, or None."""
    modules = OrderedDict()
    for name, after in layers.items():
        weight = net.tensors[f"{name}.weight"]
        modules[name] = torch.nn.Linear(weight.shape[1], weight.shape[0])
        if after is not None:
            modules[f"after_{name}"] = after
    twin = torch.nn.Sequential(modules).double()
    twin.load_state_dict({name: torch.tensor(value) for name, value in net.tensors.items()})
    return twin


def mlp(torch, widths, backend, seed=0):
    net = bp.mlp(widths, activation="tanh", dtype="float64", seed=seed, backend=backend)
    names = [layer.name for layer in net.layers]
    return net, twin_of(torch, net, {name: torch.nn.Tanh() if name != names[-1] else None for name in names})


def assert_same(net, twin):
    for name, value in twin.state_dict().items():
        np.testing.assert_allclose(net.tensors[name], value.numpy(), rtol=1e-12, atol=1e-14, err_msg=name)


def assert_same_grads(t, twin):
    """The gradients, in the layout of the parameters."""
    values = t.net.copy()
    values.params[:] = t.grads
    for name, parameter in twin.named_parameters():
        np.testing.assert_allclose(values.tensors[name], parameter.grad.numpy(), rtol=1e-11, atol=1e-14, err_msg=name)


def of_torch(torch, function):
    """A function of PyTorch's tensors as a loss of microbp, for one output or several: as in docs/from-pytorch.md."""

    def loss(outputs, targets, weight):
        several = isinstance(outputs, list)
        leaves = [torch.tensor(o, requires_grad=True) for o in (outputs if several else [outputs])]
        value = function(leaves if several else leaves[0], None if targets is None else torch.tensor(targets))
        gradients = [gradient.numpy() for gradient in torch.autograd.grad(value, leaves)]
        return value.item(), gradients if several else gradients[0]

    return loss


def test_a_loss_of_pytorch_trains_as_in_pytorch(torch, backend):
    net, twin = mlp(torch, [4, 9, 3], backend)

    def loss(outputs, targets):
        return torch.nn.functional.multi_margin_loss(outputs, targets) + 0.1 * torch.logsumexp(outputs, 1).square().mean()

    t, optimizer = bp.Trainer(net, of_torch(torch, loss), bp.Adam(lr=0.01)), torch.optim.Adam(twin.parameters(), lr=0.01)
    x, y = RNG.normal(size=(40, 4)), RNG.integers(0, 3, 40)
    for _ in range(10):
        optimizer.zero_grad()
        expected = loss(twin(torch.tensor(x)), torch.tensor(y))
        expected.backward()
        optimizer.step()
        assert t.step(x, y) == pytest.approx(expected.item(), rel=1e-12)
    assert_same(net, twin)
    assert t.check_gradients(x[:10], y[:10]).error < 1e-6


def test_a_loss_of_jax_is_its_gradient(backend):
    jax = pytest.importorskip("jax", reason="jax is not installed")
    with jax.enable_x64(True):
        value_and_grad = jax.jit(jax.value_and_grad(lambda o, y: jax.numpy.mean(jax.numpy.log(jax.numpy.cosh(o - y)))))

        def log_cosh(outputs, targets, weight):
            loss, gradient = value_and_grad(outputs, targets)
            return float(loss), np.asarray(gradient)

        def by_hand(outputs, targets, weight):
            error = outputs - targets
            return np.log(np.cosh(error)).mean(), np.tanh(error) / error.size

        x, y = RNG.normal(size=(30, 3)), RNG.normal(size=(30, 2))
        a, b = (bp.Trainer(bp.mlp([3, 8, 2], dtype="float64", seed=0, backend=backend), loss) for loss in (log_cosh, by_hand))
        for _ in range(5):
            assert a.step(x, y) == pytest.approx(b.step(x, y), rel=1e-12)
        np.testing.assert_allclose(a.net.params, b.net.params, rtol=1e-11, atol=1e-13)


def test_a_policy_gradient_step(torch, backend):
    """REINFORCE with an entropy bonus: the gradient with respect to the logits by hand, no loss and no targets."""
    net, twin = mlp(torch, [5, 16, 4], backend)
    t, optimizer = bp.Trainer(net, loss=None, optimizer=bp.SGD(lr=0.2)), torch.optim.SGD(twin.parameters(), lr=0.2)
    for _ in range(5):
        states, actions, advantage = RNG.normal(size=(30, 5)), RNG.integers(0, 4, 30), RNG.normal(size=30)
        logits = t.forward(states)
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        log_p = np.log(p)
        gradient = (p - np.eye(4)[actions]) * advantage[:, None] + 0.01 * p * (log_p - (p * log_p).sum(1, keepdims=True))
        t.backward_from(gradient / 30)
        t.apply()
        optimizer.zero_grad()
        distribution = torch.distributions.Categorical(logits=twin(torch.tensor(states)))
        gain = distribution.log_prob(torch.tensor(actions)) * torch.tensor(advantage) + 0.01 * distribution.entropy()
        (-gain.mean()).backward()
        optimizer.step()
        assert_same(net, twin)


def test_alternating_steps_of_a_generator_and_its_critic(torch, backend):
    """The critic's gradient with respect to its input is the gradient of the generator's output."""
    (maker, torch_maker), (critic, torch_critic) = mlp(torch, [3, 12, 2], backend), mlp(torch, [2, 12, 1], backend, seed=1)
    g, d = (bp.Trainer(net, None, bp.SGD(lr=0.5)) for net in (maker, critic))
    torch_g, torch_d = (torch.optim.SGD(net.parameters(), lr=0.5) for net in (torch_maker, torch_critic))
    bce = torch.nn.functional.binary_cross_entropy_with_logits

    def sigmoid(s):
        return 1 / (1 + np.exp(-s))

    for _ in range(4):
        real, noise = RNG.normal(size=(20, 2)) + 2, RNG.normal(size=(20, 3))
        fake = maker.predict(noise)
        d.backward_from((sigmoid(d.forward(real)) - 1) / 20)
        d.backward_from(sigmoid(d.forward(fake)) / 20, accumulate=True)
        d.apply()
        made = g.forward(noise)
        np.testing.assert_array_equal(made, fake)
        d.backward_from((sigmoid(d.forward(made)) - 1) / 20, input_grads=True)
        g.backward_from(d.input_grads)
        g.apply()

        torch_d.zero_grad()
        (ones, zeros), made = (np.ones((20, 1)), np.zeros((20, 1))), torch_maker(torch.tensor(noise))
        loss = bce(torch_critic(torch.tensor(real)), torch.tensor(ones)) + bce(torch_critic(made.detach()), torch.tensor(zeros))
        loss.backward()
        torch_d.step()
        torch_g.zero_grad()
        bce(torch_critic(made), torch.tensor(ones)).backward()
        torch_g.step()
        assert_same(critic, torch_critic)
        assert_same(maker, torch_maker)


def test_a_contrastive_loss_over_two_outputs(torch, backend):
    """Two views of each row through one encoder; the row's own other view is the right answer among all (InfoNCE). Needs no targets."""
    a, b = bp.Input(4), bp.Input(4)
    first, last = bp.Dense(10, activation="tanh", name="first"), bp.Dense(5, name="last")
    net = bp.Network([a, b], [last(first(a)), last(first(b))], dtype="float64", seed=3, backend=backend)
    twin = twin_of(torch, net, {"first": torch.nn.Tanh(), "last": None})
    normalize, cross_entropy = torch.nn.functional.normalize, torch.nn.functional.cross_entropy

    def info_nce(outputs, targets=None):
        similarity = normalize(outputs[0]) @ normalize(outputs[1]).T / 0.2
        right = torch.arange(len(similarity))
        return (cross_entropy(similarity, right) + cross_entropy(similarity.T, right)) / 2

    t, optimizer = bp.Trainer(net, of_torch(torch, info_nce), bp.Adam(lr=0.01)), torch.optim.Adam(twin.parameters(), lr=0.01)
    for _ in range(5):
        rows = RNG.normal(size=(16, 4))
        views = [rows + 0.1 * RNG.normal(size=rows.shape) for _ in range(2)]
        optimizer.zero_grad()
        expected = info_nce([twin(torch.tensor(view)) for view in views])
        expected.backward()
        optimizer.step()
        assert t.step(views) == pytest.approx(expected.item(), rel=1e-12)
        assert_same_grads(t, twin)
    assert_same(net, twin)


def test_weights_of_tasks_by_their_gradient_norms(torch, backend):
    """As in GradNorm (Chen et al. 2018): a forward, one backward_from per task to measure it, and one with the weights found."""
    node = bp.Input(4)
    h = bp.Dense(8, activation="tanh", name="trunk")(node)
    net = bp.Network(node, [bp.Dense(2, name="a")(h), bp.Dense(3, name="b")(h)], dtype="float64", seed=2, backend=backend)
    t = bp.Trainer(net, None, bp.SGD(lr=0.3))
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in net.tensors.items()}
    x, targets = RNG.normal(size=(12, 4)), [RNG.normal(size=(12, 2)), 5 * RNG.normal(size=(12, 3))]
    outputs = t.forward(x)
    gradients = [2 * (o - y) / y.size for o, y in zip(outputs, targets, strict=True)]
    norms = []
    for i in range(2):
        t.backward_from([gradient * (i == j) for j, gradient in enumerate(gradients)])
        shown = net.copy()
        shown.params[:] = t.grads
        norms.append(np.linalg.norm(shown.tensors["trunk.weight"]))
    weights = np.mean(norms) / norms
    t.backward_from([weight * gradient for weight, gradient in zip(weights, gradients, strict=True)])
    t.apply()

    hidden = torch.tanh(torch.tensor(x) @ tensors["trunk.weight"].T + tensors["trunk.bias"])
    found = [hidden @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"] for name in "ab"]
    losses = [torch.nn.functional.mse_loss(o, torch.tensor(y)) for o, y in zip(found, targets, strict=True)]
    expected = [torch.autograd.grad(loss, tensors["trunk.weight"], retain_graph=True)[0].norm().item() for loss in losses]
    np.testing.assert_allclose(norms, expected, rtol=1e-12)
    sum(weight * loss for weight, loss in zip(weights.tolist(), losses, strict=True)).backward()
    for name, tensor in tensors.items():
        np.testing.assert_allclose(net.tensors[name], (tensor - 0.3 * tensor.grad).detach().numpy(), rtol=1e-12, atol=1e-14)
