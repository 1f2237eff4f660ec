"""A small sparse voxel field: an octree of a shell, values on its corners, rays around it."""

import itertools
import math

import torch

from nerfkit.fields.vertices import Vertices
from nerfkit.kernels.voxel_features.grid import RenderGrid
from nerfkit.octree import Octree

BOX_MIN = torch.tensor([-1.2, -0.9, -1.1])
SIZE = 2.1


def shell(depth, inner=0.5, outer=0.9):
    """Leaves whose centre is between two radii, as fractions of half the cube."""
    full = Octree.full(BOX_MIN, SIZE, depth)
    radius = (full.centers() - (BOX_MIN + SIZE / 2)).norm(dim=1) / (SIZE / 2)
    return full.keep((radius > inner) & (radius < outer))


def layout(depths=(1, 2, 3, 4), octree=None):
    """Octree of a shell, vertices of its nodes at `depths`, and the grid of both."""
    octree = shell(depths[-1]) if octree is None else octree
    vertices = Vertices.of(octree, list(depths))
    return octree, vertices, RenderGrid.of(octree, vertices)


def vertex_values(vertices, channels, seed=0):
    """Random [V] or [V, channels] values, zeros in brick 0."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(vertices),) if channels == 1 else (len(vertices), channels)
    values = torch.randn(shape, generator=generator)
    values[:64] = 0
    return values


def rays_around(n, seed=0):
    """Rays from in and around the cube towards points in it, in random directions."""
    generator = torch.Generator().manual_seed(seed)
    targets = BOX_MIN + torch.rand(n, 3, generator=generator) * SIZE
    origins = BOX_MIN + (torch.rand(n, 3, generator=generator) * 2 - 0.5) * SIZE
    return origins, torch.nn.functional.normalize(targets - origins, dim=1)


def network(widths, seed=0):
    """Packed parameters of an MLP."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for n_in, n_out in itertools.pairwise(widths):
        parts.append(torch.randn(n_in * n_out, generator=generator) * math.sqrt(2 / n_in))
        parts.append(torch.randn(n_out, generator=generator) * 0.1)
    return torch.cat(parts)
