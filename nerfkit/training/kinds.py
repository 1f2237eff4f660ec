"""The kinds of field that can be fitted, by the name of their preset."""

from nerfkit.training.fast import FastLearner
from nerfkit.training.learner import Learner
from nerfkit.training.nerf import FastNerfLearner, NerfLearner
from nerfkit.training.nsvf import NsvfLearner

KINDS: dict[str, type[Learner]] = {
    "fast": FastLearner,
    "nerf": NerfLearner,
    "fastnerf": FastNerfLearner,
    "nsvf": NsvfLearner,
}
FORMATS: dict[str, type[Learner]] = {kind.format: kind for kind in KINDS.values()}
