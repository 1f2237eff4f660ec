"""Tables too large for the TLB's small pages."""

import torch
from torch import Tensor

from nerfkit.device import CPU
from nerfkit.kernels import _native


def large_zeros(
    *shape: int, dtype: torch.dtype = torch.float32, device: torch.device = CPU
) -> Tensor:
    """Zeros; on the CPU in huge pages, where random access misses the TLB less."""
    tensor = torch.empty(shape, dtype=dtype, device=device)
    if device.type == "cpu":
        _native.advise_huge(tensor)
    return tensor.zero_()
