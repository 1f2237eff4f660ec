"""C++ fused_mlp. Shapes as in the package docstring; all parameters go as one flat tensor:
per layer W [out, in] row-major, then b [out].
"""

from collections.abc import Sequence

import torch

from nerfkit.kernels import _native

MAX_WIDTH = 256
MAX_LAYERS = 16


class _FusedMlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, packed, widths, sigmoid):
        out = torch.empty(x.shape[0], int(widths[-1]), dtype=x.dtype)
        layers = len(widths) - 1
        _native.call("nk_fused_mlp_forward", x, packed, widths, layers, sigmoid, x.shape[0], out)
        ctx.save_for_backward(x, packed, widths)
        ctx.sigmoid = sigmoid
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, d_out):
        x, packed, widths = ctx.saved_tensors
        dx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        d_packed = torch.zeros_like(packed) if ctx.needs_input_grad[1] else None
        _native.call(
            "nk_fused_mlp_backward",
            x,
            packed,
            widths,
            len(widths) - 1,
            ctx.sigmoid,
            x.shape[0],
            d_out.contiguous(),
            dx,
            d_packed,
        )
        return dx, d_packed, None, None


def fused_mlp(
    x: torch.Tensor,  # [N, Cin]
    weights: Sequence[torch.Tensor],  # [out, in] each
    biases: Sequence[torch.Tensor],  # [out] each
    *,
    output_activation: str = "none",
) -> torch.Tensor:  # [N, Cout]
    """Same function as the reference, float32 only."""
    for name, tensor in [
        ("x", x),
        *((f"weights[{i}]", w) for i, w in enumerate(weights)),
        *((f"biases[{i}]", b) for i, b in enumerate(biases)),
    ]:
        if tensor.dtype != torch.float32:
            raise ValueError(f"`{name}` must be float32 on backend 'cpu', got {tensor.dtype}")
    widths = [x.shape[1], *(w.shape[0] for w in weights)]
    if max(widths) > MAX_WIDTH or len(weights) > MAX_LAYERS:
        raise ValueError(
            f"backend 'cpu' takes at most {MAX_LAYERS} layers of at most {MAX_WIDTH} units, "
            f"got widths {widths}"
        )
    packed = torch.cat([p.reshape(-1) for pair in zip(weights, biases, strict=True) for p in pair])
    return _FusedMlp.apply(
        x.contiguous(),
        packed,
        torch.tensor(widths, dtype=torch.int64),
        output_activation == "sigmoid",
    )
