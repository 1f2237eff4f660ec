"""What a restoring generator minimises besides the adversarial loss: pixels and features.

content = pixel |x - truth| + features (distance of the discriminator's features) + vgg (distance
of VGG's). Feature matching on the discriminator (arXiv 1606.03498, 1711.11585) needs no weights
from anywhere: it is what stands in for VGG.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nerfkit.postprocess.gan.discriminator import PatchDiscriminator
from nerfkit.postprocess.gan.perceptual import VggFeatures


@dataclass(frozen=True)
class RestorationWeights:
    """Weights of the terms; ESRGAN (arXiv 1809.00219) has 0.01 pixel, 1 vgg, 0.005 adversarial."""

    pixel: float = 1.0
    features: float = 1.0
    vgg: float = 0.0


class RestorationLoss:
    """Content loss of (restored, truth) [N, C, H, W] for `AdversarialGame`.

    Args:
        weights: of the terms.
        discriminator: the game's own; its weights get no use of this gradient.
        vgg: needed where its weight is not zero.
    """

    def __init__(
        self,
        weights: RestorationWeights,
        discriminator: PatchDiscriminator,
        vgg: VggFeatures | None = None,
    ) -> None:
        if weights.vgg and vgg is None:
            raise ValueError("`vgg` must be given where its weight is not zero")
        if weights.features and discriminator.condition:
            raise ValueError("`discriminator` must be unconditional for its features to be matched")
        self.weights, self.discriminator, self.vgg = weights, discriminator, vgg

    def __call__(self, restored: Tensor, truth: Tensor) -> Tensor:
        loss = self.weights.pixel * (restored - truth).abs().mean()
        if self.weights.features:
            with torch.no_grad():
                wanted = self.discriminator.features(truth)[:-1]
            mine = self.discriminator.features(restored)[:-1]
            distance = sum((a - b).abs().mean() for a, b in zip(mine, wanted, strict=True))
            loss = loss + self.weights.features * distance / len(wanted)
        if self.weights.vgg:
            loss = loss + self.weights.vgg * self.vgg.distance(restored, truth)
        return loss
