"""frame_rows in torch; see the package."""

import torch


def turned(directions: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """See `nerfkit.kernels.frame_rows.turned`."""
    return directions @ rotation.to(directions.dtype).T


def put_rows_(image: torch.Tensor, rows: torch.Tensor, values: torch.Tensor) -> None:
    """See `nerfkit.kernels.frame_rows.put_rows_`."""
    image.index_copy_(0, rows, values)
