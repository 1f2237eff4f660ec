"""Luma of image files, as super-resolution measures it (MATLAB's BT.601: 16..235 of 255)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nerfkit.errors import NerfkitError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_WEIGHTS = (65.481, 128.553, 24.966)  # of R, G, B in 0..1


def luma(rgb: Tensor) -> Tensor:
    """[..., 3] R, G, B in 0..1 -> [...] Y in 16/255 .. 235/255."""
    return (rgb * torch.tensor(_WEIGHTS).to(rgb)).sum(-1) / 255 + 16 / 255


def read_luma(path: Path) -> Tensor:
    """[H, W] float32 luma of an image file; transparent parts lie on white."""
    try:
        with Image.open(path) as image:
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            pixels = np.asarray(image.convert("RGB"), np.float32)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise NerfkitError(f"{path}: not an image we can read: {error}") from error
    return luma(torch.from_numpy(pixels) / 255)


def image_files(paths: Sequence[Path]) -> list[Path]:
    """The image files among `paths` and directly inside the folders among them, sorted by name.

    Raises:
        NerfkitError: a path is not there, or a folder holds no image.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
            if not found:
                raise NerfkitError(f"{path}: no image in this folder ({', '.join(SUFFIXES)})")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise NerfkitError(f"{path}: no such file or folder")
    return files
