"""What a fit tells its user: a progress line, TensorBoard logs, preview pictures, metrics.json."""

import math
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from nerfkit.colormap import to_uint8
from nerfkit.errors import NerfkitError
from nerfkit.files import write_json
from nerfkit.frames import write_png
from nerfkit.training.learner import Stepped

LINE_SECONDS = 10.0
REFRESH_SECONDS = 0.5


@dataclass
class Figures:
    """How a fit is doing, averaged over its last steps."""

    rays_per_second: float
    samples_per_ray: float
    shaded_per_ray: float
    loss: float  # mean squared error of the training rays
    voxels: int

    @property
    def psnr(self) -> float:
        """Of the training rays, dB."""
        return -10 * math.log10(max(self.loss, 1e-10))

    def line(self, step: int) -> str:
        """For a reader."""
        return (
            f"step {step}  {self.psnr:.2f} dB  {self.rays_per_second / 1e3:.0f}k rays/s  "
            f"{self.samples_per_ray:.1f} samples, {self.shaded_per_ray:.1f} shaded a ray  "
            f"{self.voxels / 1e3:.0f}k voxels"
        )


class Window:
    """Sums over the steps since the last report."""

    def __init__(self) -> None:
        self.last: Figures | None = None
        self.restart()

    def restart(self) -> None:
        self.began = time.monotonic()
        self.rays = self.samples = self.shaded = self.steps = 0
        self.loss = 0.0

    def add(self, stepped: Stepped) -> None:
        self.rays += stepped.n_rays
        self.samples += stepped.n_samples
        self.shaded += stepped.n_shaded
        self.steps += 1
        self.loss += stepped.loss

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


class Reporter:
    """Reports to standard error and to the run's folder; a full disk never stops a fit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.console = Console(file=sys.stderr, soft_wrap=True)
        self.progress = Progress(
            BarColumn(30),
            TaskProgressColumn(),
            TextColumn("{task.description}"),
            console=self.console,
            auto_refresh=False,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task = self.progress.add_task("loading", total=1.0)
        self.writer = None
        self._shown = self._warned = 0.0

    def __enter__(self) -> "Reporter":
        self.progress.start()
        self.progress.refresh()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()
        if self.writer is not None:
            self.writer.close()

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(text, markup=False, highlight=False)

    def due(self) -> bool:
        """Whether it is time for `show`."""
        interval = REFRESH_SECONDS if self.console.is_terminal else LINE_SECONDS
        return time.monotonic() - self._shown >= interval

    def show(self, step: int, progress: float, seconds_left: float, figures: Figures) -> None:
        """Bring the progress line up to date, or print one where there is no terminal."""
        self._shown = time.monotonic()
        left = f"  {seconds_left:.0f} s left" if math.isfinite(seconds_left) else ""
        text = figures.line(step) + left
        if self.console.is_terminal:
            self.progress.update(self.task, completed=progress, description=text, refresh=True)
        else:
            self.say(f"{progress:4.0%}  {text}")

    def log(self, step: int, figures: Figures, extra: dict[str, float]) -> None:
        """Scalars for TensorBoard, in RUN/logs."""
        if self.writer is None:
            self.writer = self._open_logs()
        values = {**asdict(figures), "psnr": figures.psnr, **extra}
        for name, value in values.items():
            self.writer.add_scalar(f"fit/{name}", value, step)

    def preview(self, name: str, truth: torch.Tensor, image: torch.Tensor) -> None:
        """Truth and render side by side, float [H, W, 3], as RUN/previews/NAME.png."""
        folder = self.folder / "previews"

        def write() -> None:
            folder.mkdir(exist_ok=True)
            write_png(folder / f"{name}.png", to_uint8(torch.cat([truth, image], dim=1)))

        self.attempt(write)

    def metrics(self, values: dict[str, Any]) -> None:
        """RUN/metrics.json."""
        self.attempt(lambda: write_json(self.folder / "metrics.json", values))

    def attempt(self, write: Any) -> bool:
        """Call `write`; if the disk refuses, say so and go on. Whether it worked."""
        try:
            write()
        except (NerfkitError, OSError) as error:
            self.say(f"warning: {' '.join(str(error).split())}; the fit goes on")
            return False
        return True

    def _open_logs(self) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                from torch.utils.tensorboard import SummaryWriter
            return SummaryWriter(str(self.folder / "logs"))
        except (ImportError, OSError) as error:
            self.say(f"warning: no TensorBoard logs: {error}")
            return _NoLogs()


class Silence:
    """The reporter of a rank that does not lead."""

    def __enter__(self) -> "Silence":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def say(self, text: str) -> None:
        pass


class _NoLogs:
    def add_scalar(self, *_: object) -> None:
        pass

    def close(self) -> None:
        pass
