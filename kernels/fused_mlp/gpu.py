"""Triton fused_mlp. Shapes as in the package docstring; parameters go as one flat float32 tensor:
per layer W [out, in] row-major, then b [out].

Products are in the type of x: 16-bit, or float32 by three TF32 products (one where torch's float32
matmul precision is not "highest"); sums are float32. A program goes over many tiles of ROWS
samples. Weights are tiles [in, out], rounded up to powers of two and at least 16; small networks
keep them on the chip all the time (RESIDENT), and their gradients in registers (KEEP).
"""

import itertools
from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from nerfkit.kernels.shared.aot import Configuration
from nerfkit.kernels.shared.triton_launch import launch

MAX_WIDTH = 128
MAX_LAYERS = 16
RESIDENT_BYTES = 48 * 1024
KEPT_VALUES = 4096  # 32 registers of each thread; three TF32 products leave none
FORWARD_ROWS, BACKWARD_ROWS = 64, 32
STAGES = 1  # copies of weights ahead of their use would not fit
PROGRAMS_A_PROCESSOR = 2


@triton.jit
def _weight(layer, N_IN: tl.constexpr, N_OUT: tl.constexpr, INS: tl.constexpr, OUTS: tl.constexpr):
    """W of a layer as a tile [in, out]."""
    i = tl.arange(0, INS)[:, None]
    o = tl.arange(0, OUTS)[None, :]
    return tl.load(layer + o * N_IN + i, mask=(i < N_IN) & (o < N_OUT), other=0.0)


@triton.jit
def _bias(layer, N_IN: tl.constexpr, N_OUT: tl.constexpr, OUTS: tl.constexpr):
    o = tl.arange(0, OUTS)[None, :]
    return tl.load(layer + N_IN * N_OUT + o, mask=o < N_OUT, other=0.0)


@triton.jit
def _all_weights(
    params,
    dtype: tl.constexpr,
    LAYERS: tl.constexpr,
    WIDTHS: tl.constexpr,
    PADDED: tl.constexpr,
    STARTS: tl.constexpr,
):
    weights = ()
    for k in tl.static_range(LAYERS):
        at = params + STARTS[k]
        tile = _weight(at, WIDTHS[k], WIDTHS[k + 1], PADDED[k], PADDED[k + 1])
        weights = weights + (tile.to(dtype),)
    return weights


@triton.jit
def _tile(values, rows, n, N: tl.constexpr, PADDED: tl.constexpr):
    """Addresses and mask of [ROWS, PADDED] of an [n, N] tensor."""
    column = tl.arange(0, PADDED)[None, :]
    return values + rows * N + column, (rows < n) & (column < N)


@triton.jit
def _forward_kernel(
    x,
    params,
    n,
    out,
    LAYERS: tl.constexpr,
    WIDTHS: tl.constexpr,
    PADDED: tl.constexpr,
    STARTS: tl.constexpr,
    SIGMOID: tl.constexpr,
    RESIDENT: tl.constexpr,
    PRECISION: tl.constexpr,
    TRIPS: tl.constexpr,  # tiles of a program
    ROWS: tl.constexpr,
):
    dtype: tl.constexpr = x.dtype.element_ty
    if RESIDENT:
        weights = _all_weights(params, dtype, LAYERS, WIDTHS, PADDED, STARTS)
    for trip in range(TRIPS):
        tile = tl.program_id(0).to(tl.int64) + trip * tl.num_programs(0)
        rows = tile * ROWS + tl.arange(0, ROWS)[:, None]
        at, mask = _tile(x, rows, n, WIDTHS[0], PADDED[0])
        h = tl.load(at, mask=mask, other=0.0)
        for k in tl.static_range(LAYERS):
            layer = params + STARTS[k]
            if RESIDENT:
                w = weights[k]
            else:
                w = _weight(layer, WIDTHS[k], WIDTHS[k + 1], PADDED[k], PADDED[k + 1]).to(dtype)
            b = _bias(layer, WIDTHS[k], WIDTHS[k + 1], PADDED[k + 1])
            y = tl.dot(h, w, input_precision=PRECISION) + b
            if k < LAYERS - 1:
                h = tl.maximum(y, 0.0).to(dtype)
        if SIGMOID:
            y = tl.sigmoid(y)
        at, mask = _tile(out, rows, n, WIDTHS[LAYERS], PADDED[LAYERS])
        tl.store(at, y, mask=mask)


