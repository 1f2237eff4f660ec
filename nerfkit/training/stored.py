"""A safetensors file of a run, read with suspicion: every tensor is checked before it is used."""

import json
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from nerfkit.errors import NerfkitError
from nerfkit.octree import Octree

DEEPEST = 10
LARGEST_SIZE = 4096  # of layers, or of their number
LARGEST = 1e15  # of numbers that are lengths, or one over them
# What JSON and tensors of a stranger raise where they are not what is wanted.
UNREADABLE = (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    IndexError,
    OverflowError,
    RuntimeError,
)


def in_range(values: dict[Any, Any], low: float, high: float, *names: Any) -> None:
    """Raise ValueError unless these are numbers from `low` to `high`; KeyError if one is absent."""
    for name in names:
        value = values[name]
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
        ):
            raise ValueError(f"{name} is {value!r:.40}, not {low:g} to {high:g}")


def whole(values: dict[Any, Any], low: int, high: int, *names: Any) -> None:
    """The same for whole numbers."""
    in_range(values, low, high, *names)
    for name in names:
        if not isinstance(values[name], int):
            raise ValueError(f"{name} is {values[name]!r:.40}, not a whole number")


def check_sizes(network: Any) -> None:
    """Raise ValueError for a network (a NamedTuple of sizes) too large or too small to be one."""
    whole(network._asdict(), 0, LARGEST_SIZE, *network._fields)
    network.check()


@dataclass
class Stored:
    """What a file held.

    Attributes:
        tensors: by name; `take` removes them.
        metadata: strings by name.
    """

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str]

    @classmethod
    def read(cls, path: Path, formats: Container[str]) -> "Stored":
        """The file; NerfkitError if it is damaged or its metadata names none of `formats`."""
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}
        except (SafetensorError, OSError, *UNREADABLE) as error:
            raise NerfkitError(
                f"{path}: damaged or no safetensors file ({error}); restore it or fit again"
            ) from error
        stored = cls(path, tensors, metadata)
        if metadata.get("format") not in formats:
            raise stored.foreign(f"format {metadata.get('format')!r}")
        for name, tensor in tensors.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
                raise NerfkitError(f"{path}: {name} holds NaN or infinity; restore it or fit again")
        return stored

    def take(self, name: str, shape: tuple[int | None, ...], dtype: torch.dtype) -> Tensor:
        """A tensor of this dtype and shape (None: any, not empty); NerfkitError without one."""
        tensor = self.tensors.pop(name, None)
        if tensor is None:
            raise self.foreign(f"no tensor {name!r}")
        fits = tensor.dim() == len(shape) and all(
            n > 0 if wanted is None else n == wanted
            for n, wanted in zip(tensor.shape, shape, strict=True)
        )
        if not fits or tensor.dtype != dtype:
            raise self.foreign(f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}")
        return tensor

    def take_octree(self, name: str, box_min: Tensor, size: float, depth: int) -> Octree:
        """Leaves by their codes; NerfkitError unless these are those of an octree."""
        codes = self.take(name, (None,), torch.int64)
        if not 0 <= depth <= DEEPEST or not 0 < size < float("inf"):
            raise self.foreign(f"an octree of depth {depth} and size {size}")
        ordered = bool((codes[1:] > codes[:-1]).all()) and bool((codes >= 0).all())
        if not ordered or bool((codes >= 8**depth).any()):
            raise self.foreign("octree codes out of order or out of range")
        return Octree(box_min, size, depth, codes)

    def json(self, name: str) -> dict[str, Any]:
        """Metadata written as a JSON object."""
        try:
            values = json.loads(self.metadata[name])
            if not isinstance(values, dict):
                raise TypeError(f"{name} is no object")
        except (RecursionError, *UNREADABLE) as error:
            raise self.unreadable(error) from error
        return values

    def unreadable(self, error: Exception) -> NerfkitError:
        """The error for metadata that do not fit."""
        return self.foreign(f"its metadata cannot be read ({' '.join(str(error).split())})")

    def foreign(self, found: str) -> NerfkitError:
        """The error for a file that is none of ours, or of another version."""
        return NerfkitError(
            f"{self.path}: not a checkpoint this version can read: {found}; fit again"
        )
