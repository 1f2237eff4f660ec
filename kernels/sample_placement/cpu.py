"""C++ sample_placement. Shapes as in the package docstring."""

import torch

from nerfkit.kernels import _native


def place_samples(
    packed_info: torch.Tensor,  # [R, 2]
    t_starts: torch.Tensor,  # [M]
    t_ends: torch.Tensor,  # [M]
    step: float,
    *,
    jitter: torch.Tensor | None = None,  # [R]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Same function as the reference, float32 only."""
    for name, tensor in (("t_starts", t_starts), ("t_ends", t_ends), ("jitter", jitter)):
        if tensor is not None and tensor.dtype != torch.float32:
            raise ValueError(f"`{name}` must be float32 on backend 'cpu', got {tensor.dtype}")
    n = len(packed_info)
    common = (
        packed_info.contiguous(),
        t_starts.contiguous(),
        t_ends.contiguous(),
        torch.tensor([step], dtype=torch.float64),
        None if jitter is None else jitter.contiguous(),
        n,
    )
    counts = torch.empty(n, dtype=torch.int64)
    _native.call("nk_place_samples", *common, counts, None, None, None, None, None)
    ends = counts.cumsum(0)
    packed = torch.stack([ends - counts, counts], dim=1)
    total = int(ends[-1]) if n else 0
    begin = torch.empty(total, dtype=torch.float32)
    end = torch.empty_like(begin)
    rays = torch.empty(total, dtype=torch.int64)
    intervals = torch.empty_like(rays)
    _native.call("nk_place_samples", *common, None, packed, begin, end, rays, intervals)
    return packed, begin, end, rays, intervals