@triton.jit
def _backward_kernel(
    x,
    params,
    n,
    d_out,
    dx,  # None: not wanted
    partial,  # [programs, P]: each program's share of the gradient of the parameters
    n_params,
    LAYERS: tl.constexpr,
    WIDTHS: tl.constexpr,
    PADDED: tl.constexpr,
    STARTS: tl.constexpr,
    SIGMOID: tl.constexpr,
    RESIDENT: tl.constexpr,
    KEEP: tl.constexpr,
    PRECISION: tl.constexpr,
    TRIPS: tl.constexpr,  # tiles of a program
    ROWS: tl.constexpr,
):
    """Activations once more, then dW = h^T d, db = sum d, d = (d W) where the layer was on."""
    dtype: tl.constexpr = x.dtype.element_ty
    mine = partial + tl.program_id(0).to(tl.int64) * n_params
    if RESIDENT:
        weights = _all_weights(params, dtype, LAYERS, WIDTHS, PADDED, STARTS)
    dws = ()
    dbs = ()
    if KEEP:
        for k in tl.static_range(LAYERS):
            dws = dws + (tl.zeros([PADDED[k], PADDED[k + 1]], tl.float32),)
            dbs = dbs + (tl.zeros([1, PADDED[k + 1]], tl.float32),)
    for trip in range(TRIPS):
        tile = tl.program_id(0).to(tl.int64) + trip * tl.num_programs(0)
        rows = tile * ROWS + tl.arange(0, ROWS)[:, None]
        at, mask = _tile(x, rows, n, WIDTHS[0], PADDED[0])
        h = tl.load(at, mask=mask, other=0.0)
        hs = (h,)
        for k in tl.static_range(LAYERS):
            layer = params + STARTS[k]
            if k < LAYERS - 1 or SIGMOID:
                if RESIDENT:
                    w = weights[k]
                else:
                    w = _weight(layer, WIDTHS[k], WIDTHS[k + 1], PADDED[k], PADDED[k + 1])
                    w = w.to(dtype)
                b = _bias(layer, WIDTHS[k], WIDTHS[k + 1], PADDED[k + 1])
                y = tl.dot(h, w, input_precision=PRECISION) + b
                if k < LAYERS - 1:
                    h = tl.maximum(y, 0.0).to(dtype)
                    hs = hs + (h,)
        at, mask = _tile(d_out, rows, n, WIDTHS[LAYERS], PADDED[LAYERS])
        d = tl.load(at, mask=mask, other=0.0).to(tl.float32)
        if SIGMOID:
            s = tl.sigmoid(y)
            d = d * s * (1.0 - s)
        new_dws = ()
        new_dbs = ()
        for k in tl.static_range(LAYERS - 1, -1, -1):
            low = d.to(dtype)
            if KEEP:
                dw = tl.dot(tl.trans(hs[k]), low, acc=dws[k], input_precision=PRECISION)
                new_dws = (dw,) + new_dws
                new_dbs = (dbs[k] + tl.sum(d, 0)[None, :],) + new_dbs
            else:
                dw = tl.dot(tl.trans(hs[k]), low, input_precision=PRECISION)
                layer = mine + STARTS[k]
                db = tl.sum(d, 0)[None, :]
                _add(layer, dw, db, WIDTHS[k], WIDTHS[k + 1], PADDED[k], PADDED[k + 1])
            if k > 0 or dx is not None:
                if RESIDENT:
                    w = weights[k]
                else:
                    layer = params + STARTS[k]
                    w = _weight(layer, WIDTHS[k], WIDTHS[k + 1], PADDED[k], PADDED[k + 1])
                    w = w.to(dtype)
                d = tl.dot(low, tl.trans(w), input_precision=PRECISION)
                if k > 0:
                    d = tl.where(hs[k] > 0, d, 0.0)
        if KEEP:
            dws = new_dws
            dbs = new_dbs
        if dx is not None:
            at, mask = _tile(dx, rows, n, WIDTHS[0], PADDED[0])
            tl.store(at, d, mask=mask)
    if KEEP:
        for k in tl.static_range(LAYERS):
            layer = mine + STARTS[k]
            _add(layer, dws[k], dbs[k], WIDTHS[k], WIDTHS[k + 1], PADDED[k], PADDED[k + 1])


@triton.jit
def _add(
    layer, dw, db, N_IN: tl.constexpr, N_OUT: tl.constexpr, INS: tl.constexpr, OUTS: tl.constexpr
):
    """Add to a program's own share; nobody else touches it, so no atomics."""
    i = tl.arange(0, INS)[:, None]
    o = tl.arange(0, OUTS)[None, :]
    at, mask = layer + o * N_IN + i, (i < N_IN) & (o < N_OUT)
    tl.store(at, tl.load(at, mask=mask, other=0.0) + dw, mask=mask)
    at, mask = layer + N_IN * N_OUT + o, o < N_OUT
    tl.store(at, tl.load(at, mask=mask, other=0.0) + db, mask=mask)


class _FusedMlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, packed, widths, sigmoid):
        out = x.new_empty(len(x), widths[-1])
        ctx.constants = _constants(widths, sigmoid, x.dtype)
        programs, trips = _share(x, FORWARD_ROWS)
        launch(
            _forward_kernel,
            (programs,),
            *(x, packed, len(x), out),
            TRIPS=trips,
            ROWS=FORWARD_ROWS,
            num_warps=_warps(widths),
            num_stages=STAGES,
            **ctx.constants,
        )
        ctx.save_for_backward(x, packed)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_out):
        x, packed = ctx.saved_tensors
        widths = ctx.constants["WIDTHS"]
        dx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        programs, trips = _share(x, BACKWARD_ROWS)
        partial = packed.new_zeros(programs, len(packed))
        launch(
            _backward_kernel,
            (programs,),
            *(x, packed, len(x), d_out.contiguous(), dx, partial, len(packed)),
            KEEP=_keep(ctx.constants["PADDED"], x.dtype),
            TRIPS=trips,
            ROWS=BACKWARD_ROWS,
            num_warps=_warps(widths),
            num_stages=STAGES,
            **ctx.constants,
        )
        return dx, partial.sum(0) if ctx.needs_input_grad[1] else None, None, None


