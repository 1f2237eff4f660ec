"""Cells in bricks of 4x4x4, a bit each: shifts of words find the neighbours of millions of cells.

Bit x + 4 y + 16 z of a word is the cell at (x, y, z) of its brick, as in `Octree.occupancy_words`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nerfkit.octree.morton import morton_decode

STRIDES = (1, 4, 16)  # bits from a cell to the next one along x, y, z
BITS = range(64)


def _word(bits: list[int]) -> int:
    """The int64 with these bits."""
    word = sum(1 << bit for bit in bits)
    return word - (1 << 64) if word >> 63 else word


LOWEST = [_word([b for b in BITS if b // s % 4 == 0]) for s in STRIDES]  # faces of a brick
HIGHEST = [_word([b for b in BITS if b // s % 4 == 3]) for s in STRIDES]


class Bricks(NamedTuple):
    """The bricks that a sorted list of cells lies in.

    Attributes:
        codes: [B] int64, Morton codes of the bricks, ascending.
        brick: [N] int64, of each cell, a place in `codes`.
        bit: [N] int64, of each cell in its brick's word.
    """

    codes: Tensor
    brick: Tensor
    bit: Tensor

    @staticmethod
    def of(codes: Tensor) -> Bricks:
        """Of the cells with Morton codes [N], ascending and distinct."""
        x, y, z = morton_decode(torch.arange(64, device=codes.device)).unbind(1)
        bricks, place = torch.unique_consecutive(codes >> 6, return_inverse=True)
        return Bricks(bricks, place, (x + 4 * y + 16 * z)[codes & 63])

    def words(self, mask: Tensor | None = None) -> Tensor:
        """[B] with the bits of the cells where `mask` [N] is true; of all cells without one."""
        bits = torch.ones_like(self.bit) << self.bit
        if mask is not None:
            bits *= mask
        return torch.zeros_like(self.codes).index_add_(0, self.brick, bits)

    def at(self, words: Tensor) -> Tensor:
        """Whether the bits of the cells are set in `words` [B] -> [N] bool."""
        return (words[self.brick] >> self.bit & 1).bool()


def reached(words: Tensor, offset: tuple[int, int, int]) -> Tensor:
    """Cells of some bricks that are set cells of the bricks at `offset` from them, or beside one.

    Args:
        words: [B] of the bricks at the offset.
        offset: -1, 0 or 1 brick along x, y, z.

    Returns:
        [B] words of the bricks themselves.
    """
    for stride, lowest, highest, step in zip(STRIDES, LOWEST, HIGHEST, offset, strict=True):
        # a shift to the right repeats the sign: only into bits that the faces leave out
        if step == 1:
            words = (words & lowest) << 3 * stride
        elif step == -1:
            words = words >> 3 * stride & lowest
        else:
            words = words | (words << stride & ~lowest) | (words >> stride & ~highest)
    return words
