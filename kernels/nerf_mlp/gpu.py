"""The Triton nerf_mlp kernels as a torch function; see `nerfkit.kernels.nerf_mlp.nerf_mlp`.

Products are 16-bit, sums float32. A program has ROWS samples; a layer's units are two tiles
[ROWS, HALF], which stay on the chip from layer to layer. The backward goes in pieces of CHUNK
samples: forward again with the activations kept, gradients of the activations (both 16-bit, in
memory), then the gradients of the weights as products over all samples of the piece.
"""

import functools

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from nerfkit.kernels.shared.aot import Configuration
from nerfkit.kernels.shared.triton_launch import launch
from nerfkit.kernels.shared.triton_math import frequency_value

from .config import NerfMlpConfig
from .gpu_layout import OUTPUTS, Layout
from .reference import NerfMlpOutput

COMPUTE = torch.float16  # under torch.autocast its type
ROWS = 64
WARPS = 4
STAGES = 1  # a second copy of the weights' blocks would leave no room for a second program
ENCODED = 2048  # values of a program that encodes
CHUNK = 32768
SPLITS = 8  # programs that share the samples of one block of a gradient of the weights
LARGEST = 16.0  # what the largest upstream gradient is scaled to, in the middle of fp16's range


@triton.jit
def _keep(kept, rows, exists, columns, at, value, N: tl.constexpr):
    column = at + tl.arange(0, N)[None, :]
    tl.store(kept + rows * columns + column, value, mask=exists)


