"""Networks from and to scikit-learn's MLPClassifier and MLPRegressor: chains of dense layers, all hidden ones with the same activation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..core.text import brief, counted
from ..network.mlp import mlp
from ..network.network import Network
from ..network.records import LayerInfo

_ACTIVATIONS = {"identity": "identity", "logistic": "sigmoid", "relu": "relu", "tanh": "tanh"}  # scikit-learn's name: microbp's
_OUTPUTS = {"exp": "exp", "identity": "identity", "logistic": "sigmoid", "softmax": "softmax"}


def from_sklearn(model: Any) -> Network:
    """Makes a network with the weights of a fitted MLPClassifier or MLPRegressor of scikit-learn. `net.predict` gives what predict_proba
    of the classifier gives (of two classes, one column: the probability of the second), or predict of the regressor.

    The network has the model's dtype and output activation. Its layers have l2 = alpha, so that a Trainer with penalty_per_row=True goes
    on with the same penalty. `net.notes["classes"]` lists the classes in the order of the outputs.

    Classes that are neither numbers nor texts, such as dates, become texts. ImportError: scikit-learn is not installed. TypeError: it is
    another model. ValueError: it is not fitted.

    >>> from sklearn.neural_network import MLPRegressor
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> model = MLPRegressor(hidden_layer_sizes=8, tol=1, random_state=0).fit(X, X.sum(axis=1))
    >>> net = bp.from_sklearn(model)
    >>> np.allclose(net.predict(X).ravel(), model.predict(X))
    True
    """
    neural = _library()
    if not isinstance(model, neural.MLPClassifier | neural.MLPRegressor):
        if hasattr(model, "best_estimator_"):
            raise TypeError(f"from_sklearn: {type(model).__name__} is a search; pass its model, search.best_estimator_")
        others = "of a pipeline, pass the last step, model[-1]; an estimator of microbp.sklearn has its network as model.net"
        raise TypeError(
            f"from_sklearn: the model must be an MLPClassifier or MLPRegressor of scikit-learn, not {type(model).__name__}; {others}"
        )
    if not hasattr(model, "coefs_"):
        raise ValueError("from_sklearn: the model is not fitted; call model.fit first")
    widths = [len(model.coefs_[0]), *map(len, model.intercepts_)]
    net = mlp(widths, _ACTIVATIONS[model.activation], dtype=model.coefs_[0].dtype.name)  # type: ignore[arg-type]
    net.set_layer(l2=model.alpha)
    for layer, weights, biases in zip(net.layers, model.coefs_, model.intercepts_, strict=True):
        net.tensors[f"{layer.name}.weight"][...] = weights.T
        net.tensors[f"{layer.name}.bias"][...] = biases
    net.set_output(0, _OUTPUTS[model.out_activation_])  # type: ignore[arg-type]
    if isinstance(model, neural.MLPClassifier):
        net.notes = {"classes": names_of(model.classes_)}
    return net


def to_sklearn(net: Network, classes: Sequence[Any] | None = None) -> Any:
    """See Network.to_sklearn."""
    neural, layers = _library(), _chain(net)
    output, hidden = net.outputs[0], _hidden_activation(layers)
    if output.mean is not None:
        where = "put the model into sklearn.compose.TransformedTargetRegressor"
        raise ValueError(f"to_sklearn: output 0 has the mean and std of the targets, which scikit-learn's models do not have; {where}")
    is_classifier = output.activation in ("sigmoid", "softmax")
    _check_classes(net, is_classifier, output.activation == "sigmoid" and output.width > 1)
    penalties = {layer.l2 for layer in layers}
    settings = {
        "hidden_layer_sizes": tuple(layer.units for layer in layers[:-1]),
        "activation": hidden,
        "alpha": penalties.pop() if len(penalties) == 1 else 0.0,
        **({"loss": "poisson"} if output.activation == "exp" else {}),
    }
    model = neural.MLPClassifier(**settings) if is_classifier else neural.MLPRegressor(**settings)
    model.coefs_ = [net.tensors[f"{layer.name}.weight"].T.copy() for layer in layers]
    model.intercepts_ = [_biases(net, layer) for layer in layers]
    model.n_features_in_, model.n_outputs_, model.n_layers_ = layers[0].inputs, output.width, len(layers) + 1
    model.out_activation_ = next(name for name, ours in _OUTPUTS.items() if ours == (output.activation or "identity"))
    if is_classifier:
        model._label_binarizer = _label_binarizer(net, output.activation == "softmax", output.width, classes)
        model.classes_ = model._label_binarizer.classes_
    elif classes is not None:
        raise ValueError(f"to_sklearn: classes belong to a network with softmax or sigmoid, but output 0 has {output.activation}")
    # What partial_fit continues from: as after fit, but without an epoch.
    model.n_iter_, model.t_, model.loss_curve_, model.best_loss_, model._no_improvement_count = 0, 0, [], np.inf, 0
    model.validation_scores_ = model.best_validation_score_ = None
    return model


def _library() -> Any:
    try:
        from sklearn import neural_network  # imported here: scikit-learn is optional
    except ImportError:
        raise ImportError("models of scikit-learn need scikit-learn, which is not installed: python -m pip install scikit-learn") from None
    return neural_network


# ---- what scikit-learn's models can be ----


def _chain(net: Network) -> list[LayerInfo]:
    """The dense layers from input to output, as often as they are used. ValueError names the node that makes the network another one."""
    for what, entries in (("input", net.inputs), ("output", net.outputs)):
        if len(entries) > 1:
            raise ValueError(f"to_sklearn: the network has {counted(len(entries), what)}, but an MLP of scikit-learn has one")
    layers, found, last = {layer.name: layer for layer in net.layers}, [], net.inputs[0].node
    for node in net.nodes:
        if node.operation in ("input", "dropout", "noise") and node.operands in ((), (last,)):  # without effect in predictions
            last = node.node
            continue
        if node.operation != "dense" or node.layer is None:
            what = f"layer {node.layer}" if node.layer else f"node {node.node}"
            raise ValueError(f"to_sklearn: {what} is {_article(node.operation)}, but an MLP of scikit-learn has dense layers only")
        if node.operands != (last,):
            where = f"layer {node.layer} (node {node.node}) does not follow node {last}"
            raise ValueError(f"to_sklearn: {where}, but an MLP of scikit-learn is a chain of dense layers")
        found.append(layers[node.layer])
        last = node.node
    if not found or net.outputs[0].node != last:
        raise ValueError(f"to_sklearn: output 0 is node {net.outputs[0].node}, but an MLP of scikit-learn ends with its last dense layer")
    return found


def _article(operation: str) -> str:
    return f"{'an' if operation[0] in 'aeiou' else 'a'} {operation}"


def _hidden_activation(layers: list[LayerInfo]) -> str:
    """scikit-learn's name of the activation of all layers but the last, which must have none."""
    *hidden, top = layers
    if top.activation != "identity":
        raise ValueError(
            f"to_sklearn: the last layer, {top.name}, has the activation {top.activation}, but in scikit-learn it has none of its own; "
            "softmax, sigmoid and exp are set by net.set_output"
        )
    name = hidden[0].activation if hidden else "identity"
    for layer in hidden:
        if layer.activation != name:
            raise ValueError(
                f"to_sklearn: layer {layer.name} has the activation {layer.activation}, and {hidden[0].name} has {name}, but an MLP of "
                "scikit-learn has the same in all hidden layers"
            )
    if name not in _ACTIVATIONS.values():
        valid = "identity, relu, sigmoid (logistic) and tanh"
        raise ValueError(f"to_sklearn: layer {hidden[0].name} has the activation {name}, but scikit-learn has {valid} only")
    return next(theirs for theirs, ours in _ACTIVATIONS.items() if ours == name)


