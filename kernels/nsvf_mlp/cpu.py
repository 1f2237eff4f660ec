"""The C++ nsvf_mlp kernel as a torch function; see `nerfkit.kernels.nsvf_mlp.nsvf_mlp`."""

import torch
from torch.autograd.function import once_differentiable

from nerfkit.kernels import _native

from .config import NsvfMlpConfig
from .reference import NsvfMlpOutput


class _NsvfMlp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table, corners, voxels, places, directions, ray_indices, params, shape):
        n = len(voxels)
        sigma = torch.empty(n)
        rgb = None if directions is None else torch.empty(n, 3)
        arguments = table, corners, voxels, places, directions, ray_indices, params, shape
        _native.call("nk_nsvf_mlp_forward", *arguments, n, rgb, sigma)
        ctx.save_for_backward(*arguments)
        return rgb, sigma

    @staticmethod
    @once_differentiable
    def backward(ctx, d_rgb, d_sigma):
        table, corners, voxels, places, directions, ray_indices, params, shape = ctx.saved_tensors
        # Samples behind a surface often have no gradient at all.
        used = d_sigma != 0
        if directions is not None:
            used = used | (d_rgb != 0).any(1)
        used = used.nonzero()[:, 0]
        if len(used) < len(voxels):
            voxels, places, d_sigma = voxels[used], places[used], d_sigma[used]
            if directions is not None:
                d_rgb = d_rgb[used]
                if ray_indices is None:
                    directions = directions[used]
                else:
                    ray_indices = ray_indices[used]
        d_table, d_params = torch.zeros_like(table), torch.zeros_like(params)
        _native.call(
            "nk_nsvf_mlp_backward",
            *(table, corners, voxels, places, directions, ray_indices, params, shape),
            len(voxels),
            None if directions is None else d_rgb.contiguous(),
            d_sigma.contiguous(),
            len(table),
            torch.empty(len(voxels), table.shape[1]),
            d_table,
            d_params,
        )
        return d_table, None, None, None, None, None, d_params, None


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
    """Same function as the reference, float32 only, no gradients of places and directions."""
    tensors = {"table": table, "places": places, "directions": directions, "params": params}
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if tensor.dtype != torch.float32:
            raise ValueError(f"{name} must be float32 on backend 'cpu', got {tensor.dtype}")
        fixed = name in ("places", "directions")
        if fixed and tensor.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"backend 'cpu' has no gradient with respect to {name}: detach it, or take "
                "backend='reference'"
            )
    rgb_raw, sigma_raw = _NsvfMlp.apply(
        *(table.contiguous(), corners.contiguous(), voxels.contiguous(), places.contiguous()),
        None if directions is None else directions.contiguous(),
        None if ray_indices is None or directions is None else ray_indices.contiguous(),
        params.contiguous(),
        torch.tensor(config),
    )
    return NsvfMlpOutput(rgb_raw, sigma_raw)
