"""DAN-style blind super-resolution: a Restorer and an Estimator that take turns.

After "Unfolding the Alternating Optimization for Blind Super Resolution" (arXiv 2010.02631):

    x_i     = Restorer(y, k_i)         for argmin_x |y - (x * k_i) reduced|^2 + psi(x)
    k_{i+1} = Estimator(y, x_i, k_i)   for argmin_k |y - (x_i * k) reduced|^2 + phi(k)

started from no blur, with shared weights. Two things differ, both to save compute. The Restorer
begins with the closed form of `blur.wiener` and learns what a Gaussian prior misses; so does
nearly all of the work of undoing k. The Estimator answers in the logarithm of the kernel, where a
Gaussian is a quadratic form (three numbers) and a softmax makes any answer non-negative and of
sum 1.

y is luma [B, 1, h, w] in 0..1, x [B, 1, scale h, scale w], kernels [B, size, size].
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nerfkit.postprocess.blur.kernels import SIZE, delta_kernel, offsets
from nerfkit.postprocess.blur.wiener import wiener_restore

CODE = 8  # numbers that tell a network which kernel it deals with
BORDER = 2  # pixels at the edge that the Estimator leaves out: their neighbours are made up


class ModulatedBlock(nn.Module):
    """f + conv(relu(conv(f) (1 + gain) + offset)); gain and offset come from the kernel's code."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.modulation = nn.Linear(CODE, 2 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)
        with torch.no_grad():
            self.second.weight.mul_(0.1)  # deep stacks start near the identity

    def forward(self, features: Tensor, code: Tensor) -> Tensor:
        gain, offset = self.modulation(code)[..., None, None].chunk(2, dim=1)
        return features + self.second(F.relu(self.first(features) * (1 + gain) + offset))


class KernelCode(nn.Linear):
    """Kernel [B, size, size] -> [B, CODE], linear in the kernel's square root (of unit length)."""

    def __init__(self, size: int) -> None:
        super().__init__(size * size, CODE)

    def forward(self, kernel: Tensor) -> Tensor:
        return super().forward(kernel.flatten(1).clamp_min(0).sqrt())


class Restorer(nn.Module):
    """Sharp image from a blurred, reduced one and its kernel; starts as `wiener_restore`."""

    def __init__(self, scale: int, width: int, blocks: int, size: int) -> None:
        super().__init__()
        self.scale = scale
        self.code = KernelCode(size)
        self.head = nn.Conv2d(1 + scale**2, width, 3, padding=1)
        self.body = nn.ModuleList(ModulatedBlock(width) for _ in range(blocks))
        self.tail = nn.Conv2d(width, scale**2, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)

    def forward(self, y: Tensor, kernel: Tensor) -> Tensor:
        linear = wiener_restore(y, kernel, self.scale)
        code = self.code(kernel)
        features = self.head(torch.cat([y, F.pixel_unshuffle(linear, self.scale)], dim=1) - 0.5)
        for block in self.body:
            features = block(features, code)
        return linear + F.pixel_shuffle(self.tail(features), self.scale)


class Estimator(nn.Module):
    """Kernel from a blurred, reduced image and a restored one, and the kernel it was restored by."""

    def __init__(self, scale: int, width: int, blocks: int, size: int) -> None:
        super().__init__()
        self.scale = scale
        self.code = KernelCode(size)
        self.head = nn.Conv2d(1 + scale**2, width, 3, padding=1)
        self.body = nn.ModuleList(ModulatedBlock(width) for _ in range(blocks))
        self.attention = nn.Conv2d(width, width, 1)
        self.answer = nn.Sequential(nn.Linear(width + CODE, 2 * width), nn.ReLU())
        self.shape = nn.Linear(2 * width, 3)
        self.rest = nn.Linear(2 * width, size * size)
        nn.init.zeros_(self.rest.weight)
        nn.init.zeros_(self.rest.bias)

    def forward(self, y: Tensor, x: Tensor, kernel: Tensor) -> Tensor:
        code = self.code(kernel)
        image = torch.cat([y, F.pixel_unshuffle(x, self.scale)], dim=1)
        image = image - y.mean((1, 2, 3), keepdim=True)
        # blur does not depend on contrast
        contrast = (y[..., 1:] - y[..., :-1]).abs().mean((1, 2, 3), keepdim=True)
        features = self.head(image / (8 * contrast + 0.01))
        for block in self.body:
            features = block(features, code)
        features = features[..., BORDER:-BORDER, BORDER:-BORDER]
        weights = torch.softmax(self.attention(features).flatten(2), dim=-1)
        pooled = (weights * features.flatten(2)).sum(-1)
        hidden = self.answer(torch.cat([pooled, code], dim=1))
        size = kernel.shape[-1]
        exponent = gaussian_exponent(self.shape(hidden), size).flatten(1) + self.rest(hidden)
        return torch.softmax(exponent, dim=1).reshape(-1, size, size)


class BlindNetwork(nn.Module):
    """Restorer and Estimator, unrolled.

    Args:
        scale: 2, 3 or 4.
        width: channels of both.
        blocks: residual blocks of the Restorer; the Estimator has half as many.
        size: side of the kernels.
    """

    def __init__(self, scale: int, width: int = 32, blocks: int = 5, size: int = SIZE) -> None:
        super().__init__()
        self.scale, self.size = scale, size
        self.restorer = Restorer(scale, width, blocks, size)
        self.estimator = Estimator(scale, width, blocks // 2, size)

    def forward(self, y: Tensor, loops: int = 4) -> tuple[Tensor, Tensor]:
        """(x, kernel) after `loops` turns of each."""
        kernel = delta_kernel(self.size).to(y).expand(len(y), -1, -1)
        x = wiener_restore(y, kernel, self.scale)
        for _ in range(loops):
            kernel = self.estimator(y, x, kernel)
            x = self.restorer(y, kernel)
        return x, kernel


def gaussian_exponent(shape: Tensor, size: int) -> Tensor:
    """-r^T C^-1 r / 2 for covariances C = exp [[m + a, b], [b, m - a]], a matrix exponential.

    Any (m, a, b) is a covariance, and any covariance has one (m, a, b): no angle that jumps.

    Args:
        shape: [B, 3] (m, a, b); m = 2 log sigma for a round one.

    Returns:
        [B, size, size].
    """
    m, a, b = shape.clamp(-6, 6).unbind(-1)
    q = (a.square() + b.square() + 1e-12).sqrt()
    even = torch.exp(-m) * torch.cosh(q)
    odd = torch.exp(-m) * torch.sinh(q) / q
    dx, dy = (d.to(shape) for d in offsets(size))
    return -0.5 * (
        (even - odd * a)[:, None, None] * dx.square()
        + (even + odd * a)[:, None, None] * dy.square()
        - 2 * (odd * b)[:, None, None] * dx * dy
    )
