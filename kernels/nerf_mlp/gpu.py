"""The Triton nerf_mlp as a torch function; see `nerfkit.kernels.nerf_mlp.nerf_mlp`.

The backward goes in pieces of CHUNK samples: forward again with the activations kept, gradients of
the activations (both 16-bit, in memory), then the gradients of the weights as products over all
samples of the piece. The kernels are in `gpu_kernels.py`, where things lie in `gpu_layout.py`.
"""

import functools

import torch
import triton
from torch.autograd.function import once_differentiable

from nerfkit.kernels.shared.aot import Configuration
from nerfkit.kernels.shared.triton_dense import weights_kernel
from nerfkit.kernels.shared.triton_launch import launch

from .config import GPU_UNITS, NerfMlpConfig
from .gpu_kernels import backward_kernel, encode_kernel, forward_kernel
from .gpu_layout import OUTPUTS, Layout
from .reference import NerfMlpOutput

COMPUTE = torch.float16  # under torch.autocast its type
WEIGHT_ROWS = 64  # samples at a time of a gradient of the weights
WARPS = 4
STAGES = 1  # a second copy of the weights' blocks would leave no room for a second program
ENCODED = 2048  # values of a program that encodes
CHUNK = 32768
SPLITS = 8  # programs that share the samples of one block of a gradient of the weights
LARGEST = 16.0  # what the largest upstream gradient is scaled to, in the middle of fp16's range


class _NerfMlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, points, directions, ray_indices, params, config, dtype, known):
        n = len(points)
        packed, layout = _pack(params, config), Layout.of(config)
        arguments = points, directions, ray_indices
        if known is None:
            rgb, sigma = points.new_empty(n, 3), points.new_empty(n)
            columns = layout.position + layout.direction
            encoded = points.new_empty(min(n, CHUNK), columns, dtype=dtype)
            for first in range(0, n, CHUNK):
                piece = first, min(n, first + CHUNK)
                _forward(arguments, packed, config, piece, encoded, rgb, sigma)
        else:
            rgb, sigma = (values.detach().clone() for values in known)
        ctx.save_for_backward(*arguments, packed)
        ctx.config, ctx.dtype = config, dtype
        ctx.params = params.dtype
        return rgb, sigma

    @staticmethod
    @once_differentiable
    def backward(ctx, d_rgb, d_sigma):
        *arguments, packed = ctx.saved_tensors
        config, dtype, n = ctx.config, ctx.dtype, len(d_rgb)
        layout, device = Layout.of(config), packed.device
        d_rgb, d_sigma = d_rgb.contiguous(), d_sigma.contiguous()
        partial = packed.new_zeros(SPLITS, layout.n_packed)
        if n:
            most = torch.maximum(d_rgb.abs().amax(), d_sigma.abs().amax())
            scale = torch.where(most > 0, LARGEST / most, 1.0).float().reshape(1)
            rows = min(n, CHUNK)
            kept = torch.zeros(rows, layout.activations, dtype=dtype, device=device)
            grads = torch.zeros(rows, layout.gradients, dtype=dtype, device=device)
        constants = _constants(config, _rows(device))
        weights = packed[: layout.n_weights].to(dtype)
        products = _products(config, device)
        for first in range(0, n, CHUNK):
            end = min(n, first + CHUNK)
            _forward(arguments, packed, config, (first, end), kept, None, None)
            launch(
                backward_kernel,
                (triton.cdiv(end - first, constants["ROWS"]),),
                *(weights, first, end, d_rgb, d_sigma, scale, kept, layout.activations),
                *(grads, layout.gradients, layout.layer("sigma").start, layout.layer("rgb").start),
                BLOCK_OUT=layout.block_out,
                num_warps=WARPS,
                num_stages=STAGES,
                **constants,
            )
            launch(
                weights_kernel,
                (len(products), SPLITS),
                *(kept, layout.activations, grads, layout.gradients, end - first),
                *(products, scale, partial, layout.n_packed),
                TRIPS=triton.next_power_of_2(triton.cdiv(end - first, SPLITS * WEIGHT_ROWS)),
                ROWS=WEIGHT_ROWS,
                BLOCK_IN=layout.block_in,
                BLOCK_OUT=layout.block_out,
                num_warps=WARPS,
            )
        d_params = partial.sum(0)[_places(config, device)].to(ctx.params)
        return None, None, None, d_params, None, None, None


def _forward(arguments, packed, config, piece, kept, rgb, sigma) -> None:
    """Samples piece[0] to piece[1]; the type of `kept` is that of the products.

    Where rgb is None, `kept` has columns for all activations and gets them, and rgb and sigma are
    not computed; else it has columns for the encodings alone.
    """
    (points, directions, ray_indices), layout = arguments, Layout.of(config)
    columns = kept.shape[1]
    at_direction = layout.position if rgb is not None else layout.layer("view").inputs[1][0]
    for values, indices, at, real, wide in (
        (points, None, 0, 3 + 6 * config.position_frequencies, layout.position),
        (
            *(directions, ray_indices, at_direction),
            *(3 + 6 * config.direction_frequencies, layout.direction),
        ),
    ):
        rows = ENCODED // wide
        launch(
            encode_kernel,
            (triton.cdiv(piece[1] - piece[0], rows),),
            *(values, indices, *piece, kept, columns, at),
            REAL=real,
            PADDED=wide,
            ROWS=rows,
        )
    weights, biases = packed[: layout.n_weights].to(kept.dtype), packed[layout.n_weights :]
    constants = _constants(config, _rows(points.device))
    launch(
        forward_kernel,
        (triton.cdiv(piece[1] - piece[0], constants["ROWS"]),),
        *(weights, biases, *piece, rgb, sigma, kept, columns, at_direction),
        KEEP=rgb is None,
        num_warps=WARPS,
        num_stages=STAGES,
        **constants,
    )


