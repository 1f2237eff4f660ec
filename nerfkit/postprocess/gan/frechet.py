"""Fréchet distance between two sets of features, each taken as one Gaussian.

d^2 = |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^(1/2) C2 C1^(1/2))^(1/2)), the squared 2-Wasserstein
distance of two Gaussians, exact. With Inception features it is FID (arXiv 1706.08500); with any
others its figures compare only among themselves. Features are [N, D].
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


class FeatureStatistics:
    """Mean and covariance of features, gathered in fp64 batch by batch (Chan's update).

    Attributes:
        count: features seen.
        mean: [D].
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Tensor = torch.zeros(0, dtype=torch.float64)
        self._scatter: Tensor = torch.zeros(0, 0, dtype=torch.float64)

    def add(self, features: Tensor) -> None:
        """Take in features [N, D]."""
        if features.dim() != 2:
            raise ValueError(f"`features` must have shape (N, D), got {tuple(features.shape)}")
        batch = features.detach().double().cpu()
        if not len(batch):
            return
        mean = batch.mean(0)
        scatter = (batch - mean).T @ (batch - mean)
        if self.count == 0:
            self.count, self.mean, self._scatter = len(batch), mean, scatter
            return
        total = self.count + len(batch)
        apart = mean - self.mean
        share = self.count * len(batch) / total
        self._scatter = self._scatter + scatter + share * torch.outer(apart, apart)
        self.mean = self.mean + apart * len(batch) / total
        self.count = total

    @property
    def covariance(self) -> Tensor:
        """[D, D], unbiased."""
        if self.count < 2:
            raise ValueError(f"`covariance` needs at least 2 features, got {self.count}")
        return self._scatter / (self.count - 1)


def gather(
    batches: Iterable[Tensor], features: Callable[[Tensor], Tensor] = lambda x: x.flatten(1)
) -> FeatureStatistics:
    """Statistics of features(batch) [N, D] over all batches."""
    statistics = FeatureStatistics()
    with torch.no_grad():
        for batch in batches:
            statistics.add(features(batch))
    return statistics


def frechet_distance(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """Squared Fréchet distance of the Gaussians with these means and covariances."""
    return gaussian_frechet(first.mean, first.covariance, second.mean, second.covariance)


def gaussian_frechet(
    mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor
) -> float:
    """The formula above, for means [D] and covariances [D, D].

    By symmetric eigenproblems: a general matrix root goes wrong on singular covariances, which
    fewer images than features always give.
    """
    root = _root(covariance.double())
    crossed = root @ other_covariance.double() @ root
    overlap = torch.linalg.eigvalsh(crossed).clamp_min(0).sqrt().sum()
    apart = (mean.double() - other_mean.double()).square().sum()
    trace = covariance.double().trace() + other_covariance.double().trace()
    return max(0.0, float(apart + trace - 2 * overlap))


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp_min(0).sqrt()) @ vectors.T
