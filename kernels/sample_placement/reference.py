"""Torch reference of sample_placement: the contract. Shapes as in the package docstring."""

import torch


def place_samples(
    packed_info: torch.Tensor,  # [R, 2]
    t_starts: torch.Tensor,  # [M]
    t_ends: torch.Tensor,  # [M]
    step: float,
    *,
    jitter: torch.Tensor | None = None,  # [R]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Cell k has its centre in [t_0, t_1) iff k >= t_0 / step - jitter - 1/2, and not for t_1."""
    device, n_rays = packed_info.device, len(packed_info)
    starts, counts = packed_info.unbind(dim=1)
    rays = torch.repeat_interleave(torch.arange(n_rays, device=device), counts)
    order = torch.arange(len(rays), device=device) - (counts.cumsum(0) - counts)[rays]
    intervals = starts[rays] + order  # the packed intervals, ray by ray
    shift = packed_info.new_zeros(n_rays) if jitter is None else jitter
    shift = shift.double()[rays]
    first = torch.ceil(t_starts[intervals].double() / step - (shift + 0.5)).long()
    last = torch.ceil(t_ends[intervals].double() / step - (shift + 0.5)).long()
    n = (last - first).clamp(min=0)

    which = torch.repeat_interleave(torch.arange(len(rays), device=device), n)
    k = first[which] + torch.arange(len(which), device=device) - (n.cumsum(0) - n)[which]
    begin = ((k + shift[which]) * step).to(t_starts.dtype)
    end = ((k + 1 + shift[which]) * step).to(t_starts.dtype)
    per_ray = torch.zeros_like(counts).index_add(0, rays, n)
    packed = torch.stack([per_ray.cumsum(0) - per_ray, per_ray], dim=1)
    return packed, begin, end, rays[which], intervals[which]
