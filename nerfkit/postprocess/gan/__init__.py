"""Adversarial training: a generator against a discriminator that tells its samples from data.

`AdversarialGame` plays it for any pair of modules: `losses` (what both minimise), `penalties`
(what keeps the discriminator smooth), `replay` and `unrolled` (against mode collapse), `balance`
(who moves when), `average` (the generator to keep). For images: `discriminator` (PatchGAN),
`restoration` (L1, features, adversarial), `perceptual` (VGG, where its weights are at hand),
`progressive` (x2, then x4), `frechet` (FID).
"""

from nerfkit.postprocess.gan.average import WeightAverage
from nerfkit.postprocess.gan.balance import Balance
from nerfkit.postprocess.gan.discriminator import PatchDiscriminator
from nerfkit.postprocess.gan.frechet import FeatureStatistics, frechet_distance
from nerfkit.postprocess.gan.game import AdversarialGame, GameConfig
from nerfkit.postprocess.gan.losses import LOSSES, AdversarialLoss
from nerfkit.postprocess.gan.perceptual import VggFeatures
from nerfkit.postprocess.gan.progressive import GrowingGenerator
from nerfkit.postprocess.gan.replay import ReplayBuffer
from nerfkit.postprocess.gan.restoration import RestorationLoss, RestorationWeights

__all__ = [
    "LOSSES",
    "AdversarialGame",
    "AdversarialLoss",
    "Balance",
    "FeatureStatistics",
    "GameConfig",
    "GrowingGenerator",
    "PatchDiscriminator",
    "ReplayBuffer",
    "RestorationLoss",
    "RestorationWeights",
    "VggFeatures",
    "WeightAverage",
    "frechet_distance",
]
