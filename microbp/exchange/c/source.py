"""A network as one C file."""

from __future__ import annotations

from collections.abc import Sequence

from ...network.network import Network
from ...tables.preparation import Preparation
from ..shared.fold import fold
from .file import Source
from .train import trained_source


def c_source(
    net: Network,
    preparation: Preparation | None,
    weights: Sequence[float] | None = None,
    *,
    raw: bool,
    train: str | None,
    name: str,
    header: bool,
) -> str:
    """A C99 file, or a header with static functions, that predicts what `net` does.

    preparation: of a table; its file has model_prepare too. weights: of an ensemble's members, whose outputs are those of `net`.
    raw: without output activations. train: the text of an optimizer; the file then trains too. name: the first part of all names.
    """
    if train is not None:
        return trained_source(net, preparation, weights, train, raw=raw, name=name, header=header)
    return Source(fold(net), preparation, weights, raw, name, header).text()
