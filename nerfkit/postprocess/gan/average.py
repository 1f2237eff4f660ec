"""Exponential moving average of a network's weights."""

import copy
from typing import Any

import torch
from torch import nn


class WeightAverage:
    """A copy of a network whose weights follow it slowly: average <- d average + (1 - d) weights.

    Generators of adversarial games circle round their optimum; their average sits nearer to it
    (arXiv 1806.04498). Early on the decay is (1 + n) / (10 + n), so that the first weights are
    forgotten. Buffers (batch statistics, spectral norm's vectors) are copied.

    Args:
        network: what to follow.
        decay: d, in 0..1.
    """

    def __init__(self, network: nn.Module, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"`decay` must be in 0..1, got {decay}")
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs to go on exactly."""
        return {"network": self.network.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.network.load_state_dict(state["network"])
        self.updates = state["updates"]

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take one step towards the weights of `network`."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for mine, theirs in zip(self.network.parameters(), network.parameters(), strict=True):
            mine.lerp_(theirs, 1 - decay)
        for mine, theirs in zip(self.network.buffers(), network.buffers(), strict=True):
            mine.copy_(theirs)
