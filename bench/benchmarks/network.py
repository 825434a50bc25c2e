"""Reading `net.layers`."""

from __future__ import annotations

import microbp as bp


class Layers:
    """`net.layers` of a network of 20 layers."""

    def setup(self) -> None:
        self.net = bp.mlp([16] * 21, seed=0)

    def time_layers(self) -> None:
        self.net.layers  # noqa: B018
