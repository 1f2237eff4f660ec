"""Fitting a field to a set of posed photographs: from a folder of images to a written run."""

import math
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from nerfkit import info
from nerfkit.cameras import Cameras
from nerfkit.data import Dataset, load_dataset
from nerfkit.data.images import reduce_image
from nerfkit.errors import NerfkitError
from nerfkit.evaluate import background_colour, composite
from nerfkit.fields.fast import FastField, FieldShape
from nerfkit.fields.frame import render_frame
from nerfkit.files import read_json, write_json
from nerfkit.kernels import _native
from nerfkit.metrics import psnr
from nerfkit.octree import Octree
from nerfkit.training import checkpoint
from nerfkit.training.config import FitConfig, data_folder
from nerfkit.training.hull import Scene, find_scene
from nerfkit.training.optimiser import Optimiser, Rates
from nerfkit.training.pixels import Pixels
from nerfkit.training.report import Figures, Reporter
from nerfkit.training.schedule import SUBDIVISIONS, Budget, divisions, prune_due, rate_factor

# sigma of a field is this times softplus(d + bias) over the edge of the scene's cube.
DENSITY_GAIN = 500.0
# Thin fog at first: opaque after a few voxels where silhouettes bound the object, after the whole
# cube where it is full of fog.
CARVED_BIAS, FULL_BIAS = -3.0, -6.0
CARVED_START, FULL_START = 6, 6  # depth of the octree at the first step
# Before this part of a fit, colours are the same from all sides: one that changes with the
# direction explains a surface at a wrong depth as well as a right one.
DIRECTIONS_FROM = 0.1
DEEPEST_AUTO, DEEPEST_LONG = 8, 9
MOST_LEAVES = 3_200_000  # after a division: memory, about 600 bytes a leaf
# Where a division would make more, only the heaviest voxels are kept, if those left out weigh less.
LEFT_OUT_WEIGHT = 0.3
FEWEST_LEAVES = 64
FIRST_SAMPLES_PER_RAY = 60.0
FEWEST_RAYS, MOST_RAYS = 2048, 65536
# Between checkpoints: at least this long, and this many times what the last one took.
CHECKPOINT_SECONDS, CHECKPOINT_REST = 20.0, 40.0
PREVIEWS = (0.1, 0.25, 0.5, 0.75)
PREVIEW_SIDE = 400
DISK_BYTES_PER_SECOND = 150e6  # a guess, until a checkpoint has been timed


def fit(config: FitConfig, started: float | None = None) -> Path:
    """Fit a scene as `config` says and write the run.

    Args:
        started: when the time of the fit began, `time.monotonic`; by default now.

    Returns:
        The run's folder.

    Raises:
        NerfkitError: an option, the data or the output folder cannot be used.
        KeyboardInterrupt: after Ctrl-C, once the checkpoint is written, saying so.
    """
    started = time.monotonic() if started is None else started
    config.check()
    folder = Path(config.output)
    _claim(folder, config.resume)
    if config.resume:
        config = config.with_stored(_stored(folder))
    _native.num_threads()  # the kernels take their threads from torch's: before those are reduced
    with Reporter(folder) as reporter:
        run = _Fit(config, folder, started, reporter)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # two pools of threads would fight over the cores
        try:
            run.run()
        finally:
            torch.set_num_threads(threads)
    return folder


