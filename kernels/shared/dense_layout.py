"""Where wide networks lie in memory, for `dense.py`: columns of activations, packed weights.

Symbols: a segment is a group of columns that go together: an encoded input, or the units of a
layer, widened with zeros. Weights are packed layer by layer as [in, out] in the order of the
segments that a layer reads; the biases of all layers lie behind them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

WIDE = 64  # segments that layers read are so many columns, or several times that


@dataclass(frozen=True)
class Segment:
    """Columns `column` to `column + wide`, of which the first `real` are not just zeros."""

    column: int
    wide: int
    real: int


@dataclass(frozen=True)
class Layer:
    """A product; its place among the packed weights and biases."""

    name: str
    inputs: tuple[str, ...]
    relu: bool
    start: int
    bias: int


@dataclass(frozen=True, eq=False)
class Network:
    """Which layer reads what.

    Attributes:
        segments: by the name of the encoding or layer that they are of.
        layers: in the order of the parameters.
        columns: of all segments, and room behind the last for whole blocks.
        n_weights, n_packed: the latter with all biases.
    """

    segments: dict[str, Segment]
    layers: dict[str, Layer]
    columns: int
    n_weights: int
    n_packed: int

    @staticmethod
    def of(
        encodings: dict[str, int], layers: dict[str, tuple[tuple[str, ...], int, bool]]
    ) -> Network:
        """From the real widths of encodings, and of layers what they read, units, and ReLU."""
        read = {name for inputs, _, _ in layers.values() for name in inputs}
        segments, column = {}, 0
        widths = encodings | {name: units for name, (_, units, _) in layers.items()}
        for name, real in widths.items():
            wide = -(-real // WIDE) * WIDE
            if name not in read and real < WIDE:
                wide = max(16, 1 << (real - 1).bit_length())
            segments[name] = Segment(column, wide, real)
            column += wide
        placed, start, bias = {}, 0, 0
        for name, (inputs, _, relu) in layers.items():
            placed[name] = Layer(name, inputs, relu, start, bias)
            wide = segments[name].wide
            start += sum(segments[i].wide for i in inputs) * wide
            bias += wide
        return Network(segments, placed, column + WIDE, start, start + bias)

    def places(self) -> torch.Tensor:
        """[P] int64: where each parameter, [out, in] and bias a layer, lies in the packed ones."""
        parts = []
        for layer in self.layers.values():
            segment, rows, before = self.segments[layer.name], [], 0
            for name in layer.inputs:
                given = self.segments[name]
                rows.append(torch.arange(given.real) + before)
                before += given.wide
            out = torch.arange(segment.real)[:, None]
            parts.append((layer.start + torch.cat(rows) * segment.wide + out).view(-1))
            parts.append(self.n_weights + layer.bias + out[:, 0])
        return torch.cat(parts)

    def readers(self, name: str, layers: list[str]) -> list[tuple[Layer, int]]:
        """Those of `layers` that read a segment, and the row of their weights that it begins at."""
        found = []
        for layer in (self.layers[x] for x in layers):
            if name in layer.inputs:
                before = layer.inputs[: layer.inputs.index(name)]
                found.append((layer, sum(self.segments[x].wide for x in before)))
        return found

    def products(self, layers: list[str]) -> torch.Tensor:
        """[J, 6] int32, a block of a gradient of the weights each.

        Column of the activations, of the gradients, place of the block, columns of the layer, how
        many of them from the block's first on, and place of the bias or -1 (one block in a column).
        """
        rows = []
        for layer in (self.layers[x] for x in layers):
            segment, before = self.segments[layer.name], 0
            for given in (self.segments[x] for x in layer.inputs):
                for i in range(0, given.wide, WIDE):
                    for o in range(0, segment.wide, WIDE):
                        place = layer.start + (before + i) * segment.wide + o
                        bias = self.n_weights + layer.bias + o if before + i == 0 else -1
                        at = given.column + i, segment.column + o
                        rows.append([*at, place, segment.wide, segment.wide - o, bias])
                before += given.wide
        return torch.tensor(rows, dtype=torch.int32)
