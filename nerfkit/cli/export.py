"""`nerfkit export`: a fitted scene as a mesh, a point cloud, voxels or an octree."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


def export(
    run: Annotated[Positional[Path], arg(metavar="RUN")],
    output: Annotated[Path, arg(aliases=["-o"], metavar="FILE.ply|.glb|.npz")],
    kind: Annotated[str | None, arg(metavar="mesh|points|voxels|octree")] = None,
    points: Annotated[int, arg(metavar="N")] = 500_000,
) -> None:
    """Write a fitted scene for other programs.

    Args:
        run: folder written by `nerfkit fit`, or a baked file.
        output: mesh (.glb turned to +Y up, .ply +Z up as the data), point cloud (.ply), centres of
            the voxels as NSVF reads them (.ply), octree (.npz).
        kind: what to write. Default: mesh for .glb and .ply, octree for .npz.
        points: how many, of a point cloud.
    """
    from nerfkit.device import CPU
    from nerfkit.export import export as write
    from nerfkit.export import kind_for
    from nerfkit.run import Run

    kind_for(output, kind)  # a mistake here is told before the run is read
    print(write(Run.load(run, CPU), output, kind, points))
