"""Video files in, video files out: every frame, in order, with the sound of the original.

Frames are uint8 [H, W, 3] sRGB.
"""

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from nerfkit.errors import NerfkitError
from nerfkit.video import ffmpeg_executable, write_mp4

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".flv", ".mpg", ".mpeg", ".wmv")
# What players expect in an .mp4; ffmpeg would put in more than they can play.
PLAYABLE_SOUND = ("aac", "mp3", "ac3", "eac3", "opus", "alac")
# The names of NTSC rates are rounded: 23.98 taken at its word is half a second an hour out of step.
NTSC = tuple(n * 1000 / 1001 for n in (24, 30, 48, 60, 120))


class Clip:
    """A video that is being read.

    Args:
        path: the file.

    Raises:
        NerfkitError: it cannot be read or holds no picture.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise NerfkitError(f"{path}: there is no such file")
        # every stored frame once: by default ffmpeg repeats and drops frames to even out the rate
        self._raw = imageio_ffmpeg.read_frames(path, output_params=["-fps_mode", "passthrough"])
        try:
            meta = next(self._raw)
            self._first = next(self._raw)
        except (OSError, RuntimeError, IndexError, AttributeError, StopIteration) as error:
            raise NerfkitError(f"{path}: no frame of a video can be read from it") from error
        self.width, self.height = meta["size"]
        self.fps = exact_rate(meta["fps"])
        self.sound = meta.get("audio_codec")
        """Codec of the first sound track, if there is one."""
        self.expected = round(meta["duration"] * self.fps)
        """Number of frames as far as the header tells."""

    def frames(self) -> Iterator[np.ndarray]:
        """All frames.

        Raises:
            NerfkitError: the file breaks off inside a frame.
        """
        yield self._array(self._first)
        try:
            for raw in self._raw:
                yield self._array(raw)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise NerfkitError(f"{self.path}: {reason}") from error

    def _array(self, raw: bytes) -> np.ndarray:
        return np.frombuffer(raw, np.uint8).reshape(self.height, self.width, 3)

    def close(self) -> None:
        """Stop ffmpeg."""
        self._raw.close()


def exact_rate(fps: float) -> float:
    """The frame rate that a rounded one stands for; 25 where the file tells none."""
    near = [rate for rate in NTSC if abs(rate - fps) < 0.006]
    return near[0] if near else fps or 25.0


def convert(
    source: Path,
    target: Path,
    change: Callable[[np.ndarray], np.ndarray],
    fps: float | None = None,
    progress: Callable[[int, int], None] = lambda done, expected: None,
) -> int:
    """Write `source` to `target` (.mp4) with `change` applied to every frame; returns their number.

    The sound is copied, or encoded as AAC where players do not expect it in an .mp4 as it is.

    Raises:
        NerfkitError: a file cannot be read or written.
    """
    clip = Clip(source)
    count = 0

    def changed() -> Iterator[np.ndarray]:
        nonlocal count
        for frame in clip.frames():
            yield change(frame)
            count += 1
            progress(count, clip.expected)

    silent = target.with_name(f".{target.stem}.{os.getpid()}.silent.mp4")
    try:
        write_mp4(silent, changed(), fps or clip.fps)
        if clip.sound is None:
            os.replace(silent, target)
        else:
            _add_sound(silent, clip, target)
    finally:
        clip.close()
        with contextlib.suppress(OSError):
            silent.unlink()
    return count


def _add_sound(silent: Path, clip: Clip, target: Path) -> None:
    partial = target.with_name(f".{target.stem}.{os.getpid()}.partial.mp4")
    command = [ffmpeg_executable(), "-y", "-loglevel", "error", "-i", str(silent)]
    command += ["-i", str(clip.path), "-map", "0:v", "-map", "1:a", "-c:v", "copy"]
    command += ["-c:a", "copy" if clip.sound in PLAYABLE_SOUND else "aac"]
    try:
        done = subprocess.run(
            [*command, "-movflags", "+faststart", str(partial)], capture_output=True
        )
        if done.returncode != 0:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
            raise NerfkitError(f"{target}: ffmpeg could not add the sound: {lines[-1]}")
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
