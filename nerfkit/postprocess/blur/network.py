"""DAN-style blind super-resolution: a Restorer and an Estimator that take turns.

After "Unfolding the Alternating Optimization for Blind Super Resolution" (arXiv 2010.02631):

    x_i     = Restorer(y, k_i)         for argmin_x |y - (x * k_i) reduced|^2 + psi(x)
    k_{i+1} = Estimator(y, x_i, k_i)   for argmin_k |y - (x_i * k) reduced|^2 + phi(k)

with shared weights. Three things differ, all to save compute. k_0 is the likeliest Gaussian
(`blur.spectral`), not the delta. The Restorer begins with the closed form of `blur.wiener`, which
undoes k as far as a Gaussian prior can, and learns the rest. The Estimator changes the logarithm of
the kernel it is given, where wider and narrower is one number.

y is luma [B, 1, h, w] in 0..1, x [B, 1, scale h, scale w], kernels [B, size, size].
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nerfkit.postprocess.blur.kernels import SIZE, offsets
from nerfkit.postprocess.blur.spectral import spectral_gaussian
from nerfkit.postprocess.blur.wiener import wiener_restore

CODE = 8  # numbers that tell a network which kernel it deals with
LOOPS = 4  # turns, as in DAN
TINY = 1e-10  # below any entry that matters; its logarithm is finite
SMALLEST = 0.05  # variance of a kernel too narrow to be stretched, square pixels
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
    """Kernel from a blurred, reduced image, a restored one and the kernel it was restored by."""

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
        for layer in (self.shape, self.rest):  # untrained, it answers with what it was given
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

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
        return reshaped(kernel, self.shape(hidden), self.rest(hidden))


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

    def forward(
        self, y: Tensor, start: Tensor | None = None, loops: int = LOOPS
    ) -> tuple[Tensor, Tensor]:
        """(x, kernel) after `loops` turns of each; with none, the Restorer's answer to k_0.

        Args:
            start: k_0 [B, size, size]; the spectral guess where left out.
        """
        kernel = start
        if kernel is None:
            guesses = [spectral_gaussian([image[0]], self.scale, size=self.size) for image in y]
            kernel = torch.stack(guesses).to(y)
        if loops == 0:
            return self.restorer(y, kernel), kernel
        x = wiener_restore(y, kernel, self.scale)
        for _ in range(loops):
            kernel = self.estimator(y, x, kernel)
            x = self.restorer(y, kernel)
        return x, kernel


def reshaped(kernel: Tensor, shape: Tensor, rest: Tensor) -> Tensor:
    """softmax(e^-w log k + Q + rest): narrower or wider, stretched, and changed entry by entry.

    A power of a Gaussian is a Gaussian, wider by sqrt(e^w); Q = (a (x^2 - y^2) + 2 b x y) / (4 v),
    with v the variance of k, stretches it. Non-negative and of sum one whatever is asked for.

    Args:
        kernel: [B, size, size].
        shape: [B, 3] (w, a, b).
        rest: [B, size^2].
    """
    size = kernel.shape[-1]
    dx, dy = (d.to(kernel) for d in offsets(size))
    variance = 0.5 * (kernel * (dx.square() + dy.square())).sum((1, 2)) + SMALLEST
    w, a, b = (s[:, None, None] for s in shape.clamp(-3, 3).unbind(-1))
    stretch = (a * (dx.square() - dy.square()) + 2 * b * dx * dy) / (4 * variance[:, None, None])
    exponent = torch.exp(-w) * (kernel + TINY).log() + stretch
    return torch.softmax(exponent.flatten(1) + rest, dim=1).reshape(-1, size, size)
