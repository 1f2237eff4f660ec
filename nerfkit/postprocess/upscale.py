"""Enlarge images by a network, tile by tile, on little memory.

Images are float [H, W, C] in 0..1, sRGB as stored: C = 1 grey, 2 grey and alpha, 3 colour, 4
colour and straight alpha. The result is [scale H, scale W, C], clamped.

A network of one channel sees luma. Its residual r enlarges colour as bicubic(RGB) + r * 255 / 219:
BT.601's inverse adds a change of luma to R, G and B alike, and its chroma is enlarged bicubically
either way. Alpha is enlarged like a grey image; colours are multiplied by it first, so that what
a transparent pixel hides never bleeds out.
"""

import logging
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from nerfkit.errors import NerfkitError, is_out_of_memory
from nerfkit.kernels.bicubic_add import bicubic_add
from nerfkit.postprocess.colour import TO_YCBCR
from nerfkit.postprocess.networks import BicubicSkip

log = logging.getLogger(__name__)

LUMA_RANGE = 219 / 255  # of Y where R, G, B span 0..1
LUMA_BLACK = 16 / 255
SMALLEST_TILE = 16
CUDA_TILE = (1024, 1024)


class Upscaler:
    """Applies one network to images.

    Args:
        network: as in `networks`.
        tile: side of a tile in input pixels; 0 takes every image whole, None chooses. All give
            the same picture: tiles overlap by all that the network sees.
        device: where to run; default: CUDA where there is one.
        fp32: compute in 32 bits on CUDA too, where 16 are the default.
        alpha: "network" or "bicubic", what enlarges alpha.
    """

    def __init__(
        self,
        network: nn.Module,
        tile: int | None = None,
        device: torch.device | None = None,
        fp32: bool = False,
        alpha: str = "network",
    ) -> None:
        if tile is not None and tile < 0:
            raise NerfkitError(f"--tile: want 0 (whole image) or a positive size, got {tile}")
        if alpha not in ("network", "bicubic"):
            raise NerfkitError(f"--alpha-upsampler: want network or bicubic, got {alpha!r}")
        if device is None:
            device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.device, self.alpha = device, alpha
        self.scale, self.channels = network.scale, network.channels
        self.dtype = torch.float16 if device.type == "cuda" and not fp32 else torch.float32
        self.network = network.to(device, memory_format=torch.channels_last).eval()
        self.bicubic = BicubicSkip(self.scale).to(device)
        self.border = max(network.radius, self.bicubic.radius)
        chosen = CUDA_TILE if device.type == "cuda" else network.cpu_tile
        self.tile = chosen if tile is None else (tile, tile)

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> Tensor:
        """Enlarge one image.

        Args:
            image: [H, W, C], uint8, or float in 0..1.

        Returns:
            [scale H, scale W, C] on the CPU, uint8 (rounded) or float (clamped) as `image`.

        Raises:
            NerfkitError: the network's output is not finite even in fp32, or no tile is small
                enough for the memory there is.
        """
        height, width, channels = image.shape
        out = torch.empty(
            height * self.scale, width * self.scale, channels, dtype=image.dtype, device="cpu"
        )
        while True:
            try:
                for tile in _tiles(height, width, *self._sides(height, width)):
                    self._place(image, tile, out)
                return out
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
            # outside the handler, where the traceback no longer holds the failed tile's tensors
            self._halve(height, width)

    def frame(self, pixels: np.ndarray) -> np.ndarray:
        """Enlarge uint8 [H, W, C] to uint8."""
        return self(torch.tensor(pixels)).numpy()

    def _sides(self, height: int, width: int) -> tuple[int, int]:
        return self.tile[0] or height, self.tile[1] or width

    def _halve(self, height: int, width: int) -> None:
        """Smaller tiles from now on, for this image and the next ones."""
        high, wide = (
            min(a, b) // 2 for a, b in zip(self._sides(height, width), (height, width), strict=True)
        )
        if max(high, wide) < SMALLEST_TILE:
            raise NerfkitError(
                f"out of memory even with tiles of {SMALLEST_TILE} pixels; free some memory"
            )
        self.tile = (max(high, 1), max(wide, 1))
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        log.warning("out of memory: going on with tiles of %dx%d pixels", *self.tile)

    def _place(self, image: Tensor, tile: tuple[int, int, int, int], out: Tensor) -> None:
        """Enlarge the pixels (top, bottom, left, right) of `image` into `out`."""
        top, bottom, left, right = tile
        first_row, first_column = max(top - self.border, 0), max(left - self.border, 0)
        part = image[first_row : bottom + self.border, first_column : right + self.border]
        part = part.to(self.device)
        planes = part.permute(2, 0, 1)[None]
        is_integer = not image.is_floating_point()
        if is_integer:
            planes = planes / 255
        in_bytes = is_integer and self.channels == 1 and image.shape[2] in (1, 3)
        if in_bytes:
            residual = self._residual(_luma(planes))[0, 0] / LUMA_RANGE
            big = bicubic_add(part, residual)
        else:
            big = self._enlarge(planes)[0].permute(1, 2, 0)
            if is_integer:
                big = big.mul_(255).add_(0.5)
        top, bottom, left, right = (side * self.scale for side in tile)
        i, j = top - first_row * self.scale, left - first_column * self.scale
        out[top:bottom, left:right] = big[i : i + bottom - top, j : j + right - left]

    def _enlarge(self, planes: Tensor) -> Tensor:
        """Enlarge and clamp float [1, C, h, w], taken for a whole image."""
        has_alpha = planes.shape[1] in (2, 4)
        if not has_alpha:
            return self._enlarge_colours(planes).clamp_(0, 1)
        alpha = planes[:, -1:]
        if self.alpha == "network":
            big_alpha = self._enlarge_colours(alpha)
        else:
            big_alpha = self.bicubic(alpha)
        colours = self._enlarge_colours(planes[:, :-1] * alpha)
        # Divided before alpha is clamped: both overshoot alike along an edge. Where alpha rounds
        # to nothing even in 16 bits there is no colour to recover.
        colours = torch.where(big_alpha > 2**-17, colours / big_alpha.clamp_min(2**-17), 0)
        return torch.cat([colours, big_alpha], 1).clamp_(0, 1)

    def _enlarge_colours(self, planes: Tensor) -> Tensor:
        """Enlarge one grey or three colour planes; not clamped."""
        if self.channels == 1:
            residual = self._residual(_luma(planes)) / LUMA_RANGE
        else:
            residual = self._residual(planes.expand(-1, 3, -1, -1))
            if planes.shape[1] == 1:
                residual = residual.mean(1, keepdim=True)
        return self.bicubic(planes).add_(residual)

    def _residual(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        if self.dtype == torch.float16:
            with torch.autocast(self.device.type, self.dtype):
                out = self.network.residual(x).float()
            if torch.isfinite(out).all():
                return out
            log.warning("values beyond 16 bits: this tile is computed in 32")
        out = self.network.residual(x)
        if not torch.isfinite(out).all():
            raise NerfkitError("the network's output is not finite; its weights are damaged")
        return out


def _luma(planes: Tensor) -> Tensor:
    """Y [1, 1, h, w] of one grey or three colour planes."""
    if planes.shape[1] == 1:
        return planes * LUMA_RANGE + LUMA_BLACK
    red, green, blue = (TO_YCBCR[0] / 255).tolist()
    return planes[:, :1] * red + planes[:, 1:2] * green + planes[:, 2:] * blue + LUMA_BLACK


def _tiles(height: int, width: int, high: int, wide: int) -> Iterator[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of tiles that cover an image."""
    for top in range(0, height, high):
        for left in range(0, width, wide):
            yield top, min(top + high, height), left, min(left + wide, width)
