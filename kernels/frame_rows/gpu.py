"""Triton frame_rows. Shapes as in the package; a program has ROWS rows."""

import torch
import triton
import triton.language as tl

from nerfkit.kernels.shared.aot import Configuration
from nerfkit.kernels.shared.triton_launch import check_float32, launch

ROWS = 256


@triton.jit
def _turn_kernel(directions, rotation, out, n, ROWS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    mask, at = row < n, row * 3
    x = tl.load(directions + at, mask=mask, other=0.0)
    y = tl.load(directions + at + 1, mask=mask, other=0.0)
    z = tl.load(directions + at + 2, mask=mask, other=0.0)
    for axis in tl.static_range(3):
        turned_x = tl.load(rotation + 3 * axis) * x
        turned_xy = turned_x + tl.load(rotation + 3 * axis + 1) * y
        tl.store(out + at + axis, turned_xy + tl.load(rotation + 3 * axis + 2) * z, mask=mask)


@triton.jit
def _put_kernel(values, rows, image, n, columns, COLUMNS: tl.constexpr, ROWS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    to = tl.load(rows + row, mask=row < n, other=0)
    column = tl.arange(0, COLUMNS)[None, :]
    mask = (row < n)[:, None] & (column < columns)
    value = tl.load(values + (row[:, None] * columns + column), mask=mask, other=0.0)
    tl.store(image + (to[:, None] * columns + column), value, mask=mask)


def turned(directions: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """Same function as the reference, float32 only."""
    check_float32(directions=directions, rotation=rotation)
    n, out = len(directions), directions.new_empty(directions.shape)
    given = directions.contiguous(), rotation.contiguous()
    launch(_turn_kernel, (triton.cdiv(n, ROWS),), *given, out, n, ROWS=ROWS)
    return out


def put_rows_(image: torch.Tensor, rows: torch.Tensor, values: torch.Tensor) -> None:
    """Same function as the reference, float32 only."""
    check_float32(image=image, values=values)
    n, columns = len(rows), image.shape[1] if image.dim() == 2 else 1
    if not columns:
        return
    launch(
        _put_kernel,
        (triton.cdiv(n, ROWS),),
        *(values.contiguous(), rows.contiguous(), image, n, columns),
        COLUMNS=triton.next_power_of_2(columns),
        ROWS=ROWS,
    )


def _put(columns: int) -> Configuration:
    constants = {"COLUMNS": triton.next_power_of_2(columns), "ROWS": ROWS}
    if columns == 1:  # a launch compiles it in
        constants["columns"] = 1
    return Configuration(
        f"put_rows {columns}",
        _put_kernel,
        "*fp32 *i64 *fp32 i32" + " i32" * (columns > 1),
        constants,
        max_registers=64,
    )


AOT = [
    Configuration(
        "turned", _turn_kernel, "*fp32 *fp32 *fp32 i32", {"ROWS": ROWS}, max_registers=64
    ),
    _put(1),
    _put(3),
]
