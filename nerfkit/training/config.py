"""What a fit is asked to do: the options of `nerfkit fit`, and the numbers behind its preset."""

import dataclasses
import math
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nerfkit.errors import NerfkitError
from nerfkit.kernels.fused_mlp.cpu import MAX_LAYERS, MAX_WIDTH
from nerfkit.kernels.fused_render import MAX_BANDS

DEFAULT_MINUTES = 5.0
# A longer fit has the time for a finer grid and larger batches.
LONG_MINUTES, LONG_STEPS = 10.0, 5000
FINEST = (32, 64, 128, 256, 512, 1024)


@dataclass
class FitConfig:
    """Options of a fit. Learning rates are those at its start."""

    data: Path
    """Folder of posed images, or its transforms.json."""
    output: Path
    """Folder to write the run to."""
    preset: Literal["fast", "nerf", "fastnerf", "nsvf"] = "fast"
    """Kind of field: fast is an octree of features, nerf the two networks of arXiv 2003.08934,
    fastnerf those of 2103.10380, nsvf the voxels with embeddings and the network of 2007.11571."""
    minutes: float | None = None
    """Wall time of the whole command; 5 if neither this nor steps is given."""
    steps: int | None = None
    """Optimiser steps, instead of a time."""
    downscale: int = 1
    """Reduce the images this many times."""
    seed: int = 0
    """Of all random numbers."""
    resume: bool = False
    """Go on with the run in the output folder; only minutes and steps may change."""
    background: Literal["white", "black"] = "white"
    """What images with alpha are shown and measured on."""
    holdout: int | None = None
    """Training views kept out of the fit to watch it by; by default 1 of a long fit."""
    samples: int | None = None
    """fast: samples along rays a step, from which the number of rays follows; by default 200000, in
    a long fit twice as many."""
    lr_density: float | None = None
    """fast: learning rate of the density; by default 0.5, with ndc 0.25."""
    lr_features: float = 0.05
    """fast: learning rate of the features."""
    lr_network: float | None = None
    """Learning rate of the network; by default 0.02, of nerf and fastnerf 2e-3, of nsvf 1e-3."""
    lr_decay: float | None = None
    """Learning rates at the end, as a part of those at the start; by default 0.03, of nerf and
    fastnerf 0.05."""
    coarsest: int = 32
    """fast: resolution of the coarsest level."""
    finest: int | None = None
    """fast: resolution of the finest level; by default what the images and the time allow."""
    step_voxels: float | None = None
    """fast: distance between samples of a fit, in finest voxels; by default 1, with ndc 1.4."""
    weight_min: float = 1e-4
    """fast: samples that weigh less get no colour."""
    early_stop: float | None = None
    """Rays end where their transmittance falls below this; by default 1e-4, of nsvf 0.01."""
    prune_weight: float | None = None
    """fast: voxels that never weighed this much are emptied, unless a neighbour did; by default
    0.02, with ndc 0.1, of an unbounded scene, where fog long hides what lies behind, 0.004."""
    smoothness: float | None = None
    """fast: weight of the total variation of the density; by default 0.003 with ndc, 0.05 of an
    unbounded scene, else 0."""
    hidden: tuple[int, ...] | None = None
    """fast: units of the colour network's hidden layers; by default 64, in a long fit 64 64."""
    bands: int | None = None
    """fast: bands of spherical harmonics of the view direction; by default 3, with ndc, where all
    cameras look from one side, 2."""
    octree: bool = True
    """nerf, fastnerf: whether rays are sampled only where an octree, learned from the coarse
    network, is occupied."""
    rays: int | None = None
    """nerf, fastnerf, nsvf: rays a step; by default 64, of nsvf as many as meet 4096 samples that
    are not empty."""
    coarse_samples: int = 64
    """nerf, fastnerf: samples of the coarse network along a ray; with an octree the most there
    are."""
    fine_samples: int | None = None
    """nerf, fastnerf: samples along a ray for the fine network alone; by default 128, with an
    octree 16."""
    width: int | None = None
    """nerf, fastnerf, nsvf: units of the networks' layers; by default 256, of fastnerf 384."""
    ndc: bool = False
    """fast, nerf, fastnerf: normalised device coordinates, for photographs that all face one
    way."""
    scene: Literal["auto", "bounded", "unbounded", "forward"] = "auto"
    """Where things are: all in a box; at any distance in all directions (fast alone); or beyond one
    window, which is --ndc. By default found from the photographs: those with alpha show an object
    in a box, cameras beside each other a window."""
    distortion: float | None = None
    """fast: weight of the spread of what a ray sees; by default 0.03 with ndc, 0.002 of an
    unbounded scene, else 0."""
    exposure: bool = True
    """fast: whether photographs without alpha may differ in brightness and tint, each by a gain and
    an offset a channel; views are shown and measured as they would look in the mean."""
    refine_poses: bool = False
    """fast: correct the poses of the cameras while fitting; `nerfkit eval --align` then lets each
    test view find its place before it is measured."""
    depth_weight: float = 0.1
    """fast: weight of the relative errors of depths, where the data have any: depth images, or
    sparse points and views that see them; 0 leaves both aside."""
    voxel_size: float | None = None
    """nsvf: edge of a voxel at the start, in units of the scene; by default such that there are
    about 1000."""

    def check(self) -> None:
        """Raise NerfkitError for the first option that cannot be used."""
        if self.minutes is not None and self.steps is not None:
            raise NerfkitError("--minutes and --steps: give one of them, not both")
        for name in (
            *("minutes", "steps", "samples", "lr_density", "lr_features", "lr_network"),
            *("lr_decay", "step_voxels", "voxel_size"),
        ):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise NerfkitError(f"--{_option(name)}: want a positive number, got {value}")
        for name in ("weight_min", "early_stop", "prune_weight"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise NerfkitError(f"--{_option(name)}: want a number in [0, 1), got {value}")
        for name in ("smoothness", "distortion", "depth_weight"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise NerfkitError(f"--{_option(name)}: want a number from 0 on, got {value}")
        for name in ("coarsest", "finest"):
            value = getattr(self, name)
            if value is not None and value not in FINEST:
                wanted = ", ".join(map(str, FINEST))
                raise NerfkitError(f"--{name}: want one of {wanted}, got {value}")
        if self.finest is not None and self.finest < self.coarsest:
            raise NerfkitError(
                f"--finest: want at least the coarsest, {self.coarsest}, got {self.finest}"
            )
        for name, most in (
            *(("rays", 65536), ("coarse_samples", 1024), ("fine_samples", 1024), ("width", 1024)),
        ):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most:
                raise NerfkitError(f"--{_option(name)}: want 1 to {most}, got {value}")
        if not 1 <= self.direction_bands <= MAX_BANDS:
            raise NerfkitError(f"--bands: want 1 to {MAX_BANDS}, got {self.bands}")
        if not all(1 <= width <= MAX_WIDTH for width in self.hidden_units):
            given = " ".join(map(str, self.hidden_units))
            raise NerfkitError(f"--hidden: want widths of 1 to {MAX_WIDTH} units, got {given}")
        if len(self.hidden_units) >= MAX_LAYERS:
            raise NerfkitError(f"--hidden: want fewer than {MAX_LAYERS} widths")
        if self.holdout is not None and self.holdout < 0:
            raise NerfkitError(f"--holdout: want a number of views, got {self.holdout}")

    def budget_minutes(self) -> float | None:
        """Minutes of the fit; None if steps limit it."""
        return None if self.steps else self.minutes or DEFAULT_MINUTES

    @property
    def is_long(self) -> bool:
        """Whether the fit takes more than 10 minutes or 5000 steps."""
        return (self.minutes or 0) > LONG_MINUTES or (self.steps or 0) > LONG_STEPS

    @property
    def samples_a_step(self) -> int:
        """`samples`, or its default."""
        return self.samples or (400_000 if self.is_long else 200_000)

    @property
    def hidden_units(self) -> tuple[int, ...]:
        """`hidden`, or its default."""
        return self.hidden if self.hidden is not None else (64, 64) if self.is_long else (64,)

    @property
    def direction_bands(self) -> int:
        """`bands`, or its default."""
        return self.bands if self.bands is not None else 2 if self.ndc else 3

    @property
    def sample_step(self) -> float:
        """`step_voxels`, or its default."""
        if self.step_voxels is not None:
            return self.step_voxels
        return 1.4 if self.ndc else 1.0

    @property
    def least_weight(self) -> float:
        """`prune_weight`, or its default."""
        if self.prune_weight is not None:
            return self.prune_weight
        return 0.1 if self.ndc else 0.004 if self.scene == "unbounded" else 0.02

    @property
    def density_smoothness(self) -> float:
        """`smoothness`, or its default."""
        if self.smoothness is not None:
            return self.smoothness
        return 0.003 if self.ndc else 0.05 if self.scene == "unbounded" else 0.0

    @property
    def weight_spread(self) -> float:
        """`distortion`, or its default."""
        if self.distortion is not None:
            return self.distortion
        return 0.03 if self.ndc else 0.002 if self.scene == "unbounded" else 0.0

    @property
    def density_rate(self) -> float:
        """`lr_density`, or its default."""
        if self.lr_density is not None:
            return self.lr_density
        return 0.25 if self.ndc else 0.5

    @property
    def network_rate(self) -> float:
        """`lr_network`, or its default."""
        if self.lr_network is not None:
            return self.lr_network
        return {"fast": 0.02, "nsvf": 1e-3}.get(self.preset, 2e-3)

    @property
    def rate_decay(self) -> float:
        """`lr_decay`, or its default."""
        if self.lr_decay is not None:
            return self.lr_decay
        return 0.03 if self.preset in ("fast", "nsvf") else 0.05

    @property
    def least_light(self) -> float:
        """`early_stop`, or its default."""
        if self.early_stop is not None:
            return self.early_stop
        return 0.01 if self.preset == "nsvf" else 1e-4

    @property
    def rays_a_step(self) -> int:
        """`rays`, or its default."""
        return self.rays or 64

    @property
    def n_fine(self) -> int:
        """`fine_samples`, or its default."""
        return self.fine_samples or (16 if self.octree else 128)

    @property
    def network_width(self) -> int:
        """`width`, or its default."""
        return self.width or (384 if self.preset == "fastnerf" else 256)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without `resume`; paths are absolute."""
        values = dataclasses.asdict(self)
        del values["resume"]
        values["data"] = str(data_folder(self.data).resolve())
        values["output"] = str(Path(self.output).resolve())
        return values

    def with_stored(self, stored: dict[str, Any]) -> "FitConfig":
        """The settings `stored` by an earlier `to_dict`, with the paths and budget of this one."""
        own = {"data", "output", "minutes", "steps", "resume"}
        names = {f.name for f in dataclasses.fields(FitConfig)} - own
        values = {name: stored[name] for name in names if name in stored}
        if isinstance(values.get("hidden"), list):
            values["hidden"] = tuple(values["hidden"])
        for name in own:
            values[name] = getattr(self, name)
        if self.minutes is None and self.steps is None:
            values["minutes"], values["steps"] = stored.get("minutes"), stored.get("steps")
        kinds = typing.get_type_hints(FitConfig)
        for name, value in values.items():
            if name not in ("data", "output") and not _is_a(kinds[name], value):
                raise NerfkitError(
                    f"config.json: {name} cannot be {value!r:.40}; restore it or fit again"
                )
        config = FitConfig(**values)
        try:
            config.check()
        except TypeError as error:
            raise NerfkitError(f"config.json: {error}; restore it or fit again") from error
        return config


def _is_a(kind: Any, value: Any) -> bool:
    """Whether a value that JSON can hold is one of a type of the options."""
    if typing.get_origin(kind) is Literal:
        return isinstance(value, str) and value in typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(type(each) is int for each in value)
    if kind is float:
        return type(value) in (int, float)
    parts = typing.get_args(kind)
    return any(_is_a(part, value) for part in parts) if parts else type(value) is kind


def data_folder(path: Path) -> Path:
    """The data set's folder, given it or a JSON file in it."""
    path = Path(path)
    return path.parent if path.suffix == ".json" and path.is_file() else path


def _option(name: str) -> str:
    return name.replace("_", "-")
