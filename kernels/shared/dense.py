"""Wide networks in Triton, a layer a launch: kernels in `triton_dense.py`, layout in
`dense_layout.py`, where a segment is a group of columns that go together.
"""

from __future__ import annotations

import functools

import torch
import triton

from nerfkit.kernels.shared.aot import Configuration
from nerfkit.kernels.shared.dense_layout import WIDE, Network
from nerfkit.kernels.shared.triton_dense import (
    back_kernel,
    encode_kernel,
    layer_kernel,
    upstream_kernel,
    weights_kernel,
)
from nerfkit.kernels.shared.triton_launch import launch

CHUNK = 16384  # samples that are gone through at a time: most of it stays in the L2 cache
ROWS, WARPS, STAGES = 128, 8, 2  # of a product
WEIGHT_ROWS = 64
ENCODE_ROWS = 32
SPLITS = 8  # programs that share the samples of one block of a gradient of the weights
LARGEST = 16.0  # what the largest upstream gradient is scaled to, in the middle of fp16's range


class Dense:
    """A network with its parameters, to be run on pieces of at most CHUNK samples."""

    def __init__(self, network: Network, params: torch.Tensor, dtype: torch.dtype) -> None:
        self.network, self.dtype, self.device = network, dtype, params.device
        packed = params.new_zeros(network.n_packed, dtype=torch.float32)
        self._places = _places(network, self.device)
        packed.index_copy_(0, self._places, params.detach().float())
        self.weights = packed[: network.n_weights].to(dtype)
        self.biases = packed[network.n_weights :]

    def room(self, n: int) -> torch.Tensor:
        """For activations of n samples, or for gradients of these."""
        return torch.empty(n, self.network.columns, dtype=self.dtype, device=self.device)

    def encode(
        self, name: str, kept: torch.Tensor, values: torch.Tensor, indices: torch.Tensor | None
    ) -> None:
        """Fill the columns of an encoding: of values [n, C], or of their rows `indices` [n]."""
        segment, n = self.network.segments[name], len(kept)
        launch(
            encode_kernel,
            (triton.cdiv(n, ENCODE_ROWS), segment.wide // WIDE),
            *(values, indices, n, kept, self.network.columns, segment.column),
            DIM=values.shape[1],
            REAL=segment.real,
            ROWS=ENCODE_ROWS,
            BLOCK=WIDE,
        )

    def forward(
        self, kept: torch.Tensor, layers: list[str], results: dict[str, torch.Tensor]
    ) -> None:
        """Run layers in turn; those named in `results` write there, float32 [n, units]."""
        network, n = self.network, len(kept)
        for layer in (network.layers[x] for x in layers):
            segment = network.segments[layer.name]
            inputs = [(s.column, s.wide) for s in (network.segments[x] for x in layer.inputs)]
            (at_0, wide_0), (at_1, wide_1) = (*inputs, (0, 0))[:2]
            constants = _tile(segment.wide, 64)
            launch(
                layer_kernel,
                (triton.cdiv(n, ROWS), segment.wide // constants["OUT"]),
                *(kept, network.columns, n, self.weights[layer.start :]),
                *(self.biases[layer.bias :], at_0, wide_0, at_1, wide_1),
                *(segment.column, segment.wide, results.get(layer.name)),
                RELU=layer.relu,
                REAL=segment.real,
                num_warps=WARPS,
                num_stages=STAGES,
                **constants,
            )

    def upstream(
        self, name: str, grads: torch.Tensor, values: torch.Tensor, scale: torch.Tensor
    ) -> None:
        """The gradient `values` [n, units] of a layer's result, times scale [1]."""
        segment, n = self.network.segments[name], len(grads)
        launch(
            upstream_kernel,
            (triton.cdiv(n, 128),),
            *(values, n, grads, self.network.columns, segment.column, scale),
            REAL=segment.real,
            PADDED=segment.wide,
            ROWS=128,
        )

    def backward(
        self,
        kept: torch.Tensor,
        grads: torch.Tensor,
        layers: list[str],
        scale: torch.Tensor,
        partial: torch.Tensor,
        encodings: tuple[str, ...] = (),
    ) -> None:
        """Gradients of activations, down to `encodings`; add those of the parameters to `partial`.

        Args:
            grads: holds those of the layers that no other reads.
            partial: [SPLITS, n_packed].
        """
        network, n = self.network, len(kept)
        for name in (*reversed(layers), *encodings):
            readers = network.readers(name, layers)
            if not readers:
                continue
            segment, given, widths = network.segments[name], [], []
            for layer, row in readers:
                reader = network.segments[layer.name]
                start = layer.start + row * reader.wide
                given += [self.weights[start:], reader.column, reader.wide]
                widths.append(reader.wide)
            given += [self.weights, 0, 0] * (2 - len(readers))
            constants = _tile(segment.wide, min(64, *widths, 64))
            launch(
                back_kernel,
                (triton.cdiv(n, ROWS), segment.wide // constants["OUT"]),
                *(grads, kept, network.columns, n, *given, segment.column),
                RELU=name in network.layers and network.layers[name].relu,
                num_warps=WARPS,
                num_stages=STAGES,
                **constants,
            )
        products = _products(network, tuple(layers), self.device)
        launch(
            weights_kernel,
            (len(products), SPLITS),
            *(kept, network.columns, grads, network.columns, n, products, scale, partial),
            network.n_packed,
            TRIPS=triton.next_power_of_2(triton.cdiv(n, SPLITS * WEIGHT_ROWS)),
            ROWS=WEIGHT_ROWS,
            BLOCK_IN=WIDE,
            BLOCK_OUT=WIDE,
        )

    def gradient(self, partial: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """[P], of the parameters."""
        return partial.sum(0)[self._places].to(dtype)


def scale_for(*most: torch.Tensor) -> torch.Tensor:
    """[1]: what brings the largest of these to LARGEST."""
    largest = torch.stack([m.float().reshape(()) for m in most]).amax()
    return torch.where(largest > 0, LARGEST / largest, 1.0).reshape(1)


def product_type(params: torch.Tensor, usual: torch.dtype) -> torch.dtype:
    """That of params, or that of autocast; `usual` where these are float32."""
    if torch.is_autocast_enabled("cuda"):
        return torch.get_autocast_dtype("cuda")
    return usual if params.dtype == torch.float32 else params.dtype


def configurations(name: str, kind: str) -> list[Configuration]:
    """What is compiled for networks of hidden layers of 128 units or several times that."""
    sizes = {"ROWS": ROWS, "OUT": 128, "IN": 64}
    integers = "i32:16 i32:16 i32:16 i32:16 i32:16 i32:16"
    matrix = {"num_warps": WARPS, "num_stages": STAGES, "wanted": (r"(HMMA|HGMMA|UTC\w*MMA)",)}
    both = f"*{kind} i32:16 i32:16"
    return [
        Configuration(
            f"{name} encode",
            encode_kernel,
            f"*fp32 *i64 i32 *{kind} i32:16 i32:16",
            {"DIM": 3, "REAL": 63, "ROWS": ENCODE_ROWS, "BLOCK": WIDE},
            max_registers=96,
        ),
        Configuration(
            f"{name} layer",
            layer_kernel,
            f"*{kind} i32:16 i32 *{kind} *fp32 {integers} None",
            sizes | {"RELU": True, "REAL": 256},
            max_registers=168,
            **matrix,
        ),
        Configuration(
            f"{name} result",
            layer_kernel,
            f"*{kind} i32:16 i32 *{kind} *fp32 {integers} *fp32",
            sizes | {"RELU": False, "REAL": 3, "OUT": 16},
            max_registers=128,
            **matrix,
        ),
        Configuration(
            f"{name} back",
            back_kernel,
            f"*{kind} *{kind} i32:16 i32 {both} {both} i32:16",
            sizes | {"RELU": True},
            max_registers=200,
            **matrix,
        ),
        Configuration(
            f"{name} weights",
            weights_kernel,
            f"*{kind} i32:16 *{kind} i32:16 i32 *i32 *fp32 *fp32 i32:16",
            {"ROWS": WEIGHT_ROWS, "TRIPS": 32, "BLOCK_IN": WIDE, "BLOCK_OUT": WIDE},
            max_registers=168,
            wanted=matrix["wanted"],
        ),
    ]


def _tile(wide: int, read: int) -> dict[str, int]:
    return {"ROWS": ROWS, "OUT": 128 if wide % 128 == 0 else min(wide, 64), "IN": read}


@functools.lru_cache(maxsize=16)
def _places(network: Network, device: torch.device) -> torch.Tensor:
    return network.places().to(device)


@functools.lru_cache(maxsize=16)
def _products(network: Network, layers: tuple[str, ...], device: torch.device) -> torch.Tensor:
    return network.products(list(layers)).to(device)
