"""Rays to pixels through the voxels and the network of NSVF (2007.11571), empty space left out.

Symbols: R rays, M crossings of rays and voxels, L voxels, V corners, E numbers at each, N samples,
P parameters; s and t as in nerfkit.kernels.octree_traverse.spans. A density is `density_scale`
relu(sigma_raw) per world unit, a colour sigmoid(rgb_raw).
"""

import torch
from torch import Tensor

from nerfkit.kernels import _backend
from nerfkit.kernels.nsvf_mlp import NsvfMlpConfig
from nerfkit.kernels.octree_traverse.spans import Spans

from .march import March, Seen, Voxels

__all__ = ["Seen", "Voxels", "render_rays"]


def render_rays(
    origins: Tensor,
    directions: Tensor,
    background: Tensor,
    spans: Spans,
    voxels: Voxels,
    table: Tensor,
    params: Tensor,
    *,
    config: NsvfMlpConfig,
    step: float,
    density_scale: float,
    early_stop: float,
    weight_min: float = 0.0,
    generator: torch.Generator | None = None,
    backend: str | None = None,
) -> Seen:
    """Colours, depths and opacities of rays; differentiable with respect to `table` and `params`.

    A ray's samples stand one in each stretch of length `step` of its part inside voxels, the last
    one in what is left of it; a sample stands for its stretch. First all get a density; then those
    that weigh more than `weight_min` get a colour and are composited, as if there were no others.

    Args:
        origins, directions: [R, 3], directions of unit length.
        background: [R, 3].
        spans: what the rays cross of the voxels.
        table: [V, E] embeddings.
        params: [P] of the network, laid out as `nsvf_mlp.unpack` says.
        step: between samples, world units.
        early_stop: transmittance behind which there are no samples.
        generator: of the samples' places in their stretches; None takes the middle.

    Raises:
        ValueError: a shape is wrong, the step is not positive, or the backend cannot run.
    """
    given = March(
        *(origins, directions, background, spans, voxels, table, params, config),
        *(step, density_scale, early_stop, weight_min, None),
    )
    _check(given)
    if generator is not None:
        n = int(given.counts().sum())
        given = given._replace(where=origins.new_empty(n).uniform_(generator=generator))
    chosen = _backend.choose("nsvf_render", table, backend)
    if chosen == "cpu":
        from . import cpu as implementation
    elif chosen == "gpu":
        from . import gpu as implementation
    else:
        from . import reference as implementation
    return implementation.render_rays(given)


def _check(given: March) -> None:
    given.config.check()
    n, leaves = len(given.origins), len(given.voxels.lows)
    wanted = {
        "origins": (given.origins, (n, 3)),
        "directions": (given.directions, (n, 3)),
        "background": (given.background, (n, 3)),
        "spans": (given.spans.first, (n,)),
        "lows": (given.voxels.lows, (leaves, 3)),
        "corners": (given.voxels.corners, (leaves, 8)),
        "table": (given.table, (len(given.table), given.config.embedding)),
        "params": (given.params, (given.config.n_params,)),
    }
    for name, (tensor, shape) in wanted.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")
    if not given.step > 0:
        raise ValueError(f"step must be positive, got {given.step}")
