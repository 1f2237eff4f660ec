"""The NSVF renderer in plain torch: the contract of nsvf_render."""

from nerfkit.kernels.composite.reference import composite
from nerfkit.kernels.nsvf_mlp.reference import nsvf_mlp

from .march import March, Seen, march, shade


def render_rays(given: March) -> Seen:
    """See `nerfkit.kernels.nsvf_render.render_rays`."""
    return shade(given, march(given, nsvf_mlp), nsvf_mlp, composite)
