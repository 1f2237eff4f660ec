"""The C++ nerf_mlp kernel as a torch function; see `nerfkit.kernels.nerf_mlp.nerf_mlp`."""

import torch
from torch.autograd.function import once_differentiable

from nerfkit.kernels import _native

from .config import NerfMlpConfig
from .reference import NerfMlpOutput


class _NerfMlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, points, directions, ray_indices, params, shape, known):
        arguments = points, directions, ray_indices, params, shape
        if known is None:
            n = len(points)
            rgb, sigma = torch.empty(n, 3), torch.empty(n)
            _native.call("nk_nerf_mlp_forward", *arguments, n, rgb, sigma)
        else:
            rgb, sigma = (values.detach().clone() for values in known)
        ctx.save_for_backward(*arguments)
        return rgb, sigma

    @staticmethod
    @once_differentiable
    def backward(ctx, d_rgb, d_sigma):
        points, directions, ray_indices, params, shape = ctx.saved_tensors
        # Samples in empty space, or behind a surface, often have no gradient at all.
        used = ((d_rgb != 0).any(1) | (d_sigma != 0)).nonzero()[:, 0]
        if len(used) < len(points):
            points, d_rgb, d_sigma = points[used], d_rgb[used], d_sigma[used]
            if ray_indices is None:
                directions = directions[used]
            else:
                ray_indices = ray_indices[used]
        d_params = torch.zeros_like(params)
        _native.call(
            "nk_nerf_mlp_backward",
            *(points, directions, ray_indices, params, shape),
            len(points),
            d_rgb.contiguous(),
            d_sigma.contiguous(),
            d_params,
        )
        return None, None, None, d_params, None, None


def nerf_mlp(
    points: torch.Tensor,
    directions: torch.Tensor,
    params: torch.Tensor,
    *,
    ray_indices: torch.Tensor | None,
    config: NerfMlpConfig,
    known: NerfMlpOutput | None = None,
) -> NerfMlpOutput:
    """Same function as the reference, float32 only, no gradients of points and directions."""
    tensors = {"points": points, "directions": directions, "params": params}
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise ValueError(f"{name} must be float32 on backend 'cpu', got {tensor.dtype}")
        if name != "params" and tensor.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"backend 'cpu' has no gradient with respect to {name}: detach it, or take "
                "backend='reference'"
            )
    rgb_raw, sigma_raw = _NerfMlp.apply(
        points.contiguous(),
        directions.contiguous(),
        None if ray_indices is None else ray_indices.contiguous(),
        params.contiguous(),
        torch.tensor(config),
        known,
    )
    return NerfMlpOutput(rgb_raw, sigma_raw)
