"""A fitted scene in the formats of other programs.

mesh     .glb  vertex-coloured triangles, unlit, turned to +Y up as glTF demands
         .ply  the same in the world of the data set, +Z up
points   .ply  coloured points on what the training cameras see
voxels   .ply  centres of the occupied leaves, as NSVF (2007.11571) reads them
octree   .npz  occupied leaves and their densities; keys in `write_octree`
"""

from pathlib import Path
from typing import TYPE_CHECKING

from nerfkit.errors import NerfkitError

if TYPE_CHECKING:
    from nerfkit.run import Run

SUFFIXES = {"mesh": (".glb", ".ply"), "points": (".ply",), "voxels": (".ply",), "octree": (".npz",)}
KINDS = tuple(SUFFIXES)


def kind_for(output: Path, kind: str | None = None) -> str:
    """What to write to `output`: `kind` if its suffix suits it, by default what the suffix says.

    Raises:
        NerfkitError: unknown kind or suffix, or the two do not go together.
    """
    suffix = output.suffix.lower()
    if kind is None:
        kind = next((k for k in KINDS if suffix in SUFFIXES[k]), None)
        if kind is None:
            raise NerfkitError(f"-o: want FILE.glb, FILE.ply or FILE.npz, got {str(output)!r}")
    elif kind not in KINDS:
        raise NerfkitError(f"--kind: want one of {', '.join(KINDS)}, got {kind!r}")
    elif suffix not in SUFFIXES[kind]:
        wanted = " or ".join(f"FILE{s}" for s in SUFFIXES[kind])
        raise NerfkitError(f"-o: {kind} want {wanted}, got {str(output)!r}")
    return kind


def export(run: "Run", output: Path, kind: str | None = None, points: int = 500_000) -> str:
    """Write a scene to `output`; returns a line that says what was written.

    Args:
        run: the fitted scene.
        kind: one of KINDS; by default what the suffix of `output` says, for .ply a mesh.
        points: how many, of a point cloud.

    Raises:
        NerfkitError: see `kind_for`; the scene holds no surface; the file cannot be written.
    """
    from nerfkit.export import cloud, colours, surface, writers

    kind = kind_for(output, kind)
    output.parent.mkdir(parents=True, exist_ok=True)
    if kind == "points":
        found = cloud.point_cloud(run, points)
        writers.write_ply(output, found.positions, found.colours)
        return f"{output}: {len(found.positions):,} points"
    corners = surface.corners_of(run.field)
    if kind == "voxels":
        writers.write_voxels(output, corners.octree)
        return f"{output}: {len(corners.octree):,} voxels of edge {corners.octree.voxel:.6g}"
    if kind == "octree":
        writers.write_octree(output, corners)
        return f"{output}: {len(corners.octree):,} leaves at depth {corners.octree.depth}"
    mesh = surface.extract(corners)
    shades = colours.seen_colours(run, mesh.vertices, mesh.normals, 3 * corners.octree.voxel)
    write = writers.write_glb if output.suffix.lower() == ".glb" else writers.write_ply
    write(output, mesh.vertices, shades, mesh.normals, mesh.faces)
    return f"{output}: {len(mesh.vertices):,} vertices, {len(mesh.faces):,} triangles"
