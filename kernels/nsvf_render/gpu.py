"""Triton NSVF renderer: 16-bit products, sums in float32. Shapes as in the package docstring."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from nerfkit.kernels.nsvf_mlp.config import NsvfMlpConfig
from nerfkit.kernels.nsvf_mlp.gpu import COMPUTE, network_of, nsvf_mlp
from nerfkit.kernels.shared.aot import Configuration
from nerfkit.kernels.shared.dense import ENCODE_ROWS, Dense, product_type
from nerfkit.kernels.shared.dense_layout import WIDE
from nerfkit.kernels.shared.triton_dense import encode_kernel
from nerfkit.kernels.shared.triton_launch import check_float32, launch

from .gpu_kernels import march_kernel
from .gpu_samples import composite_back_kernel, composite_kernel, gather_kernel
from .march import March, Samples, Seen

FAR_AWAY = 3e38  # stands for infinity
PIECE = 32  # samples of a ray that are copied at once
RAYS = 32  # of a program that composites


@dataclass(frozen=True)
class Launch:
    """How the kernel is run.

    Attributes:
        block: rays a program has under way at once.
        regen: lanes that must be idle before they take new rays.
        warps: of a program.
        stages: of the loads of a product.
        programs: a multiprocessor.
        dtype: of the operands of products; None is that of `nsvf_mlp`.
    """

    block: int = 128
    regen: int = 16
    warps: int = 8
    stages: int = 2
    programs: int = 1
    dtype: torch.dtype | None = None


USUAL = Launch()  # not tuned on a card


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rgb_raw, sigma_raw, samples, firsts, kept, background, density_scale):
        n_rays, device = len(firsts), rgb_raw.device
        colors = torch.empty(n_rays, 3, device=device)
        depths, opacities = (torch.empty(n_rays, device=device) for _ in range(2))
        before = torch.empty_like(sigma_raw)
        launch(
            composite_kernel,
            (triton.cdiv(n_rays, RAYS),),
            *(rgb_raw, sigma_raw, samples.t, samples.steps, firsts, kept, background),
            *(colors, depths, opacities, before, n_rays, density_scale),
            num_warps=1,
            RAYS=RAYS,
        )
        ctx.save_for_backward(rgb_raw, sigma_raw, samples.steps, firsts, kept, background, before)
        ctx.density_scale = density_scale
        ctx.mark_non_differentiable(depths)
        return colors, depths, opacities

    @staticmethod
    @once_differentiable
    def backward(ctx, g_colors, _, g_opacities):
        rgb_raw, sigma_raw, *rest = ctx.saved_tensors
        gradients = torch.empty_like(rgb_raw), torch.empty_like(sigma_raw)
        n_rays = len(g_opacities)
        launch(
            composite_back_kernel,
            (triton.cdiv(n_rays, RAYS),),
            *(rgb_raw, sigma_raw, *rest, g_colors.contiguous(), g_opacities.contiguous()),
            *(*gradients, n_rays, ctx.density_scale),
            num_warps=1,
            RAYS=RAYS,
        )
        return *gradients, None, None, None, None, None


def render_rays(given: March) -> Seen:
    """Same function as the reference; how many samples were asked may be a tensor."""
    check_float32(origins=given.origins, directions=given.directions, background=given.background)
    wanted = given.table.requires_grad or given.params.requires_grad
    if wanted and torch.is_grad_enabled():
        return _render_for_gradients(given)
    seen = _run(given, shade=True)
    colors = seen["colors"] + (1 - seen["opacities"])[:, None] * given.background
    return Seen(colors, seen["depths"], seen["opacities"], seen["asked"][0], seen["kept"].sum())


def _render_for_gradients(given: March) -> Seen:
    n_rays, device = len(given.origins), given.table.device
    with torch.no_grad():
        counts = given.counts()
        starts = counts.cumsum(0) - counts
        room = _room(int(counts.sum()), device)
        seen = _run(
            given._replace(table=given.table.detach(), params=given.params.detach()),
            shade=False,
            starts=starts,
            **{f"kept_{name}": getattr(room, name) for name in Samples._fields[1:]},
        )
        kept = seen["kept"]
        ends = kept.cumsum(0)
        firsts, n = ends - kept, int(ends[-1]) if n_rays else 0
        samples = _room(n, device)
        arguments = starts, kept, firsts, *room[1:], *samples
        launch(gather_kernel, (n_rays,), *arguments, num_warps=1, PIECE=PIECE)
    raw = nsvf_mlp(
        *(given.table, given.voxels.corners, samples.voxels, samples.places),
        *(given.directions, given.params),
        ray_indices=samples.rays,
        config=given.config,
    )
    pixels = _Composite.apply(
        *(raw.rgb_raw, raw.sigma_raw.contiguous(), samples, firsts, kept),
        *(given.background.contiguous(), given.density_scale),
    )
    return Seen(*pixels, seen["asked"][0], n)


def _room(n: int, device: torch.device) -> Samples:
    """For n samples."""
    rays, voxels = (torch.empty(n, dtype=torch.int64, device=device) for _ in range(2))
    t, steps = (torch.empty(n, device=device) for _ in range(2))
    return Samples(rays, t, steps, voxels, torch.empty(n, 3, device=device))


def _run(given: March, shade: bool, **more: Tensor) -> dict[str, Tensor]:
    spans, voxels, config, launch_as = given.spans, given.voxels, given.config, USUAL
    rays = {"origins": given.origins, "directions": given.directions}
    device, n_rays = given.table.device, len(given.origins)
    results = {
        "colors": torch.zeros(n_rays, 3, device=device),
        "depths": torch.zeros(n_rays, device=device),
        "opacities": torch.zeros(n_rays, device=device),
        "kept": torch.empty(n_rays, dtype=torch.int32, device=device),
        "counter": torch.zeros(1, dtype=torch.int32, device=device),
        "asked": torch.zeros(1, dtype=torch.int64, device=device),
    }
    if not n_rays:
        return results
    dtype = launch_as.dtype or product_type(given.params, COMPUTE)
    network = network_of(config)
    net = Dense(network, given.params, dtype)
    constants = shape_of(config)
    on_cuda, programs, block = device.type == "cuda", 1, launch_as.block
    if on_cuda:
        processors = torch.cuda.get_device_properties(device).multi_processor_count
        programs = min(launch_as.programs * processors, triton.cdiv(n_rays, block))
    row = constants["X_WIDE"] + 2 * max(constants["W"], constants["DW"])
    absent = results["colors"]
    arguments: dict[str, Any] = {
        **{name: tensor.contiguous() for name, tensor in rays.items()},
        "views": _views(given, dtype) if shade else absent,
        **{name: getattr(spans, name).contiguous() for name in ("first", "count", "low", "ends")},
        "lengths": spans.lengths(),
        **{"t_starts": spans.t_starts, "leaves": spans.leaves},
        "where": absent if given.where is None else given.where,
        **{"starts": absent, "n_rays": n_rays},
        **{"lows": voxels.lows, "corners": voxels.corners, "table": given.table.contiguous()},
        **{"weights": net.weights, "biases": net.biases},
        # zeros: the columns behind an encoding are never written
        "room": torch.zeros(programs, block, row, dtype=dtype, device=device),
        "queue": torch.empty(programs, 2 * block, constants["W"], dtype=dtype, device=device),
        "queue_rays": torch.empty(programs, 2 * block, dtype=torch.int32, device=device),
        "queue_weights": torch.empty(programs, 2 * block, device=device),
        **dict.fromkeys(("kept_t", "kept_steps", "kept_voxels", "kept_places"), absent),
        **dict(zip(("box_x", "box_y", "box_z"), voxels.box_min.tolist(), strict=True)),
        **{"edge": voxels.edge, "step": given.step, "density_scale": given.density_scale},
        **{"dark": min(given.dark, FAR_AWAY), "weight_min": given.weight_min},
    }
    with torch.cuda.device(device) if on_cuda else contextlib.nullcontext():
        march_kernel[(programs,)](
            **(arguments | results | more),
            **constants,
            RANDOM=given.where is not None,
            SHADE=shade,
            BLOCK=block,
            REGEN=launch_as.regen,
            num_warps=launch_as.warps,
            num_stages=launch_as.stages,
        )
    return results


def _views(given: March, dtype: torch.dtype) -> Tensor:
    """Encoded directions [R, VIEW], with zeros behind them."""
    segment, n = network_of(given.config).segments["direction"], len(given.directions)
    views = torch.empty(n, segment.wide, dtype=dtype, device=given.directions.device)
    launch(
        encode_kernel,
        (triton.cdiv(n, ENCODE_ROWS), segment.wide // WIDE),
        *(given.directions.contiguous(), None, n, views, segment.wide, 0),
        DIM=3,
        REAL=segment.real,
        ROWS=ENCODE_ROWS,
        BLOCK=WIDE,
    )
    return views


def shape_of(config: NsvfMlpConfig) -> dict[str, int]:
    """The compile-time constants of a network."""
    segments = network_of(config).segments
    wide = {"W": segments["feature.0"].wide, "DW": segments["density"].wide}
    return {
        "E": config.embedding,
        "PADDED": triton.next_power_of_2(config.embedding),
        "FREQ": config.embedding_frequencies,
        "X_WIDE": segments["embedding"].wide,
        **wide,
        "VIEW": segments["direction"].wide,
        "N_FEATURE": config.feature_layers,
        "N_COLOR": config.color_layers,
        "OUT": 128 if wide["W"] % 128 == 0 else 64,
        "DOUT": 128 if wide["DW"] % 128 == 0 else 64,
    }


# What is compiled in practice, and the limits that must hold (see kernels/shared/aot.py).
_POINTERS = {
    **dict.fromkeys(("first", "count", "leaves", "starts", "kept_voxels", "asked"), "*i64"),
    **dict.fromkeys(("low", "ends"), "*fp64"),
    **dict.fromkeys(("views", "weights", "room", "queue"), "*fp16"),
    **dict.fromkeys(("corners", "queue_rays", "kept", "counter"), "*i32"),
}
_NUMBERS = ("box_x", "box_y", "box_z", "edge", "step", "density_scale", "dark", "weight_min")


def _configuration(name: str, width: int, shade: bool, **limits: int) -> Configuration:
    config = NsvfMlpConfig(width=width, density_width=width // 2)
    constants = shape_of(config) | {"RANDOM": not shade, "SHADE": shade}
    constants |= {"BLOCK": USUAL.block, "REGEN": USUAL.regen}
    types = {"n_rays": "i32", **dict.fromkeys(_NUMBERS, "fp32"), **_POINTERS}
    names = [n for n in march_kernel.arg_names if n not in constants]
    return Configuration(
        f"nsvf_render {name} {width}",
        march_kernel,
        " ".join(types.get(n, "*fp32") for n in names),
        constants,
        USUAL.warps,
        USUAL.stages,
        wanted=(r"(HMMA|HGMMA|UTC\w*MMA)", r"LDG\.E\S*\.128"),
        **limits,
    )


_SAMPLES = "*i64 *fp32 *fp32 *i64 *fp32"
AOT = [
    _configuration("frame", 256, True, max_stack=256),
    _configuration("fit", 256, False, max_stack=256),
    Configuration(
        "nsvf_render gather",
        gather_kernel,
        f"*i64 *i32 *i64 *fp32 *fp32 *i64 *fp32 {_SAMPLES}",
        {"PIECE": PIECE},
        1,
        max_registers=64,
    ),
    Configuration(
        "nsvf_render composite",
        composite_kernel,
        "*fp32 *fp32 *fp32 *fp32 *i64 *i32 *fp32 *fp32 *fp32 *fp32 *fp32 i32 fp32",
        {"RAYS": RAYS},
        1,
        max_registers=64,
    ),
    Configuration(
        "nsvf_render composite back",
        composite_back_kernel,
        "*fp32 *fp32 *fp32 *i64 *i32 *fp32 *fp32 *fp32 *fp32 *fp32 *fp32 i32 fp32",
        {"RAYS": RAYS},
        1,
        max_registers=96,
    ),
]
