"""The Triton nsvf_mlp as a torch function; see `nerfkit.kernels.nsvf_mlp.nsvf_mlp`.

A piece of samples at a time: embeddings interpolated, encoded, then a layer a launch
(`nerfkit.kernels.shared.dense`). The backward does all that again with the activations kept.
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

from .config import NsvfMlpConfig
from .reference import NsvfMlpOutput

COMPUTE = torch.float16  # under torch.autocast its type
SAMPLES = 32  # of a program that interpolates


@triton.jit
def _weight(places, i, exists, c: tl.constexpr):
    """Trilinear weights [N, 1] of corner c."""
    weight = tl.full(i.shape, 1.0, tl.float32)
    for axis in tl.static_range(3):
        place = tl.load(places + 3 * i + axis, mask=exists, other=0.0)
        weight *= place if (c >> axis) & 1 else 1.0 - place
    return weight


@triton.jit
def _corner(corners, voxel, exists, E: tl.constexpr, c: tl.constexpr):
    """Where the embeddings [N, 1] of corner c begin."""
    return tl.load(corners + voxel * 8 + c, mask=exists, other=0).to(tl.int64) * E


@triton.jit
def _interpolate_kernel(
    table,  # [V, E]
    corners,
    voxels,
    places,
    n,
    out,  # [n, E] float32
    E: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
):
    i = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    exists = i < n
    column = tl.arange(0, PADDED)[None, :]
    mask = exists & (column < E)
    voxel = tl.load(voxels + i, mask=exists, other=0)
    total = tl.zeros([ROWS, PADDED], tl.float32)
    for c in tl.static_range(8):
        at = table + _corner(corners, voxel, exists, E, c) + column
        total += _weight(places, i, exists, c) * tl.load(at, mask=mask, other=0.0)
    tl.store(out + i * E + column, total, mask=mask)


@triton.jit
def _scatter_kernel(
    grads,  # of the activations, times scale
    kept,
    columns,
    scale_of,
    corners,
    voxels,
    places,
    n,
    d_table,  # [V, E] float32, added to
    FREQUENCIES: tl.constexpr,
    E: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Back through the encoding (the derivative of a sine is the cosine beside it), to the table.

    The encoding has the first columns.
    """
    i = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    exists = i < n
    column = tl.arange(0, PADDED)[None, :]
    mask = exists & (column < E)
    at = i * columns + column
    d = tl.load(grads + at, mask=mask, other=0.0).to(tl.float32)
    for k in tl.static_range(FREQUENCIES):
        sine, cosine = at + (1 + 2 * k) * E, at + (2 + 2 * k) * E
        slope = tl.load(grads + sine, mask=mask, other=0.0).to(tl.float32)
        slope *= tl.load(kept + cosine, mask=mask, other=0.0).to(tl.float32)
        fall = tl.load(grads + cosine, mask=mask, other=0.0).to(tl.float32)
        fall *= tl.load(kept + sine, mask=mask, other=0.0).to(tl.float32)
        d += (slope - fall) * (1 << k)
    d /= tl.load(scale_of)
    voxel = tl.load(voxels + i, mask=exists, other=0)
    for c in tl.static_range(8):
        to = d_table + _corner(corners, voxel, exists, E, c) + column
        tl.atomic_add(to, d * _weight(places, i, exists, c), mask=mask, sem="relaxed")


@functools.lru_cache(maxsize=8)
def network_of(config: NsvfMlpConfig) -> Network:
    """The wiring of `config.layers`."""
    encodings = {
        "embedding": config.embedding * (1 + 2 * config.embedding_frequencies),
        "direction": 3 + 6 * config.direction_frequencies,
    }
    features = f"feature.{config.feature_layers - 1}"
    reads = {"feature.0": ("embedding",), "density": (features,), "sigma": ("density",)}
    reads |= {"color.0": (features, "direction"), "rgb": (f"color.{config.color_layers - 1}",)}
    for kind, count in (("feature", config.feature_layers), ("color", config.color_layers)):
        reads |= {f"{kind}.{i}": (f"{kind}.{i - 1}",) for i in range(1, count)}
    layers = {
        name: (reads[name], units, name not in ("sigma", "rgb"))
        for name, (units, _) in config.layers.items()
    }
    return Network.of(encodings, layers)


class _Piece:
    """Some of the samples, and room for what the network makes of them."""

    def __init__(self, net: Dense, config: NsvfMlpConfig, rows: int) -> None:
        self.net, self.config = net, config
        self.kept_room = net.room(rows)
        self.embeddings_room = torch.empty(rows, config.embedding, device=net.device)

    def encode(self, table, corners, voxels, places, directions, ray_indices) -> torch.Tensor:
        """The activations, with the encodings in place."""
        n, size = len(voxels), self.config.embedding
        kept, embeddings = self.kept_room[:n], self.embeddings_room[:n]
        launch(
            _interpolate_kernel,
            (triton.cdiv(n, SAMPLES),),
            *(table, corners, voxels, places, n, embeddings),
            **_tile(size),
        )
        self.net.encode("embedding", kept, embeddings, None)
        if directions is not None:
            self.net.encode("direction", kept, directions, ray_indices)
        return kept


