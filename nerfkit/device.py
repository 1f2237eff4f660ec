"""Where fields live: on the GPU when there is one and the kernels for it are installed."""

import importlib.util
import os

import torch

from nerfkit.errors import NerfkitError

CPU = torch.device("cpu")


def best() -> torch.device:
    """The device to fit and render on; NERFKIT_DEVICE (cpu, cuda, cuda:1 ...) overrides.

    Without Triton a GPU would run the torch reference, which is slower than the C++ kernels.

    Raises:
        NerfkitError: NERFKIT_DEVICE names no device of this machine.
    """
    wanted = os.environ.get("NERFKIT_DEVICE")
    if wanted:
        try:
            device = torch.device(wanted)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise NerfkitError(
                f"NERFKIT_DEVICE: want cpu or a CUDA device of this machine, got {wanted!r} "
                f"({reason})"
            ) from error
        return device
    if torch.cuda.is_available() and importlib.util.find_spec("triton") is not None:
        return torch.device("cuda", torch.cuda.current_device())
    return CPU
