"""microbp: small and medium dense networks, trained in C, with a readable reference in Python.

net = bp.mlp([64, 128, 10], activation="relu")
t = bp.Trainer(net, loss="cross_entropy", optimizer=bp.Adam(lr=1e-3))
t.fit(X, y, epochs=10)
probabilities = t.predict(X)
"""

import importlib as _importlib
import importlib.util as _util
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from . import backend as _backend
from . import threads

if _TYPE_CHECKING:
    from .api import *  # noqa: F403

_backend.load()  # a missing extension is told at import, not at the first network
threads.announce(_backend.resolve(None))

__version__ = "0.1.0"


def __getattr__(name: str) -> _Any:
    """A module of the package, or a name of `api`; imported only here, so that `microbp --help` need not wait for NumPy."""
    if name != "__all__" and _util.find_spec(f"{__name__}.{name}") is not None:
        return _importlib.import_module(f".{name}", __name__)
    api = _importlib.import_module(".api", __name__)
    if name not in (*api.__all__, "__all__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(api, name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__getattr__("__all__")})
