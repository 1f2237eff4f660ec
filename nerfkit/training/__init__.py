"""Fitting fields to image sets."""

from nerfkit.training.config import FitConfig
from nerfkit.training.loop import fit
from nerfkit.training.schedule import process_start

__all__ = ["FitConfig", "fit", "process_start"]
