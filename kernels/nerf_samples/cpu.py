"""nerf_samples on the CPU: the reference itself.

The networks, whose samples it places, take hundreds of times as long.
"""

from .reference import coarse_samples, ended, next_samples, union_samples

__all__ = ["coarse_samples", "ended", "next_samples", "union_samples"]
