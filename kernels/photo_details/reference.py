"""photo_details in torch; see the package."""

from collections.abc import Sequence

import torch
from torch import Tensor


def photo_details(
    photos: Sequence[Tensor], positions: Tensor, hints: Tensor, enlarged: Tensor
) -> Tensor:
    """See `nerfkit.kernels.photo_details.photo_details`."""
    scale = round((enlarged.shape[-1] / 3) ** 0.5)
    usable = hints[..., :1]
    seen = [look_up(photo, where, scale) for photo, where in zip(photos, positions, strict=True)]
    details = (torch.stack(seen).to(enlarged) - enlarged) * usable
    return torch.cat([details, hints], dim=-1)


def look_up(photo: Tensor, positions: Tensor, scale: int) -> Tensor:
    """A photograph [H, W, 3] at scale^2 places of each position [h, w, 2]: [h, w, 3 scale^2]."""
    steps = ((torch.arange(scale, device=positions.device) + 0.5) / scale - 0.5).to(positions)
    across, down = (slope(positions, dim)[:, :, None, None] for dim in (1, 0))
    places = positions[:, :, None, None] + steps[:, None, None] * down + steps[:, None] * across
    largest = torch.tensor([photo.shape[1] - 1, photo.shape[0] - 1]).to(places)
    x, y = torch.minimum((places * scale - 0.5).clamp_min(0), largest).unbind(-1)
    # the last column and row are the far neighbours of those before
    column, row = x.long().clamp_max(photo.shape[1] - 2), y.long().clamp_max(photo.shape[0] - 2)
    right, below = (x - column)[..., None], (y - row)[..., None]
    upper = torch.lerp(at(photo, row, column), at(photo, row, column + 1), right)
    lower = torch.lerp(at(photo, row + 1, column), at(photo, row + 1, column + 1), right)
    colours = torch.lerp(upper, lower, below) / 255  # [h, w, row, column, colour]
    return colours.permute(0, 1, 4, 2, 3).flatten(2)


def at(photo: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """Pixels as floating point: [..., 3]."""
    return photo[row, column].float()


def slope(positions: Tensor, dim: int) -> Tensor:
    """Change of position from one small pixel to the next along `dim`, limited."""
    if positions.shape[dim] < 2:
        return torch.zeros_like(positions)
    steps = positions.diff(dim=dim)
    first, last = steps.narrow(dim, 0, 1), steps.narrow(dim, steps.shape[dim] - 1, 1)
    before, after = torch.cat([first, steps], dim), torch.cat([steps, last], dim)
    smaller = torch.where(before.abs() < after.abs(), before, after)
    return torch.where(before * after > 0, smaller, 0.0)
