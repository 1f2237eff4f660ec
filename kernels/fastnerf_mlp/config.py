"""Sizes of FastNeRF's two networks, and where their parameters lie in one flat tensor."""

from typing import NamedTuple

import torch


class FastNerfMlpConfig(NamedTuple):
    """The defaults are the paper's.

    Attributes:
        depth, width: layers of the position network before its last, and units of each.
        skip: its layer, from 0, that gets the encoded point again; 1 to depth - 1.
        view_depth, view_width: the same of the direction network.
        components: D, colours that a point has, and weights that a direction has.
        position_frequencies, direction_frequencies: of the encodings, 0 to 16.
    """

    depth: int = 8
    width: int = 384
    skip: int = 5
    view_depth: int = 4
    view_width: int = 128
    components: int = 8
    position_frequencies: int = 10
    direction_frequencies: int = 4

    @property
    def layers(self) -> dict[str, tuple[int, int]]:
        """(out, in) of each layer by name, in the order of the parameters."""
        position = 3 + 6 * self.position_frequencies
        direction = 3 + 6 * self.direction_frequencies
        inputs = [position] + [self.width] * (self.depth - 1)
        inputs[self.skip] += position
        view_inputs = [direction] + [self.view_width] * (self.view_depth - 1)
        return {
            **{f"position.{i}": (self.width, n) for i, n in enumerate(inputs)},
            "head": (1 + 3 * self.components, self.width),
            **{f"view.{i}": (self.view_width, n) for i, n in enumerate(view_inputs)},
            "weights": (self.components, self.view_width),
        }

    @property
    def n_params(self) -> int:
        return sum(out * (n + 1) for out, n in self.layers.values())

    def check(self) -> None:
        """Raise ValueError for sizes that make no network."""
        if min(self.width, self.view_width, self.view_depth, self.components) < 1:
            raise ValueError(f"config must have sizes of 1 or more: {self}")
        if not 1 <= self.skip < self.depth:
            raise ValueError(f"config must have 1 <= skip < depth: {self}")
        if not all(0 <= n <= 16 for n in self[-2:]):
            raise ValueError(f"config must have 0 to 16 frequencies: {self}")


def unpack(
    params: torch.Tensor, config: FastNerfMlpConfig | None = None
) -> dict[str, torch.Tensor]:
    """Views of the flat parameters by name: `<layer>.weight` [out, in] and `<layer>.bias` [out].

    In `params` each layer has its weight, row by row, and then its bias; the layers are position.0
    to position.7, head, view.0 to view.3, weights. The head's first row is `sigma`, the others
    `colors`, three for each component. Inputs of position.<skip> are [encoded point, output of the
    layer before].

    Args:
        params: [P].
        config: of the networks; None is the paper's.

    Returns:
        Views with names position.<i>, sigma, colors, view.<i> and weights before the dot.
    """
    views = {}
    start = 0
    for name, (out, n) in (config or FastNerfMlpConfig()).layers.items():
        weight = params[start : start + out * n].view(out, n)
        bias = params[start + out * n : start + out * (n + 1)]
        parts = {name: slice(None)}
        if name == "head":
            parts = {"sigma": slice(0, 1), "colors": slice(1, None)}
        for part, rows in parts.items():
            views[f"{part}.weight"], views[f"{part}.bias"] = weight[rows], bias[rows]
        start += out * (n + 1)
    return views
