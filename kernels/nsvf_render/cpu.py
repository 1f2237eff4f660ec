"""The NSVF renderer around the C++ kernels of its network and of compositing."""

from nerfkit.kernels.composite.cpu import composite
from nerfkit.kernels.nsvf_mlp.cpu import nsvf_mlp

from .march import March, Seen, march, shade


def render_rays(given: March) -> Seen:
    """Same function as the reference, float32 only."""
    return shade(given, march(given, nsvf_mlp), nsvf_mlp, composite)
