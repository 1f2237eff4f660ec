"""The C++ fastnerf_mlp kernel as a torch function.

See `nerfkit.kernels.fastnerf_mlp.fastnerf_mlp`.
"""

import torch
from torch.autograd.function import once_differentiable

from nerfkit.kernels import _native

from .config import FastNerfMlpConfig
from .reference import FastNerfMlpOutput


class _FastNerfMlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, points, directions, ray_indices, params, shape, known):
        arguments = points, directions, ray_indices, params, shape
        if known is None:
            n = len(points)
            rgb, sigma = torch.empty(n, 3), torch.empty(n)
            _native.call("nk_fastnerf_mlp_forward", *arguments, n, len(directions), rgb, sigma)
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
            points, ray_indices = points[used], ray_indices[used]
            d_rgb, d_sigma = d_rgb[used], d_sigma[used]
        d_params = torch.zeros_like(params)
        _native.call(
            "nk_fastnerf_mlp_backward",
            *(points, directions, ray_indices, params, shape),
            *(len(points), len(directions), d_rgb.contiguous(), d_sigma.contiguous(), d_params),
        )
        return None, None, None, d_params, None, None


def fastnerf_mlp(
    points: torch.Tensor,
    directions: torch.Tensor,
    params: torch.Tensor,
    *,
    ray_indices: torch.Tensor,
    config: FastNerfMlpConfig,
    known: FastNerfMlpOutput | None = None,
) -> FastNerfMlpOutput:
    """Same function as the reference, float32 only, no gradients of points and directions."""
    _check(points=points, directions=directions)
    _check_type("params", params)
    rgb_raw, sigma_raw = _FastNerfMlp.apply(
        points.contiguous(),
        directions.contiguous(),
        ray_indices.contiguous(),
        params.contiguous(),
        torch.tensor(config),
        known,
    )
    return FastNerfMlpOutput(rgb_raw, sigma_raw)


def point_components(
    points: torch.Tensor, params: torch.Tensor, *, config: FastNerfMlpConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Same function as the reference, float32 only, no gradients."""
    _check(points=points, params=params)
    n, d = len(points), config.components
    outputs = torch.empty(n, 1 + 3 * d)
    arguments = points.contiguous(), params.contiguous(), torch.tensor(config)
    _native.call("nk_fastnerf_mlp_components", *arguments, n, outputs)
    return outputs[:, 1:].reshape(n, d, 3), outputs[:, 0].contiguous()


def view_weights(
    directions: torch.Tensor, params: torch.Tensor, *, config: FastNerfMlpConfig
) -> torch.Tensor:
    """Same function as the reference, float32 only, no gradients."""
    _check(directions=directions, params=params)
    n = len(directions)
    weights = torch.empty(n, config.components)
    arguments = directions.contiguous(), params.contiguous(), torch.tensor(config)
    _native.call("nk_fastnerf_mlp_weights", *arguments, n, weights)
    return weights


def _check(**constants: torch.Tensor) -> None:
    """Raise ValueError unless these are float32 and no gradients are wanted of them."""
    for name, tensor in constants.items():
        _check_type(name, tensor)
        if tensor.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"backend 'cpu' has no gradient with respect to {name}: detach it, or take "
                "backend='reference'"
            )


def _check_type(name: str, tensor: torch.Tensor) -> None:
    if tensor.dtype != torch.float32:
        raise ValueError(f"{name} must be float32 on backend 'cpu', got {tensor.dtype}")
