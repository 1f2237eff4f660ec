"""The kinds of field that can be fitted, by the name of their preset."""

from nerfkit.training.fast import FastLearner
from nerfkit.training.learner import Learner
from nerfkit.training.nerf import NerfLearner

KINDS: dict[str, type[Learner]] = {"fast": FastLearner, "nerf": NerfLearner}
FORMATS: dict[str, type[Learner]] = {kind.format: kind for kind in KINDS.values()}
