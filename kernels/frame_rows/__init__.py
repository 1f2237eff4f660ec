"""What a frame costs beside its rays' colours: directions turned into the world, pixels in place.

Symbols: R rays, N pixels of C values.
"""

from types import ModuleType

import torch

from nerfkit.kernels import _backend


def turned(
    directions: torch.Tensor, rotation: torch.Tensor, *, backend: str | None = None
) -> torch.Tensor:
    """Directions [R, 3] times the transpose of a rotation [3, 3]: camera axes to world axes.

    Not differentiable.

    Raises:
        ValueError: wrong shapes, or an unknown backend.
    """
    if directions.dim() != 2 or directions.shape[1] != 3:
        raise ValueError(f"`directions` must have shape (R, 3), got {tuple(directions.shape)}")
    if rotation.shape != (3, 3):
        raise ValueError(f"`rotation` must have shape (3, 3), got {tuple(rotation.shape)}")
    with torch.no_grad():
        return _implementation(directions, backend).turned(directions, rotation)


def put_rows_(
    image: torch.Tensor, rows: torch.Tensor, values: torch.Tensor, *, backend: str | None = None
) -> None:
    """Write values [R, C] (or [R]) to rows [R] of `image` [N, C] (or [N]), which are all different.

    Args:
        image: contiguous.
        rows: int64, within the image (not checked).

    Raises:
        ValueError: wrong shapes or type, or an unknown backend.
    """
    if rows.shape != values.shape[:1] or image.shape[1:] != values.shape[1:] or image.dim() > 2:
        raise ValueError(
            f"`rows` (R), `values` (R, C) and `image` (N, C) must fit, got {tuple(rows.shape)}, "
            f"{tuple(values.shape)} and {tuple(image.shape)}"
        )
    if rows.dtype != torch.int64:
        raise ValueError(f"`rows` must be int64, got {rows.dtype}")
    if not image.is_contiguous():
        raise ValueError("`image` must be contiguous")
    with torch.no_grad():
        _implementation(image, backend).put_rows_(image, rows, values)


def _implementation(tensor: torch.Tensor, backend: str | None) -> ModuleType:
    chosen = _backend.choose("frame_rows", tensor, backend)
    if chosen == "cpu":
        from nerfkit.kernels.frame_rows import cpu as implementation
    elif chosen == "gpu":
        from nerfkit.kernels.frame_rows import gpu as implementation
    else:
        from nerfkit.kernels.frame_rows import reference as implementation
    return implementation
