"""Sizes of the NSVF network, and where its parameters lie in one flat tensor."""

from typing import NamedTuple

import torch


class NsvfMlpConfig(NamedTuple):
    """The defaults are the paper's.

    Attributes:
        embedding: numbers at a corner of a voxel.
        width: units of the feature and colour layers.
        density_width: units of the layer between features and density.
        feature_layers: layers from the encoded embedding to the features.
        color_layers: layers with ReLU from [features, encoded direction] to the colour.
        embedding_frequencies, direction_frequencies: of the encodings, 0 to 16.
    """

    embedding: int = 32
    width: int = 256
    density_width: int = 128
    feature_layers: int = 3
    color_layers: int = 4
    embedding_frequencies: int = 6
    direction_frequencies: int = 4

    @property
    def layers(self) -> dict[str, tuple[int, int]]:
        """(out, in) of each layer by name, in the order of the parameters."""
        width = self.width
        inputs = [self.embedding * (1 + 2 * self.embedding_frequencies)]
        inputs += [width] * (self.feature_layers - 1)
        feature = {f"feature.{i}": (width, n) for i, n in enumerate(inputs)}
        inputs = [width + 3 + 6 * self.direction_frequencies, *[width] * (self.color_layers - 1)]
        color = {f"color.{i}": (width, n) for i, n in enumerate(inputs)}
        return {
            **feature,
            "density": (self.density_width, width),
            "sigma": (1, self.density_width),
            **color,
            "rgb": (3, width),
        }

    @property
    def n_params(self) -> int:
        return sum(out * (n + 1) for out, n in self.layers.values())

    def check(self) -> None:
        """Raise ValueError for sizes that make no network."""
        if min(self[:5]) < 1:
            raise ValueError(f"config must have widths and layers of 1 or more: {self}")
        if not all(0 <= n <= 16 for n in self[5:]):
            raise ValueError(f"config must have 0 to 16 frequencies: {self}")


def unpack(params: torch.Tensor, config: NsvfMlpConfig | None = None) -> dict[str, torch.Tensor]:
    """Views of the flat parameters by name: `<layer>.weight` [out, in] and `<layer>.bias` [out].

    In `params` each layer has its weight, row by row, and then its bias; the layers are feature.0
    to feature.2, density, sigma, color.0 to color.3, rgb. Inputs of color.0 are [features, encoded
    direction].

    Args:
        params: [P].
        config: of the network; None is the paper's.
    """
    views = {}
    start = 0
    for name, (out, n) in (config or NsvfMlpConfig()).layers.items():
        views[f"{name}.weight"] = params[start : start + out * n].view(out, n)
        views[f"{name}.bias"] = params[start + out * n : start + out * (n + 1)]
        start += out * (n + 1)
    return views
