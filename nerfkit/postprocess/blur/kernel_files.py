"""Kernels on disk: .npy (float32), .mat (variable `Kernel`, as KernelGAN and DAN write), .png.

A .png is 16-bit grey with the largest entry at 65535: to look at, and exact to 1e-5 of the peak.
"""

from pathlib import Path

import numpy as np
import scipy.io
import torch
from PIL import Image
from torch import Tensor

from nerfkit.errors import NerfkitError
from nerfkit.files import atomic_write
from nerfkit.postprocess.blur.mat_file import read_matrix

SUFFIXES = (".npy", ".mat", ".png")
VARIABLE = "Kernel"
LARGEST = 16 << 20  # bytes of a file


def check_suffix(path: Path) -> None:
    """NerfkitError unless `path` ends in a format we write."""
    if path.suffix.lower() not in SUFFIXES:
        raise NerfkitError(f"{path}: want a kernel file {', '.join(SUFFIXES)}")


def save_kernel(path: Path, kernel: Tensor) -> None:
    """Write a kernel [size, size] in the format that the suffix names."""
    check_suffix(path)
    values = kernel.detach().cpu().numpy().astype(np.float32)
    with atomic_write(path) as f:
        if path.suffix.lower() == ".npy":
            np.save(f, values)
        elif path.suffix.lower() == ".mat":
            scipy.io.savemat(f, {VARIABLE: values.astype(np.float64)})
        else:
            levels = np.round(values / values.max() * 65535).astype(np.uint16)
            Image.fromarray(levels).save(f, format="PNG")


def load_kernel(path: Path) -> Tensor:
    """Read a kernel [height, width] float32 and bring its sum to one.

    Raises:
        NerfkitError: no such file, not a kernel (two dimensions, odd sides, a positive sum).
    """
    check_suffix(path)
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"larger than {LARGEST >> 20} MiB")
        if path.suffix.lower() == ".npy":
            values = np.load(path, mmap_mode="r", allow_pickle=False)  # no larger than the file
        elif path.suffix.lower() == ".mat":
            values = read_matrix(path.read_bytes(), VARIABLE)
        else:
            with Image.open(path) as image:
                values = np.asarray(image.convert("I"))
        with np.errstate(over="ignore"):  # what is no float32 is refused below
            kernel = torch.from_numpy(np.array(values, dtype=np.float32))
    except KeyError as error:
        raise NerfkitError(f"{path}: no variable {VARIABLE!r} in it") from error
    except Exception as error:  # the readers raise whatever they meet
        said = " ".join(str(error).split())
        raise NerfkitError(f"{path}: not a kernel file we can read: {said}") from error
    sides_odd = kernel.dim() == 2 and all(n % 2 for n in kernel.shape)
    if not sides_odd or not torch.isfinite(kernel).all() or kernel.sum() <= 0:
        raise NerfkitError(
            f"{path}: want a kernel of two dimensions, odd sides and positive sum, "
            f"got shape {tuple(kernel.shape)} and sum {kernel.sum().item():.3g}"
        )
    return kernel / kernel.sum()
