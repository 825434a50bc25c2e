"""Convolutions, pools, norms and recurrent layers against PyTorch, in float64."""

import numpy as np
import pytest

import microbp as bp

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional


def conv(x, net, name, units, size, **settings):
    """PyTorch's convolution of x (rows, columns, height, width) with the weights of a layer."""
    weight = net.tensors[f"{name}.weight"].reshape(units, *size, x.shape[1]).transpose(0, 3, 1, 2)
    tensors = [torch.tensor(np.ascontiguousarray(one), requires_grad=True) for one in (weight, net.tensors[f"{name}.bias"])]
    return F.conv2d(x, *tensors, **settings), tensors


def flat(weight, bias):
    """Gradients of PyTorch's weight and bias in the form of a dense layer."""
    return weight.grad.permute(0, 2, 3, 1).reshape(len(weight), -1).numpy(), bias.grad.numpy()


@pytest.mark.parametrize("seed", range(20))
def test_a_step_equals_pytorch(seed):
    random = np.random.default_rng(seed)
    columns, units, size = int(random.integers(1, 4)), int(random.integers(1, 9)), tuple(map(int, random.integers(1, 4, 2)))
    stride, dilation = tuple(map(int, random.integers(1, 3, 2))), tuple(map(int, random.integers(1, 3, 2)))
    pad = tuple(map(int, random.integers(0, 3, 2)))
    x = bp.Grid(9, 8, columns)
    h = bp.BatchNorm(name="norm")(bp.Conv(units, size, stride, pad, dilation, activation="tanh", name="first")(x))
    kind, under = ("max", "mean")[seed % 2], (min(2, h.grid[0]), min(3, h.grid[1]))
    pooled = bp.Pool(under, stride=(1, 2), kind=kind)(h)
    last = bp.Conv(3, (1, 1), bias_init="normal", name="last")(pooled)
    net = bp.Network(x, [bp.Flatten()(h), last], dtype="float64", seed=seed)
    t = bp.Trainer(net, ["mse", bp.Loss("cross_entropy", missing=True)], loss_weights=[1, 0.5])
    rows, labels = random.normal(size=(6, 9, 8, columns)), random.integers(-1, 3, (6, *last.grid))
    target = random.normal(size=(6, h.positions * units))
    labels[0].flat[0] = 1
    loss = t.backward(rows, [target, labels], input_grads=True)

    a = torch.tensor(rows.transpose(0, 3, 1, 2), requires_grad=True)
    z, first = conv(a, net, "first", units, size, stride=stride, padding=pad, dilation=dilation)
    y = F.batch_norm(torch.tanh(z), None, None, training=True)
    p = F.max_pool2d(y, under, (1, 2)) if kind == "max" else F.avg_pool2d(y, under, (1, 2))
    out, final = conv(p, net, "last", 3, (1, 1))
    expected = F.mse_loss(y.permute(0, 2, 3, 1).reshape(6, -1), torch.tensor(target))
    expected = expected + 0.5 * F.cross_entropy(out, torch.tensor(labels).reshape(6, *out.shape[2:]), ignore_index=-1)
    expected.backward()

    np.testing.assert_allclose(loss, expected.item(), rtol=1e-12)
    found = {f"{layer}.{name}": (offset, rows, cols) for layer, name, offset, rows, cols in net._core.tensors()}
    for name, tensors in (("first", first), ("last", final)):
        for part, gradient in zip(("weight", "bias"), flat(*tensors), strict=True):
            offset, ins, outs = found[f"{name}.{part}"]
            mine = t.grads[offset : offset + ins * outs].reshape(ins, outs).T.reshape(gradient.shape)
            np.testing.assert_allclose(mine, gradient, rtol=1e-11, atol=1e-11)
    wanted = a.grad.permute(0, 2, 3, 1).reshape(6, -1).numpy()
    np.testing.assert_allclose(t.input_grads, wanted, rtol=1e-11, atol=1e-11)


