"""Fitting a field to a set of posed photographs: from a folder of images to a written run."""

import math
import shutil
import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from nerfkit import device, info
from nerfkit.data import Dataset, load_dataset
from nerfkit.data.images import reduce_image
from nerfkit.errors import NerfkitError
from nerfkit.evaluate import background_colour, composite
from nerfkit.fields.field import Field
from nerfkit.fields.frame import render_frame
from nerfkit.files import read_json, write_json
from nerfkit.metrics import psnr
from nerfkit.threads import kernels_alone
from nerfkit.training import checkpoint
from nerfkit.training.config import FitConfig, data_folder
from nerfkit.training.hull import Scene, find_scene
from nerfkit.training.interrupt import interruptible
from nerfkit.training.kinds import KINDS
from nerfkit.training.pixels import Pixels
from nerfkit.training.report import Reporter, Window
from nerfkit.training.schedule import Budget
from nerfkit.training.sparse import anchors_of
from nerfkit.training.surroundings import find_surroundings, resolve

# Between checkpoints: at least this long, and this many times what the last one took.
CHECKPOINT_SECONDS, CHECKPOINT_REST = 20.0, 40.0
PREVIEWS = (0.1, 0.25, 0.5, 0.75)
EXPOSURES = "exposures.json"
POSE_SLACK = 0.03  # of an image: what poses that are to be refined may be wrong by
FEWEST_VIEWS, FEW_VIEWS = 10, 50  # with fewer none is held out; none unless asked for
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
    with Reporter(folder) as reporter:
        run = _Fit(config, folder, started, reporter)
        with kernels_alone():
            run.run()
    return folder


