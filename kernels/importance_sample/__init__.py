"""Distances drawn from a step function along each ray (the fine pass of NeRF, NSVF's samples).

Symbols: R rays, B bins a ray, n samples a ray, u uniform numbers in [0, 1]. Distances are along the
unit ray in scene units.
"""

import torch

from nerfkit.kernels import _backend


def importance_sample(
    t_edges: torch.Tensor,
    weights: torch.Tensor,
    n_samples: int,
    *,
    u: torch.Tensor | None = None,
    deterministic: bool = False,
    generator: torch.Generator | None = None,
    backend: str | None = None,
) -> torch.Tensor:
    """Sample each ray's bins in proportion to their weights (2003.08934 sec. 5.2).

    The weights, plus 1e-5 as in NeRF's code, are the probabilities of the bins; inside a bin the
    density is uniform; samples are the inverse of that distribution function at `u`. A ray whose
    weights are all zero is sampled uniformly over its bins. There is no gradient, as in the paper.

    Args:
        t_edges: [R, B + 1] bin edges, ascending.
        weights: [R, B], not negative; their sum does not matter.
        n_samples: n.
        u: [R, n] or [n] numbers in [0, 1], in any order. None draws one in each of n equal strata.
        deterministic: with u = None, take the middle of each stratum.
        generator: source of the random u, on the device of t_edges.

    Returns:
        t [R, n], ascending along each ray.

    Raises:
        ValueError: a shape is wrong, or u is given together with deterministic or generator.
    """
    if t_edges.ndim != 2 or t_edges.shape[1] < 2:
        raise ValueError(
            f"t_edges must have shape (n_rays, n_bins + 1), got {tuple(t_edges.shape)}"
        )
    n_rays, n_bins = len(t_edges), t_edges.shape[1] - 1
    if weights.shape != (n_rays, n_bins):
        raise ValueError(f"weights must have shape {(n_rays, n_bins)}, got {tuple(weights.shape)}")
    if n_samples < 0:
        raise ValueError(f"n_samples must not be negative, got {n_samples}")
    if u is None:
        u = _strata(t_edges, n_samples, deterministic, generator)
    elif deterministic or generator is not None:
        raise ValueError("u must be None when deterministic or generator is given")
    elif tuple(u.shape) not in [(n_rays, n_samples), (n_samples,)]:
        raise ValueError(
            f"u must have shape {(n_rays, n_samples)} or {(n_samples,)}, got {tuple(u.shape)}"
        )
    chosen = _backend.choose("importance_sample", t_edges, backend)
    if chosen == "cpu":
        from .cpu import importance_sample as run
    elif chosen == "gpu":
        from .gpu import importance_sample as run
    else:
        from .reference import importance_sample as run
    return run(t_edges.detach(), weights.detach(), u.detach())


def _strata(
    like: torch.Tensor, n: int, deterministic: bool, generator: torch.Generator | None
) -> torch.Tensor:
    options = {"dtype": like.dtype, "device": like.device}
    if deterministic:
        return (torch.arange(n, **options) + 0.5) / max(n, 1)
    inside = torch.rand(len(like), n, generator=generator, **options)
    return (torch.arange(n, **options) + inside) / max(n, 1)