@triton.jit
def _encode_kernel(
    values,  # [., 3]
    indices,  # the row of each sample in `values`; None: its own
    first,
    n,
    kept,
    columns,
    at,
    REAL: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
):
    """The frequency encoding, widened with zeros, to columns `at` on of the activations.

    By itself, as the registers of the other kernels are full; it is a 40th of what they read.
    """
    local = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    rows = first + local
    exists = rows < n
    if indices is not None:
        rows = tl.load(indices + rows, mask=exists, other=0)
    column = tl.arange(0, PADDED)[None, :]
    mask = exists & (column < REAL)
    x = tl.load(values + rows * 3 + column % 3, mask=mask, other=0.0)
    value = tl.where(mask, frequency_value(x, column // 3 - 1), 0.0)
    _keep(kept, local, exists, columns, at, value, PADDED)


@triton.jit
def _kept(kept, rows, exists, columns, at, N: tl.constexpr):
    """Columns at .. at + N of the activations."""
    column = at + tl.arange(0, N)[None, :]
    return tl.load(kept + rows * columns + column, mask=exists, other=0.0)


@triton.jit
def _block(weights, row, column, N, R: tl.constexpr, C: tl.constexpr):
    """Weights [R inputs, C outputs] of a layer of N outputs."""
    i = row + tl.arange(0, R)[:, None]
    o = column + tl.arange(0, C)[None, :]
    return tl.load(weights + i * N + o)


@triton.jit
def _across(weights, row, column, N, R: tl.constexpr, C: tl.constexpr):
    """The same transposed, [C outputs, R inputs]."""
    o = column + tl.arange(0, C)[:, None]
    i = row + tl.arange(0, R)[None, :]
    return tl.load(weights + i * N + o)


@triton.jit
def _times(x0, x1, weights, column, N, y, HALF: tl.constexpr, C: tl.constexpr):
    """y plus both halves of the units times their weights."""
    y = tl.dot(x0, _block(weights, 0, column, N, HALF, C), acc=y)
    return tl.dot(x1, _block(weights, HALF, column, N, HALF, C), acc=y)


@triton.jit
def _bias(biases, column, ROWS: tl.constexpr, C: tl.constexpr):
    """What a product starts from."""
    return tl.zeros([ROWS, C], tl.float32) + tl.load(biases + column + tl.arange(0, C))[None, :]


@triton.jit
def _forward_kernel(
    weights,  # packed, 16-bit
    biases,  # packed, float32
    first,  # sample of this launch
    n,  # the end of its samples
    rgb,  # written where not None
    sigma,
    kept,  # activations [n - first, columns], of which the encodings are there
    columns,
    at_direction,  # of the encoded direction
    KEEP: tl.constexpr,  # whether to write the others
    DEPTH: tl.constexpr,
    SKIP: tl.constexpr,
    POSITION: tl.constexpr,
    DIRECTION: tl.constexpr,
    HALF: tl.constexpr,
    VIEW: tl.constexpr,
    OUTPUTS: tl.constexpr,
    ROWS: tl.constexpr,
):
    WIDTH: tl.constexpr = 2 * HALF
    dtype: tl.constexpr = weights.dtype.element_ty
    local = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    rows = first + local
    exists = rows < n
    position = _kept(kept, local, exists, columns, 0, POSITION)
    h0, h1 = _bias(biases, 0, ROWS, HALF), _bias(biases, HALF, ROWS, HALF)
    h0 = tl.dot(position, _block(weights, 0, 0, WIDTH, POSITION, HALF), acc=h0)
    h1 = tl.dot(position, _block(weights, 0, HALF, WIDTH, POSITION, HALF), acc=h1)
    h0, h1 = tl.maximum(h0, 0.0).to(dtype), tl.maximum(h1, 0.0).to(dtype)
    if KEEP:
        _keep(kept, local, exists, columns, POSITION, h0, HALF)
        _keep(kept, local, exists, columns, POSITION + HALF, h1, HALF)
    weights += POSITION * WIDTH
    biases += WIDTH
    for layer in range(1, DEPTH):
        y0, y1 = _bias(biases, 0, ROWS, HALF), _bias(biases, HALF, ROWS, HALF)
        if layer == SKIP:
            position = _kept(kept, local, exists, columns, 0, POSITION)
            y0 = tl.dot(position, _block(weights, 0, 0, WIDTH, POSITION, HALF), acc=y0)
            y1 = tl.dot(position, _block(weights, 0, HALF, WIDTH, POSITION, HALF), acc=y1)
            weights += POSITION * WIDTH
        y0 = _times(h0, h1, weights, 0, WIDTH, y0, HALF, HALF)
        y1 = _times(h0, h1, weights, HALF, WIDTH, y1, HALF, HALF)
        h0 = tl.maximum(y0, 0.0).to(dtype)
        h1 = tl.maximum(y1, 0.0).to(dtype)
        if KEEP:
            _keep(kept, local, exists, columns, POSITION + layer * WIDTH, h0, HALF)
            _keep(kept, local, exists, columns, POSITION + layer * WIDTH + HALF, h1, HALF)
        weights += WIDTH * WIDTH
        biases += WIDTH
    output = tl.arange(0, OUTPUTS)[None, :]
    if sigma is not None:
        raw = _bias(biases, 0, ROWS, OUTPUTS)
        raw = _times(h0, h1, weights, 0, OUTPUTS, raw, HALF, OUTPUTS)
        tl.store(sigma + rows + output, raw, mask=exists & (output < 1))
    weights += WIDTH * OUTPUTS
    biases += OUTPUTS
    f0, f1 = _bias(biases, 0, ROWS, HALF), _bias(biases, HALF, ROWS, HALF)
    f0 = _times(h0, h1, weights, 0, WIDTH, f0, HALF, HALF)
    f1 = _times(h0, h1, weights, HALF, WIDTH, f1, HALF, HALF)
    f0, f1 = f0.to(dtype), f1.to(dtype)
    weights += WIDTH * WIDTH
    biases += WIDTH
    direction = _kept(kept, local, exists, columns, at_direction, DIRECTION)
    v = _times(f0, f1, weights, 0, VIEW, _bias(biases, 0, ROWS, VIEW), HALF, VIEW)
    v = tl.dot(direction, _block(weights, WIDTH, 0, VIEW, DIRECTION, VIEW), acc=v)
    v = tl.maximum(v, 0.0).to(dtype)
    weights += (WIDTH + DIRECTION) * VIEW
    biases += VIEW
    if rgb is not None:
        raw = _bias(biases, 0, ROWS, OUTPUTS)
        raw = tl.dot(v, _block(weights, 0, 0, OUTPUTS, VIEW, OUTPUTS), acc=raw)
        tl.store(rgb + rows * 3 + output, raw, mask=exists & (output < 3))
    if KEEP:
        at = POSITION + DEPTH * WIDTH
        _keep(kept, local, exists, columns, at, f0, HALF)
        _keep(kept, local, exists, columns, at + HALF, f1, HALF)
        _keep(kept, local, exists, columns, at + WIDTH + DIRECTION, v, VIEW)


@triton.jit
def _was_on(d, kept, rows, exists, columns, at, N: tl.constexpr):
    """Gradients pass a ReLU where its result was positive."""
    return tl.where(_kept(kept, rows, exists, columns, at, N) > 0, d, 0.0)


@triton.jit
def _back(d0, d1, weights, row, N, x, HALF: tl.constexpr):
    """x plus the gradients of a layer's inputs row .. row + HALF from those of its outputs."""
    x = tl.dot(d0, _across(weights, row, 0, N, HALF, HALF), acc=x)
    return tl.dot(d1, _across(weights, row, HALF, N, HALF, HALF), acc=x)


@triton.jit
def _backward_kernel(
    weights,
    first,
    n,
    d_rgb,
    d_sigma,
    scale_of,  # [1]
    kept,  # activations
    columns,
    grads,  # of the activations before their ReLU, times scale; written
    grad_columns,
    at_sigma,  # of the packed weights of the layers
    at_rgb,
    DEPTH: tl.constexpr,
    SKIP: tl.constexpr,
    POSITION: tl.constexpr,
    DIRECTION: tl.constexpr,
    HALF: tl.constexpr,
    VIEW: tl.constexpr,
    OUTPUTS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    ROWS: tl.constexpr,
):
    WIDTH: tl.constexpr = 2 * HALF
    dtype: tl.constexpr = weights.dtype.element_ty
    local = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    rows = first + local
    exists = rows < n
    scale = tl.load(scale_of)
    output = tl.arange(0, OUTPUTS)[None, :]
    red = tl.load(d_rgb + rows * 3 + output, mask=exists & (output < 3), other=0.0) * scale
    density = tl.load(d_sigma + rows + output, mask=exists & (output < 1), other=0.0) * scale
    red, density = red.to(dtype), density.to(dtype)
    end = (DEPTH + 1) * WIDTH + VIEW
    _keep(grads, local, exists, grad_columns, end, red, OUTPUTS)
    _keep(grads, local, exists, grad_columns, end + BLOCK_OUT, density, OUTPUTS)

    v = tl.dot(red, _across(weights + at_rgb, 0, 0, OUTPUTS, VIEW, OUTPUTS))
    at = POSITION + DEPTH * WIDTH
    v = _was_on(v, kept, local, exists, columns, at + WIDTH + DIRECTION, VIEW).to(dtype)
    _keep(grads, local, exists, grad_columns, (DEPTH + 1) * WIDTH, v, VIEW)
    at_view = weights + at_rgb - (WIDTH + DIRECTION) * VIEW
    f0 = tl.dot(v, _across(at_view, 0, 0, VIEW, HALF, VIEW)).to(dtype)
    f1 = tl.dot(v, _across(at_view, HALF, 0, VIEW, HALF, VIEW)).to(dtype)
    _keep(grads, local, exists, grad_columns, DEPTH * WIDTH, f0, HALF)
    _keep(grads, local, exists, grad_columns, DEPTH * WIDTH + HALF, f1, HALF)

    at_layer = weights + at_sigma
    d0 = tl.dot(density, _across(at_layer, 0, 0, OUTPUTS, HALF, OUTPUTS))
    d1 = tl.dot(density, _across(at_layer, HALF, 0, OUTPUTS, HALF, OUTPUTS))
    at_feature = at_layer + WIDTH * OUTPUTS
    d0 = _back(f0, f1, at_feature, 0, WIDTH, d0, HALF)
    d1 = _back(f0, f1, at_feature, HALF, WIDTH, d1, HALF)
    for back in range(0, DEPTH):
        layer = DEPTH - 1 - back
        at = POSITION + layer * WIDTH
        d0 = _was_on(d0, kept, local, exists, columns, at, HALF)
        d1 = _was_on(d1, kept, local, exists, columns, at + HALF, HALF)
        g0, g1 = d0.to(dtype), d1.to(dtype)
        _keep(grads, local, exists, grad_columns, layer * WIDTH, g0, HALF)
        _keep(grads, local, exists, grad_columns, layer * WIDTH + HALF, g1, HALF)
        if layer > 0:
            at_layer -= WIDTH * WIDTH
            nothing = tl.zeros([ROWS, HALF], tl.float32)
            d0 = _back(g0, g1, at_layer, 0, WIDTH, nothing, HALF)
            d1 = _back(g0, g1, at_layer, HALF, WIDTH, nothing, HALF)
            if layer == SKIP:
                at_layer -= POSITION * WIDTH


@triton.jit
def _weights_kernel(
    kept,
    columns,
    grads,
    grad_columns,
    n,
    products,  # [J, 6], see Layout.products
    scale_of,
    partial,  # [splits, packed], added to: each element by one program
    n_packed,
    ROWS: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
):
    """dW = activations^T gradients, over the samples of one split."""
    job = products + tl.program_id(0) * 6
    split, splits = tl.program_id(1), tl.num_programs(1)
    i = tl.load(job) + tl.arange(0, BLOCK_IN)
    o = tl.load(job + 1) + tl.arange(0, BLOCK_OUT)
    dw = tl.zeros([BLOCK_IN, BLOCK_OUT], tl.float32)
    db = tl.zeros([BLOCK_OUT], tl.float32)
    for tile in range(split, tl.cdiv(n, ROWS), splits):
        rows = (tl.zeros([], tl.int64) + tile) * ROWS + tl.arange(0, ROWS)
        exists = rows < n
        x = tl.load(kept + rows[None, :] * columns + i[:, None], mask=exists[None, :], other=0.0)
        at = grads + rows[:, None] * grad_columns + o[None, :]
        d = tl.load(at, mask=exists[:, None], other=0.0)
        dw = tl.dot(x, d, acc=dw)
        db += tl.sum(d.to(tl.float32), 0)
    place, stride = tl.load(job + 2), tl.load(job + 3)
    wide, bias = tl.load(job + 4), tl.load(job + 5)
    scale = 1.0 / tl.load(scale_of)
    partial += split.to(tl.int64) * n_packed
    o = tl.arange(0, BLOCK_OUT)
    at = partial + place + tl.arange(0, BLOCK_IN)[:, None] * stride + o[None, :]
    mask = (o < wide)[None, :]
    tl.store(at, tl.load(at, mask=mask, other=0.0) + dw * scale, mask=mask)
    at = partial + bias + o
    mask = o < tl.where(bias >= 0, wide, 0)
    tl.store(at, tl.load(at, mask=mask, other=0.0) + db * scale, mask=mask)


class _NerfMlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, points, directions, ray_indices, params, config, dtype):
        n = len(points)
        rgb, sigma = points.new_empty(n, 3), points.new_empty(n)
        packed, layout = _pack(params, config), Layout.of(config)
        arguments = points, directions, ray_indices
        columns = layout.position + layout.direction
        encoded = points.new_empty(min(n, CHUNK), columns, dtype=dtype)
        for first in range(0, n, CHUNK):
            piece = first, min(n, first + CHUNK)
            _forward(arguments, packed, config, piece, encoded, rgb, sigma)
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
        constants = _constants(config)
        weights = packed[: layout.n_weights].to(dtype)
        products = _products(config, device)
        for first in range(0, n, CHUNK):
            end = min(n, first + CHUNK)
            _forward(arguments, packed, config, (first, end), kept, None, None)
            launch(
                _backward_kernel,
                (triton.cdiv(end - first, ROWS),),
                *(weights, first, end, d_rgb, d_sigma, scale, kept, layout.activations),
                *(grads, layout.gradients, layout.layer("sigma").start, layout.layer("rgb").start),
                BLOCK_OUT=layout.block_out,
                num_warps=WARPS,
                num_stages=STAGES,
                **constants,
            )
            launch(
                _weights_kernel,
                (len(products), SPLITS),
                *(kept, layout.activations, grads, layout.gradients, end - first),
                *(products, scale, partial, layout.n_packed),
                ROWS=ROWS,
                BLOCK_IN=layout.block_in,
                BLOCK_OUT=layout.block_out,
                num_warps=WARPS,
            )
        d_params = partial.sum(0)[_places(config, device)].to(ctx.params)
        return None, None, None, d_params, None, None


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
            _encode_kernel,
            (triton.cdiv(piece[1] - piece[0], rows),),
            *(values, indices, *piece, kept, columns, at),
            REAL=real,
            PADDED=wide,
            ROWS=rows,
        )
    weights, biases = packed[: layout.n_weights].to(kept.dtype), packed[layout.n_weights :]
    launch(
        _forward_kernel,
        (triton.cdiv(piece[1] - piece[0], ROWS),),
        *(weights, biases, *piece, rgb, sigma, kept, columns, at_direction),
        KEEP=rgb is None,
        num_warps=WARPS,
        num_stages=STAGES,
        **_constants(config),
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


def _constants(config: NerfMlpConfig) -> dict[str, int]:
    layout = Layout.of(config)
    return {
        "DEPTH": config.depth,
        "SKIP": config.skip,
        "POSITION": layout.position,
        "DIRECTION": layout.direction,
        "HALF": layout.width // 2,
        "VIEW": layout.view,
        "OUTPUTS": OUTPUTS,
        "ROWS": ROWS,
    }


def nerf_mlp(
    points: torch.Tensor,
    directions: torch.Tensor,
    params: torch.Tensor,
    *,
    ray_indices: torch.Tensor | None,
    config: NerfMlpConfig,
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
    if max(config.width, config.view_width) > 256:
        raise ValueError(f"backend 'gpu' takes at most 256 units a layer, got {config}")
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
    )
    return NerfMlpOutput(*outputs)


def _aot(config: NerfMlpConfig, kind: str) -> list[Configuration]:
    layout, constants = Layout.of(config), _constants(config)
    blocks = {"BLOCK_IN": layout.block_in, "BLOCK_OUT": layout.block_out, "ROWS": ROWS}
    matrix = (r"(HMMA|HGMMA)",)
    inputs = f"*{kind} *fp32 i32 i32"
    name = f"nerf_mlp {config.depth}x{config.width} {kind}"
    return [
        Configuration(
            f"{name} encode",
            _encode_kernel,
            f"*fp32 *i64 i32 i32 *{kind} i32:16 i32:16",
            {"REAL": 63, "PADDED": 64, "ROWS": ENCODED // 64},
            max_registers=96,
        ),
        Configuration(
            f"{name} forward",
            _forward_kernel,
            f"{inputs} *fp32 *fp32 *{kind} i32:16 i32:16",
            constants | {"KEEP": False},
            WARPS,
            STAGES,
            wanted=matrix,
        ),
        Configuration(
            f"{name} forward, kept",
            _forward_kernel,
            f"{inputs} None None *{kind} i32:16 i32:16",
            constants | {"KEEP": True},
            WARPS,
            STAGES,
            wanted=matrix,
        ),
        Configuration(
            f"{name} backward",
            _backward_kernel,
            f"*{kind} i32 i32 *fp32 *fp32 *fp32 *{kind} i32:16 *{kind} i32:16 i32:16 i32:16",
            constants | {"BLOCK_OUT": layout.block_out},
            WARPS,
            STAGES,
            wanted=matrix,
        ),
        Configuration(
            f"{name} weights",
            _weights_kernel,
            f"*{kind} i32:16 *{kind} i32:16 i32 *i32 *fp32 *fp32 i32:16",
            blocks,
            WARPS,
            max_registers=168,
            wanted=matrix,
        ),
    ]


AOT = [*_aot(NerfMlpConfig(), "fp16"), *_aot(NerfMlpConfig(), "bf16")]
