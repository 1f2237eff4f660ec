"""The kinds of field that can be fitted, by the name of their preset."""

from nerfkit.training.fast import FastLearner
from nerfkit.training.learner import Learner

KINDS: dict[str, type[Learner]] = {"fast": FastLearner}
FORMATS: dict[str, type[Learner]] = {kind.format: kind for kind in KINDS.values()}
