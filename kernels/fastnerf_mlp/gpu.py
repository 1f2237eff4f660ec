"""The Triton fastnerf_mlp as a torch function; see `nerfkit.kernels.fastnerf_mlp.fastnerf_mlp`.

Both networks a layer a launch (`nerfkit.kernels.shared.dense`), the position network by pieces of
samples, the direction network by pieces of rays; one kernel weights the colours of a sample. The
backward does all that again with the activations kept.
"""

import functools

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from nerfkit.kernels.shared import dense
from nerfkit.kernels.shared.aot import Configuration
from nerfkit.kernels.shared.dense import Dense
from nerfkit.kernels.shared.dense_layout import Network
from nerfkit.kernels.shared.triton_launch import check_float32, launch

from .config import FastNerfMlpConfig
from .reference import FastNerfMlpOutput

COMPUTE = torch.float16  # under torch.autocast its type
SAMPLES = 128


@triton.jit
def _combine_kernel(
    heads,  # [n, 1 + 3 D]: sigma, then the colours, component by component
    weights,  # [R, D]
    rays,
    n,
    rgb,
    sigma,
    D: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    i = tl.program_id(0).to(tl.int64) * SAMPLES + tl.arange(0, SAMPLES)
    exists = i < n
    ray = tl.load(rays + i, mask=exists, other=0)
    head = heads + i * (1 + 3 * D)
    tl.store(sigma + i, tl.load(head, mask=exists, other=0.0), mask=exists)
    for a in tl.static_range(3):
        total = tl.zeros([SAMPLES], tl.float32)
        for d in tl.static_range(D):
            weight = tl.load(weights + ray * D + d, mask=exists, other=0.0)
            total += weight * tl.load(head + 1 + 3 * d + a, mask=exists, other=0.0)
        tl.store(rgb + 3 * i + a, total, mask=exists)


@triton.jit
def _separate_kernel(
    heads,
    weights,
    rays,
    d_rgb,
    d_sigma,
    n,
    d_heads,  # [n, 1 + 3 D], written
    d_weights,  # [R, D], added to
    D: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    """The transpose of `_combine_kernel`."""
    i = tl.program_id(0).to(tl.int64) * SAMPLES + tl.arange(0, SAMPLES)
    exists = i < n
    ray = tl.load(rays + i, mask=exists, other=0)
    at = i * (1 + 3 * D)
    red = tl.load(d_rgb + 3 * i, mask=exists, other=0.0)
    green = tl.load(d_rgb + 3 * i + 1, mask=exists, other=0.0)
    blue = tl.load(d_rgb + 3 * i + 2, mask=exists, other=0.0)
    tl.store(d_heads + at, tl.load(d_sigma + i, mask=exists, other=0.0), mask=exists)
    for d in tl.static_range(D):
        weight = tl.load(weights + ray * D + d, mask=exists, other=0.0)
        place = at + 1 + 3 * d
        tl.store(d_heads + place, weight * red, mask=exists)
        tl.store(d_heads + place + 1, weight * green, mask=exists)
        tl.store(d_heads + place + 2, weight * blue, mask=exists)
        total = red * tl.load(heads + place, mask=exists, other=0.0)
        total += green * tl.load(heads + place + 1, mask=exists, other=0.0)
        total += blue * tl.load(heads + place + 2, mask=exists, other=0.0)
        tl.atomic_add(d_weights + ray * D + d, total, mask=exists, sem="relaxed")


@functools.lru_cache(maxsize=8)
def networks_of(config: FastNerfMlpConfig) -> tuple[Network, Network]:
    """The wiring of the position and of the direction network."""
    sizes = config.layers
    reads = {f"position.{i}": (f"position.{i - 1}",) for i in range(1, config.depth)}
    reads |= {"position.0": ("point",), "head": (f"position.{config.depth - 1}",)}
    reads[f"position.{config.skip}"] = ("point", f"position.{config.skip - 1}")
    position = {
        name: (reads[name], units, name != "head")
        for name, (units, _) in sizes.items()
        if name in reads
    }
    reads = {f"view.{i}": (f"view.{i - 1}",) for i in range(1, config.view_depth)}
    reads |= {"view.0": ("direction",), "weights": (f"view.{config.view_depth - 1}",)}
    view = {
        name: (reads[name], units, name != "weights")
        for name, (units, _) in sizes.items()
        if name in reads
    }
    return (
        Network.of({"point": 3 + 6 * config.position_frequencies}, position),
        Network.of({"direction": 3 + 6 * config.direction_frequencies}, view),
    )


def _both(params: torch.Tensor, config: FastNerfMlpConfig) -> tuple[Dense, Dense]:
    position, view = networks_of(config)
    end = len(position.places())
    dtype = dense.product_type(params, COMPUTE)
    return Dense(position, params[:end], dtype), Dense(view, params[end:], dtype)


def _run(net: Dense, encoding: str, result: str, values: torch.Tensor) -> torch.Tensor:
    """What a network says of all values [N, 3]: [N, units of `result`]."""
    n, segment = len(values), net.network.segments[result]
    out = values.new_empty(n, segment.real)
    room = net.room(min(n, dense.CHUNK))
    for first in range(0, n, dense.CHUNK):
        part = slice(first, first + dense.CHUNK)
        kept = room[: len(values[part])]
        net.encode(encoding, kept, values[part], None)
        net.forward(kept, list(net.network.layers), {result: out[part]})
    return out


def _back(
    net: Dense, encoding: str, result: str, values: torch.Tensor, d_out: torch.Tensor
) -> torch.Tensor:
    """Sums [SPLITS, n_packed] of the gradients of the parameters, for d_out [N, units]."""
    n, layers = len(values), list(net.network.layers)
    partial = values.new_zeros(dense.SPLITS, net.network.n_packed)
    if not n:
        return partial
    scale = dense.scale_for(d_out.abs().amax())
    rooms = [net.room(min(n, dense.CHUNK)) for _ in range(2)]
    for first in range(0, n, dense.CHUNK):
        part = slice(first, first + dense.CHUNK)
        kept, grads = (room[: len(values[part])] for room in rooms)
        net.encode(encoding, kept, values[part], None)
        net.forward(kept, layers[:-1], {})
        net.upstream(result, grads, d_out[part], scale)
        net.backward(kept, grads, layers, scale, partial)
    return partial


class _FastNerfMlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, points, directions, ray_indices, params, config, known):
        nets = _both(params, config)
        if known is None:
            n = len(points)
            rgb, sigma = points.new_empty(n, 3), points.new_empty(n)
            heads = _run(nets[0], "point", "head", points)
            weights = _run(nets[1], "direction", "weights", directions)
            launch(
                _combine_kernel,
                (triton.cdiv(n, SAMPLES),),
                *(heads, weights, ray_indices, n, rgb, sigma),
                D=config.components,
                SAMPLES=SAMPLES,
            )
        else:
            rgb, sigma = (values.detach().clone() for values in known)
        ctx.save_for_backward(points, directions, ray_indices)
        ctx.nets, ctx.config, ctx.params = nets, config, params.dtype
        return rgb, sigma

    @staticmethod
    @once_differentiable
    def backward(ctx, d_rgb, d_sigma):
        points, directions, ray_indices = ctx.saved_tensors
        n = len(points)
        heads = _run(ctx.nets[0], "point", "head", points)
        weights = _run(ctx.nets[1], "direction", "weights", directions)
        d_heads, d_weights = torch.empty_like(heads), torch.zeros_like(weights)
        launch(
            _separate_kernel,
            (triton.cdiv(n, SAMPLES),),
            *(heads, weights, ray_indices, d_rgb.contiguous(), d_sigma.contiguous(), n),
            *(d_heads, d_weights),
            D=ctx.config.components,
            SAMPLES=SAMPLES,
        )
        d_params = [
            net.gradient(_back(net, *names, values, d_out), ctx.params)
            for net, names, values, d_out in (
                (ctx.nets[0], ("point", "head"), points, d_heads),
                (ctx.nets[1], ("direction", "weights"), directions, d_weights),
            )
        ]
        return None, None, None, torch.cat(d_params), None, None


def fastnerf_mlp(
    points: torch.Tensor,
    directions: torch.Tensor,
    params: torch.Tensor,
    *,
    ray_indices: torch.Tensor,
    config: FastNerfMlpConfig,
    known: FastNerfMlpOutput | None = None,
) -> FastNerfMlpOutput:
    """Same function as the reference in 16 bits (the type of params or autocast, else float16)."""
    _check(params, points=points, directions=directions)
    outputs = _FastNerfMlp.apply(
        *(points.contiguous(), directions.contiguous(), ray_indices.contiguous()),
        *(params, config, known),
    )
    return FastNerfMlpOutput(*outputs)


def point_components(
    points: torch.Tensor, params: torch.Tensor, *, config: FastNerfMlpConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Same function as the reference in 16 bits, no gradients."""
    _check(params, points=points)
    _check_fixed("params", params)
    heads = _run(_both(params, config)[0], "point", "head", points.contiguous())
    colors = heads[:, 1:].reshape(len(points), config.components, 3)
    return colors, heads[:, 0].contiguous()


def view_weights(
    directions: torch.Tensor, params: torch.Tensor, *, config: FastNerfMlpConfig
) -> torch.Tensor:
    """Same function as the reference in 16 bits, no gradients."""
    _check(params, directions=directions)
    _check_fixed("params", params)
    return _run(_both(params, config)[1], "direction", "weights", directions.contiguous())


def _check(params: torch.Tensor, **vectors: torch.Tensor) -> None:
    check_float32(**vectors)
    for name, tensor in vectors.items():
        _check_fixed(name, tensor)
    if params.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"params must be float32, float16 or bfloat16, got {params.dtype}")


def _check_fixed(name: str, tensor: torch.Tensor) -> None:
    if tensor.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            f"backend 'gpu' has no gradient with respect to {name}: detach it, or take "
            "backend='reference'"
        )


# Layers are those that nerfkit.kernels.nsvf_mlp compiles.
_SIZES = {"D": FastNerfMlpConfig().components, "SAMPLES": SAMPLES}
AOT = [
    Configuration(
        *("fastnerf_mlp combine", _combine_kernel, "*fp32 *fp32 *i64 i32 *fp32 *fp32"),
        _SIZES,
        max_registers=96,
    ),
    Configuration(
        *("fastnerf_mlp separate", _separate_kernel),
        "*fp32 *fp32 *i64 *fp32 *fp32 i32 *fp32 *fp32",
        _SIZES,
        max_registers=96,
        wanted=(r"(RED|ATOM)",),
    ),
]
