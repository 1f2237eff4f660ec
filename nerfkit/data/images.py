"""Decoding images to uint8 tensors and reducing them by exact block means.

Images are [H, W, 3] or [H, W, 4] with straight alpha, 0..255, sRGB as stored; masks [H, W], 0 =
ignore. Pixels are taken as they are stored: an EXIF orientation is not applied, because poses and
intrinsics describe the stored raster.
"""

import os
import struct
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nerfkit.errors import NerfkitError

# What reading a damaged or foreign image raises.
BAD_IMAGE = (
    OSError,
    SyntaxError,  # what Pillow raises for a broken PNG
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
T = TypeVar("T")
R = TypeVar("R")


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) from the header alone."""
    try:
        with Image.open(path) as image:
            return image.size
    except BAD_IMAGE as error:
        raise NerfkitError(f"{path}: not an image we can read: {error}") from error


def read_image(path: Path, size: tuple[int, int], downscale: int = 1) -> Tensor:
    """Decode one image of the stated (width, height), reduced `downscale` times."""
    pixels = _decode(path, size, _to_rgb)
    return reduce_image(torch.from_numpy(pixels), downscale)


def read_mask(path: Path, size: tuple[int, int], downscale: int = 1) -> Tensor:
    """Decode a mask [H, W]: 0 = ignore, 255 = use; a reduced pixel is used if its block all is."""
    mask = torch.from_numpy(_decode(path, size, _to_grey))
    height, width = mask.shape[0] // downscale, mask.shape[1] // downscale
    blocks = mask[: height * downscale, : width * downscale].reshape(
        height, downscale, width, downscale
    )
    return (blocks != 0).all(dim=3).all(dim=1).to(torch.uint8) * 255


def read_depth(path: Path, size: tuple[int, int], unit: float, downscale: int = 1) -> Tensor:
    """Depth [H, W] float32 in scene units, 0 where unknown; of each block the middle pixel.

    Args:
        path: a 16-bit picture of whole `unit`s, or .npy of scene units.
    """
    try:
        if path.suffix.lower() == ".npy":
            values = np.load(path).astype(np.float32)
        else:
            with Image.open(path) as image:
                values = np.array(image).astype(np.float32) * np.float32(unit)
    except BAD_IMAGE as error:
        raise NerfkitError(f"{path}: not depths we can read: {error}") from error
    if values.shape != size[::-1]:
        raise NerfkitError(
            f"{path}: depths of shape {values.shape}, its camera says {size[0]}x{size[1]}"
        )
    values[~np.isfinite(values) | (values < 0)] = 0
    height, width = size[1] // downscale, size[0] // downscale
    first = downscale // 2
    middle = values[first::downscale, first::downscale][:height, :width]
    return torch.from_numpy(np.ascontiguousarray(middle))


def reduce_image(image: Tensor, factor: int) -> Tensor:
    """Mean of factor x factor blocks, rounded; colours are weighted by alpha.

    Rows and columns that do not fill a block are dropped, which keeps pixel (i, j) at the block
    that intrinsics divided by `factor` put it.
    """
    if factor == 1:
        return image
    height, width = image.shape[0] // factor, image.shape[1] // factor
    # numpy: torch would start its own threads inside each decoding thread
    pixels = image.numpy()[: height * factor, : width * factor]
    out = np.empty((height, width, pixels.shape[2]), np.uint8)
    # sums of products of bytes over a block are exact, and their ratios round right
    dtype = np.float32 if factor <= 8 else np.float64
    weight = np.asarray(factor * factor, dtype)
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3].astype(dtype)
        total = _block_sums(alpha, factor)
        out[..., 3] = np.floor(total / weight + 0.5)
        weight = np.maximum(total, 1)
    for channel in range(3):
        plane = pixels[..., channel].astype(dtype)
        if pixels.shape[2] == 4:
            plane *= alpha
        out[..., channel] = np.floor(_block_sums(plane, factor) / weight + 0.5)
    return torch.from_numpy(out)


def in_threads(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """`function` over `items` in order, on a few threads (decoders release the GIL)."""
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        try:
            return list(pool.map(function, items))
        except BaseException:
            pool.shutdown(cancel_futures=True)  # one bad image: do not decode the rest first
            raise


def _block_sums(plane: np.ndarray, factor: int) -> np.ndarray:
    """[H, W] -> [H / factor, W / factor]."""
    rows = plane[::factor].copy()
    for i in range(1, factor):
        rows += plane[i::factor]
    total = rows[:, ::factor].copy()
    for j in range(1, factor):
        total += rows[:, j::factor]
    return total


def _decode(
    path: Path, size: tuple[int, int], convert: Callable[[Image.Image], Image.Image]
) -> np.ndarray:
    try:
        with Image.open(path) as image:
            if image.size != size:
                raise NerfkitError(_size_message(path, image, size))
            return np.array(convert(image))  # a copy: Pillow's own buffer is read-only
    except BAD_IMAGE as error:
        raise NerfkitError(f"{path}: not an image we can read: {error}") from error


def _size_message(path: Path, image: Image.Image, size: tuple[int, int]) -> str:
    message = f"{path}: image is {image.width}x{image.height}, its camera says {size[0]}x{size[1]}"
    if image.size == size[::-1] and image.getexif().get(0x0112, 1) > 4:
        return message + "; it is stored on its side (EXIF orientation): rotate the file itself"
    return message + "; resize the image or correct the camera"


def _to_rgb(image: Image.Image) -> Image.Image:
    image = _to_8_bit(image)
    has_alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    wanted = "RGBA" if has_alpha else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _to_grey(image: Image.Image) -> Image.Image:
    return _to_8_bit(image).convert("L")


def _to_8_bit(image: Image.Image) -> Image.Image:
    """16-bit grey to 8 bits; Pillow itself reduces 16-bit colour."""
    if image.mode == "F":
        raise ValueError("floating-point pixels; convert it to 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image).astype(np.int64)
    # 65535 = 257 * 255
    return Image.fromarray(((values.clip(0, 65535) + 128) // 257).astype(np.uint8))
