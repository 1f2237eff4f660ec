"""Compositing of packed samples in plain torch: rays padded to the longest one.

Symbols: x optical thickness of a sample, T transmittance before it, w its weight, m its midpoint,
delta its length; arrays named *_padded are [R, longest].
"""

from typing import NamedTuple

import torch


class Composite(NamedTuple):
    """What rays see; shapes by R rays and S samples."""

    colors: torch.Tensor  # [R, 3]
    depths: torch.Tensor  # [R]
    opacities: torch.Tensor  # [R]
    weights: torch.Tensor  # [S]
    distortions: torch.Tensor  # [R]


def composite(
    sigmas: torch.Tensor,
    rgbs: torch.Tensor,
    t_starts: torch.Tensor,
    t_ends: torch.Tensor,
    packed_info: torch.Tensor,
    *,
    background: torch.Tensor | None = None,
    early_stop: float = 0.0,
) -> Composite:
    """See `nerfkit.kernels.composite.composite`."""
    starts, counts = packed_info.unbind(1)  # [R], [R]
    longest = int(counts.max()) if len(counts) else 0
    column = torch.arange(longest, device=sigmas.device)
    owned = column < counts[:, None]  # [R, longest]
    index = torch.where(owned, starts[:, None] + column, 0)

    def pad(values: torch.Tensor) -> torch.Tensor:
        return torch.where(owned, values[index], 0) if longest else values.new_zeros(owned.shape)

    delta = pad(t_ends - t_starts)
    m = pad((t_starts + t_ends) / 2)
    x = pad(sigmas) * delta
    inclusive = x.cumsum(1)
    T = torch.exp(-torch.cat([torch.zeros_like(x[:, :1]), inclusive[:, :-1]], 1))
    w = torch.where(owned & (T >= early_stop), T * -torch.expm1(-x), 0)

    weights = torch.zeros_like(sigmas).index_put((index[owned],), w[owned])
    opacities = w.sum(1)
    colors = torch.stack([(w * pad(channel)).sum(1) for channel in rgbs.unbind(1)], 1)
    if background is not None:
        colors = colors + (1 - opacities)[:, None] * background
    # 2111.12077 eq. 15 with the double sum written by prefix sums (2206.05085); distances
    # are taken from the ray's first sample, which changes nothing but the rounding.
    m = m - m[:, :1]
    w_before = w.cumsum(1) - w
    wm_before = (w * m).cumsum(1) - w * m
    distortions = (w * w * delta / 3 + 2 * w * (m * w_before - wm_before)).sum(1)
    return Composite(
        colors, (w * pad((t_starts + t_ends) / 2)).sum(1), opacities, weights, distortions
    )
