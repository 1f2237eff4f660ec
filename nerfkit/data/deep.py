"""Images of 16 bits a channel, as RAW converters write them, and EXIF's turns of pixels.

Pillow has no 16-bit colour, so ffmpeg reads and writes PNG of that kind and tifffile TIFF. Pixels
are [H, W, C] with straight alpha: C = 1 grey, 2 grey and alpha, 3 colour, 4 colour and alpha.
"""

import subprocess
from pathlib import Path

import numpy as np
import tifffile
from PIL import ExifTags, Image

from nerfkit.video import ffmpeg_executable

TIFF = (".tif", ".tiff")
_ORIENTATION = ExifTags.Base.Orientation


def read_deep(path: Path, image: Image.Image) -> np.ndarray | None:
    """uint16 pixels of a file, opened as `image` too; None if it has fewer bits than 16.

    As Pillow does, TIFF is turned upright.

    Raises:
        ValueError, OSError, subprocess.SubprocessError: it is damaged.
    """
    if path.suffix.lower() in TIFF:
        with tifffile.TiffFile(path) as file:
            if file.pages[0].dtype != np.uint16:
                return None
            return upright(_with_channels(file.asarray()), image.tag_v2.get(_ORIENTATION, 1))
    if image.mode.startswith("I"):
        return _with_channels(np.asarray(image).clip(0, 65535).astype(np.uint16))
    return _decode_png(path, image) if _is_16_bit_png(path) else None


def encode_png(pixels: np.ndarray) -> bytes:
    """A PNG file of uint16 pixels [H, W] or [H, W, C]."""
    pixels = _with_channels(pixels)
    if pixels.shape[2] == 2:
        pixels = pixels[..., [0, 0, 0, 1]]
    pixel = {1: "gray16le", 3: "rgb48le", 4: "rgba64le"}[pixels.shape[2]]
    size = f"{pixels.shape[1]}x{pixels.shape[0]}"
    command = [ffmpeg_executable(), "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", pixel]
    command += ["-s", size, "-i", "-", "-f", "image2pipe", "-c:v", "png", "-"]
    raw = np.ascontiguousarray(pixels, "<u2").tobytes()
    return subprocess.run(command, input=raw, capture_output=True, check=True).stdout


def orientation(image: Image.Image) -> int:
    """EXIF's, 1 to 8; 1 is upright."""
    if image.format == "TIFF":  # Pillow turns these itself
        return 1
    value = image.getexif().get(_ORIENTATION, 1)
    return value if value in range(1, 9) else 1


def upright(pixels: np.ndarray, turned: int) -> np.ndarray:
    """Pixels [H, W, ...] turned as an `orientation` says."""
    if turned >= 5:
        pixels = pixels.swapaxes(0, 1)
    if turned in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if turned in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _with_channels(pixels: np.ndarray) -> np.ndarray:
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.ndim != 3 or pixels.shape[2] > 4:
        raise ValueError(f"want one image of 1 to 4 channels, got the shape {pixels.shape}")
    return pixels


def _is_16_bit_png(path: Path) -> bool:
    with open(path, "rb") as f:
        head = f.read(25)
    return head[:8] == b"\x89PNG\r\n\x1a\n" and head[24:25] == b"\x10"


def _decode_png(path: Path, image: Image.Image) -> np.ndarray:
    channels = 4 if "A" in image.mode or "transparency" in image.info else 3
    pixel = "rgba64le" if channels == 4 else "rgb48le"
    # it would turn pixels as EXIF says, which is not for it to decide
    command = [ffmpeg_executable(), "-loglevel", "error", "-noautorotate", "-i", str(path)]
    command += ["-f", "rawvideo", "-pix_fmt", pixel, "-"]
    raw = subprocess.run(command, capture_output=True, check=True).stdout
    return np.frombuffer(raw, "<u2").reshape(image.height, image.width, channels).copy()
