"""From photos or a video to a data set: pictures, camera poses, a world that stands upright.

The data set is a folder with `images/`, `transforms.json` (one camera a frame, lens distortion as
the ray generator undoes it) and `points.ply` (sparse coloured points in the same
world), and `points_seen.npy` which frame sees which point.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.console import Console

from nerfkit.errors import NerfkitError
from nerfkit.optional import require
from nerfkit.prepare.pictures import Picture, gather
from nerfkit.prepare.report import report
from nerfkit.prepare.video import VIDEO_SUFFIXES, select_frames
from nerfkit.prepare.write import write_dataset

IMAGES = "images"
WORK = ".colmap"
LEAST_PICTURES = 3


def prepare(
    source: Path, output: Path, *, frames: int | None = None, fisheye: bool = False
) -> Path:
    """Find where pictures were taken; returns `output`, which `nerfkit fit` reads.

    Args:
        source: folder of photos, or a video.
        output: folder to write; new or empty.
        frames: pictures to take from a video; None lets its motion decide.
        fisheye: the lens sees more than about 120 degrees.

    Raises:
        NerfkitError: nothing there to read, pycolmap is missing, or no poses could be found.
    """
    require("pycolmap", "prepare")
    _claim(source, output)
    console = Console(stderr=True, soft_wrap=True)
    try:
        _fill(source, output, frames, fisheye, console)
    except BaseException:
        for leftover in (IMAGES, WORK):  # so that the same command can be given again
            shutil.rmtree(output / leftover, ignore_errors=True)
        raise
    return output


def _fill(source: Path, output: Path, frames: int | None, fisheye: bool, console: Console) -> None:
    from nerfkit.prepare.reconstruct import reconstruct

    is_video = source.is_file() and source.suffix.lower() in VIDEO_SUFFIXES
    with console.status("reading the pictures") as status:
        pictures = _pictures(source, output / IMAGES, is_video, frames, status.update)
        if len(pictures) < LEAST_PICTURES:
            raise NerfkitError(
                f"{source}: {len(pictures)} pictures; want {LEAST_PICTURES} or more that overlap"
            )
        found = reconstruct(
            pictures,
            output / IMAGES,
            output / WORK,
            in_order=is_video,
            fisheye=fisheye,
            say=console.print,
            doing=status.update,
        )
    shutil.rmtree(output / WORK)
    write_dataset(output, IMAGES, found)
    report(console, source, pictures, found)


def _claim(source: Path, output: Path) -> None:
    """Make `output`; NerfkitError if that would mix with what is there already."""
    if not source.exists():
        raise NerfkitError(f"{source}: no such folder of photos, and no such video")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise NerfkitError(f"-o {output}: is there already and not empty; give a new folder")
    if source.is_dir() and output.resolve().is_relative_to(source.resolve()):
        raise NerfkitError(f"-o {output}: lies among the photos; give a folder elsewhere")
    output.mkdir(parents=True, exist_ok=True)


def _pictures(
    source: Path, images: Path, is_video: bool, frames: int | None, doing
) -> list[Picture]:
    images.mkdir()
    if is_video:
        return select_frames(source, images, frames, doing)
    if source.is_file():
        raise NerfkitError(
            f"{source}: want a folder of photos or a video ({', '.join(VIDEO_SUFFIXES)})"
        )
    return gather(source, images, doing)
