"""Image files of 8 or 16 bits with or without alpha, as float tensors.

Tensors are float [H, W, C] in 0..1, sRGB as stored: C = 1 grey, 2 grey and straight alpha, 3
colour, 4 colour and straight alpha.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from nerfkit.data.deep import TIFF, encode_png, orientation, read_deep, upright
from nerfkit.data.images import BAD_IMAGE
from nerfkit.errors import NerfkitError
from nerfkit.files import atomic_write
from nerfkit.postprocess.colour import luma

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
WITHOUT_ALPHA = (".jpg", ".jpeg")
_BAD = (*BAD_IMAGE, subprocess.SubprocessError)


@dataclass
class Picture:
    """An image file's content."""

    values: Tensor
    """float [H, W, C] in 0..1."""
    bits: int = 8
    """Of a stored value: 8 or 16."""
    profile: bytes | None = None
    """ICC colour profile."""


def read_picture(path: Path) -> Picture:
    """Decode an image; its EXIF orientation is applied.

    Raises:
        NerfkitError: absent, broken, or of a kind we do not read.
    """
    path = Path(path)
    try:
        with Image.open(path) as image:
            deep = read_deep(path, image)
            if deep is not None:
                return Picture(_to_tensor(upright(deep, orientation(image))), 16)
            profile = image.info.get("icc_profile")
            pixels = np.array(_simple(ImageOps.exif_transpose(image)))
            return Picture(_to_tensor(pixels), 8, profile)
    except _BAD as error:
        reason = str(error).replace(str(path), "it")
        raise NerfkitError(f"{path}: not an image we can read: {reason}") from error


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The images among `paths` and directly inside the folders among them, sorted by name.

    Raises:
        NerfkitError: a path is not there, or a folder holds no image.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
            if not found:
                raise NerfkitError(f"{path}: holds no image ({', '.join(SUFFIXES)})")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise NerfkitError(f"{path}: no such file or folder; want images or folders of them")
    return files


def read_rgb(path: Path) -> np.ndarray:
    """uint8 [H, W, 3] of an image file, transparent parts on white."""
    return (_on_white(read_picture(path).values) * 255 + 0.5).to(torch.uint8).numpy()


def read_luma(path: Path) -> Tensor:
    """float32 [H, W] luma of an image file, transparent parts on white."""
    return luma(_on_white(read_picture(path).values))


def _on_white(values: Tensor) -> Tensor:
    """[H, W, 1 to 4] as in `Picture` -> [H, W, 3]."""
    colour = values
    if values.shape[2] in (2, 4):
        colour, alpha = values[..., :-1], values[..., -1:]
        colour = colour * alpha + 1 - alpha
    return colour.expand(-1, -1, 3)


def _simple(image: Image.Image) -> Image.Image:
    """To one of the modes L, LA, RGB, RGBA."""
    if image.mode == "F":
        raise ValueError("floating-point pixels; convert it to 8 or 16 bits")
    if image.mode in ("1", "L", "LA", "RGB", "RGBA") and "transparency" not in image.info:
        return image.convert("L") if image.mode == "1" else image
    has_alpha = image.mode in ("PA", "RGBa", "La") or "transparency" in image.info
    return image.convert("RGBA" if has_alpha else "RGB")


def _to_tensor(pixels: np.ndarray) -> Tensor:
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] > 4:
        raise ValueError(f"want one image of 1 to 4 channels, got the shape {pixels.shape}")
    return torch.from_numpy(pixels.astype(np.float32) / np.iinfo(pixels.dtype).max)


def write_picture(path: Path, picture: Picture) -> None:
    """Encode by the suffix of `path`; 16 bits to PNG and TIFF, 8 to everything else.

    Formats without alpha get the colours over black.

    Raises:
        NerfkitError: a suffix we cannot write, or the disk refuses.
    """
    suffix = path.suffix.lower()
    bits = picture.bits if suffix in (".png", *TIFF) else 8
    values = picture.values
    if suffix in WITHOUT_ALPHA and values.shape[2] in (2, 4):
        values = values[..., :-1] * values[..., -1:]
    largest = 2**bits - 1
    pixels = (values * largest + 0.5).to(torch.int32).numpy()
    pixels = pixels.astype(np.uint8 if bits == 8 else np.uint16)
    pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    try:
        if bits == 16 and suffix == ".png":
            encoded = encode_png(pixels)
        elif bits == 16:
            encoded = imageio.imwrite("<bytes>", pixels, extension=".tif", plugin="tifffile")
        else:
            settings = {"icc_profile": picture.profile} if picture.profile else {}
            if suffix in (".jpg", ".jpeg", ".webp"):
                settings["quality"] = 95
            encoded = imageio.imwrite(
                "<bytes>", pixels, extension=suffix, plugin="pillow", **settings
            )
    except (KeyError, ValueError, OSError) as error:
        raise NerfkitError(f"{path}: cannot be written as {suffix or 'a file'}: {error}") from error
    with atomic_write(path) as f:
        f.write(encoded)
