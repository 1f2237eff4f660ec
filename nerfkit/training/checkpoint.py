"""A run on disk: the field in checkpoint.safetensors, the rest in optimiser-STEP.safetensors.

Both carry the step. The optimiser's file is complete before the checkpoint that belongs to it takes
the old one's name, and older ones are deleted after that, so that whenever a process dies there is
one whole pair. What the files hold is up to the kind of field, which their metadata name.
"""

import contextlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from nerfkit.cameras import Cameras
from nerfkit.errors import NerfkitError
from nerfkit.fields.field import Field
from nerfkit.files import atomic_write
from nerfkit.ranks import ALONE, Team
from nerfkit.training.config import FitConfig
from nerfkit.training.kinds import FORMATS
from nerfkit.training.learner import Learner
from nerfkit.training.stored import UNREADABLE, Stored, in_range, whole

CHECKPOINT = "checkpoint.safetensors"
MOST = 1 << 60  # steps, rays, seconds


@dataclass
class State:
    """How far a fit has come."""

    step: int = 0
    elapsed: float = 0.0  # seconds used
    progress: float = 0.0
    rays: int = 0  # drawn in all
    previewed: float = 0.0  # progress at the last preview
    held_psnr: float | None = None


def save(folder: Path, learner: Learner, generator: torch.Generator, state: State) -> None:
    """Write the pair of files; NerfkitError if they cannot be written, the old pair then stays."""
    named = {"format": learner.format, "step": str(state.step)}
    companion = _companion(folder, state.step)
    _write(companion, learner.companion() | {"generator": generator.get_state()}, named)
    metadata = {
        **named,
        **learner.metadata(),
        "state": json.dumps(learner.memory() | asdict(state)),
    }
    try:
        _write(folder / CHECKPOINT, learner.tensors(), metadata)
    except NerfkitError:
        with contextlib.suppress(OSError):
            companion.unlink()  # of no use alone, and the disk may be full
        raise
    for old in folder.glob("optimiser-*.safetensors"):
        if old != companion:
            with contextlib.suppress(OSError):
                old.unlink()


def load_field(folder: Path) -> tuple[Field, State]:
    """The field of a run, on the CPU, and where its fit stood.

    Raises:
        NerfkitError: there is no checkpoint, or it is damaged or not one of ours.
    """
    stored, state, _ = _read(folder)
    return FORMATS[stored.metadata["format"]].load_field(stored), state


def load_learner(
    folder: Path, config: FitConfig, cameras: Cameras, place: torch.device, team: Team = ALONE
) -> tuple[Learner, State, Tensor]:
    """What goes on with a run, where it stood, and the state of the random generator.

    Args:
        cameras: those fitted to.
        place: the device to go on with.
        team: who go on with it, as many as there are now.
    """
    stored, state, memory = _read(folder)
    kind = FORMATS[stored.metadata["format"]]
    field = kind.load_field(stored).to(place)
    path = _companion(folder, state.step)
    if not path.is_file():
        raise NerfkitError(f"{path}: is missing, so the run cannot go on; fit it anew")
    companion = Stored.read(path, [kind.format])
    random_state = companion.take("generator", (None,), torch.uint8)
    try:
        learner = kind.resume(config, cameras, field, companion, memory, team)
        generator = torch.Generator()  # that of a GPU has a shorter state
        if len(random_state) == len(generator.get_state()):
            generator.set_state(random_state)
    except UNREADABLE as error:
        raise stored.unreadable(error) from error
    return learner, state, random_state


def _read(folder: Path) -> tuple[Stored, State, dict[str, Any]]:
    """The checkpoint, the fit's state, and the rest of what was kept with it."""
    path = folder / CHECKPOINT
    if not path.is_file():
        raise NerfkitError(f"{folder}: holds no run (no {CHECKPOINT}); nerfkit fit writes one")
    stored = Stored.read(path, FORMATS)
    memory = stored.json("state")
    try:
        values = {field.name: memory.pop(field.name) for field in fields(State)}
        whole(values, 0, MOST, "step", "rays")
        in_range(values, 0, MOST, "elapsed", "progress", "previewed")
        if values["held_psnr"] is not None:
            in_range(values, -MOST, MOST, "held_psnr")
    except UNREADABLE as error:
        raise stored.unreadable(error) from error
    state = State(**values)
    return stored, state, memory


def _companion(folder: Path, step: int) -> Path:
    return folder / f"optimiser-{step:08d}.safetensors"


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    with atomic_write(path) as file:
        try:
            save_file(tensors, file.name, metadata)
            _settle(file.name)
        except SafetensorError as error:  # what it makes of a full disk
            raise NerfkitError(f"{path}: cannot be written: {error}") from error


def _settle(path: str) -> None:
    """On to the disk, readable like any file: what save_file leaves has a new inode, mode 600."""
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(path, 0o666 & ~mask)
    with open(path, "rb") as file:
        os.fsync(file.fileno())
