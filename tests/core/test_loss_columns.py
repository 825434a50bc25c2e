"""Losses whose parameters are lists, with a number for each output, and losses with several outputs for a target."""

import pickle
import re

import cases
import numpy as np
import pytest

import microbp as bp

ROWS = 70  # more than a chunk of the kernels
Q = (0.1, 0.5, 0.9)
LISTS = {  # loss, the parameter that is a list -> its numbers for six outputs
    ("quantile", "q"): Q,
    ("bce", "pos_weight"): (1.0, 20.0, 0.5, 3.0, 0.0, 1.0),
    ("bce", "gamma"): (0.0, 0.5, 1.0, 2.0, 3.0, 5.0),
    ("bce", "label_smoothing"): (0.0, 0.1, 0.2, 0.3, 0.0, 0.5),
    ("huber", "delta"): (0.25, 0.5, 1.0, 2.0, 4.0, 8.0),
    ("smooth_l1", "beta"): (8.0, 4.0, 2.0, 1.0, 0.5, 0.25),
}


def trainer_of(loss, width, dtype="float64", backend="compiled"):
    """A trainer of a network whose outputs are its inputs."""
    x = bp.Input(width)
    return bp.Trainer(bp.Network(x, x, dtype=dtype, seed=0, backend=backend), loss, "sgd")


def gradient_of(t, o, y, weight=None):
    """The loss of these outputs and its gradient."""
    loss = t.backward(o, y, weight, input_grads=True)
    return loss, t.input_grads.copy()


def draw(loss, width, targets):
    random = np.random.default_rng(cases.SEED)
    return random.normal(size=(ROWS, width)), cases.LOSSES[loss].draw(random, ROWS, targets), random.random(ROWS)


