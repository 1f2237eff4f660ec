"""Sparse voxel octrees: which leaf voxels of a cube are occupied.

`Octree` itself is in `tree`; the others build one, keep it in a file and describe it.
"""

from nerfkit.octree.build import Cube, cube_around, from_box, from_occupancy, from_points
from nerfkit.octree.morton import morton_decode, morton_encode
from nerfkit.octree.storage import load_octree, save_octree
from nerfkit.octree.tree import MAX_DEPTH, Octree

__all__ = [
    "MAX_DEPTH",
    "Cube",
    "Octree",
    "cube_around",
    "from_box",
    "from_mesh",
    "from_occupancy",
    "from_points",
    "load_octree",
    "morton_decode",
    "morton_encode",
    "save_octree",
]


def __getattr__(name: str):
    if name == "from_mesh":  # trimesh and scipy take a second to import: only for who needs them
        from nerfkit.octree.mesh import from_mesh

        return from_mesh
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
