"""Tables too large for the TLB's small pages, and how much memory there is."""

from pathlib import Path

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


def free_bytes(device: torch.device = CPU) -> int | None:
    """Memory that can still be had, of a GPU or of the machine; None where that cannot be told."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(found.split()[1]) << 10
    except (OSError, StopIteration, IndexError, ValueError):
        return None
