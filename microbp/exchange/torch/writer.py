"""net.to_torch."""

from __future__ import annotations

from typing import Any

from ...network.network import Network
from .trace import library


def to_torch(net: Network) -> Any:
    """See Network.to_torch."""
    library()
    from .module import Module

    return Module(net)
