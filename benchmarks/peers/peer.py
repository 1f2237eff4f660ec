"""What an adapter is: it says whether it can run, fits a scene until a deadline, and renders rays.

R rays; origins, unit directions and colours [R, 3], float32, on the task's device.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from .task import Task


class Fit(NamedTuple):
    """A fitted scene."""

    steps: int
    rays: int  # of all steps together
    render: Callable[[Tensor, Tensor], Tensor]  # origins and directions to colours on white


class Peer(Protocol):
    """One program.

    Attributes:
        name: for the reader.
        module: what has to be importable.
    """

    name: str
    module: str

    def absent(self, place: torch.device) -> str | None:
        """Why it cannot run here; None if it can."""
        ...

    def fit(self, task: Task, deadline: float) -> Fit:
        """Fit until `deadline`, `time.monotonic`, with the program's own settings."""
        ...


def not_installed(module: str) -> str | None:
    """Why a module cannot be imported; None if it is there."""
    found = importlib.util.find_spec(module) is not None
    return None if found else f"{module} is not installed"
