"""Models from and to scikit-learn: the same predictions, and in both directions the same weights to the last bit."""

from __future__ import annotations

import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest

import microbp as bp

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.validation import check_is_fitted

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5))
LABELS = (X[:, :3] > 0).astype(int)
SUMS = X @ RNG.normal(size=(5, 2))


def fitted(model, y, dtype="float64"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X.astype(dtype), y)


MODELS = {
    "two classes": (MLPClassifier, np.array(["no", "yes"])[LABELS[:, 0]]),
    "three classes": (MLPClassifier, LABELS.sum(axis=1).clip(0, 2)),
    "names": (MLPClassifier, np.array(["ant", "bee", "cow", "dog"])[LABELS.sum(axis=1)]),
    "bools": (MLPClassifier, LABELS[:, 0] > 0),
    "labels": (MLPClassifier, LABELS),
    "number": (MLPRegressor, SUMS[:, 0]),
    "numbers": (MLPRegressor, SUMS),
    "rates": (lambda **settings: MLPRegressor(loss="poisson", **settings), np.exp(SUMS[:, 0] / 4)),
}


def model_of(name, **settings):
    make, y = MODELS[name]
    return fitted(make(**{"max_iter": 3, "random_state": 0} | settings), y), y


def check_same(model, twin):
    """Everything that a prediction needs, to the last bit."""
    for one, other in zip([*model.coefs_, *model.intercepts_], [*twin.coefs_, *twin.intercepts_], strict=True):
        assert one.dtype == other.dtype and one.tobytes() == other.tobytes()
    for name in ("n_layers_", "n_outputs_", "n_features_in_", "out_activation_"):
        assert getattr(model, name) == getattr(twin, name), name
    assert type(model) is type(twin) and model.activation == twin.activation and model.alpha == twin.alpha
    np.testing.assert_array_equal(model.predict(X), twin.predict(X))
    if isinstance(model, MLPClassifier):
        np.testing.assert_array_equal(model.classes_, twin.classes_)
        np.testing.assert_array_equal(model.predict_proba(X), twin.predict_proba(X))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("activation", "hidden"), [("relu", (7, 4)), ("tanh", (3,)), ("logistic", (6, 5, 4)), ("identity", (2,))])
def test_models_predict_the_same_and_come_back_with_their_bits(name, activation, hidden):
    model, _ = model_of(name, activation=activation, hidden_layer_sizes=hidden, alpha=0.01)
    net = bp.from_sklearn(model)
    expected = model.predict_proba(X) if isinstance(model, MLPClassifier) else model.predict(X).reshape(60, -1)
    if name in ("two classes", "bools"):
        expected = expected[:, 1:]
    np.testing.assert_allclose(net.predict(X), expected, rtol=1e-12, atol=1e-14)
    assert net.dtype == "float64" and {layer.l2 for layer in net.layers} == {0.01}
    check_same(model, net.to_sklearn())
    again = bp.from_sklearn(net.to_sklearn())
    assert again.params.tobytes() == net.params.tobytes() and again.notes == net.notes


def test_float32_stays_float32():
    make, y = MODELS["names"]
    model = fitted(make(max_iter=3, random_state=0), y, "float32")
    net = bp.from_sklearn(model)
    assert net.dtype == "float32"
    check_same(model, net.to_sklearn())
    np.testing.assert_allclose(net.predict(X), model.predict_proba(X.astype("float32")), rtol=1e-5)


@pytest.mark.parametrize("loss", ["log_loss", "cross_entropy"])
@pytest.mark.parametrize("name", [name for name, (make, _) in MODELS.items() if make is MLPClassifier])
def test_the_network_of_an_estimator_knows_its_classes(name, loss, tmp_path):
    from microbp.sklearn import MLPClassifier as Estimator

    y = MODELS[name][1]
    if (name, loss) == ("labels", "cross_entropy"):
        pytest.skip("cross_entropy is for one class per row")
    estimator = fitted(Estimator((4,), max_iter=2, random_state=0, loss=loss), y)
    estimator.net.save(tmp_path / "net.safetensors")
    for net in (estimator.net, pickle.loads(pickle.dumps(estimator)).net, bp.load(tmp_path / "net.safetensors")):
        model = net.to_sklearn()
        assert np.array_equal(model.predict(X), estimator.predict(X)) and model.classes_.tolist() == estimator.classes_.tolist()
        np.testing.assert_allclose(model.predict_proba(X), estimator.predict_proba(X), rtol=1e-12, atol=1e-14)
        for one, other in zip([*model.coefs_, *model.intercepts_], [*estimator.coefs_, *estimator.intercepts_], strict=True):
            assert one.tobytes() == other.tobytes()


def test_the_notes_of_a_given_network_are_kept():
    from microbp.sklearn import MLPClassifier as Estimator

    given = bp.mlp([5, 2, 3], seed=0, dtype="float64")
    given.notes = {"origin": "here", "classes": ["a", "b", "c"]}
    net = fitted(Estimator(network=given, max_iter=2, random_state=0), MODELS["three classes"][1]).net
    assert net.notes == {"origin": "here", "classes": [0, 1, 2]} and given.notes["classes"] == ["a", "b", "c"]


