"""What photographs show beyond an enlarged render: looked up, subtracted, laid out for a network.

Symbols: K sources, h x w small pixels, s the scale, C = 3 s^2 values of a cell, ordered (colour,
row, column) as `pixel_unshuffle` orders them. Positions (x, y) count small pixels from the upper
left corner of the photograph, centres at +0.5.
"""

from collections.abc import Sequence

import torch

from nerfkit.kernels import _backend


def photo_details(
    photos: Sequence[torch.Tensor],
    positions: torch.Tensor,
    hints: torch.Tensor,
    enlarged: torch.Tensor,
    *,
    backend: str | None = None,
) -> torch.Tensor:
    """(photograph - enlarged) usable and the hints, for every source, channels last.

    A photograph is looked up bilinearly at s^2 places of each small pixel. Within it the position
    goes on as among its neighbours, along each axis by the smaller of both differences, by none
    where they disagree (minmod): beside an edge in depth each side keeps to its own surface.
    Beyond its border a photograph goes on as at the border. Not differentiable.

    Args:
        photos: K times uint8 [H, W, 3], at least 2x2, of any sizes.
        positions: [K, h, w, 2], finite.
        hints: [K, h, w, n], the first usable (0 or 1).
        enlarged: [h, w, C] in 0..1, the render to compare with.

    Returns:
        [K, h, w, C + n].

    Raises:
        ValueError: wrong shapes or types, or an unknown backend.
    """
    k, height, width = positions.shape[:3]
    if positions.dim() != 4 or positions.shape[3] != 2 or len(photos) != k:
        raise ValueError(
            f"`positions` must have shape (K, h, w, 2), K the number of `photos`, got "
            f"{tuple(positions.shape)} and {len(photos)}"
        )
    if hints.dim() != 4 or hints.shape[:3] != positions.shape[:3] or hints.shape[3] < 1:
        raise ValueError(f"`hints` must be (K, h, w, n) like `positions`, got {tuple(hints.shape)}")
    side = round((enlarged.shape[-1] / 3) ** 0.5)
    if enlarged.shape != (height, width, 3 * side * side) or side == 0:
        raise ValueError(
            f"`enlarged` must have shape ({height}, {width}, 3 s^2), got {tuple(enlarged.shape)}"
        )
    for photo in photos:
        if photo.dim() != 3 or photo.shape[2] != 3 or min(photo.shape[:2]) < 2:
            raise ValueError(f"`photos` must be (H, W, 3), 2x2 or more, got {tuple(photo.shape)}")
        if photo.dtype != torch.uint8:
            raise ValueError(f"`photos` must be uint8, got {photo.dtype}")
    with torch.no_grad():
        chosen = _backend.choose("photo_details", positions, backend)
        if chosen == "cpu":
            from nerfkit.kernels.photo_details import cpu as implementation
        elif chosen == "gpu":
            from nerfkit.kernels.photo_details import gpu as implementation
        else:
            from nerfkit.kernels.photo_details import reference as implementation
        return implementation.photo_details(photos, positions, hints, enlarged)
