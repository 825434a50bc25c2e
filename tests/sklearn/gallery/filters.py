"""What the first layer of a classifier of digits looks at: the weights of each hidden unit, as a picture of 8 x 8."""

import warnings

from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0, test_size=0.5)

mlp = MLPClassifier(hidden_layer_sizes=(40,), max_iter=12, alpha=1e-4, solver="sgd", random_state=1, learning_rate_init=0.2)
with warnings.catch_warnings():  # of a training that is short on purpose
    warnings.filterwarnings("ignore", category=ConvergenceWarning, module="sklearn")
    mlp.fit(X_train, y_train)

scores = {"train": mlp.score(X_train, y_train), "test": mlp.score(X_test, y_test)}
low, high = mlp.coefs_[0].min(), mlp.coefs_[0].max()
pictures = [(column.reshape(8, 8) - low) / (high - low) for column in mlp.coefs_[0].T]
