"""C++ frame_rows. Shapes as in the package."""

import torch

from nerfkit.kernels import _native


def turned(directions: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """Same function as the reference, float32 only."""
    _want_float32(directions=directions, rotation=rotation)
    out = torch.empty(directions.shape)
    _native.call("nk_turned", directions.contiguous(), rotation.contiguous(), len(directions), out)
    return out


def put_rows_(image: torch.Tensor, rows: torch.Tensor, values: torch.Tensor) -> None:
    """Same function as the reference, float32 only."""
    _want_float32(image=image, values=values)
    columns = image.shape[1] if image.dim() == 2 else 1
    _native.call("nk_put_rows", values.contiguous(), rows.contiguous(), len(rows), columns, image)


def _want_float32(**tensors: torch.Tensor) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            raise ValueError(f"`{name}` must be float32 on backend 'cpu', got {tensor.dtype}")