class _Fit:
    def __init__(self, config: FitConfig, folder: Path, started: float, reporter: Reporter) -> None:
        self.folder, self.reporter = folder, reporter
        dataset = load_dataset(
            data_folder(config.data), downscale=config.downscale, splits=("train",)
        )
        train, held = _split(dataset.splits["train"], _n_held(config, len(dataset)))
        config = self.config = config if config.resume else resolve(config, dataset, train)
        place = device.best()
        if place.type not in KINDS[config.preset].devices(config):
            reporter.say(f"preset {config.preset} with these options and data is fitted on the CPU")
            place = device.CPU
        self.generator = torch.Generator(place).manual_seed(config.seed)
        if config.resume:
            cameras = dataset.cameras[train]
            self.learner, self.state, random_state = checkpoint.load_learner(
                folder, config, cameras, place
            )
            self._restore(random_state)
            self.held = Pixels(dataset, held, place) if len(held) else None
            self.pixels = Pixels(dataset, train, place)
            stored = read_json(folder / "config.json")
            self.background = stored["background"]
            budget = {"minutes": config.minutes, "steps": config.steps}
            write_json(folder / "config.json", {**stored, **budget})
        else:
            if config.scene == "unbounded":
                scene = find_surroundings(dataset, train)
            else:
                scene = find_scene(dataset, train, POSE_SLACK if config.refine_poses else 0.0)
            self.held = Pixels(dataset, held, place) if len(held) else None
            self.pixels = Pixels(dataset, train, place)
            self.background = (
                config.background if self.pixels.has_alpha else self.pixels.mean_color().tolist()
            )
            cameras = self.pixels.cameras
            self.learner = KINDS[config.preset].create(config, scene, cameras, self.generator)
            self.state = checkpoint.State()
            self._write_config(dataset, scene)
        if config.depth_weight and not config.ndc:
            self.pixels.anchors = anchors_of(dataset, train)
        self.pixels.keep_hit(self.field.hits)
        self.budget = Budget(
            started, config.budget_minutes(), config.steps, self.state.elapsed, self.state.progress
        )
        self.budget.reserve = self._seconds_to_save()
        self.saved = time.monotonic()
        self.save_seconds = 0.0

    @property
    def field(self) -> Field:
        return self.learner.field

    def _restore(self, random_state: Tensor) -> None:
        """Go on with the stored random numbers; with new ones where the fit changes its device."""
        if len(random_state) == len(self.generator.get_state()):
            self.generator.set_state(random_state)
        else:
            self.generator.manual_seed(self.config.seed + self.state.step)

    def run(self) -> None:
        """Steps until the budget is used, then the final checkpoint."""
        budget, state = self.budget, self.state
        budget.begin()
        if budget.progress(state.step) >= 1 and self.config.resume:
            raise NerfkitError(
                f"{self.folder}: has used its {_amount(self.config)}; "
                "give --minutes or --steps more to go on"
            )
        window = Window()
        with interruptible() as interrupted:
            while (progress := budget.progress(state.step)) < 1 and not interrupted.is_set():
                self._step(progress, window)
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

    def _step(self, progress: float, window: Window) -> None:
        state = self.state
        state.step += 1
        stepped = self.learner.step(progress, state.step, self.pixels, self.generator)
        if not math.isfinite(stepped.loss):
            raise NerfkitError(
                f"the fit diverged at step {state.step}; lower {self.learner.rate_options}"
            )
        state.rays += stepped.n_rays
        window.add(stepped)

    def _restructure(self) -> None:
        if self.learner.restructure(self.state.step, self.reporter.say):
            self.pixels.keep_hit(self.field.hits)
            self.budget.reserve = max(self.budget.reserve, self._seconds_to_save())

    def _report(self, progress: float, window: Window) -> None:
        if self.reporter.due() and window.rays:
            figures = window.figures(self.learner.voxels()[0])
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
        side = self.learner.preview_side
        factor = -(-max(int(camera.width[0]), int(camera.height[0])) // side)
        colour = background_colour(self.background)
        truth = composite(reduce_image(source.image(0), factor), colour)
        shown = render_frame(self.field, camera.resized(factor), colour, ["rgb"])["rgb"]
        shown = shown.clamp(0, 1).cpu()
        self.reporter.preview(f"{self.state.step:06d}_{label}", truth, shown)
        if self.held:
            self.state.held_psnr = psnr(shown, truth)
            self.reporter.say(f"step {self.state.step}: {self.state.held_psnr:.2f} dB held out")

    def _seconds_to_save(self) -> float:
        return 1.0 + self.learner.checkpoint_bytes() / DISK_BYTES_PER_SECOND

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
        checkpoint.save(self.folder, self.learner, self.generator, self.state)
        # the default field alone has these
        exposure = getattr(self.learner, "exposure", None)
        if exposure is not None and self.config.scene != "bounded":
            write_json(self.folder / EXPOSURES, exposure.memory())
        poses = getattr(self.learner, "poses", None)
        if poses is not None:
            cameras = poses.cameras(self.pixels.cameras)
            write_json(self.folder / "cameras.json", cameras.to_dict())

    def _save_or_spare(self) -> None:
        """Save; where the output folder takes no more, into a temporary one."""
        try:
            self._save()
        except NerfkitError as error:
            spare = Path(tempfile.mkdtemp(prefix="nerfkit-run-"))
            try:
                checkpoint.save(spare, self.learner, self.generator, self.state)
                shutil.copy(self.folder / "config.json", spare)
                shutil.copy(self.folder / "cameras.json", spare)
            except (NerfkitError, OSError):
                shutil.rmtree(spare, ignore_errors=True)
                raise error from None
            raise NerfkitError(f"{error}; the run is kept in {spare}") from error

    def _finish(self, window: Window) -> None:
        state = self.state
        voxels, resolution = self.learner.voxels()
        if window.rays or window.last is None:
            window.figures(voxels)
        figures = window.last
        self.reporter.metrics(
            {
                "steps": state.step,
                "seconds": self.budget.elapsed(),
                "rays": state.rays,
                "train_psnr": figures.psnr,
                "held_out_psnr": state.held_psnr,
                "voxels": voxels,
                "samples_per_ray": figures.samples_per_ray,
                "resolution": resolution,
                "versions": info.versions(),
                "hardware": info.hardware(),
            }
        )
        self.reporter.say(
            f"{state.step} steps in {self.budget.elapsed():.1f} s, "
            f"{figures.psnr:.2f} dB on training rays, "
            f"{voxels} voxels of {resolution}^3: {self.folder}"
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
    if n_views < FEWEST_VIEWS:
        return 0
    if config.holdout is not None:
        return min(config.holdout, n_views // 2)
    # of few photographs each is needed for the fit
    return int(config.is_long and n_views >= FEW_VIEWS)


def _split(views: Tensor, n_held: int) -> tuple[Tensor, Tensor]:
    """Views to fit, and `n_held` evenly spaced ones to watch."""
    held = torch.zeros(len(views), dtype=torch.bool)
    if n_held:
        held[torch.linspace(0, len(views) - 1, n_held + 2)[1:-1].round().long()] = True
    return views[~held], views[held]
