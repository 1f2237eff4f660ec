"""Encode frames to H.264 in an .mp4 that every player shows.

Frames are uint8 [H, W, 3] sRGB. The file is complete or absent: ffmpeg writes beside it and the
result is renamed.
"""

import contextlib
import glob
import os
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from nerfkit.errors import NerfkitError


def ffmpeg_executable() -> str:
    """Path of ffmpeg.

    Raises:
        NerfkitError: there is none.
    """
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        raise NerfkitError(
            "ffmpeg was not found, so no .mp4 can be written: reinstall imageio-ffmpeg, set "
            "IMAGEIO_FFMPEG_EXE, or give a folder to -o for PNG frames"
        ) from None


def even(width: int, height: int) -> tuple[int, int]:
    """The size a video gets: 4:2:0 colour needs even sides, so odd ones grow by a pixel."""
    return width + width % 2, height + height % 2


def _command(size: tuple[int, int], fps: float, target: str) -> list[str]:
    width, height = size
    # Tagged BT.709: untagged video is decoded as 601 or 709 by the player's guess, a hue shift.
    tags = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709:range=tv"
    return [
        *(ffmpeg_executable(), "-y", "-loglevel", "error"),
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:.6g}"),
        *("-i", "-", "-an"),
        *("-vf", f"scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,{tags}"),
        *("-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "18"),
        *("-movflags", "+faststart", "-f", "mp4", target),
    ]


def write_mp4(path: Path, frames: Iterable[np.ndarray], fps: float) -> tuple[int, int]:
    """Encode `frames` (uint8 [H, W, 3], all of one size, at least one) to `path`.

    Odd sides are made even by repeating the last column or row. Returns (width, height) written.

    Raises:
        NerfkitError: no ffmpeg, or ffmpeg failed (its own last line is quoted).
    """
    frames = iter(frames)
    first = next(frames)
    height, width = first.shape[:2]
    size = even(width, height)
    border = ((0, size[1] - height), (0, size[0] - width), (0, 0))
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):  # by one that was killed
        left.unlink(missing_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            _command(size, fps, str(partial)),
            stdin=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # Ctrl-C is ours to handle
        )
        try:
            frame = first
            while frame is not None:
                if frame.shape != first.shape:
                    raise ValueError(f"frame has shape {frame.shape}, the first {first.shape}")
                process.stdin.write(np.pad(frame, border, mode="edge").tobytes())
                frame = next(frames, None)
            process.stdin.close()
        except BrokenPipeError:  # ffmpeg gave up; its exit code and message tell why
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        except BaseException:
            process.kill()
            process.wait()
            partial.unlink(missing_ok=True)
            raise
        if process.wait() != 0:
            partial.unlink(missing_ok=True)
            log.seek(0)
            lines = log.read().decode(errors="replace").strip().splitlines() or ["no message"]
            raise NerfkitError(f"{path}: ffmpeg could not write the video: {lines[-1]}")
    os.replace(partial, path)
    return size
