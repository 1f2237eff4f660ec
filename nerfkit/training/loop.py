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
from nerfkit.ranks import ALONE, Team
from nerfkit.threads import kernels_alone
from nerfkit.training import checkpoint
from nerfkit.training.config import FitConfig, data_folder
from nerfkit.training.hull import Scene, find_scene
from nerfkit.training.interrupt import interruptible
from nerfkit.training.kinds import KINDS
from nerfkit.training.pixels import Pixels
from nerfkit.training.preparation import claim, n_held, split_views, stored_options
from nerfkit.training.report import Reporter, Silence, Window
from nerfkit.training.schedule import Budget
from nerfkit.training.sparse import anchors_of
from nerfkit.training.surroundings import find_surroundings, find_window, resolve

# Between checkpoints: at least this long, and this many times what the last one took.
CHECKPOINT_SECONDS, CHECKPOINT_REST = 20.0, 40.0
PREVIEWS = (0.1, 0.25, 0.5, 0.75)
EXPOSURES = "exposures.json"
POSE_SLACK = 0.03  # of an image: what poses that are to be refined may be wrong by
DISK_BYTES_PER_SECOND = 150e6  # a guess, until a checkpoint has been timed


def fit(config: FitConfig, started: float | None = None, team: Team = ALONE) -> Path:
    """Fit a scene as `config` says and write the run.

    Args:
        started: when the time of the fit began, `time.monotonic`; by default now.
        team: the ranks that fit it together; the first one decides, reports and writes.

    Returns:
        The run's folder.

    Raises:
        NerfkitError: an option, the data or the output folder cannot be used.
        KeyboardInterrupt: after Ctrl-C, once the checkpoint is written, saying so.
    """
    started = time.monotonic() if started is None else started
    config.check()
    folder = Path(config.output)
    team.from_leader(lambda: claim(folder, config.resume))
    if config.resume:
        config = config.with_stored(team.from_leader(lambda: stored_options(folder)))
    with Reporter(folder) if team.leads else Silence() as reporter:
        run = _Fit(config, folder, started, reporter, team)
        with kernels_alone():
            run.run()
    return folder


class _Fit:
    def __init__(
        self, config: FitConfig, folder: Path, started: float, reporter: Reporter, team: Team
    ) -> None:
        self.folder, self.reporter, self.team = folder, reporter, team
        data = data_folder(config.data)
        dataset = team.attempt(
            lambda: load_dataset(data, downscale=config.downscale, splits=("train",))
        )
        train, held = split_views(dataset.splits["train"], n_held(config, len(dataset)))
        config = self.config = config if config.resume else resolve(config, dataset, train)
        place = device.best()
        if place.type not in KINDS[config.preset].devices(config):
            reporter.say(f"preset {config.preset} with these options and data is fitted on the CPU")
            place = device.CPU
        self.generator = torch.Generator(place).manual_seed(config.seed)
        if config.resume:
            cameras = dataset.cameras[train]
            self.learner, self.state, random_state = checkpoint.load_learner(
                folder, config, cameras, place, team
            )
            self._restore(random_state)
            self.held = Pixels(dataset, held, place) if len(held) else None
            self.pixels = Pixels(dataset, train, place)
            stored = read_json(folder / "config.json")
            self.background = stored["background"]
            budget = {"minutes": config.minutes, "steps": config.steps}
            if team.leads:
                write_json(folder / "config.json", {**stored, **budget})
        else:
            slack = POSE_SLACK if config.refine_poses else 0.0
            find = {
                "unbounded": lambda: find_surroundings(dataset, train),
                "forward": lambda: find_window(dataset, train, slack),
                "bounded": lambda: find_scene(dataset, train, slack),
            }
            scene = team.from_leader(find[config.scene])
            self.held = Pixels(dataset, held, place) if len(held) else None
            self.pixels = Pixels(dataset, train, place)
            self.background = (
                config.background if self.pixels.has_alpha else self.pixels.mean_color().tolist()
            )
            cameras = self.pixels.cameras
            self.learner = KINDS[config.preset].create(config, scene, cameras, self.generator, team)
            self.state = checkpoint.State()
            team.from_leader(lambda: self._write_config(dataset, scene))
        if config.depth_weight:
            anchors = anchors_of(dataset, train)
            self.pixels.anchors = None if anchors is None else anchors.to(place)
        self.pixels.keep_hit(self.field.hits, team)
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
        state, team = self.state, self.team
        self.budget.begin()
        if self._agree(False)[0] >= 1 and self.config.resume:
            raise NerfkitError(
                f"{self.folder}: has used its {_amount(self.config)}; "
                "give --minutes or --steps more to go on"
            )
        window = Window()
        with interruptible() as interrupted:
            while True:
                progress, stop = self._agree(interrupted.is_set())
                if progress >= 1 or stop:
                    break
                self._step(progress, window)
                self._restructure()
                if team.leads:
                    self._report(progress, window)
                    self._save_if_due(progress)
        state.progress = progress
        team.from_leader(self._save_or_spare)
        if progress < 1:
            raise KeyboardInterrupt(
                f"step {state.step} is kept in {self.folder}; --resume goes on from there"
            )
        if team.leads:
            self._finish(window)

    def _agree(self, interrupted: bool) -> tuple[float, float]:
        """The leader's progress, and whether any rank was interrupted."""
        own = self.budget.progress(self.state.step) if self.team.leads else 0.0
        progress, stop = self.team.total(own, interrupted)
        return progress, stop

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
            self.pixels.keep_hit(self.field.hits, self.team)
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
        # the default field alone has these, and finds them for photographs without alpha
        exposure = getattr(self.learner, "exposure", None)
        if exposure is not None and self.config.exposure and not self.pixels.has_alpha:
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


def _amount(config: FitConfig) -> str:
    minutes = config.budget_minutes()
    return f"{config.steps} steps" if minutes is None else f"{minutes:g} minutes"
