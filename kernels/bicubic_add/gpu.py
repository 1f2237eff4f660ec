"""Triton bicubic_add. Shapes as in the package.

A program has BLOCK values of the result, one after another in memory; the 25 bytes that each looks
at are in the cache, where its neighbours look too.
"""

import functools

import torch
import triton
import triton.language as tl

from nerfkit.kernels.shared.aot import Configuration
from nerfkit.kernels.shared.triton_launch import launch
from nerfkit.postprocess.resize import upscale_taps

BLOCK = 256
LARGEST = 2**31 - 1  # bytes of a picture: places in it are int32
REACH = tl.constexpr(2)
TAPS = tl.constexpr(5)


@triton.jit
def _mirrored(i, n):
    """Index i >= -REACH of a line of n, mirrored at its ends, the last value repeated."""
    i = (i + 2 * REACH * n) % (2 * n)
    return tl.minimum(i, 2 * n - 1 - i)


@triton.jit
def _kernel(
    pixels,
    residual,
    taps,  # [SCALE, TAPS]
    height,
    width,
    channels,
    out,
    n_values,  # of the result
    SCALE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Rows, then the column of their sums."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = place < n_values
    at = place // channels  # in the residual
    channel = (place % channels).to(tl.int32)
    row, column = (at // (width * SCALE)).to(tl.int32), (at % (width * SCALE)).to(tl.int32)
    i, j = row // SCALE, column // SCALE
    down, across = taps + row % SCALE * TAPS, taps + column % SCALE * TAPS
    total = tl.zeros([BLOCK], tl.float32)
    for k in tl.static_range(TAPS):
        line = _mirrored(i + (k - REACH), height) * width
        within = tl.zeros([BLOCK], tl.float32)
        for m in tl.static_range(TAPS):
            from_pixel = (line + _mirrored(j + (m - REACH), width)) * channels + channel
            value = tl.load(pixels + from_pixel, mask=there, other=0).to(tl.float32)
            within += tl.load(across + m) * value
        total += tl.load(down + k) * within
    total += 255.0 * tl.load(residual + at, mask=there, other=0.0) + 0.5
    tl.store(out + place, tl.minimum(tl.maximum(total, 0.0), 255.0).to(tl.uint8), mask=there)


def bicubic_add(pixels: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """Same function as the reference; rows and columns are filtered one after the other."""
    height, width, channels = pixels.shape
    if pixels.numel() > LARGEST:
        raise ValueError(f"`pixels` must be at most 2 GB on backend 'gpu', got {pixels.shape}")
    scale = residual.shape[0] // height
    out = pixels.new_empty(scale * height, scale * width, channels)
    launch(
        _kernel,
        (triton.cdiv(out.numel(), BLOCK),),
        *(pixels.contiguous(), residual.contiguous(), _taps(scale, pixels.device)),
        *(height, width, channels, out, out.numel()),
        SCALE=scale,
        BLOCK=BLOCK,
    )
    return out


@functools.lru_cache(maxsize=8)
def _taps(scale: int, device: torch.device) -> torch.Tensor:
    # the filter is a product: a row of one phase sums to the taps of the other dimension
    return upscale_taps(scale).view(scale, scale, 5, 5)[:, 0].sum(2).float().to(device)


AOT = [
    Configuration(
        f"bicubic_add x{scale}",
        _kernel,
        "*u8 *fp32 *fp32 i32 i32 i32 *u8 i32",
        {"SCALE": scale, "BLOCK": BLOCK},
        max_registers=96,
    )
    for scale in (2, 3, 4)
]