class _NsvfMlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table, corners, voxels, places, directions, ray_indices, params, config):
        n, net = len(voxels), Dense(network_of(config), params, _type(params))
        sigma = table.new_empty(n, 1, dtype=torch.float32)
        rgb = None if directions is None else table.new_empty(n, 3, dtype=torch.float32)
        samples = voxels, places, directions, ray_indices
        piece = _Piece(net, config, min(n, dense.CHUNK))
        for part in _parts(n):
            kept = piece.encode(table, corners, *_cut(samples, part))
            results = {"sigma": sigma[part]} | ({} if rgb is None else {"rgb": rgb[part]})
            net.forward(kept, _layers(net, rgb is not None), results)
        ctx.save_for_backward(table, corners, *samples)
        ctx.net, ctx.config, ctx.params = net, config, params.dtype
        return rgb, sigma[:, 0]

    @staticmethod
    @once_differentiable
    def backward(ctx, d_rgb, d_sigma):
        table, corners, *samples = ctx.saved_tensors
        net, config, n = ctx.net, ctx.config, len(d_sigma)
        colored = samples[2] is not None
        d_table = torch.zeros_like(table, dtype=torch.float32)
        partial = table.new_zeros(dense.SPLITS, net.network.n_packed, dtype=torch.float32)
        if n:
            d_sigma = d_sigma.contiguous()[:, None]
            upstream = {"sigma": d_sigma} | ({"rgb": d_rgb.contiguous()} if colored else {})
            scale = dense.scale_for(*(d.abs().amax() for d in upstream.values()))
            piece = _Piece(net, config, min(n, dense.CHUNK))
            room, layers = net.room(min(n, dense.CHUNK)), _layers(net, colored)
        for part in _parts(n):
            cut = _cut(samples, part)
            kept, grads = piece.encode(table, corners, *cut), room[: part.stop - part.start]
            net.forward(kept, [x for x in layers if x not in upstream], {})
            for name, values in upstream.items():
                net.upstream(name, grads, values[part], scale)
            net.backward(kept, grads, layers, scale, partial, ("embedding",))
            launch(
                _scatter_kernel,
                (triton.cdiv(len(grads), SAMPLES),),
                *(grads, kept, net.network.columns, scale, corners, *cut[:2], len(grads), d_table),
                FREQUENCIES=config.embedding_frequencies,
                **_tile(config.embedding),
            )
        d_params = net.gradient(partial, ctx.params)
        return d_table.to(table.dtype), None, None, None, None, None, d_params, None


def _parts(n: int) -> list[slice]:
    return [slice(i, min(n, i + dense.CHUNK)) for i in range(0, n, dense.CHUNK)]


def _cut(samples, part: slice) -> list[torch.Tensor | None]:
    """`part` of voxels, places, directions (whole where there are indices) and ray indices."""
    voxels, places, directions, ray_indices = samples
    if directions is not None and ray_indices is None:
        directions = directions[part]
    return [
        *(voxels[part], places[part], directions),
        None if ray_indices is None else ray_indices[part],
    ]


def _layers(net: Dense, colored: bool) -> list[str]:
    names = list(net.network.layers)
    return names if colored else names[: names.index("sigma") + 1]


def _tile(size: int) -> dict[str, int]:
    return {"E": size, "PADDED": triton.next_power_of_2(size), "ROWS": SAMPLES}


def _type(params: torch.Tensor) -> torch.dtype:
    return dense.product_type(params, COMPUTE)


def nsvf_mlp(
    table: torch.Tensor,
    corners: torch.Tensor,
    voxels: torch.Tensor,
    places: torch.Tensor,
    directions: torch.Tensor | None,
    params: torch.Tensor,
    *,
    ray_indices: torch.Tensor | None,
    config: NsvfMlpConfig,
) -> NsvfMlpOutput:
    """Same function as the reference in 16 bits; the table may be 16-bit, and params."""
    check_float32(places=places, directions=directions)
    for name, tensor in (("places", places), ("directions", directions)):
        if tensor is not None and tensor.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"backend 'gpu' has no gradient with respect to {name}: detach it, or take "
                "backend='reference'"
            )
    for name, tensor in (("table", table), ("params", params)):
        if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16):
            raise ValueError(f"{name} must be float32, float16 or bfloat16, got {tensor.dtype}")
    rgb_raw, sigma_raw = _NsvfMlp.apply(
        *(table.contiguous(), corners.contiguous(), voxels.contiguous(), places.contiguous()),
        None if directions is None else directions.contiguous(),
        None if ray_indices is None or directions is None else ray_indices.contiguous(),
        *(params, config),
    )
    return NsvfMlpOutput(rgb_raw, sigma_raw)


_EMBEDDING = _tile(32)
AOT = [
    Configuration(
        *("nsvf_mlp interpolate", _interpolate_kernel, "*fp32 *i32 *i64 *fp32 i32 *fp32"),
        _EMBEDDING,
        max_registers=96,
        wanted=(r"LDG\.E\S*128",),
    ),
    Configuration(
        "nsvf_mlp scatter",
        _scatter_kernel,
        "*fp16 *fp16 i32:16 *fp32 *i32 *i64 *fp32 i32 *fp32",
        _EMBEDDING | {"FREQUENCIES": 6},
        max_registers=128,
        wanted=(r"(RED|ATOM)",),
    ),
    *dense.configurations("dense fp16", "fp16"),
    *dense.configurations("dense bf16", "bf16"),
]
