"""What a network says of itself."""

from __future__ import annotations

import microbp as bp


class Layers:
    """The descriptions of 20 layers."""

    def setup(self) -> None:
        self.net = bp.mlp([16] * 21, seed=0)

    def time_layers(self) -> None:
        self.net.layers  # noqa: B018
