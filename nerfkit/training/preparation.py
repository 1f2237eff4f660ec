"""What comes before a fit's first step: the output folder, stored options, views held out."""

from pathlib import Path

import torch
from torch import Tensor

from nerfkit.errors import NerfkitError
from nerfkit.files import read_json, remove_leftovers
from nerfkit.training.checkpoint import CHECKPOINT
from nerfkit.training.config import FitConfig

FEWEST_VIEWS, FEW_VIEWS = 10, 50  # with fewer none is held out; none unless asked for


def claim(folder: Path, resume: bool) -> None:
    """Make the output folder; refuse one that holds a run, or none to resume, or is read-only."""
    present = (folder / CHECKPOINT).is_file()
    if resume and not present:
        raise NerfkitError(f"{folder}: holds no checkpoint to resume; fit without --resume")
    if present and not resume:
        raise NerfkitError(
            f"{folder}: holds a run already; give --resume to go on with it, or another folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
        remove_leftovers(folder)
    except OSError as error:
        raise NerfkitError(
            f"{folder}: cannot be written to: {error.strerror}; give another folder to -o"
        ) from error


def stored_options(folder: Path) -> dict:
    """The options of the run in a folder."""
    stored = read_json(folder / "config.json")
    if not isinstance(stored, dict):
        raise NerfkitError(f"{folder / 'config.json'}: not the configuration of a run")
    return {**stored, "background": stored.get("background_option", "white")}


def n_held(config: FitConfig, n_views: int) -> int:
    """How many of the training views are held out."""
    if n_views < FEWEST_VIEWS:
        return 0
    if config.holdout is not None:
        return min(config.holdout, n_views // 2)
    # of few photographs each is needed for the fit
    return int(config.is_long and n_views >= FEW_VIEWS)


def split_views(views: Tensor, n_held: int) -> tuple[Tensor, Tensor]:
    """Views to fit, and `n_held` evenly spaced ones to watch."""
    held = torch.zeros(len(views), dtype=torch.bool)
    if n_held:
        held[torch.linspace(0, len(views) - 1, n_held + 2)[1:-1].round().long()] = True
    return views[~held], views[held]
