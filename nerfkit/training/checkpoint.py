"""A run on disk: the field in checkpoint.safetensors, the rest in optimiser-STEP.safetensors.

Both carry the step. The optimiser's file is complete before the checkpoint that belongs to it takes
the old one's name, and older ones are deleted after that, so that whenever a process dies there is
one whole pair. Features are stored as float16 and moments as bfloat16: their last bits are noise.
"""

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from nerfkit.errors import NerfkitError
from nerfkit.fields.fast import FastField, FieldShape
from nerfkit.fields.vertices import Vertices
from nerfkit.files import atomic_write
from nerfkit.kernels.fused_render import FEATURES
from nerfkit.octree import Octree
from nerfkit.training.optimiser import MOMENTS, NETWORK_MOMENTS, Optimiser

CHECKPOINT = "checkpoint.safetensors"
FORMAT = "nerfkit fast field 1"
DEEPEST = 10


@dataclass
class State:
    """What a fit needs to go on, apart from tensors."""

    first_depth: int  # of the octree, at the first step
    samples_per_ray: float  # lately
    step: int = 0
    elapsed: float = 0.0  # seconds used
    progress: float = 0.0
    rays: int = 0  # drawn in all
    previewed: float = 0.0  # progress at the last preview
    held_psnr: float | None = None


def save(folder: Path, optimiser: Optimiser, generator: torch.Generator, state: State) -> None:
    """Write the pair of files; NerfkitError if they cannot be written, the old pair then stays."""
    field = optimiser.field
    rest = {name: optimiser.moments[name].bfloat16() for name in MOMENTS}
    rest |= {name: optimiser.moments[name] for name in NETWORK_MOMENTS}
    rest["max_weights"] = optimiser.max_weights.half()
    rest["generator"] = generator.get_state()
    companion = _companion(folder, state.step)
    _write(companion, rest, {"format": FORMAT, "step": str(state.step)})
    del rest
    tensors = {
        "octree_codes": field.octree.codes,
        "octree_box_min": field.octree.box_min,
        "octree_size": torch.tensor([field.octree.size], dtype=torch.float64),
        "depths": torch.tensor(field.depths),
        "density": field.density,
        "features": field.features.half(),
        "network": field.network,
    }
    metadata = {
        "format": FORMAT,
        "step": str(state.step),
        "shape": json.dumps(asdict(field.shape)),
        "state": json.dumps(asdict(state)),
    }
    try:
        _write(folder / CHECKPOINT, tensors, metadata)
    except NerfkitError:
        with contextlib.suppress(OSError):
            companion.unlink()  # of no use alone, and the disk may be full
        raise
    for old in folder.glob("optimiser-*.safetensors"):
        if old != companion:
            with contextlib.suppress(OSError):
                old.unlink()


def load_field(folder: Path) -> tuple[FastField, State]:
    """The field of a run and where its fit stood.

    Raises:
        NerfkitError: there is no checkpoint, or it is damaged or not one of ours.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise NerfkitError(f"{folder}: holds no run (no {CHECKPOINT}); nerfkit fit writes one")
    tensors, metadata = _read(path)
    try:
        shape = FieldShape(**json.loads(metadata["shape"]))
        shape = FieldShape(**{**asdict(shape), "hidden": tuple(shape.hidden)})
        state = State(**json.loads(metadata["state"]))
    except (KeyError, TypeError, ValueError) as error:
        raise _foreign(path, f"its metadata cannot be read ({error})") from error
    _expect(path, tensors, "octree_codes", (None,), torch.int64)
    _expect(path, tensors, "octree_box_min", (3,), torch.float32)
    _expect(path, tensors, "octree_size", (1,), torch.float64)
    _expect(path, tensors, "depths", (None,), torch.int64)
    codes, depths = tensors["octree_codes"], tensors["depths"].tolist()
    size = float(tensors["octree_size"])
    if depths != list(range(depths[0], depths[-1] + 1)) or not 0 <= depths[0] <= DEEPEST:
        raise _foreign(path, f"levels at depths {depths}")
    if depths[-1] > DEEPEST or not 0 < size < float("inf"):
        raise _foreign(path, f"an octree of depth {depths[-1]} and size {size}")
    ordered = bool((codes[1:] > codes[:-1]).all()) and bool((codes >= 0).all())
    if not ordered or bool((codes >= 8 ** depths[-1]).any()):
        raise _foreign(path, "octree codes out of order or out of range")
    octree = Octree(tensors["octree_box_min"], size, depths[-1], codes)
    vertices = Vertices.of(octree, depths)
    _expect(path, tensors, "density", (len(vertices),), torch.float32)
    _expect(path, tensors, "features", (len(vertices), FEATURES), torch.float16)
    _expect(path, tensors, "network", (shape.n_network,), torch.float32)
    features = tensors.pop("features").float()
    field = FastField(shape, octree, vertices, tensors["density"], features, tensors["network"])
    return field, state


def load_optimiser(folder: Path, field: FastField, step: int) -> tuple[Optimiser, Tensor]:
    """The optimiser of a loaded field, and the state of the random generator."""
    path = _companion(folder, step)
    if not path.is_file():
        raise NerfkitError(f"{path}: is missing, so the run cannot go on; fit it anew")
    tensors, _ = _read(path)
    optimiser = Optimiser(field)
    for name, moment in optimiser.moments.items():
        dtype = torch.bfloat16 if name in MOMENTS else torch.float32
        _expect(path, tensors, name, tuple(moment.shape), dtype)
        moment.copy_(tensors.pop(name))
    _expect(path, tensors, "max_weights", tuple(optimiser.max_weights.shape), torch.float16)
    optimiser.max_weights.copy_(tensors["max_weights"])
    _expect(path, tensors, "generator", (None,), torch.uint8)
    return optimiser, tensors["generator"]


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


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise NerfkitError(
            f"{path}: damaged or no safetensors file ({error}); restore it or fit again"
        ) from error
    if metadata.get("format") != FORMAT:
        raise _foreign(path, f"format {metadata.get('format')!r} where {FORMAT!r} was wanted")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NerfkitError(f"{path}: {name} holds NaN or infinity; restore it or fit again")
    return tensors, metadata


def _expect(
    path: Path,
    tensors: dict[str, Any],
    name: str,
    shape: tuple[int | None, ...],
    dtype: torch.dtype,
) -> None:
    """NerfkitError unless the tensor is there, of this dtype and shape (None: any, not empty)."""
    tensor = tensors.get(name)
    if tensor is None:
        raise _foreign(path, f"no tensor {name!r}")
    fits = tensor.dim() == len(shape) and all(
        n > 0 if wanted is None else n == wanted
        for n, wanted in zip(tensor.shape, shape, strict=True)
    )
    if not fits or tensor.dtype != dtype:
        raise _foreign(path, f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}")


def _foreign(path: Path, found: str) -> NerfkitError:
    return NerfkitError(f"{path}: not a checkpoint this version can read: {found}; fit again")