@pytest.mark.parametrize(("loss", "key"), LISTS)
@pytest.mark.parametrize("width", [6, 48])
def test_each_output_is_lost_with_its_own_number(backend, loss, key, width):
    numbers = LISTS[loss, key] if loss == "quantile" else LISTS[loss, key] * (width // 6)
    targets = bp.Loss(loss, **{key: numbers}).target_columns(width)
    o, y, weight = draw(loss, width, targets)
    value, gradient = gradient_of(trainer_of(bp.Loss(loss, **{key: numbers}), width, backend=backend), o, y, weight)
    total = 0.0
    for j in range(width):
        number = numbers[j * len(numbers) // width]
        alone = trainer_of(bp.Loss(loss, **{key: number}), 1, backend=backend)
        one, its_gradient = gradient_of(alone, o[:, [j]], y[:, [j % targets]], weight)
        np.testing.assert_allclose(gradient[:, [j]], its_gradient / width, rtol=1e-14, atol=1e-17)
        total += one / width
    assert value == pytest.approx(total, rel=1e-13)


@pytest.mark.parametrize(("loss", "key"), LISTS)
@pytest.mark.parametrize("width", [1, 3, 16, 17, 40])
def test_a_list_of_one_number_many_times_has_the_bits_of_the_number(isa, dtype, loss, key, width):
    o, y, weight = draw(loss, width, width)
    numbers = [0.3] if loss == "quantile" else [0.3] * width
    for given in (None, weight):
        value, gradient = gradient_of(trainer_of(bp.Loss(loss, **{key: 0.3}), width, dtype), o, y, given)
        found, its_gradient = gradient_of(trainer_of(bp.Loss(loss, **{key: numbers}), width, dtype), o, y, given)
        assert found == value
        np.testing.assert_array_equal(its_gradient, gradient)


@pytest.mark.parametrize("name", cases.FOCAL)
@pytest.mark.parametrize("width", [2, 5, 40])
def test_focal_losses_agree_with_the_reference(isa, dtype, name, width):
    case = cases.FOCAL[name]
    o, y, weight = draw(name, width, width)
    o = (4 * o).astype(dtype).astype(np.float64)
    y = y.astype(dtype).astype(np.float64)
    share = weight[:, None] / weight.sum() / (width if name == "bce" else 1)
    value, gradient = gradient_of(trainer_of(case.spec, width, dtype), o.astype(dtype), y.astype(dtype), weight)
    expected, its_gradient = gradient_of(trainer_of(case.spec, width, backend="reference"), o, y, weight)
    unit = cases.DIFFERENTIAL * cases.EPS[dtype]
    assert abs(value - expected) <= unit * (share * case.terms(o, y)).sum()
    assert (abs(gradient - its_gradient) <= unit * share * case.slope_terms(o, y)).all()


@pytest.mark.parametrize("width", [2, 5, 16, 17])
@pytest.mark.parametrize("rows", [1, 2, 16, 50])
def test_labels_and_their_rows_of_probabilities_have_the_same_focal_loss(isa, dtype, width, rows):
    random = np.random.default_rng(cases.SEED)
    o, labels, weight = random.normal(size=(rows, width)).astype(dtype), random.integers(width, size=rows), random.random(rows)
    for spec in (cases.FOCAL["cross_entropy"].spec, "cross_entropy(gamma=2)"):
        t = trainer_of(spec, width, dtype)
        (a, gradient), (b, other) = (gradient_of(t, o, y, weight) for y in (labels, np.eye(width, dtype=dtype)[labels]))
        assert a == b
        np.testing.assert_array_equal(gradient, other)


@pytest.mark.parametrize(("loss", "key"), LISTS)
def test_lists_travel_through_texts_files_and_pickles(backend, loss, key, tmp_path):
    given = bp.Loss(loss, **{key: LISTS[loss, key]})
    assert bp.Loss(given.text) == given == pickle.loads(pickle.dumps(given)) == bp.Loss(loss, **{key: np.array(LISTS[loss, key])})
    assert bp.Loss(given.text.replace(" ", ", ")) == given
    o, y, _ = draw(loss, 6, given.target_columns(6))
    t = bp.Trainer(bp.mlp([6, 6], dtype="float64", seed=0, backend=backend), given, "sgd")
    t.save(tmp_path / "t.safetensors")
    for other in ("compiled", "reference"):
        copy = bp.Trainer.load(tmp_path / "t.safetensors", backend=other)
        assert copy.backward(o, y) == pytest.approx(t.backward(o, y), rel=1e-13)
        copy.save(tmp_path / "again.safetensors")
        assert (
            copy.losses
            == t.losses
            == (given,)
            == pickle.loads(pickle.dumps(copy)).losses
            == bp.Trainer.load(tmp_path / "again.safetensors").losses
        )


def test_fit_predicts_several_quantiles_and_a_mean_with_its_variance(backend):
    random = np.random.default_rng(cases.SEED)
    y = random.normal(3, 2, size=(400, 2)) * [1, 0.5]
    x = np.zeros((400, 1))
    for loss, expected in (
        (bp.Loss("quantile", q=Q), np.quantile(y, Q, axis=0).ravel()),
        (bp.Loss("gaussian_nll"), np.concatenate([y.mean(axis=0), np.log(y.var(axis=0))])),
    ):
        t = bp.Trainer(bp.mlp([1, len(expected)], dtype="float64", seed=0, backend=backend), loss, bp.Adam(lr=0.05))
        t.fit(x, y, epochs=60, batch_size=100, validation=(x, y))
        np.testing.assert_allclose(t.predict(x[:1])[0], expected, atol=0.25)


@pytest.mark.parametrize(
    ("loss", "width", "shape", "message"),
    [
        ("gaussian_nll", 3, (5, 3), "gaussian_nll has 2 columns for each target, so the output needs a multiple of 2 columns, not 3"),
        ("quantile(q=[0.1 0.9])", 3, (5, 3), "quantile has 2 columns for each target, so the output needs a multiple of 2 columns, not 3"),
        ("bce(pos_weight=[1 2])", 3, (5, 3), "a list in bce has 2 numbers, but the output has 3 columns"),
        ("gaussian_nll", 4, (5, 4), r"y has shape \(5, 4\) and dtype float64; with 4 outputs, 2 per target, it must have shape \(5, 2\)"),
        ("quantile(q=[0.1 0.9])", 2, (5, 2), r"with 2 outputs, 2 per target, it must have shape \(5, 1\)"),
    ],
)
def test_widths_that_do_not_fit_are_refused(backend, loss, width, shape, message):
    with pytest.raises(ValueError, match=message):
        trainer_of(loss, width, backend=backend).step(np.zeros((5, width)), np.zeros(shape))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cross_entropy(temperature=[1 2])", 'temperature must be a number, not "'),
        ("quantile(q=[0.5 2])", "quantile: q must be in "),
        ("quantile(q=[])", "quantile: q must be a number, or a list with at least one"),
        ("quantile(q=[0.5 x])", "'x' is not a number|q must be a number"),
        ("bce(pos_weight=[1 2],label_smoothing=[0.1 0.1 0.1])", "a list in bce has 2 numbers, but the output has 3 columns"),
    ],
)
def test_bad_lists_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        bp.Loss(text)


@pytest.mark.parametrize(
    "text", ["quantile(q=[0.5 2])", "quantile(q=[])", "quantile(q=[0.5)", "quantile(q=[0.5 0,1])", "kl(x=1)", "huber(delta=[1 -1])"]
)
def test_both_backends_refuse_a_bad_text_alike(text):
    from microbp import reference
    from microbp.core import _core

    errors = []
    for module in (_core, reference):
        with pytest.raises(ValueError, match=".") as raised:
            module.target_columns(text, 2)
        errors.append(str(raised.value))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("text", ["quantile(q=[0.1 0.5 0.9])", "bce(label_smoothing=0,pos_weight=[1 2 3],gamma=[0 1 2])"])
