"""`nerfkit octree`: the occupied voxels of a run in numbers, as a picture and as a file."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


def octree(
    source: Annotated[Positional[Path], arg(metavar="RUN_OR_FILE")],
    picture: Annotated[Path | None, arg(metavar="OUT.png")] = None,
    save: Annotated[Path | None, arg(metavar="FILE")] = None,
    json: Annotated[Path | None, arg(metavar="FILE")] = None,
) -> None:
    """Describe the octree of a fitted scene.

    Args:
        source: folder written by `nerfkit fit`, or a file written with --save.
        picture: write a picture of the voxels, 800x800.
        save: write the octree alone to this file (safetensors).
        json: write the numbers of the table to this file.
    """
    import dataclasses

    from nerfkit import files
    from nerfkit.errors import NerfkitError
    from nerfkit.octree import load_octree, save_octree
    from nerfkit.octree.statistics import print_table, statistics_of

    if picture is not None and picture.suffix.lower() != ".png":
        raise NerfkitError(f"--picture: want a file OUT.png, got {str(picture)!r}")
    if source.is_file():
        tree = load_octree(source)
    else:
        from nerfkit.device import CPU
        from nerfkit.run import Run

        tree = Run.load(source, CPU).field.octree
    statistics = statistics_of(tree)
    print_table(statistics)
    if json is not None:
        files.write_json(json, dataclasses.asdict(statistics))
    if save is not None:
        save_octree(tree, save)
    if picture is not None:
        from nerfkit.octree_picture import write_picture

        write_picture(picture, tree)
