"""Decoding images to tensors of whole numbers and reducing them by exact block means.

Images are [H, W, 3] or [H, W, 4] with straight alpha, sRGB as stored, uint8 in 0..255 or, of files
of 16 bits, uint16 in 0..65535; masks [H, W], 0 = ignore. Poses and intrinsics describe the stored
raster; where it lies on its side against the camera's size, and EXIF says so, it is turned.
"""

import os
import struct
import subprocess
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nerfkit.data.deep import orientation, read_deep, upright
from nerfkit.errors import NerfkitError

# What reading a damaged or foreign image raises.
BAD_IMAGE = (
    OSError,
    SyntaxError,  # what Pillow raises for a broken PNG
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    subprocess.SubprocessError,
    Image.DecompressionBombError,
    *(ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError),
)
T = TypeVar("T")
R = TypeVar("R")


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) as stored, from the header alone."""
    try:
        with Image.open(path) as image:
            return image.size
    except BAD_IMAGE as error:
        raise NerfkitError(f"{path}: not an image we can read: {error}") from error


def check_size(path: Path, size: tuple[int, int]) -> None:
    """Raise NerfkitError unless an image has, or turned upright would have, its camera's size."""
    try:
        with Image.open(path) as image:
            _turn(path, image, size)
    except BAD_IMAGE as error:
        raise NerfkitError(f"{path}: not an image we can read: {error}") from error


def full_value(image: Tensor) -> int:
    """What 1.0 is in an image: 255 or 65535."""
    return torch.iinfo(image.dtype).max


def read_image(path: Path, size: tuple[int, int], downscale: int = 1) -> Tensor:
    """Decode one image of the stated (width, height), reduced `downscale` times."""
    pixels = _decode(path, size, _rgb_of)
    return reduce_image(torch.from_numpy(pixels), downscale)


def read_mask(path: Path, size: tuple[int, int], downscale: int = 1) -> Tensor:
    """Decode a mask [H, W]: 0 = ignore, 255 = use; a reduced pixel is used if its block all is."""
    mask = torch.from_numpy(_decode(path, size, _grey_of))
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
    out = np.empty((height, width, pixels.shape[2]), pixels.dtype)
    # sums of products of bytes over a block are exact, and their ratios round right
    dtype = np.float32 if factor <= 8 and pixels.dtype == np.uint8 else np.float64
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
    path: Path, size: tuple[int, int], convert: Callable[[Path, Image.Image], np.ndarray]
) -> np.ndarray:
    try:
        with Image.open(path) as image:
            turned = _turn(path, image, size)
            return upright(convert(path, image), turned)
    except BAD_IMAGE as error:
        raise NerfkitError(f"{path}: not an image we can read: {error}") from error


def _turn(path: Path, image: Image.Image, size: tuple[int, int]) -> int:
    """The EXIF orientation to apply so that an image has its camera's size; 1 is none."""
    if image.size == size:
        return 1
    if image.size == size[::-1] and (turned := orientation(image)) > 4:
        return turned
    raise NerfkitError(
        f"{path}: image is {image.width}x{image.height}, its camera says {size[0]}x{size[1]}; "
        "resize the image or correct the camera"
    )


def _rgb_of(path: Path, image: Image.Image) -> np.ndarray:
    deep = read_deep(path, image)
    if deep is not None:
        return deep[..., {1: [0, 0, 0], 2: [0, 0, 0, 1]}.get(deep.shape[2], slice(None))]
    image = _of_8_bits(image)
    has_alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    wanted = "RGBA" if has_alpha else "RGB"
    return np.array(image if image.mode == wanted else image.convert(wanted))


def _grey_of(path: Path, image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):
        return (np.asarray(image) > 0).astype(np.uint8) * 255
    return np.array(_of_8_bits(image).convert("L"))


def _of_8_bits(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise ValueError("floating-point pixels; convert it to 8 or 16 bits")
    return image