def test_an_error_names_all_numbers_of_a_loss(text):
    from microbp import reference
    from microbp.core import _core

    for module in (_core, reference):
        t = module.Trainer(module.Net("input 3\noutput 0\n", "float64"), [text], [1.0], "sgd")
        y = np.zeros((1, module.target_columns(text, 3)))
        with pytest.raises(FloatingPointError, match=re.escape(f"the loss of output 0 ({text}) is nan, not a finite number")):
            t.step(np.full((1, 3), np.nan), y)


@pytest.mark.parametrize("loss", ["gaussian_nll", "quantile(q=[0.2 0.8])"])
def test_metrics_see_the_means_or_are_refused(backend, loss):
    random = np.random.default_rng(cases.SEED)
    x, y = random.normal(size=(40, 3)), random.normal(size=(40, 2))
    t = bp.Trainer(bp.mlp([3, 4], dtype="float64", seed=0, backend=backend), loss, "adam")
    if loss == "gaussian_nll":
        history = t.fit(x, y, epochs=1, metrics=["rmse"], validation=(x, y))
        assert history["rmse"][-1] == pytest.approx(bp.rmse(y, t.predict(x)[:, :2]), rel=1e-12)
    else:
        with pytest.raises(ValueError, match="several numbers for each target"):
            t.fit(x, y, epochs=1, metrics=["rmse"], validation=(x, y))


# ---- PyTorch ----


def torch_quantiles(torch, o, y):
    q = torch.tensor(Q, dtype=torch.float64).repeat_interleave(2)
    d = torch.cat([y, y, y], dim=1) - o
    return torch.maximum(q * d, (q - 1) * d).mean()


def torch_bce(torch, o, y, pos_weight):
    weight = torch.tensor(pos_weight, dtype=torch.float64)
    return torch.nn.functional.binary_cross_entropy_with_logits(o, y, pos_weight=weight)


def functions(torch):
    return torch.nn.functional


def torch_focal(torch, o, y, gamma, pos_weight=1):
    p, log = torch.sigmoid(o), functions(torch).logsigmoid
    return -(pos_weight * y * (1 - p) ** gamma * log(o) + (1 - y) * p**gamma * log(-o)).mean()


def torch_focal_rows(torch, o, y, gamma):
    log = torch.log_softmax(o, dim=1)
    return -(y * (1 - log.exp()) ** gamma * log).sum(dim=1).mean()


TORCH = {  # the same loss of PyTorch, as a function of the module, outputs and targets
    "smooth_l1(beta=0.5)": lambda torch, o, y: functions(torch).smooth_l1_loss(o, y, beta=0.5),
    "log_cosh": lambda torch, o, y: torch.log(torch.cosh(o - y)).mean(),
    "kl": lambda torch, o, y: functions(torch).kl_div(torch.log_softmax(o, dim=1), y, reduction="batchmean"),
    "gaussian_nll": lambda torch, o, y: functions(torch).gaussian_nll_loss(o[:, :3], y, torch.exp(o[:, 3:]), eps=1e-300),
    "bce(pos_weight=2.5)": lambda torch, o, y: torch_bce(torch, o, y, [2.5] * 6),
    "bce(pos_weight=[1 20 0.5 3 0 1])": lambda torch, o, y: torch_bce(torch, o, y, LISTS["bce", "pos_weight"]),
    "cross_entropy(temperature=3)": lambda torch, o, y: functions(torch).cross_entropy(o / 3, y),
    "cross_entropy(temperature=0.5,label_smoothing=0.1)": lambda torch, o, y: functions(torch).cross_entropy(o * 2, y, label_smoothing=0.1),
    "bce(gamma=2)": lambda torch, o, y: torch_focal(torch, o, y, 2),
    "bce(gamma=0.5,pos_weight=3,label_smoothing=0.1)": lambda torch, o, y: torch_focal(torch, o, 0.9 * y + 0.05, 0.5, 3),
    "cross_entropy(gamma=2)": lambda torch, o, y: torch_focal_rows(torch, o, y, 2),
    "cross_entropy(gamma=1.5,temperature=2,label_smoothing=0.1)": lambda torch, o, y: torch_focal_rows(
        torch, o / 2, 0.9 * y + 0.1 / 6, 1.5
    ),
    "quantile(q=[0.1 0.5 0.9])": torch_quantiles,
}


@pytest.mark.peers
@pytest.mark.parametrize("loss", TORCH)
def test_losses_and_gradients_equal_those_of_pytorch(backend, loss):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    ours = bp.Loss(loss)
    o, y, _ = draw(ours.name, 6, ours.target_columns(6))
    value, gradient = gradient_of(trainer_of(ours, 6, backend=backend), o, y)
    outputs = torch.tensor(o, requires_grad=True)
    expected = TORCH[loss](torch, outputs, torch.tensor(y))
    expected.backward()
    assert value == pytest.approx(expected.item(), rel=1e-12)
    np.testing.assert_allclose(gradient, outputs.grad.numpy(), rtol=1e-12, atol=1e-17)
