"""The losses of seven ways to learn, on four sets of data: rates that stay or fall, momentum, Adam."""

import warnings

from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import MinMaxScaler

SGD = {"solver": "sgd", "momentum": 0.9, "learning_rate_init": 0.2}
STRATEGIES = {
    "constant": SGD | {"learning_rate": "constant", "momentum": 0},
    "constant, momentum": SGD | {"learning_rate": "constant", "nesterovs_momentum": False},
    "constant, Nesterov": SGD | {"learning_rate": "constant", "nesterovs_momentum": True},
    "falling": SGD | {"learning_rate": "invscaling", "momentum": 0},
    "falling, momentum": SGD | {"learning_rate": "invscaling", "nesterovs_momentum": False},
    "falling, Nesterov": SGD | {"learning_rate": "invscaling", "nesterovs_momentum": True},
    "adam": {"solver": "adam", "learning_rate_init": 0.01},
}
SETS = {
    "iris": datasets.load_iris(return_X_y=True),
    "digits": datasets.load_digits(n_class=5, return_X_y=True),
    "circles": datasets.make_circles(noise=0.2, factor=0.5, random_state=1),
    "moons": datasets.make_moons(noise=0.3, random_state=0),
}

scores, curves = {}, {}
for name, (X, y) in SETS.items():
    X = MinMaxScaler().fit_transform(X)
    for label, settings in STRATEGIES.items():
        mlp = MLPClassifier(random_state=0, max_iter=15 if name == "digits" else 150, **settings)
        with warnings.catch_warnings():  # some strategies do not converge, which the curves show
            warnings.filterwarnings("ignore", category=ConvergenceWarning, module="sklearn")
            mlp.fit(X, y)
        scores[name, label] = mlp.score(X, y)
        curves[name, label] = mlp.loss_curve_, mlp.loss_