class _Fit:
    def __init__(self, config: FitConfig, folder: Path, started: float, reporter: Reporter) -> None:
        self.config, self.folder, self.reporter = config, folder, reporter
        self.generator = torch.Generator().manual_seed(config.seed)
        dataset = load_dataset(
            data_folder(config.data), downscale=config.downscale, splits=("train",)
        )
        train, held = _split(dataset.splits["train"], _n_held(config, len(dataset)))
        if config.resume:
            field, self.state = checkpoint.load_field(folder)
            self.optimiser, random_state = checkpoint.load_optimiser(folder, field, self.state.step)
            self.generator.set_state(random_state)
            self.held = Pixels(dataset, held) if len(held) else None
            self.pixels = Pixels(dataset, train)
            stored = read_json(folder / "config.json")
            self.background = stored["background"]
            budget = {"minutes": config.minutes, "steps": config.steps}
            write_json(folder / "config.json", {**stored, **budget})
        else:
            scene = find_scene(dataset, train)
            self.held = Pixels(dataset, held) if len(held) else None
            self.pixels = Pixels(dataset, train)
            self.background = (
                config.background if self.pixels.has_alpha else self.pixels.mean_color().tolist()
            )
            octree, shape, depths = self._first_layout(scene)
            field = FastField.create(shape, octree, depths, self.generator)
            self.optimiser = Optimiser(field)
            self.state = checkpoint.State(octree.depth, FIRST_SAMPLES_PER_RAY)
            self._write_config(dataset, scene)
        self.finest = _finest_depth(config, self.field, self.pixels.cameras)
        self.pixels.keep_hit(self.field.hits)
        self.budget = Budget(
            started, config.budget_minutes(), config.steps, self.state.elapsed, self.state.progress
        )
        self.budget.reserve = 1.0 + self._checkpoint_bytes() / DISK_BYTES_PER_SECOND
        self.saved = time.monotonic()
        self.save_seconds = 0.0
        self.warned_empty = False

    @property
    def field(self) -> FastField:
        return self.optimiser.field

    def run(self) -> None:
        """Steps until the budget is used, then the final checkpoint."""
        budget, state = self.budget, self.state
        budget.begin()
        if budget.progress(state.step) >= 1 and self.config.resume:
            raise NerfkitError(
                f"{self.folder}: has used its {_amount(self.config)}; "
                "give --minutes or --steps more to go on"
            )
        window = _Window()
        with _interruptible() as interrupted:
            while (progress := budget.progress(state.step)) < 1 and not interrupted.is_set():
                self._step(progress, window)
                if prune_due(state.step) or state.step in SUBDIVISIONS:
                    self._restructure()
                self._report(progress, window)
                self._save_if_due(progress)
        state.progress = budget.progress(state.step)
        self._save_or_spare()
        if interrupted.is_set() and state.progress < 1:
            raise KeyboardInterrupt(
                f"step {state.step} is kept in {self.folder}; --resume goes on from there"
            )
        self._finish(window)

    def _step(self, progress: float, window: "_Window") -> None:
        config, state = self.config, self.state
        wanted = int(config.samples_a_step / max(state.samples_per_ray, 1.0))
        n_rays = min(MOST_RAYS, max(FEWEST_RAYS, wanted)) // 64 * 64
        batch = self.pixels.draw(n_rays, self.generator)
        n_rays = len(batch.origins)
        factor = rate_factor(progress, config.lr_decay)
        rates = Rates(
            config.lr_density * factor, config.lr_features * factor, config.lr_network * factor
        )
        state.step += 1
        fitted = self.optimiser.step(
            batch,
            # A new colour at each ray: what is transparent must be so before any background.
            torch.rand(n_rays, 3, generator=self.generator),
            torch.rand(n_rays, generator=self.generator),
            rates,
            state.step,
            config.early_stop,
            config.weight_min,
            directions=progress >= DIRECTIONS_FROM,
        )
        loss = float(fitted.squared_errors.mean()) / 3
        if not math.isfinite(loss):
            raise NerfkitError(
                f"the fit diverged at step {state.step}; lower --lr-density or --lr-features"
            )
        state.rays += n_rays
        state.samples_per_ray = 0.8 * state.samples_per_ray + 0.2 * fitted.n_samples / max(
            n_rays, 1
        )
        window.add(n_rays, fitted.n_samples, fitted.n_shaded, loss)

    def _restructure(self) -> None:
        """Empty the voxels that weigh nothing; divide the rest where that is due."""
        octree = self.field.octree
        weights = self.optimiser.leaf_weights()
        keep = weights > self.config.prune_weight
        if int(keep.sum()) < min(FEWEST_LEAVES, len(octree)):
            keep[weights.topk(min(FEWEST_LEAVES, len(octree))).indices] = True
            if not self.warned_empty:
                self.warned_empty = True
                self.reporter.say(
                    "warning: every voxel weighs too little to keep; kept the heaviest ones. Are "
                    "the camera poses and the background right?"
                )
        keep = octree.dilate(keep)
        depths = self.field.depths
        wanted = min(self.finest, self.state.first_depth + divisions(self.state.step))
        if octree.depth < wanted:
            keep, fits = _room_to_divide(keep, weights)
            octree = octree.keep(keep)
            if fits:
                octree = octree.subdivide()
                depths = [*depths, octree.depth]
        else:
            octree = octree.keep(keep)
        self.optimiser.relayout(octree, depths)
        self.pixels.keep_hit(self.field.hits)
        self.budget.reserve = max(
            self.budget.reserve, 1.0 + self._checkpoint_bytes() / DISK_BYTES_PER_SECOND
        )

    def _first_layout(self, scene: Scene) -> tuple[Octree, FieldShape, list[int]]:
        config, octree = self.config, scene.octree
        shape = FieldShape(
            hidden=tuple(config.hidden_units),
            bands=config.bands,
            density_scale=DENSITY_GAIN / octree.size,
            density_bias=CARVED_BIAS if scene.carved else FULL_BIAS,
            step_voxels=config.step_voxels,
            near=scene.near,
        )
        finest = _finest_depth_of(config, octree, self.pixels.cameras)
        start = min(finest, CARVED_START if scene.carved else FULL_START)
        while octree.depth < start and 8 * len(octree) <= MOST_LEAVES:
            octree = octree.subdivide()
        octree = octree.above(start)
        coarsest = min(config.coarsest.bit_length() - 1, octree.depth)
        return octree, shape, list(range(coarsest, octree.depth + 1))

    def _report(self, progress: float, window: "_Window") -> None:
        if self.reporter.due() and window.rays:
            figures = window.figures(len(self.field.octree))
            left = self.budget.seconds_left(progress)
            self.reporter.show(self.state.step, progress, left, figures)
            self.reporter.log(self.state.step, figures, {"progress": progress})
            window.restart()
        for at in PREVIEWS:
            if self.state.previewed < at <= progress:
                self.state.previewed = at
                self._preview()

    def _preview(self) -> None:
        source = self.held or self.pixels
        label = "held-out" if self.held else "train"
        camera = source.cameras[0]
        factor = -(-max(int(camera.width[0]), int(camera.height[0])) // PREVIEW_SIDE)
        colour = background_colour(self.background)
        truth = composite(reduce_image(source.image(0), factor), colour)
        shown = render_frame(self.field, camera.resized(factor), colour, ["rgb"])["rgb"]
        shown = shown.clamp(0, 1)
        self.reporter.preview(f"{self.state.step:06d}_{label}", truth, shown)
        if self.held:
            self.state.held_psnr = psnr(shown, truth)
            self.reporter.say(f"step {self.state.step}: {self.state.held_psnr:.2f} dB held out")

    def _checkpoint_bytes(self) -> float:
        return 110.0 * len(self.field.vertices)

    def _save_if_due(self, progress: float) -> None:
        wait = max(CHECKPOINT_SECONDS, CHECKPOINT_REST * self.save_seconds)
        if time.monotonic() - self.saved >= wait:
            self.state.progress = progress
            began = time.monotonic()
            if self.reporter.attempt(self._save):
                self.save_seconds = time.monotonic() - began
                self.budget.reserve = 0.5 + 1.3 * self.save_seconds
            self.saved = time.monotonic()

    def _save(self) -> None:
        self.state.elapsed = self.budget.elapsed()
        checkpoint.save(self.folder, self.optimiser, self.generator, self.state)

    def _save_or_spare(self) -> None:
        """Save; where the output folder takes no more, into a temporary one."""
        try:
            self._save()
        except NerfkitError as error:
            spare = Path(tempfile.mkdtemp(prefix="nerfkit-run-"))
            try:
                checkpoint.save(spare, self.optimiser, self.generator, self.state)
                shutil.copy(self.folder / "config.json", spare)
                shutil.copy(self.folder / "cameras.json", spare)
            except (NerfkitError, OSError):
                shutil.rmtree(spare, ignore_errors=True)
                raise error from None
            raise NerfkitError(f"{error}; the run is kept in {spare}") from error

    def _finish(self, window: "_Window") -> None:
        state = self.state
        if window.rays or window.last is None:
            window.figures(len(self.field.octree))
        figures = window.last
        self.reporter.metrics(
            {
                "steps": state.step,
                "seconds": self.budget.elapsed(),
                "rays": state.rays,
                "train_psnr": figures.psnr,
                "held_out_psnr": state.held_psnr,
                "voxels": len(self.field.octree),
                "resolution": self.field.octree.resolution,
                "versions": info.versions(),
                "hardware": info.hardware(),
            }
        )
        self.reporter.say(
            f"{state.step} steps in {self.budget.elapsed():.1f} s, "
            f"{figures.psnr:.2f} dB on training rays, "
            f"{len(self.field.octree)} voxels of {self.field.octree.resolution}^3: {self.folder}"
        )

    def _write_config(self, dataset: Dataset, scene: Scene) -> None:
        values = {
            **self.config.to_dict(),
            "background": self.background,
            "background_option": self.config.background,
            "format": dataset.format,
            "scene_box": scene.box.tolist(),
            "versions": info.versions(),
        }
        write_json(self.folder / "config.json", values)
        write_json(self.folder / "cameras.json", self.pixels.cameras.to_dict())


class _Window:
    """Sums over the steps since the last report."""

    def __init__(self) -> None:
        self.last: Figures | None = None
        self.restart()

    def restart(self) -> None:
        self.began = time.monotonic()
        self.rays = self.samples = self.shaded = self.steps = 0
        self.loss = 0.0

    def add(self, rays: int, samples: int, shaded: int, loss: float) -> None:
        self.rays += rays
        self.samples += samples
        self.shaded += shaded
        self.steps += 1
        self.loss += loss

    def figures(self, voxels: int) -> Figures:
        rays, seconds = max(self.rays, 1), max(time.monotonic() - self.began, 1e-6)
        self.last = Figures(
            rays_per_second=self.rays / seconds,
            samples_per_ray=self.samples / rays,
            shaded_per_ray=self.shaded / rays,
            loss=self.loss / max(self.steps, 1),
            voxels=voxels,
        )
        return self.last


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second one interrupts as usual."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    usual = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, handle)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, usual)


def _claim(folder: Path, resume: bool) -> None:
    """Make the output folder; refuse one that holds a run, or none to resume, or is read-only."""
    present = (folder / checkpoint.CHECKPOINT).is_file()
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
    except OSError as error:
        raise NerfkitError(
            f"{folder}: cannot be written to: {error.strerror}; give another folder to -o"
        ) from error


def _stored(folder: Path) -> dict:
    stored = read_json(folder / "config.json")
    if not isinstance(stored, dict):
        raise NerfkitError(f"{folder / 'config.json'}: not the configuration of a run")
    return {**stored, "background": stored.get("background_option", "white")}


def _amount(config: FitConfig) -> str:
    minutes = config.budget_minutes()
    return f"{config.steps} steps" if minutes is None else f"{minutes:g} minutes"


def _n_held(config: FitConfig, n_views: int) -> int:
    if n_views < 10:
        return 0
    if config.holdout is not None:
        return min(config.holdout, n_views // 2)
    return int(config.is_long)


def _split(views: Tensor, n_held: int) -> tuple[Tensor, Tensor]:
    """Views to fit, and `n_held` evenly spaced ones to watch."""
    held = torch.zeros(len(views), dtype=torch.bool)
    if n_held:
        held[torch.linspace(0, len(views) - 1, n_held + 2)[1:-1].round().long()] = True
    return views[~held], views[held]


def _room_to_divide(keep: Tensor, weights: Tensor) -> tuple[Tensor, bool]:
    """Which leaves [n] to keep so that their children are not too many, and whether that works."""
    most = MOST_LEAVES // 8
    if int(keep.sum()) <= most:
        return keep, True
    heaviest = weights.topk(most)
    if float(heaviest.values[-1]) > LEFT_OUT_WEIGHT:
        return keep, False
    chosen = torch.zeros_like(keep)
    chosen[heaviest.indices] = True
    return chosen & keep, True


def _finest_depth(config: FitConfig, field: FastField, cameras: Cameras) -> int:
    return max(field.octree.depth, _finest_depth_of(config, field.octree, cameras))


def _finest_depth_of(config: FitConfig, octree: Octree, cameras: Cameras) -> int:
    """Depth at which a voxel is about a pixel wide, unless the configuration says."""
    if config.finest is not None:
        return config.finest.bit_length() - 1
    centre = (octree.box_min + octree.size / 2).double()
    distance = (cameras.c2w[:, :, 3] - centre).norm(dim=1).clamp_min(octree.size / 2)
    pixel = float((distance / cameras.fx).median())
    deepest = DEEPEST_LONG if config.is_long else DEEPEST_AUTO
    return min(deepest, max(5, math.floor(math.log2(octree.size / pixel))))
