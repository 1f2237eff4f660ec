"""Where the Triton kernels are tested: on a CUDA device, or else in Triton's interpreter."""

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def on_device(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copies of all inputs on the device of the tests."""
    return {name: tensor.to(DEVICE) for name, tensor in inputs.items()}
