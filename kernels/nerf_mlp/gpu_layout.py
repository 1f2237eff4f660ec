"""Where the Triton nerf_mlp keeps things: packed weights, activations, gradients of activations.

Symbols: a segment is a group of columns that go together, such as the units of a layer, widened
with zeros: to a power of two, so that it is a tile, and to whole blocks of the products that give
the gradients of the weights. Weights are packed layer by layer as [in, out] in the order of the
segments; the biases of all layers lie behind them, as wide as the layers' outputs.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from .config import NerfMlpConfig

OUTPUTS = 16  # rgb and sigma, each widened to the smallest product of a tensor core


def _power(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


@dataclass(frozen=True)
class Layer:
    """One product: columns of activations times weights give columns of activations.

    Attributes:
        name: in `NerfMlpConfig.layers`; "sigma" and "feature" are rows of "head".
        inputs: (first column of the activations, its width, its real width, where the layer's
            weights for it begin among the layer's inputs) a segment.
        out_column: of the gradients.
        out, real_out: width and real width of the result.
        start: of the packed weights; bias: of the packed biases.
    """

    name: str
    inputs: tuple[tuple[int, int, int, int], ...]
    out_column: int
    out: int
    real_out: int
    start: int
    bias: int


@dataclass(frozen=True)
class Layout:
    """All sizes; columns are counted in values.

    Attributes:
        width, position, direction, view: widths of the segments.
        block_in, block_out: of a block of a gradient of the weights.
        activations, gradients: columns a sample.
        layers: trunk.0 ..., sigma, feature, view, rgb.
        n_weights, n_packed: with all biases.
    """

    width: int
    position: int
    direction: int
    view: int
    block_in: int
    block_out: int
    activations: int
    gradients: int
    layers: tuple[Layer, ...]
    n_weights: int
    n_packed: int

    @staticmethod
    @functools.cache
    def of(config: NerfMlpConfig) -> Layout:
        """The layout of a network."""
        width = max(32, _power(config.width))
        block_in, block_out = min(64, width), min(128, width)
        real_position = 3 + 6 * config.position_frequencies
        real_direction = 3 + 6 * config.direction_frequencies
        position, direction = (max(block_in, _power(n)) for n in (real_position, real_direction))
        view = max(block_in, block_out, _power(config.view_width))

        # Columns of the activations: position, trunk, feature, direction, view. Of the gradients:
        # trunk, feature, view, rgb, sigma; so `rgb` and `sigma` are as wide as a block.
        def unit(i: int) -> tuple[int, int, int]:
            return position + i * width, width, config.width

        at_position = (0, position, real_position)
        at_feature = unit(config.depth)
        at_direction = (position + (config.depth + 1) * width, direction, real_direction)
        at_view = (at_direction[0] + direction, view, config.view_width)
        wiring = {}
        for i in range(config.depth):
            inputs = [at_position] if i == 0 else [unit(i - 1)]
            inputs = [at_position, *inputs] if i == config.skip else inputs
            wiring[f"trunk.{i}"] = (inputs, i * width, width, config.width)
        last = [unit(config.depth - 1)]
        after = (config.depth + 1) * width + view
        wiring["sigma"] = (last, after + block_out, OUTPUTS, 1)
        wiring["feature"] = (last, config.depth * width, width, config.width)
        wiring["view"] = (
            [at_feature, at_direction],
            (config.depth + 1) * width,
            view,
            config.view_width,
        )
        wiring["rgb"] = ([at_view], after, OUTPUTS, 3)

        layers, start, bias = [], 0, 0
        for name, (segments, out_column, out, real_out) in wiring.items():
            inputs, done = [], 0
            for column, wide, real in segments:
                inputs.append((column, wide, real, done))
                done += real
            layers.append(Layer(name, tuple(inputs), out_column, out, real_out, start, bias))
            start += sum(wide for _, wide, _, _ in inputs) * out
            bias += out
        return Layout(
            *(width, position, direction, view, block_in, block_out),
            activations=at_view[0] + view,
            gradients=after + 2 * block_out,
            layers=tuple(layers),
            n_weights=start,
            n_packed=start + bias,
        )

    def layer(self, name: str) -> Layer:
        return next(layer for layer in self.layers if layer.name == name)

    def places(self, config: NerfMlpConfig) -> torch.Tensor:
        """[P] int64: where each parameter lies in the packed ones."""
        found = torch.empty(config.n_params, dtype=torch.int64)
        start = 0
        for name, (n_out, n_in) in config.layers.items():
            parts = [(name, 0)] if name != "head" else [("sigma", 0), ("feature", 1)]
            weight = found[start : start + n_out * n_in].view(n_out, n_in)
            bias = found[start + n_out * n_in : start + n_out * (n_in + 1)]
            for part, first in parts:
                layer = self.layer(part)
                out = torch.arange(layer.real_out)
                rows = slice(first, first + layer.real_out)
                before = 0
                for _, wide, real, done in layer.inputs:
                    i = torch.arange(real) + before
                    place = layer.start + i * layer.out + out[:, None]
                    weight[rows, done : done + real] = place
                    before += wide
                bias[rows] = self.n_weights + layer.bias + out
            start += n_out * (n_in + 1)
        return found

    def products(self) -> torch.Tensor:
        """[J, 6] int32, a block of a gradient of the weights each.

        Column of the activations, of the gradients, place of the block, columns of the layer, how
        many of them from the block's first on, and place of the bias or -1 (one block in a column).
        """
        rows = []
        for layer in self.layers:
            before = 0
            for column, wide, _, _ in layer.inputs:
                for i in range(0, wide, self.block_in):
                    for o in range(0, layer.out, self.block_out):
                        place = layer.start + (before + i) * layer.out + o
                        bias = self.n_weights + layer.bias + o if before + i == 0 else -1
                        at = column + i, layer.out_column + o
                        rows.append([*at, place, layer.out, layer.out - o, bias])
                before += wide
        return torch.tensor(rows, dtype=torch.int32)