def recurrence(x, net, name, cell, reverse, state):
    """PyTorch's outputs for x (rows, positions, columns) with the weights of a layer, and what gives their gradients in its form."""
    weight, bias, columns = net.tensors[f"{name}.weight"], net.tensors.get(f"{name}.bias"), x.shape[2]
    units = weight.shape[1] - columns
    kind = {"tanh": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell]
    module = kind(columns, units, batch_first=True, bias=bias is not None, dtype=torch.float64)
    values = {"weight_ih_l0": weight[:, :columns], "weight_hh_l0": weight[:, columns:]}
    if bias is not None:
        of_h = np.concatenate([np.zeros(2 * units), bias[3 * units :]]) if cell == "gru" else np.zeros(len(bias))
        values |= {"bias_ih_l0": bias[: len(weight)], "bias_hh_l0": of_h}
    module.load_state_dict({key: torch.tensor(np.ascontiguousarray(value)) for key, value in values.items()})
    h = state if state is None else state[None, :, :units].contiguous()
    both = (h, state[None, :, units:].contiguous()) if state is not None and cell == "lstm" else h
    y = module(torch.flip(x, [1]) if reverse else x, both)[0]

    def gradients():
        found = {"weight": torch.cat([module.weight_ih_l0.grad, module.weight_hh_l0.grad], 1).T.numpy()}
        if bias is not None:
            more = [module.bias_hh_l0.grad[2 * units :].numpy()] if cell == "gru" else []
            found["bias"] = np.concatenate([module.bias_ih_l0.grad.numpy(), *more])
        return found

    return torch.flip(y, [1]) if reverse else y, gradients


@pytest.mark.parametrize("seed", range(30))
def test_recurrent_layers_equal_pytorchs(seed):
    """Random layers above each other, with and without a bias and a state, in both directions, after a convolution and before a pool."""
    random = np.random.default_rng(seed)
    rows, length, columns = (int(random.integers(2, most)) for most in (9, 12, 6))
    x, z = bp.Sequence(length, columns), bp.Input(3)
    h = bp.Conv(4, 3, pad="same", activation="tanh", name="conv")(x)
    made = []
    for i in range(int(random.integers(1, 4))):
        cell, units = ("tanh", "gru", "lstm")[(seed + i) % 3], int(random.integers(1, 9))
        reverse, has_bias, has_state = map(bool, random.integers(0, 2, 3))
        has_state |= i == 0
        layer = bp.Recurrent(units, cell, reverse, bias=has_bias, name=f"r{i}", **({"bias_init": "normal"} if has_bias else {}))
        made.append((f"r{i}", cell, reverse, has_state))
        h = layer(h, bp.Dense(layer.state_width, "tanh", name=f"s{i}")(z)) if has_state else layer(h)
    net = bp.Network([x, z], [h, bp.Last()(h)], "float64", seed)
    t = bp.Trainer(net, ["mse", "half_sse"], loss_weights=[1, 0.5])
    xs = [random.normal(size=(rows, length, columns)), random.normal(size=(rows, 3))]
    ys = [random.normal(size=(rows, *entry.row_shape)) for entry in net.outputs]
    loss = t.backward(xs, ys, input_grads=True)

    a, b = (torch.tensor(one, requires_grad=True) for one in xs)
    y, conv_tensors = conv(a.permute(0, 2, 1)[:, :, None], net, "conv", 4, (1, 3), padding=(0, 1))
    y, checks = torch.tanh(y)[:, :, 0].permute(0, 2, 1), []
    for name, cell, reverse, has_state in made:
        state = None
        if has_state:
            dense = torch.nn.Linear(3, len(net.tensors[f"s{name[1:]}.weight"]), dtype=torch.float64)
            values = {key: torch.tensor(np.ascontiguousarray(net.tensors[f"s{name[1:]}.{key}"])) for key in ("weight", "bias")}
            dense.load_state_dict(values)
            state = torch.tanh(dense(b))
        y, gradients = recurrence(y, net, name, cell, reverse, state)
        checks.append((name, gradients))
    expected = F.mse_loss(y, torch.tensor(ys[0])) + 0.25 * ((y[:, -1] - torch.tensor(ys[1])) ** 2).sum(1).mean()
    expected.backward()

    np.testing.assert_allclose(net.predict(xs)[0], y.detach().numpy(), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-12)
    wanted = [("conv", lambda: dict(zip(("weight", "bias"), (one.T for one in flat(*conv_tensors)), strict=True))), *checks]
    found = {f"{layer}.{name}": (offset, ins, outs) for layer, name, offset, ins, outs in net._core.tensors()}
    for name, gradients in wanted:
        for part, gradient in gradients().items():
            offset, ins, outs = found[f"{name}.{part}"]
            mine = t.grads[offset : offset + ins * outs].reshape(gradient.shape)
            np.testing.assert_allclose(mine, gradient, rtol=1e-11, atol=1e-11)
    for mine, theirs in zip(t.input_grads, (a, b), strict=True):
        grad = np.zeros(theirs.shape) if theirs.grad is None else theirs.grad.numpy()
        np.testing.assert_allclose(mine.reshape(grad.shape), grad, rtol=1e-11, atol=1e-11)