def test_a_network_of_microbp_becomes_a_model(tmp_path):
    """Trained here, saved, loaded, then a model; without biases in one layer, with dropout, and with a layer that is used twice."""
    x, layer = bp.Input(5), bp.Dense(5, "tanh", bias=False)
    h = layer(bp.Dropout(0.5)(layer(x)))
    t = bp.Trainer(bp.Network(x, bp.Dense(3)(h), seed=0, dtype="float64"), "cross_entropy")
    t.fit(X, LABELS.sum(axis=1).clip(0, 2), epochs=2)
    t.net.save(tmp_path / "net.safetensors")
    net = bp.load(tmp_path / "net.safetensors")
    model = net.to_sklearn()
    check_is_fitted(model)
    np.testing.assert_allclose(model.predict_proba(X), net.predict(X), rtol=1e-12)
    np.testing.assert_array_equal(model.predict(X), net.predict(X).argmax(axis=1))
    before = net.params.copy()
    model.coefs_[0][...] = 0
    np.testing.assert_array_equal(net.params, before)


def test_two_classes_may_have_a_column_each():
    net = bp.mlp([5, 4, 2], dtype="float64", seed=0)
    net.set_output(0, "softmax")
    model = net.to_sklearn(["no", "yes"])
    np.testing.assert_allclose(model.predict_proba(X), net.predict(X), rtol=1e-12)
    np.testing.assert_array_equal(model.predict(X), np.array(["no", "yes"])[net.predict(X).argmax(axis=1)])


@pytest.mark.parametrize("name", MODELS)
def test_a_model_can_be_trained_on(name):
    model, y = model_of(name)
    twin = bp.from_sklearn(model).to_sklearn()
    twin.partial_fit(X, y)  # a classifier knows its classes
    assert twin.n_iter_ == 1 and any((one != two).any() for one, two in zip(model.coefs_, twin.coefs_, strict=True))


# ---- what is refused ----


def made(*layers, output=None, inputs=1, outputs=1):
    x = [bp.Input(4) for _ in range(inputs)]
    node = bp.add(*x) if inputs > 1 else x[0]
    for layer in layers:
        node = layer(node)
    net = bp.Network(x, [node, *(bp.Dense(1)(node) for _ in range(outputs - 1))], seed=0)
    if output:
        net.set_output(0, output)
    return net


class Skip:
    def __call__(self, node):
        return node + bp.Dense(4, name="side")(node)


REFUSED = {
    "norm": (lambda: made(bp.Dense(3), bp.LayerNorm(name="norm"), bp.Dense(1)), "layer norm is a layer_norm"),
    "standardize": (lambda: made(bp.Standardize(), bp.Dense(1)), "layer standardize_0 is a standardize"),
    "skip": (lambda: made(Skip(), bp.Dense(1)), "node 2 is an add"),
    "branch": (lambda: made(bp.Dense(3), outputs=2), "the network has 2 outputs"),
    "inputs": (lambda: made(bp.Dense(3), inputs=2), "the network has 2 inputs"),
    "activations": (lambda: made(bp.Dense(3, "relu"), bp.Dense(3, "tanh", name="b"), bp.Dense(1)), "layer b has the activation tanh, and"),
    "gelu": (lambda: made(bp.Dense(3, "gelu", name="a"), bp.Dense(1)), "layer a has the activation gelu, but"),
    "top": (lambda: made(bp.Dense(3), bp.Dense(1, "relu", name="top")), "the last layer, top, has the activation relu"),
    "node": (lambda: made(bp.Dense(3), bp.Activation("relu"), bp.Dense(1)), "node 2 is an activation"),
    "no layer": (lambda: made(bp.Dropout(0.5)), "output 0 is node 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_other_networks_are_refused_by_the_name_of_the_layer(name):
    make, text = REFUSED[name]
    with pytest.raises(ValueError, match=f"^to_sklearn: {text}"):
        make().to_sklearn()


@pytest.mark.parametrize(
    ("widths", "output", "classes", "text"),
    [
        ([4, 3], "softmax", ["a", "b"], "classes must be a list of 3"),
        ([4, 3], "softmax", ["a", "c", "b"], "classes must be in ascending order"),
        ([4, 3], "softmax", [0, 1, 1], "classes must be in ascending order"),
        ([4, 1], "sigmoid", ["a"], "classes must be a list of 2"),
        ([4, 2], "sigmoid", ["a", "b"], "the labels of several sigmoid outputs are 0 to 1"),
        ([4, 2], "identity", ["a", "b"], "classes belong to a network with softmax or sigmoid"),
    ],
)
def test_wrong_classes_are_refused(widths, output, classes, text):
    net = bp.mlp(widths, seed=0)
    net.set_output(0, output)
    with pytest.raises(ValueError, match=f"^to_sklearn: {text}"):
        net.to_sklearn(classes)


def test_scaled_targets_are_refused():
    net = bp.mlp([4, 1], seed=0)
    net.set_output(0, "identity", mean=3, std=2)
    with pytest.raises(ValueError, match="output 0 has the mean and std of the targets"):
        net.to_sklearn()


@pytest.mark.parametrize("model", [MLPClassifier, "relu", None])
def test_other_models_are_refused(model):
    with pytest.raises(TypeError, match="from_sklearn: the model must be an MLPClassifier or MLPRegressor of scikit-learn, not"):
        bp.from_sklearn(model)
    with pytest.raises(ValueError, match="from_sklearn: the model is not fitted"):
        bp.from_sklearn(MLPClassifier())


def test_without_scikit_learn_the_error_says_how_to_install_it():
    code = "import sys; sys.modules['sklearn'] = None; import microbp as bp; bp.mlp([2, 1]).to_sklearn()"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip().endswith("not installed: python -m pip install scikit-learn"), done.stderr
