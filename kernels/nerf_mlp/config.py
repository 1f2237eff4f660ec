"""Sizes of the NeRF network, and where its parameters lie in one flat tensor."""

from typing import NamedTuple

import torch

GPU_UNITS = 256  # of a layer at most, in Triton


class NerfMlpConfig(NamedTuple):
    """The defaults are the paper's.

    Attributes:
        depth: layers of the trunk.
        width: units of each, and features.
        view_width: units of the layer that sees the direction.
        skip: trunk layer, from 0, that gets the encoded point again; 1 to depth - 1.
        position_frequencies, direction_frequencies: of the encodings, 0 to 16.
    """

    depth: int = 8
    width: int = 256
    view_width: int = 128
    skip: int = 5
    position_frequencies: int = 10
    direction_frequencies: int = 4

    @property
    def layers(self) -> dict[str, tuple[int, int]]:
        """(out, in) of each layer by name, in the order of the parameters."""
        position = 3 + 6 * self.position_frequencies
        direction = 3 + 6 * self.direction_frequencies
        inputs = [position] + [self.width] * (self.depth - 1)
        inputs[self.skip] += position
        trunk = {f"trunk.{i}": (self.width, n) for i, n in enumerate(inputs)}
        return {
            **trunk,
            "head": (1 + self.width, self.width),
            "view": (self.view_width, self.width + direction),
            "rgb": (3, self.view_width),
        }

    @property
    def n_params(self) -> int:
        return sum(out * (n + 1) for out, n in self.layers.values())

    def check(self) -> None:
        """Raise ValueError for sizes that make no network."""
        if min(self.width, self.view_width) < 1 or not 1 <= self.skip < self.depth:
            raise ValueError(f"config must have widths of 1 or more and 1 <= skip < depth: {self}")
        if not all(0 <= n <= 16 for n in self[-2:]):
            raise ValueError(f"config must have 0 to 16 frequencies: {self}")


def unpack(params: torch.Tensor, config: NerfMlpConfig | None = None) -> dict[str, torch.Tensor]:
    """Views of the flat parameters by name: `<layer>.weight` [out, in] and `<layer>.bias` [out].

    In `params` each layer has its weight, row by row, and then its bias; the layers are trunk.0 to
    trunk.7, head, view, rgb. The head's first row is `sigma`, the others `feature`. Inputs of
    trunk.<skip> are [encoded point, output of the layer before], of `view` [features, encoded
    direction].

    Args:
        params: [P].
        config: of the network; None is the paper's.

    Returns:
        Views with names trunk.<i>, sigma, feature, view and rgb before the dot.
    """
    views = {}
    start = 0
    for name, (out, n) in (config or NerfMlpConfig()).layers.items():
        weight = params[start : start + out * n].view(out, n)
        bias = params[start + out * n : start + out * (n + 1)]
        parts = {name: slice(None)}
        if name == "head":
            parts = {"sigma": slice(0, 1), "feature": slice(1, None)}
        for part, rows in parts.items():
            views[f"{part}.weight"], views[f"{part}.bias"] = weight[rows], bias[rows]
        start += out * (n + 1)
    return views
