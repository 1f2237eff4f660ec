"""Triton photo_details. Shapes as in the package.

A program has CELLS small pixels of one source, and of each all 3 s^2 values and the hints.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from nerfkit.kernels.shared.aot import Configuration
from nerfkit.kernels.shared.triton_launch import check_float32, launch

ELEMENTS = 1024  # of a tile


@triton.jit
def _slope(positions, at, i, n, stride, there):
    """The limited change along a line of n positions, `stride` apart, at the i-th (`at`)."""
    forward = tl.where(i + 1 < n, stride, 0)
    backward = tl.where(i > 0, stride, 0)
    here = tl.load(positions + at, mask=there, other=0.0)
    after = tl.load(positions + at + forward, mask=there, other=0.0) - here
    before = here - tl.load(positions + at - backward, mask=there, other=0.0)
    # at an end the change goes on
    before = tl.where(i > 0, before, after)
    after = tl.where(i + 1 < n, after, before)
    smaller = tl.where(tl.abs(before) < tl.abs(after), before, after)
    return tl.where(before * after > 0.0, smaller, 0.0)


@triton.jit
def _pixel(photo, row, column, channel, width, there):
    at = (row.to(tl.int64) * width + column) * 3 + channel
    return tl.load(photo + at, mask=there, other=0).to(tl.float32)


@triton.jit
def _kernel(
    photo,
    photo_height,
    photo_width,
    positions,
    hints,
    n_hints,
    enlarged,
    height,
    width,
    out,
    SCALE: tl.constexpr,
    CELLS: tl.constexpr,
    VALUES: tl.constexpr,
):
    """All of one source."""
    PLACES: tl.constexpr = SCALE * SCALE
    pixel = (tl.program_id(0).to(tl.int64) * CELLS + tl.arange(0, CELLS))[:, None]
    exists = pixel < height * width
    row, column = pixel // width, pixel % width
    usable = tl.load(hints + pixel * n_hints, mask=exists, other=0.0)
    value = tl.arange(0, VALUES)[None, :]
    inside = exists & (value < 3 * PLACES)
    looked = inside & (usable > 0.0)
    channel, place = value // PLACES, value % PLACES
    # of the place within the small pixel
    down = ((place // SCALE).to(tl.float32) + 0.5) / SCALE - 0.5
    across = ((place % SCALE).to(tl.float32) + 0.5) / SCALE - 0.5

    x = tl.load(positions + 2 * pixel, mask=exists, other=0.0)
    x = x + down * _slope(positions, 2 * pixel, row, height, 2 * width, exists)
    x = x + across * _slope(positions, 2 * pixel, column, width, 2, exists)
    y = tl.load(positions + 2 * pixel + 1, mask=exists, other=0.0)
    y = y + down * _slope(positions, 2 * pixel + 1, row, height, 2 * width, exists)
    y = y + across * _slope(positions, 2 * pixel + 1, column, width, 2, exists)
    x = tl.minimum(tl.maximum(x * SCALE - 0.5, 0.0), photo_width - 1.0)
    y = tl.minimum(tl.maximum(y * SCALE - 0.5, 0.0), photo_height - 1.0)
    # the last column and row are the far neighbours of those before
    left = tl.minimum(x.to(tl.int32), photo_width - 2)
    top = tl.minimum(y.to(tl.int32), photo_height - 2)
    right, below = x - left.to(tl.float32), y - top.to(tl.float32)
    a = _pixel(photo, top, left, channel, photo_width, looked)
    b = _pixel(photo, top, left + 1, channel, photo_width, looked)
    upper = a + right * (b - a)
    a = _pixel(photo, top + 1, left, channel, photo_width, looked)
    b = _pixel(photo, top + 1, left + 1, channel, photo_width, looked)
    lower = a + right * (b - a)
    color = (upper + below * (lower - upper)) * (1.0 / 255.0)

    known = tl.load(enlarged + pixel * (3 * PLACES) + value, mask=looked, other=0.0)
    to = out + pixel * (3 * PLACES + n_hints)
    tl.store(to + value, tl.where(looked, (color - known) * usable, 0.0), mask=inside)
    for i in range(0, n_hints, VALUES):
        more = exists & (i + value < n_hints)
        hint = tl.load(hints + pixel * n_hints + i + value, mask=more, other=0.0)
        tl.store(to + 3 * PLACES + i + value, hint, mask=more)


def photo_details(
    photos: Sequence[torch.Tensor],
    positions: torch.Tensor,
    hints: torch.Tensor,
    enlarged: torch.Tensor,
) -> torch.Tensor:
    """Same function as the reference, float32 only; one launch a photograph."""
    check_float32(positions=positions, hints=hints, enlarged=enlarged)
    k, height, width, n_hints = hints.shape
    values = enlarged.shape[-1]
    out = positions.new_empty(k, height, width, values + n_hints)
    tile = _tile(round((values / 3) ** 0.5))
    enlarged = enlarged.contiguous()
    programs = (triton.cdiv(height * width, tile["CELLS"]),)
    for photo, where, hint, detail in zip(photos, positions, hints, out, strict=True):
        launch(
            _kernel,
            programs,
            *(photo.contiguous(), photo.shape[0], photo.shape[1]),
            *(where.contiguous(), hint.contiguous(), n_hints, enlarged, height, width, detail),
            **tile,
        )
    return out


def _tile(scale: int) -> dict[str, int]:
    values = max(2, triton.next_power_of_2(3 * scale**2))
    return {"SCALE": scale, "CELLS": max(1, ELEMENTS // values), "VALUES": values}


AOT = [
    Configuration(
        f"photo_details x{scale}",
        _kernel,
        "*u8 i32 i32 *fp32 *fp32 i32 *fp32 i32 i32 *fp32",
        _tile(scale),
        max_registers=128,
    )
    for scale in (2, 4)
]
