"""How alpha smooths the border between two classes: three sets of points, five values of alpha, one picture for each pair."""

import numpy as np
from sklearn.datasets import make_blobs, make_circles, make_moons
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ALPHAS = np.logspace(-1, 1, 5)
SETS = {
    "moons": make_moons(120, noise=0.3, random_state=0),
    "circles": make_circles(120, noise=0.2, factor=0.5, random_state=1),
    "blobs": make_blobs(120, centers=2, cluster_std=2.0, random_state=2),
}

scores, pictures, sizes = {}, {}, {}
for name, (X, y) in SETS.items():
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.4, random_state=42)
    grid = np.stack(np.meshgrid(*(np.linspace(low, high, 30) for low, high in zip(X.min(0) - 0.5, X.max(0) + 0.5, strict=True))), axis=-1)
    for alpha in ALPHAS:
        model = make_pipeline(
            StandardScaler(),
            MLPClassifier(solver="lbfgs", alpha=alpha, random_state=1, max_iter=2000, early_stopping=True, hidden_layer_sizes=[10, 10]),
        )
        model.fit(X_train, y_train)
        scores[name, alpha] = model.score(X_test, y_test)
        pictures[name, alpha] = model.predict_proba(grid.reshape(-1, 2))[:, 1].reshape(30, 30)
        sizes[name, alpha] = sum(float((weights**2).sum()) for weights in model[-1].coefs_)
