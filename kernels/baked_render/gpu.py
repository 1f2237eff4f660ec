"""Triton renderer of baked scenes; the kernel is in `gpu_march.py`. Shapes as in the package."""

import functools
import math
from dataclasses import dataclass

import torch
import triton

from nerfkit.kernels.fused_render.reference import Rendered
from nerfkit.kernels.shared.aot import Configuration
from nerfkit.kernels.shared.triton_launch import check_float32, launch

from .gpu_march import COMPARE, RENDER, SCATTER, march_kernel
from .grid import BakedGrid, Fitted

FAR_AWAY = 3e38  # stands for infinity


@dataclass(frozen=True)
class Launch:
    """How the kernel is run.

    Attributes:
        block: rays that a program has under way at once.
        inner: points a lane marches before idle lanes are looked for.
        fill: lanes that must wait for a colour before it is looked up.
        regen: lanes that must be idle before they take new rays.
        warps: of a program.
        programs: a multiprocessor.
    """

    block: int = 128
    inner: int = 4
    fill: int = 64
    regen: int = 32
    warps: int = 4
    programs: int = 4


USUAL = Launch()


def render_baked(
    origins: torch.Tensor,
    directions: torch.Tensor,
    grid: BakedGrid,
    *,
    background: torch.Tensor | None,
    max_weights: torch.Tensor | None,
    how: Launch = USUAL,
    **sampling: float,
) -> Rendered:
    """Same function as the reference, float32 only."""
    n = len(origins)
    pixels = Rendered(origins.new_empty(n, 3), origins.new_empty(n), origins.new_empty(n))
    _march(
        *(RENDER, how, origins, directions, background, grid, sampling),
        records=grid.records,
        levels=grid.levels,
        bricks=grid.bricks,
        detail_levels=grid.detail_levels,
        max_weights=max_weights,
        **pixels._asdict(),
    )
    return pixels


def color_gradient_(
    components: Fitted,
    details: Fitted,
    origins: torch.Tensor,
    directions: torch.Tensor,
    targets: torch.Tensor,
    background: torch.Tensor,
    grid: BakedGrid,
    *,
    how: Launch = USUAL,
    **sampling: float,
) -> torch.Tensor:
    """Same function as the reference, float32 only.

    Two marches: the first says by how much a ray's colour changes its error.
    """
    check_float32(targets=targets, components=components.values, details=details.values)
    losses = origins.new_empty(len(origins))
    given = {
        "targets": targets.contiguous(),
        "changes": origins.new_empty(len(origins), 3),
        "records": components.values.contiguous(),
        "rows": components.rows.contiguous(),
        "bricks": details.values.contiguous(),
        "detail_rows": details.rows.contiguous(),
    }
    written = {
        "losses": losses,
        "grads": components.grads,
        "touched": components.touched,
        "detail_grads": details.grads,
        "detail_touched": details.touched,
    }
    for mode in (COMPARE, SCATTER):
        scene = (mode, how, origins, directions, background, grid, sampling)
        _march(*scene, **given, **written)
    return losses


def _march(
    mode,
    how: Launch,
    origins: torch.Tensor,
    directions: torch.Tensor,
    background: torch.Tensor | None,
    grid: BakedGrid,
    sampling: dict[str, float],
    *,
    max_weights: torch.Tensor | None = None,
    **tensors: torch.Tensor,
) -> None:
    """Run the kernel; of `tensors` those that its mode has no use for may be missing."""
    check_float32(origins=origins, directions=directions, background=background)
    n, device = len(origins), origins.device
    if grid.words.device != device:
        raise ValueError(f"`grid` must be on {device}, got {grid.words.device}: grid.to()")
    if not n:
        return
    if background is None:
        background = origins.new_zeros(3)
    # Tensors that the mode does not read: a pointer of the right type all the same.
    number, whole, byte = grid.levels, grid.first, grid.ranks
    numbers = ("colors", "depths", "opacities", "targets", "losses", "changes", "grads", "levels")
    absent = {
        **dict.fromkeys((*numbers, "detail_grads", "detail_levels"), number),
        **{"rows": whole, "detail_rows": whole, "touched": byte, "detail_touched": byte},
    }
    absent |= tensors
    stop = sampling["early_stop"]
    launch(
        march_kernel,
        (max(1, min(how.programs * _processors(device), triton.cdiv(n, how.block))),),
        *(origins.contiguous(), directions.contiguous(), background.contiguous()),
        *(3 if background.dim() == 2 else 0, n),
        *(grid.places, grid.distances, grid.words.view(torch.int32), grid.density, grid.ranks),
        *(grid.first, grid.first_brick, absent["records"], absent["rows"], absent["levels"]),
        *(absent["bricks"], absent["detail_rows"], absent["detail_levels"]),
        *(grid.resolution, absent["colors"], absent["depths"], absent["opacities"]),
        *(number if max_weights is None else max_weights, absent["targets"], absent["losses"]),
        *(absent["changes"], absent["grads"], absent["touched"]),
        *(absent["detail_grads"], absent["detail_touched"]),
        torch.zeros(1, dtype=torch.int32, device=device),
        *(*grid.box_min, grid.voxel, sampling["step"], sampling["near"]),
        min(sampling["far"], FAR_AWAY),
        -math.log(stop) if stop > 0 else FAR_AWAY,
        *(sampling["weight_min"], sampling["density_scale"], sampling["density_bias"]),
        *grid.density_range,
        MODE=mode,
        HAS_MAX=max_weights is not None,
        BLOCK=how.block,
        INNER=how.inner,
        FILL=how.fill,
        REGEN=how.regen,
        num_warps=how.warps,
        maxnreg=_registers(mode),
    )


@functools.lru_cache(maxsize=8)
def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1  # the interpreter runs programs one after the other
    return torch.cuda.get_device_properties(device).multi_processor_count


def _registers(mode) -> int:
    """Of a thread, at most: 128 leave room for 16 warps a multiprocessor, 168 for 12.

    With no limit the assembler leaves 32 to a thread on sm_90, and keeps the rest on the stack.
    """
    return 128 if mode == RENDER else 168


def _configuration(name: str, mode, records: str, wanted: str) -> Configuration:
    results = "*fp32 *fp32 *fp32 *fp32 *fp32 *fp32 *fp32 *fp32 *u8 *fp32 *u8 *i32"
    return Configuration(
        f"baked_render {name}",
        march_kernel,
        f"*fp32 *fp32 *fp32 i32 i32 *i32 *u8 *i32 *i16 *u8 *i32 *i32 "
        f"{records} *i32 *fp32 {records} *i32 *fp32 i32 "
        f"{results} {' '.join(['fp32'] * 13)}",
        {
            **{"MODE": mode, "HAS_MAX": False, "BLOCK": USUAL.block, "INNER": USUAL.inner},
            **{"FILL": USUAL.fill, "REGEN": USUAL.regen},
        },
        USUAL.warps,
        max_registers=_registers(mode),
        max_stack=48,  # where rays end, not in the march
        maxnreg=_registers(mode),
        max_shared=40 * 1024,
        wanted=(wanted,),
    )


AOT = [
    _configuration("frame", RENDER, "*u8", r"LDG\.E\S*64"),
    _configuration("compare", COMPARE, "*fp32", r"LDG\.E\S*128"),
    _configuration("scatter", SCATTER, "*fp32", r"(RED|ATOM)"),
]
