"""What lies over the picture: training cameras, voxels, the crop box; and cropping itself."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
import torch

from nerfkit.cameras import Cameras
from nerfkit.device import CPU
from nerfkit.export.surface import world_octree
from nerfkit.fields.baked import BakedField
from nerfkit.fields.fast import FastField
from nerfkit.fields.field import Field
from nerfkit.fields.nerf import NerfField
from nerfkit.fields.nsvf import NsvfField
from nerfkit.kernels.baked_render import Layout
from nerfkit.octree import Octree
from nerfkit.viewer.drawing import wxyz_of

if TYPE_CHECKING:
    import viser

MOST_FRUSTA = 150
MOST_EDGES = 60_000
CAMERA_COLOUR, VOXEL_COLOUR, BOX_COLOUR = (40, 90, 160), (120, 120, 120), (220, 120, 30)


def add_cameras(server: viser.ViserServer, cameras: Cameras, extent: float) -> viser.FrameHandle:
    """Frusta of the training cameras under one node; a click moves the viewer there.

    Args:
        extent: of the scene, world units; frusta are a fraction of it.
    """
    parent = server.scene.add_frame("/cameras", show_axes=False, visible=False)
    chosen = np.unique(np.linspace(0, len(cameras) - 1, min(MOST_FRUSTA, len(cameras))).round())
    for index in chosen.astype(int).tolist():
        height, width = int(cameras.height[index]), int(cameras.width[index])
        c2w = cameras.c2w[index].numpy()
        fov = 2 * math.atan(0.5 * height / float(cameras.fy[index]))
        wxyz, position = wxyz_of(c2w), c2w[:, 3]
        frustum = server.scene.add_camera_frustum(
            f"/cameras/{index:05d}",
            fov=fov,
            aspect=width / height,
            scale=0.03 * extent,
            color=CAMERA_COLOUR,
            wxyz=wxyz,
            position=position,
        )

        @frustum.on_click
        def _(event, wxyz=wxyz, position=position, fov=fov) -> None:
            with event.client.atomic():
                event.client.camera.wxyz = wxyz
                event.client.camera.position = position
                event.client.camera.fov = fov

    return parent


def voxel_edges(octree: Octree, depth: int) -> np.ndarray:
    """Edges [E, 2, 3] of the occupied nodes at a depth, each once; world units."""
    octree = octree.to(CPU)
    nodes = octree.nodes_at(min(depth, octree.depth))
    depth = min(depth, octree.depth)
    n = (1 << depth) + 1
    found = []
    for axis in range(3):
        others = [a for a in range(3) if a != axis]
        for steps in itertools.product((0, 1), repeat=2):
            start = nodes.clone()
            start[:, others] += torch.tensor(steps)
            key = ((start[:, 0] * n + start[:, 1]) * n + start[:, 2]) * 3 + axis
            found.append(key)
    keys = torch.unique(torch.cat(found))
    axis, keys = keys % 3, keys // 3
    start = torch.stack([keys // n // n, keys // n % n, keys % n], 1)
    end = start + torch.nn.functional.one_hot(axis, 3)
    edges = torch.stack([start, end], 1).double() * (octree.size / (1 << depth))
    return (edges + octree.box_min).float().numpy()


def add_voxels(server: viser.ViserServer, field: Field, depth: int) -> None:
    """Wires round the occupied voxels at a depth, or at the deepest that is not too many."""
    octree = world_octree(field)
    if octree is None:
        return
    while depth > 1 and 12 * len(octree.nodes_at(min(depth, octree.depth))) > 4 * MOST_EDGES:
        depth -= 1
    edges = voxel_edges(octree, depth)
    server.scene.add_line_segments(
        "/voxels", edges, VOXEL_COLOUR, thickness=1.0, thickness_units="screen"
    )


def add_box(server: viser.ViserServer, box: np.ndarray) -> None:
    """Wires round the crop box [2, 3]."""
    octree = Octree.full(torch.zeros(3), 1.0, 0)
    edges = box[0] + voxel_edges(octree, 0) * (box[1] - box[0])
    server.scene.add_line_segments(
        "/crop", edges.astype(np.float32), BOX_COLOUR, thickness=1.5, thickness_units="screen"
    )


def cropped(field: Field, box: np.ndarray) -> Field | None:
    """A field with the leaves in a box [2, 3] alone; None for fields without leaves in space."""
    if world_octree(field) is None:
        return None
    octree = field.octree
    unbounded = getattr(field.shape, "unbounded", None)
    centers = octree.centers() if unbounded is None else unbounded.world(octree.centers())
    low, high = torch.from_numpy(box).to(centers)
    inside = ((centers >= low) & (centers <= high)).all(1)
    kept = octree.keep(inside)
    if isinstance(field, FastField):
        values = field.density, field.features, field.network
        return FastField(field.shape, kept, field.vertices, *values)
    if isinstance(field, NsvfField):
        return field.pruned(inside)
    if isinstance(field, BakedField):
        layout = Layout.of(kept)
        rows = torch.searchsorted(field.layout.codes, layout.codes)
        fine = torch.searchsorted(field.layout.details, layout.details)
        colors = field.colors._replace(
            records=field.colors.records[rows], details=field.colors.details[fine]
        )
        return BakedField(field.shape, kept, layout, field.density[rows], colors)
    assert isinstance(field, NerfField)
    return NerfField(field.shape, field.limit, kept, field.coarse, field.fine)
