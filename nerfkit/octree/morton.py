"""Morton codes: the bits of a cell's coordinates interleaved, so that near cells are near in order.

Bit 3 i of a code is bit i of x, the next one of y, the next one of z. Coordinates below 2^20.
"""

import torch
from torch import Tensor


def morton_encode(cells: Tensor) -> Tensor:
    """Interleave the bits of integer coordinates [N, 3] (x, y, z < 2^20) -> [N] int64."""
    code = torch.zeros(cells.shape[0], dtype=torch.int64, device=cells.device)
    for axis in range(3):
        v = cells[:, axis].to(torch.int64)
        v = (v | (v << 32)) & 0x1F00000000FFFF
        v = (v | (v << 16)) & 0x1F0000FF0000FF
        v = (v | (v << 8)) & 0x100F00F00F00F00F
        v = (v | (v << 4)) & 0x10C30C30C30C30C3
        v = (v | (v << 2)) & 0x1249249249249249
        code |= v << axis
    return code


def morton_decode(codes: Tensor) -> Tensor:
    """Inverse of `morton_encode`: [N] int64 -> [N, 3] int64 (x, y, z)."""
    axes = []
    for axis in range(3):
        v = (codes >> axis) & 0x1249249249249249
        v = (v | (v >> 2)) & 0x10C30C30C30C30C3
        v = (v | (v >> 4)) & 0x100F00F00F00F00F
        v = (v | (v >> 8)) & 0x1F0000FF0000FF
        v = (v | (v >> 16)) & 0x1F00000000FFFF
        v = (v | (v >> 32)) & 0xFFFFF
        axes.append(v)
    return torch.stack(axes, dim=1)