def _biases(net: Network, layer: LayerInfo) -> Any:
    return net.tensors[f"{layer.name}.bias"].copy() if layer.bias else np.zeros(layer.units, net.dtype)


# ---- classes ----


def names_of(classes: Any) -> list[Any]:
    """Classes as a file can keep them: numbers and texts as they are, dates and others as text."""
    names = classes.astype(str).tolist() if classes.dtype.kind in "mM" else classes.tolist()
    return [name if isinstance(name, str | int | float) else str(name) for name in names]


def _check_classes(net: Network, is_classifier: bool, has_labels: bool) -> None:
    """ValueError for a classifier of microbp.sklearn of a kind that scikit-learn does not have."""
    if "classes" in net.notes and not is_classifier:
        what = 'output 0 has no probabilities, but net.notes["classes"] says that it is of classes, as after the loss "hinge"'
        raise ValueError(f"to_sklearn: {what}; an MLPClassifier of scikit-learn has softmax or sigmoid")
    if net.notes.get("one_per_row") and has_labels:
        what = "the network has a sigmoid output for each class, of which a row has one"
        raise ValueError(f'to_sklearn: {what}, but in scikit-learn they are several labels per row; train with loss="cross_entropy"')


def _label_binarizer(net: Network, is_softmax: bool, width: int, classes: Sequence[Any] | None) -> Any:
    """The object that turns scikit-learn's outputs into classes: of several, of two (one column), or one column for each label."""
    from sklearn.preprocessing import LabelBinarizer

    count = 2 if width == 1 and not is_softmax else width
    given = net.notes.get("classes", list(range(count))) if classes is None else classes
    try:
        names = np.asarray(given)
        is_ascending = names.ndim == 1 and all(a < b for a, b in pairwise(names))
    except (TypeError, ValueError):  # a list of different types, or of lists
        raise ValueError(f"to_sklearn: classes must be numbers or texts, not {brief(given)}") from None
    if classes is None and count == 2 and names.shape == (1,) and not is_softmax:  # a classifier that knows one class only
        return LabelBinarizer().fit(names)
    if names.shape != (count,):
        raise ValueError(f"to_sklearn: classes must be a list of {count}, in the order of the outputs, not {brief(given)}")
    if not is_ascending:
        raise ValueError(f"to_sklearn: classes must be in ascending order, as those of scikit-learn, not {brief(given)}")
    if width > 1 and not is_softmax:
        if names.tolist() != list(range(count)):
            raise ValueError(f"to_sklearn: the labels of several sigmoid outputs are 0 to {count - 1} in scikit-learn, not {brief(given)}")
        return LabelBinarizer().fit(np.eye(count, dtype=int))
    binarizer = LabelBinarizer().fit(names)
    binarizer.y_type_ = "multiclass" if is_softmax else "binary"  # of two classes too, if the network has a column for each
    return binarizer
