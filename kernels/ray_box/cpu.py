"""C++ ray_box. Shapes as in the package docstring."""

import torch

from nerfkit.kernels import _native


def ray_box(
    origins: torch.Tensor,  # [R, 3]
    directions: torch.Tensor,  # [R, 3]
    box_min: torch.Tensor,  # [3]
    box_max: torch.Tensor,  # [3]
    *,
    near: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:  # [R], [R]
    """Same function as the reference, float32 only."""
    inputs = {
        "origins": origins,
        "directions": directions,
        "box_min": box_min,
        "box_max": box_max,
    }
    for name, tensor in inputs.items():
        if tensor.dtype != torch.float32:
            raise ValueError(f"`{name}` must be float32 on backend 'cpu', got {tensor.dtype}")
    n = origins.shape[0]
    t_near = torch.empty(n, dtype=torch.float32)
    t_far = torch.empty_like(t_near)
    tensors = [tensor.contiguous() for tensor in inputs.values()]
    _native.call("nk_ray_box", *tensors, float(near), n, t_near, t_far)
    return t_near, t_far