def _warps(widths: tuple[int, ...]) -> int:
    return 8 if max(widths) > 64 else 4


def _share(x: torch.Tensor, rows: int) -> tuple[int, int]:
    """Programs, about as many as run at once, and tiles of each: a power of two, to compile few."""
    processors = 1
    if x.is_cuda:
        processors = torch.cuda.get_device_properties(x.device).multi_processor_count
    tiles = triton.cdiv(len(x), rows)
    trips = triton.next_power_of_2(max(1, triton.cdiv(tiles, PROGRAMS_A_PROCESSOR * processors)))
    return triton.cdiv(tiles, trips), trips


def _constants(widths: tuple[int, ...], sigmoid: bool, dtype: torch.dtype) -> dict:
    padded = tuple(max(16, triton.next_power_of_2(w)) for w in widths)
    sizes = [(i + 1) * o for i, o in itertools.pairwise(widths)]
    values = sum(i * o for i, o in itertools.pairwise(padded))
    exact = torch.get_float32_matmul_precision() == "highest"
    return {
        "LAYERS": len(widths) - 1,
        "WIDTHS": widths,
        "PADDED": padded,
        "STARTS": tuple(itertools.accumulate(sizes[:-1], initial=0)),
        "SIGMOID": sigmoid,
        "RESIDENT": values * dtype.itemsize <= RESIDENT_BYTES,
        "PRECISION": "tf32x3" if dtype == torch.float32 and exact else "tf32",
    }


def _keep(padded: tuple[int, ...], dtype: torch.dtype) -> bool:
    values = sum(i * o for i, o in itertools.pairwise(padded))
    return values <= KEPT_VALUES and dtype != torch.float32


def fused_mlp(
    x: torch.Tensor,  # [N, Cin]
    weights: Sequence[torch.Tensor],  # [out, in] each
    biases: Sequence[torch.Tensor],  # [out] each
    *,
    output_activation: str = "none",
) -> torch.Tensor:  # [N, Cout]
    """Same function as the reference; x float32 or 16-bit, parameters in that type or float32."""
    if x.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"`x` must be float32, float16 or bfloat16, got {x.dtype}")
    widths = (x.shape[1], *(w.shape[0] for w in weights))
    if not 0 < min(widths) <= max(widths) <= MAX_WIDTH or len(weights) > MAX_LAYERS:
        raise ValueError(
            f"backend 'gpu' takes at most {MAX_LAYERS} layers of 1 to {MAX_WIDTH} units, "
            f"got widths {list(widths)}"
        )
    for name, tensors in (("weights", weights), ("biases", biases)):
        for i, tensor in enumerate(tensors):
            if tensor.dtype not in (x.dtype, torch.float32):
                raise ValueError(f"`{name}[{i}]` must be {x.dtype} or float32, got {tensor.dtype}")
    pairs = zip(weights, biases, strict=True)
    packed = torch.cat([p.reshape(-1).float() for pair in pairs for p in pair])
    return _FusedMlp.apply(x.contiguous(), packed, widths, output_activation == "sigmoid")


def _aot(
    widths: tuple[int, ...],
    kind: str,
    dtype: torch.dtype,
    stack: tuple[int, int] = (0, 0),
    spills: tuple[int, int] = (0, 0),
) -> list[Configuration]:
    constants = _constants(widths, True, dtype)
    name = f"fused_mlp {'-'.join(map(str, widths))} {kind}"
    matrix = (r"(HMMA|HGMMA|UTC\w*MMA)",)
    return [
        Configuration(
            f"{name} forward",
            _forward_kernel,
            f"*{kind} *fp32 i32 *{kind}",
            constants | {"TRIPS": 64, "ROWS": FORWARD_ROWS},
            _warps(widths),
            STAGES,
            max_stack=stack[0],
            max_inner_spills=spills[0],
            wanted=matrix,
        ),
        Configuration(
            f"{name} backward",
            _backward_kernel,
            f"*{kind} *fp32 i32 *{kind} *{kind} *fp32 i32",
            constants
            | {"KEEP": _keep(constants["PADDED"], dtype), "TRIPS": 64, "ROWS": BACKWARD_ROWS},
            _warps(widths),
            STAGES,
            max_stack=stack[1],
            max_inner_spills=spills[1],
            wanted=matrix,
        ),
    ]


# Three TF32 products, and layers of 128 units, take more registers than there are.
AOT = [
    *_aot((32, 64, 3), "fp32", torch.float32, (0, 128), (0, 32)),
    *_aot((32, 64, 3), "fp16", torch.float16),
    *_aot((25, 64, 64, 3), "bf16", torch.bfloat16),
    *_aot((32, 128, 128, 128, 16), "fp16", torch.float16, (256, 1280), (96, 512)),
]
