"""Which frames of a video to use: evenly spread over its motion, each the sharpest near its place.

A first pass over small grey frames measures sharpness (mean squared Laplacian) and how far the
picture has moved since the frame before (phase correlation, in parts of its width); the frames
chosen are stored in a second pass. Where the camera rests nothing new is seen and nothing is taken.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from PIL import Image
from scipy import fft

from nerfkit.errors import NerfkitError
from nerfkit.files import atomic_write
from nerfkit.prepare.pictures import QUALITY, Picture
from nerfkit.video import ffmpeg_executable

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mts", ".3gp")
SMALL = 480  # pixels, width of the frames that are measured
STEP = 0.06  # of the width: motion from one frame taken to the next
FEWEST, MOST = 40, 200
REST = 2e-3  # of the width: motion of a frame that is a still one's noise
WINDOW = 0.35  # of the space between frames taken: how far from its place one may lie


def select_frames(
    video: Path, images: Path, count: int | None, doing: Callable[[str], None] = lambda _: None
) -> list[Picture]:
    """Write chosen frames of a video as frame_00000.jpg ... (numbers in the video).

    Raises:
        NerfkitError: not a video that ffmpeg reads, or fewer than two frames in it.
    """
    if count is not None and count < 2:
        raise NerfkitError(f"--frames: want 2 or more, got {count}")
    ffmpeg_executable()
    sharpness, motion, before = [], [0.0], None
    for frame in _frames(video, grey=True):
        doing(f"looking at the video: frame {len(sharpness)}")
        small = frame.astype(np.float32)
        sharpness.append(_sharpness(small))
        if before is not None:
            motion.append(_shift(before, small))
        before = small
    if len(sharpness) < 2:
        raise NerfkitError(f"{video}: holds {len(sharpness)} frames; want a video with more")
    chosen = choose(np.array(sharpness), np.array(motion), count)
    pictures, wanted = [], set(chosen.tolist())
    for index, frame in enumerate(_frames(video, grey=False)):
        if index in wanted:
            doing(f"storing frames: {len(pictures)} of {len(wanted)}")
            name = f"frame_{index:05d}.jpg"
            with atomic_write(images / name) as file:
                Image.fromarray(frame).save(file, "JPEG", quality=QUALITY, subsampling=0)
            pictures.append(Picture(name, frame.shape[1], frame.shape[0], camera=("video",)))
        if index >= chosen[-1]:
            break
    return pictures


def choose(sharpness: np.ndarray, motion: np.ndarray, count: int | None = None) -> np.ndarray:
    """Numbers of the frames to take, ascending and distinct.

    Args:
        sharpness: [N].
        motion: [N], parts of the width, of each frame since the one before.
        count: how many; None takes one for each STEP of motion, within FEWEST and MOST.

    Returns:
        At most `count`; fewer where there are no more frames.
    """
    n = len(sharpness)
    travelled = np.cumsum(np.where(motion > REST, motion, 0.0))
    if travelled[-1] == 0:  # a video of a still life, or one that cannot be followed
        travelled = np.linspace(0, 1, n)
    if count is None:
        count = int(np.clip(round(travelled[-1] / STEP), FEWEST, MOST))
    if count >= n:
        return np.arange(n)
    space = travelled[-1] / count
    places = (np.arange(count) + 0.5) * space
    chosen = []
    for place in places:
        near = np.flatnonzero(np.abs(travelled - place) <= WINDOW * space)
        if len(near) == 0:
            near = np.array([np.abs(travelled - place).argmin()])
        chosen.append(near[sharpness[near].argmax()])
    return np.unique(chosen)


def _frames(video: Path, grey: bool) -> Iterator[np.ndarray]:
    """Frames as uint8 [H, W] reduced to SMALL pixels of width, or [H, W, 3] as they are."""
    # it warns where a reduced frame is not of the video's size
    logging.getLogger("imageio_ffmpeg").setLevel(logging.ERROR)
    options = ["-vf", f"scale={SMALL}:-2"] if grey else []
    reader = imageio_ffmpeg.read_frames(
        str(video),
        pix_fmt="gray" if grey else "rgb24",
        bits_per_pixel=8 if grey else 24,
        output_params=[*options, "-fps_mode", "passthrough"],
    )
    try:
        width, height = next(reader)["size"]
        shape = (height, width) if grey else (height, width, 3)
        for content in reader:
            yield np.frombuffer(content, np.uint8).reshape(shape)
    except (OSError, RuntimeError, ValueError, KeyError, StopIteration) as error:
        reason = " ".join(str(error).split())[-200:]
        raise NerfkitError(f"{video}: not a video that ffmpeg can read ({reason})") from error
    finally:
        reader.close()


def _sharpness(image: np.ndarray) -> float:
    centre = image[1:-1, 1:-1]
    around = image[:-2, 1:-1] + image[2:, 1:-1] + image[1:-1, :-2] + image[1:-1, 2:]
    return float(np.mean((around - 4 * centre) ** 2))


def _shift(before: np.ndarray, after: np.ndarray) -> float:
    """How far the picture moved, in parts of its width."""
    height, width = before.shape
    window = np.outer(np.hanning(height), np.hanning(width)).astype(np.float32)
    spectra = [fft.rfft2((image - image.mean()) * window) for image in (before, after)]
    cross = spectra[0] * spectra[1].conj()
    # half-way to pure phase, which one blurred frame would leave to noise
    cross /= np.maximum(np.abs(cross), 1e-6) ** 0.5
    peak = fft.irfft2(cross, s=before.shape).argmax()
    y, x = np.unravel_index(peak, before.shape)
    y, x = min(y, height - y), min(x, width - x)
    return float(np.hypot(x, y)) / width
