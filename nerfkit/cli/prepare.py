"""`nerfkit prepare`: camera poses of photos or a video."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


def prepare(
    source: Annotated[Positional[Path], arg(metavar="PHOTOS_OR_VIDEO")],
    output: Annotated[Path, arg(aliases=["-o"], metavar="DATA")],
    frames: Annotated[int | None, arg(metavar="N")] = None,
    fisheye: bool = False,
) -> None:
    """Find where the pictures were taken and write a data set that `nerfkit fit` reads.

    Args:
        source: folder of photos of one scene, or a video.
        output: folder to write.
        frames: pictures to take from a video. Default: by how far it moves, 40 to 200.
        fisheye: the lens sees more than about 120 degrees.
    """
    from nerfkit.prepare import prepare as run

    print(run(source, output, frames=frames, fisheye=fisheye))