@functools.lru_cache(maxsize=8)
def _places(config: NerfMlpConfig, device: torch.device) -> torch.Tensor:
    return Layout.of(config).places(config).to(device)


@functools.lru_cache(maxsize=8)
def _products(config: NerfMlpConfig, device: torch.device) -> torch.Tensor:
    return Layout.of(config).products().to(device)


def _pack(params: torch.Tensor, config: NerfMlpConfig) -> torch.Tensor:
    """Float32 parameters where the kernels read them, zeros between."""
    packed = params.new_zeros(Layout.of(config).n_packed, dtype=torch.float32)
    return packed.index_copy_(0, _places(config, params.device), params.float())


def _rows(device: torch.device) -> int:
    """Samples of a program: the matrix instruction of Hopper is 64 high, on older ones 64 spill."""
    older = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] < 9
    return 32 if older else 64


def _constants(config: NerfMlpConfig, rows: int) -> dict[str, int]:
    layout = Layout.of(config)
    return {
        "DEPTH": config.depth,
        "SKIP": config.skip,
        "POSITION": layout.position,
        "DIRECTION": layout.direction,
        "HALF": layout.width // 2,
        "VIEW": layout.view,
        "OUTPUTS": OUTPUTS,
        "ROWS": rows,
    }


def nerf_mlp(
    points: torch.Tensor,
    directions: torch.Tensor,
    params: torch.Tensor,
    *,
    ray_indices: torch.Tensor | None,
    config: NerfMlpConfig,
    known: NerfMlpOutput | None = None,
) -> NerfMlpOutput:
    """Same function as the reference in 16 bits (the type of params or autocast, else float16)."""
    for name, tensor in (("points", points), ("directions", directions)):
        if tensor.dtype != torch.float32:
            raise ValueError(f"{name} must be float32 for backend 'gpu', got {tensor.dtype}")
        if tensor.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"backend 'gpu' has no gradient with respect to {name}: detach it, or take "
                "backend='reference'"
            )
    if params.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"params must be float32, float16 or bfloat16, got {params.dtype}")
    if max(config.width, config.view_width) > GPU_UNITS:
        raise ValueError(f"backend 'gpu' takes at most {GPU_UNITS} units a layer, got {config}")
    dtype = COMPUTE if params.dtype == torch.float32 else params.dtype
    if torch.is_autocast_enabled("cuda"):
        dtype = torch.get_autocast_dtype("cuda")
    outputs = _NerfMlp.apply(
        points.contiguous(),
        directions.contiguous(),
        None if ray_indices is None else ray_indices.contiguous(),
        params,
        config,
        dtype,
        known,
    )
    return NerfMlpOutput(*outputs)


def _aot(kind: str, rows: int, archs: tuple[int, ...]) -> list[Configuration]:
    config = NerfMlpConfig()
    layout, constants = Layout.of(config), _constants(config, rows)
    blocks = {"BLOCK_IN": layout.block_in, "BLOCK_OUT": layout.block_out}
    matrix = (r"(HMMA|HGMMA|UTC\w*MMA)",)
    inputs = f"*{kind} *fp32 i32 i32"
    name = f"nerf_mlp {config.depth}x{config.width} {kind}"  # of the paper
    found = [
        Configuration(
            f"{name} encode",
            encode_kernel,
            f"*fp32 *i64 i32 i32 *{kind} i32:16 i32:16",
            {"REAL": 63, "PADDED": 64, "ROWS": ENCODED // 64},
            max_registers=96,
        ),
        Configuration(
            f"{name} forward",
            forward_kernel,
            f"{inputs} *fp32 *fp32 *{kind} i32:16 i32:16",
            constants | {"KEEP": False},
        ),
        Configuration(
            f"{name} forward, kept",
            forward_kernel,
            f"{inputs} None None *{kind} i32:16 i32:16",
            constants | {"KEEP": True},
        ),
        Configuration(
            f"{name} backward",
            backward_kernel,
            f"*{kind} i32 i32 *fp32 *fp32 *fp32 *{kind} i32:16 *{kind} i32:16 i32:16 i32:16",
            constants | {"BLOCK_OUT": layout.block_out},
        ),
    ]
    # Two tiles of 128 units in float32 fill the registers; what spills is a tenth of the products.
    found[1:] = [
        c._replace(
            num_warps=WARPS, num_stages=STAGES, max_stack=544, max_inner_spills=80, wanted=matrix
        )
        for c in found[1:]
    ]
    found += [
        Configuration(
            f"{name} weights",
            weights_kernel,
            f"*{kind} i32:16 *{kind} i32:16 i32 *i32 *fp32 *fp32 i32:16",
            blocks | {"ROWS": WEIGHT_ROWS, "TRIPS": 64},
            WARPS,
            wanted=matrix,
        ),
    ]
    return [c._replace(archs=archs) for c in found]


AOT = [
    *_aot("fp16", 32, (80, 86, 89)),
    *_aot("fp16", 64, (90, 100)),
    *_aot("bf16", 64, (90, 100)),
]
