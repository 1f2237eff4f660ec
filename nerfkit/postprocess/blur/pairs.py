"""Kernel from sharp images and their blurred counterparts: linear least squares, pooled over views.

With z = x filtered by the bicubic taps, every pixel of y is one linear equation in k:

    y[i] = sum_d k[d] z[s i + d].

`KernelSystem` gathers the normal equations A^T A k = A^T y of any number of views; all that
follows (free solution, parametric fits of `blur.priors`) needs only these sums. An unknown offset
in brightness between x and y is fitted along, by centring.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.optimize
import torch
import torch.nn.functional as F
from torch import Tensor

from nerfkit.postprocess.blur.forward import bicubic_taps
from nerfkit.postprocess.blur.kernels import SIZE

ROWS = 8192  # equations put down at a time: bounds the memory
SUM_WEIGHT = 1e3  # how firmly entries must sum to one, against the mean diagonal of A^T A


class KernelSystem:
    """Normal equations of all views seen so far.

    Args:
        scale: how many times smaller y is than x; 1 for blur alone.
        size: side of the kernel.

    Attributes:
        matrix: A^T A - count mean mean^T, fp64 [size^2, size^2].
        vector: A^T y, centred, fp64 [size^2].
        energy: y^T y, centred.
        count: equations.
    """

    def __init__(self, scale: int, size: int = SIZE) -> None:
        self.scale, self.size = scale, size
        unknowns = size * size
        self._gram = torch.zeros(unknowns + 1, unknowns + 1, dtype=torch.float64)
        self._sums = torch.zeros(unknowns + 1, dtype=torch.float64)
        self.count = 0

    def add(self, sharp: Tensor, blurred: Tensor, where: Tensor | None = None) -> None:
        """Take in a view: sharp [s h, s w] and blurred [h, w], in 0..1.

        Only pixels whose neighbourhood lies inside the image count: no guess at the edges.

        Args:
            where: bool [h, w], the pixels of `blurred` to use; all where left out.
        """
        scale, size = self.scale, self.size
        if tuple(sharp.shape) != tuple(n * scale for n in blurred.shape):
            raise ValueError(
                f"`sharp` must be {scale} times as large as `blurred` {tuple(blurred.shape)}, "
                f"got {tuple(sharp.shape)}"
            )
        first, taps = bicubic_taps(scale)
        z = sharp.double()[None, None]
        z = F.conv2d(
            F.conv2d(z, taps.double()[None, None, :, None]), taps.double()[None, None, None]
        )
        # z starts at x's pixel -first; whole neighbourhoods start reach before multiples of s
        reach = size // 2
        skip = -(-(reach - first) // scale)
        start = skip * scale - reach + first
        rows, columns = ((n - start - size) // scale + 1 for n in z.shape[-2:])
        if rows < 1 or columns < 1:
            raise ValueError(
                f"`blurred` {tuple(blurred.shape)} is too small for a kernel of {size} at x{scale}"
            )
        at_once = max(1, ROWS // columns)
        for top in range(0, rows, at_once):
            bottom = min(rows, top + at_once)
            strip = z[..., start + top * scale : start + (bottom - 1) * scale + size, start:]
            patches = F.unfold(strip, size, stride=scale)[0].T
            patches = patches.reshape(bottom - top, -1, size * size)[:, :columns]
            target = blurred[skip + top : skip + bottom, skip : skip + columns].double()
            patches, target = patches.flatten(0, 1), target.reshape(-1, 1)
            if where is not None:
                chosen = where[skip + top : skip + bottom, skip : skip + columns].flatten()
                patches, target = patches[chosen], target[chosen]
            self._accumulate(patches, target)

    def _accumulate(self, patches: Tensor, target: Tensor) -> None:
        both = torch.cat([patches, target], dim=1)
        self._gram += both.T @ both
        self._sums += both.sum(0)
        self.count += len(both)

    def _centred(self) -> Tensor:
        return self._gram - torch.outer(self._sums, self._sums) / max(1, self.count)

    @property
    def matrix(self) -> Tensor:
        return self._centred()[:-1, :-1]

    @property
    def vector(self) -> Tensor:
        return self._centred()[:-1, -1]

    @property
    def energy(self) -> float:
        return float(self._centred()[-1, -1])

    def residual(self, kernels: Tensor) -> Tensor:
        """Sum of squared errors of y for kernels [..., size, size]: [...] fp64."""
        flat = kernels.double().flatten(-2)
        system = self._centred()
        quadratic = (flat @ system[:-1, :-1] * flat).sum(-1)
        return quadratic - 2 * flat @ system[:-1, -1] + system[-1, -1]


@dataclass
class FreeSolution:
    """A kernel without a family.

    Attributes:
        kernel: [size, size], non-negative, of sum one.
        smoothing: weight of the roughness penalty, chosen by generalised cross-validation.
        freedom: effective number of free parameters (trace of the hat matrix).
        residual: sum of squared errors.
    """

    kernel: Tensor
    smoothing: float
    freedom: float
    residual: float


def solve_free(system: KernelSystem) -> FreeSolution:
    """argmin_k |A k - y|^2 + smoothing |grad k|^2, then k >= 0 and sum k = 1.

    The smoothing minimises generalised cross-validation, RSS / (n - freedom)^2 (Golub, Heath and
    Wahba 1979): it finds the noise level by itself. One generalised eigenproblem makes every
    smoothing tried after it free.
    """
    matrix, vector = system.matrix.numpy(), system.vector.numpy()
    penalty = _roughness(system.size)
    values, vectors = scipy.linalg.eigh(matrix, penalty)
    values = np.maximum(values, 0)
    rotated = vectors.T @ vector

    def outcome(smoothing: float) -> tuple[float, float]:
        shrunk = rotated / (values + smoothing)
        error = system.energy - 2 * shrunk @ rotated + (values * shrunk) @ shrunk
        return max(error, 0.0), float((values / (values + smoothing)).sum())

    def cross_validation(log_smoothing: float) -> float:
        error, freedom = outcome(math.exp(log_smoothing))
        return math.log(error + 1e-300) - 2 * math.log(max(system.count - freedom, 1e-6))

    top = math.log(values.max() + 1e-300)
    grid = np.linspace(top - 32, top, 65)
    smoothing = math.exp(min(grid, key=cross_validation))
    _, freedom = outcome(smoothing)
    kernel = nonnegative(matrix + smoothing * penalty, vector).reshape(system.size, system.size)
    return FreeSolution(kernel, smoothing, freedom, float(system.residual(kernel)))


def nonnegative(matrix: np.ndarray, vector: np.ndarray) -> Tensor:
    """argmin_k k^T M k - 2 v^T k for k >= 0, sum k = 1: fp32 [n]; M symmetric positive definite."""
    weight = SUM_WEIGHT * np.trace(matrix) / len(matrix)
    root = np.linalg.cholesky(matrix + weight)  # + weight (1^T k - 1)^2
    target = scipy.linalg.solve_triangular(root, vector + weight, lower=True)
    solution, _ = scipy.optimize.nnls(root.T, target, maxiter=20 * len(vector))
    return torch.from_numpy(solution / solution.sum()).float()


def _roughness(size: int) -> np.ndarray:
    """k^T Q k = squared differences of neighbours, zeros beyond the rim; positive definite."""
    line = 2 * np.eye(size) - np.eye(size, k=1) - np.eye(size, k=-1)
    return np.kron(line, np.eye(size)) + np.kron(np.eye(size), line)