# ---- random graphs ----


class Both:
    """A node, and what PyTorch computes there: `compute` gets the run and the operands, (rows, *grid, columns)."""

    def __init__(self, node, compute, *operands):
        self.node, self.compute, self.operands = node, compute, operands

    def value(self, run):
        if self not in run.values:
            run.values[self] = self.compute(run, *(one.value(run) for one in self.operands))
        return run.values[self]


class Run:
    """The tensors of a net, by name, and the values of nodes."""

    def __init__(self, net):
        self.tensors = {name: torch.tensor(np.array(array), requires_grad=True) for name, array in net.tensors.items()}
        self.values = {}

    def of(self, layer, *parts):
        return [self.tensors.get(f"{layer}.{part}") for part in parts or ("weight", "bias")]


def pixels(x):
    """(rows, *grid, columns) as (rows, columns, height, width)."""
    return (x[:, None] if x.ndim == 3 else x).permute(0, 3, 1, 2)


def positions_of(y, grid):
    y = y.permute(0, 2, 3, 1)
    return y[:, 0] if len(grid) == 1 else y


def recurrent_of(layer, name, reverse):
    def compute(run, x, state=None):
        weight, bias = run.of(name)
        columns, n = x.shape[2], layer.units
        kind = {"tanh": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[layer.cell]
        module = kind(columns, n, batch_first=True, bias=bias is not None, dtype=torch.float64)
        tensors = {"weight_ih_l0": weight[:, :columns], "weight_hh_l0": weight[:, columns:]}
        if bias is not None:
            of_h = torch.cat([torch.zeros(2 * n, dtype=torch.float64), bias[3 * n :]]) if layer.cell == "gru" else torch.zeros_like(bias)
            tensors |= {"bias_ih_l0": bias[: len(weight)], "bias_hh_l0": of_h}
        first = state if state is None else state[None, :, :n].contiguous()
        if state is not None and layer.cell == "lstm":
            first = first, state[None, :, n:].contiguous()
        y = torch.func.functional_call(module, tensors, (torch.flip(x, [1]) if reverse else x, first))[0]
        return torch.flip(y, [1]) if reverse else y

    return compute


class Graph:
    """Random nodes, each from nodes that are there, on top of a sequence, an image and a row of columns."""

    KINDS = "conv", "pool", "recurrent", "layer_norm", "batch_norm", "repeat", "last", "concat", "slice", "arithmetic", "dense", "flatten"

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        length, height, width, columns = (self.below(least, 9) for least in (2, 2, 2, 1))
        self.length, self.count, self.made = length, 0, set()
        inputs = bp.Sequence(length, columns), bp.Grid(height, width, self.below(1, 4)), bp.Input(self.below(1, 5))
        self.inputs = [Both(node, lambda run, i=i: run.values[i]) for i, node in enumerate(inputs)]
        self.all = list(self.inputs)

    def below(self, first, end):
        return int(self.random.integers(first, end))

    def name(self):
        self.count += 1
        return f"l{self.count}"

    def pick(self, fits):
        found = [one for one in self.all if fits(one.node)]
        return found[max(self.below(0, len(found)), self.below(0, len(found)))]

    def sizes(self, node, first, end):
        return tuple(self.below(first, end) for _ in node.grid)

    def conv(self):
        x, name, act = self.pick(lambda node: node.grid), self.name(), ("tanh", "sigmoid", "softplus")[self.below(0, 3)]
        units, shapes = self.below(1, 6), [self.sizes(x.node, *ends) for ends in ((1, 4), (1, 4), (0, 4), (1, 3))]
        size, stride, pad, dilation = ((*(1, 1, 0, 1)[i : i + 1], *shape)[-2:] for i, shape in enumerate(shapes))

        def compute(run, x):
            weight, bias = run.of(name)
            weight = weight.reshape(units, *size, -1).permute(0, 3, 1, 2)
            y = getattr(F if act == "softplus" else torch, act)(F.conv2d(pixels(x), weight, bias, stride, pad, dilation))
            return positions_of(y, node.grid)

        node = bp.Conv(units, *shapes, activation=act, bias_init="normal", name=name)(x.node)
        return Both(node, compute, x)

    def pool(self):
        x, kind = self.pick(lambda node: node.grid), ("max", "mean")[self.below(0, 2)]
        shapes = x.node.grid if self.below(0, 4) == 0 else self.sizes(x.node, 1, 4), self.sizes(x.node, 1, 4)
        node = bp.Pool(*shapes, kind=kind)(x.node)
        run_pool = F.max_pool2d if kind == "max" else F.avg_pool2d
        size, stride = ((1, *shape)[-2:] for shape in shapes)
        return Both(node, lambda run, x: positions_of(run_pool(pixels(x), size, stride), node.grid), x)

    def recurrent(self):
        x, name, reverse = self.pick(lambda node: len(node.grid) == 1), self.name(), bool(self.below(0, 2))
        settings = {"bias_init": "normal"} if self.below(0, 2) else {"bias": False}
        layer = bp.Recurrent(self.below(1, 7), ("tanh", "gru", "lstm")[self.below(0, 3)], reverse, name=name, **settings)
        state = [self.dense(self.pick(lambda node: not node.grid), layer.state_width)] if self.below(0, 2) else []
        made = Both(layer(x.node, *(one.node for one in state)), recurrent_of(layer, name, reverse), x, *state)
        if made.node.width == x.node.width:  # the same weights again, above
            made = Both(layer(made.node, *(one.node for one in state)), made.compute, made, *state)
        return made

    def dense(self, x=None, units=None):
        x, name = x or self.pick(lambda node: True), self.name()
        layer = bp.Dense(units or self.below(1, 6), "tanh", bias_init="normal", name=name)
        return Both(layer(x.node), lambda run, x: torch.tanh(F.linear(x, *run.of(name))), x)

    def layer_norm(self):
        x, name = self.pick(lambda node: node.width > 1), self.name()
        return Both(bp.LayerNorm(eps=0.1, name=name)(x.node), lambda run, x: F.layer_norm(x, x.shape[-1:], *run.of(name), 0.1), x)

    def batch_norm(self):
        x, name = self.pick(lambda node: True), self.name()

        def compute(run, x):
            return F.batch_norm(x.reshape(-1, x.shape[-1]), None, None, *run.of(name, "weight", "bias"), True, eps=0.1).reshape(x.shape)

        return Both(bp.BatchNorm(eps=0.1, name=name)(x.node), compute, x)

    def repeat(self):
        x = self.pick(lambda node: not node.grid)
        return Both(bp.Repeat(self.length)(x.node), lambda run, x: x[:, None].expand(-1, self.length, -1), x)

    def last(self):
        x = self.pick(lambda node: node.grid)
        return Both(bp.Last()(x.node), lambda run, x: x.reshape(len(x), -1, x.shape[-1])[:, -1], x)

    def flatten(self):
        x = self.pick(lambda node: node.grid and node.positions * node.width < 100)
        return Both(bp.Flatten()(x.node), lambda run, x: x.reshape(len(x), -1), x)

    def slice(self):
        x = self.pick(lambda node: node.width > 1)
        first, end = sorted(self.random.choice(x.node.width + 1, 2, replace=False).tolist())
        return Both(x.node[:, first:end], lambda run, x: x[..., first:end], x)

    def concat(self):
        x = self.pick(lambda node: True)
        parts = [x, *(self.pick(lambda node: node.grid == x.node.grid) for _ in range(self.below(1, 3)))]
        return Both(bp.concat([one.node for one in parts]), lambda run, *xs: torch.cat(xs, -1), *parts)

    def arithmetic(self):
        a = self.pick(lambda node: True)
        b = self.dense(self.pick(lambda node: node.grid == a.node.grid), a.node.width)
        operation = (lambda a, b: a + b, lambda a, b: a * b, lambda a, b: a - b)[self.below(0, 3)]
        return Both(operation(a.node, b.node), lambda run, a, b: operation(a, b), a, b)

    def grow(self, nodes):
        while len(self.all) < nodes:
            kind = self.random.choice(self.KINDS)
            try:
                self.all.append(getattr(self, kind)())
            except (ValueError, IndexError):  # a window does not fit, or there is no such node
                continue
            self.made.add(kind)
        used = {operand for one in self.all for operand in one.operands}
        return [one for one in self.all if one not in used and one not in self.inputs]


def random_net(seed):
    """A graph, its ends, and the net; inputs that nothing reads get a dense layer."""
    graph = Graph(seed)
    ends = graph.grow(7 + seed % 12)
    ends += [graph.dense(x) for x in graph.inputs]
    return graph, ends, bp.Network([one.node for one in graph.inputs], [one.node for one in ends], "float64", seed)


@pytest.mark.parametrize("seed", range(120))
def test_random_graphs_equal_pytorch(seed):
    graph, ends, net = random_net(seed)
    rows = graph.below(2, 8)
    xs = [graph.random.normal(size=(rows, *one.node.grid, one.node.width)) for one in graph.inputs]
    ys = [graph.random.normal(size=(rows, *one.node.grid, one.node.width)) for one in ends]
    t = bp.Trainer(net, ["mse"] * len(ends))
    loss = t.backward(xs, [y.reshape(rows, -1) for y in ys], input_grads=True)

    run = Run(net)
    run.values |= {i: torch.tensor(x, requires_grad=True) for i, x in enumerate(xs)}
    expected = sum(F.mse_loss(one.value(run), torch.tensor(y)) for one, y in zip(ends, ys, strict=True))
    expected.backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-11)
    for layer, name, offset, ins, outs in net._core.tensors():
        theirs = run.tensors[f"{layer}.{name}"]
        mine = t.grads[offset : offset + ins * outs].reshape(ins, outs).T
        np.testing.assert_allclose(mine.reshape(theirs.shape), theirs.grad.numpy(), rtol=1e-11, atol=1e-11, err_msg=f"{layer}.{name}")
    for i, mine in enumerate(t.input_grads):
        np.testing.assert_allclose(mine.reshape(xs[i].shape), run.values[i].grad.numpy(), rtol=1e-11, atol=1e-11)
    if "batch_norm" not in graph.made:  # in inference it has running statistics
        for mine, one in zip(net.predict(xs), ends, strict=True):
            theirs = one.value(run).detach().numpy()
            np.testing.assert_allclose(mine.reshape(theirs.shape), theirs, rtol=1e-11, atol=1e-11)


def test_random_graphs_have_all_kinds_of_nodes():
    made = [Graph(seed) for seed in range(120)]
    for seed, graph in enumerate(made):
        graph.grow(7 + seed % 12)
    for kind in Graph.KINDS:
        assert sum(kind in graph.made for graph in made) >= 20, kind
