"""The C++ encodings as torch functions; see `nerfkit.kernels.encodings`."""

import torch
from torch.autograd.function import once_differentiable

from nerfkit.kernels import _native


class _SphericalHarmonics(torch.autograd.Function):
    @staticmethod
    def forward(ctx, directions, degree):
        out = torch.empty(len(directions), degree**2)
        _native.call("nk_sh_forward", directions, len(directions), degree, out)
        ctx.degree = degree
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(directions)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, g_out):
        (directions,) = ctx.saved_tensors
        g_directions = torch.empty_like(directions)
        _native.call(
            "nk_sh_backward",
            *(directions, g_out.contiguous(), len(directions), ctx.degree, g_directions),
        )
        return g_directions, None


class _FrequencyEncoding(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, n_frequencies, include_input):
        rows, channels = x.shape
        out = torch.empty(rows, channels * (2 * n_frequencies + include_input))
        _native.call(
            "nk_frequency_forward", x, rows, channels, n_frequencies, int(include_input), out
        )
        ctx.sizes = rows, channels, n_frequencies, int(include_input)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(out)  # each sine's derivative is the cosine next to it
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, g_out):
        (out,) = ctx.saved_tensors
        g_x = torch.empty(ctx.sizes[:2])
        _native.call("nk_frequency_backward", out, g_out.contiguous(), *ctx.sizes, g_x)
        return g_x, None, None


def _checked(name: str, tensor: torch.Tensor) -> torch.Tensor:
    if tensor.dtype != torch.float32:
        raise ValueError(f"{name} must be float32 for backend 'cpu', got {tensor.dtype}")
    return tensor.contiguous()


def spherical_harmonics(directions: torch.Tensor, degree: int) -> torch.Tensor:
    """See `nerfkit.kernels.encodings.spherical_harmonics`."""
    return _SphericalHarmonics.apply(_checked("directions", directions), degree)


def frequency_encoding(
    x: torch.Tensor, n_frequencies: int, *, include_input: bool = True
) -> torch.Tensor:
    """See `nerfkit.kernels.encodings.frequency_encoding`."""
    return _FrequencyEncoding.apply(_checked("x", x), n_frequencies, include_input)
