"""Train a refiner for one run, in minutes, on the run's own photographs.

Every training view is rendered small; the frame wanted is its photograph, and the frame's own
photograph is never among its sources (leave one view out): what a new view will be given. Some
views are held out as targets. The refiner is kept only if it is better on them than the bicubic
enlargement is.
"""

import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from nerfkit.cameras import Cameras
from nerfkit.data import load_dataset
from nerfkit.errors import NerfkitError
from nerfkit.evaluate import composite
from nerfkit.metrics import psnr
from nerfkit.postprocess.gan.average import WeightAverage
from nerfkit.postprocess.networks import SCALES
from nerfkit.postprocess.scene.geometry import grown, small_camera
from nerfkit.postprocess.scene.network import SceneRefiner
from nerfkit.postprocess.scene.refined import refiner_path, save_refiner
from nerfkit.postprocess.scene.sources import Matches, Sources
from nerfkit.run import Run
from nerfkit.training.interrupt import interruptible

MOST_VIEWS = 200  # photographs used, evenly spaced: they stay in memory
HOLD_OUT = 10  # every so manieth view is not a target
BUSY = 0.9  # share of patches that are centred on a surface
AVERAGE = 0.998
SQUARED_FROM = 0.4  # share of the training after which the loss is the squared error
REPORT_SECONDS = 20.0


@dataclass
class RefinerConfig:
    """How a refiner is trained."""

    scale: int = 4
    """2, 3 or 4."""
    minutes: float = 5.0
    """Length of the training, preparation included."""
    sources: int = 5
    """Photographs a frame; two of them for what edges in depth hide."""
    width: int = 48
    """Channels of the body."""
    blocks: int = 2
    """Residual blocks."""
    batch: int = 6
    """Patches a step."""
    patch: int = 32
    """Side of a patch before enlarging, in pixels."""
    rate: float = 2e-3
    """Largest learning rate."""
    temporal: float = 0.0
    """Weight of the temporal loss: how far two refinements of a patch by different photographs
    differ, which is what makes neighbouring frames flicker."""
    seed: int = 0
    """Of weights and patches."""


@dataclass
class View:
    """A training view, rendered small."""

    index: int
    render: Tensor
    """[3, h, w], the colours, in 0..1."""
    opacity: Tensor
    """[1, h, w]."""
    matches: list[Matches]
    """By the best photographs, and, for the temporal loss, by the next best."""
    busy: Tensor
    """[P, 2] (row, column) of pixels at surfaces."""


def load_sources(run: Run, scale: int) -> tuple[Sources, list[dict[str, Tensor]]]:
    """The training photographs of a run, and its small renders of them.

    Raises:
        NerfkitError: the data set cannot be read or has fewer than 3 training views.
    """
    cameras, photos = load_photos(run)
    small = small_camera(cameras, scale)
    wanted = ["rgb", "opacity", "ray_distance"]
    renders = [
        {name: image.cpu() for name, image in run.render(small[i], wanted).items()}
        for i in range(len(small))
    ]
    height, width = (int(n.max()) for n in (small.height, small.width))
    distances = torch.zeros(len(photos), height, width)
    for canvas, render in zip(distances, renders, strict=True):
        rows, columns = render["ray_distance"].shape
        canvas[:rows, :columns] = grown(render["ray_distance"])
    return Sources(photos, small, distances, scale), renders


def load_photos(run: Run) -> tuple[Cameras, list[Tensor]]:
    """At most MOST_VIEWS training cameras and photographs, uint8 [H, W, 3] on the background."""
    root, downscale = Path(run.config["data"]), run.config.get("downscale", 1)
    dataset = load_dataset(root, downscale=downscale, splits=("train",))
    if len(dataset) < 3:
        raise NerfkitError(f"{root}: want at least 3 training views to refine, got {len(dataset)}")
    chosen = torch.linspace(0, len(dataset) - 1, min(MOST_VIEWS, len(dataset))).round().long()
    photos = [
        (composite(dataset.images[i], run.background) * 255 + 0.5).to(torch.uint8)
        for i in chosen.tolist()
    ]
    return dataset.cameras[chosen], photos


class Trainer:
    """A refiner, its average and the views it learns from."""

    def __init__(self, run: Run, config: RefinerConfig) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.sources, renders = load_sources(run, config.scale)
        views = [self._view(i, render) for i, render in enumerate(renders)]
        self.held_out = views[HOLD_OUT // 2 :: HOLD_OUT] or views[-1:]
        apart = {view.index for view in self.held_out}
        self.views = [view for view in views if view.index not in apart]
        network = SceneRefiner(
            config.scale, config.sources, width=config.width, blocks=config.blocks
        )
        self.network = network.to(memory_format=torch.channels_last)
        self.average = WeightAverage(self.network, AVERAGE)
        self.optimiser = torch.optim.Adam(self.network.parameters(), betas=(0.9, 0.99))
        self.random = torch.Generator().manual_seed(config.seed)
        self.steps = 0

    def _view(self, index: int, render: dict[str, Tensor]) -> View:
        camera, count = self.sources.cameras[index], self.config.sources
        distance = render["ray_distance"]
        skips = (0, 1) if self.config.temporal else (0,)
        return View(
            index,
            render["rgb"].permute(2, 0, 1).clamp(0, 1),
            render["opacity"][None],
            [self.sources.match(camera, distance, count, without=index, skip=k) for k in skips],
            torch.nonzero(distance > 0),
        )

    def patch(self, view: View) -> tuple[Tensor, ...]:
        """Inputs (render, opacity, seen, [seen in others, if temporal], enlarged) and truth."""
        scale, (_, height, width) = self.config.scale, view.render.shape
        photo = self.sources.photos[view.index]
        # the last small row or column may reach beyond the photograph
        rows, columns = photo.shape[0] // scale, photo.shape[1] // scale
        size = min(self.config.patch, rows, columns)
        centre = torch.rand(2, generator=self.random) * torch.tensor([height, width])
        if len(view.busy) and torch.rand((), generator=self.random) < BUSY:
            centre = view.busy[int(torch.randint(len(view.busy), (), generator=self.random))]
        top, left = (
            min(max(int(c) - size // 2, 0), n - size)
            for c, n in zip(centre, (rows, columns), strict=True)
        )
        inside = (..., slice(top, top + size), slice(left, left + size))
        parts = [view.render[inside], view.opacity[inside]]
        enlarged = self.network.enlarged(parts[0][None])[0]
        parts += [self.sources.details(match.part(inside[1:]), enlarged) for match in view.matches]
        truth = photo[
            top * scale : (top + size) * scale, left * scale : (left + size) * scale
        ].permute(2, 0, 1)
        return *parts, enlarged, truth.float() / 255

    def step(self, progress: float) -> float:
        """One step at `progress` 0..1 of the training; returns its loss."""
        config = self.config
        rate = config.rate * max(0.5 * (1 + math.cos(math.pi * progress)), 1e-3)
        self.optimiser.param_groups[0]["lr"] = rate * min(1.0, (self.steps + 1) / 50)
        chosen = torch.randint(len(self.views), (config.batch,), generator=self.random).tolist()
        patches = zip(*(self.patch(self.views[i]) for i in chosen), strict=True)
        stacked = (torch.stack(parts) for parts in patches)
        render, opacity, seen, *others, enlarged, truth = stacked
        out = self.network(render, opacity, seen, enlarged)
        squared = progress >= SQUARED_FROM
        # times 10: gradients of about the size they have with L1
        loss = 10 * F.mse_loss(out, truth) if squared else F.l1_loss(out, truth)
        if config.temporal:
            other = self.network(render, opacity, *others, enlarged)
            loss = loss + config.temporal * F.l1_loss(out, other)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.average.update(self.network)
        self.steps += 1
        return loss.item()

    @torch.inference_mode()
    def validate(self) -> tuple[float, float]:
        """Mean PSNR in dB on the held-out views: of the bicubic enlargement, and refined."""
        network, scores = self.average.network, []
        for view in self.held_out:
            match = view.matches[0]
            enlarged = network.enlarged(view.render[None])
            seen = self.sources.details(match, enlarged[0])
            out = network(view.render[None], view.opacity[None], seen[None], enlarged)
            plain = F.pixel_shuffle(enlarged, self.config.scale)
            truth = self.sources.photos[view.index].permute(2, 0, 1).float() / 255
            height, width = truth.shape[1:]
            scores.append([psnr(x[0, :, :height, :width].clamp(0, 1), truth) for x in (plain, out)])
        plain, refined = torch.tensor(scores).mean(0).tolist()
        return plain, refined


def train_refiner(run_path: Path, config: RefinerConfig) -> Path | None:
    """Train a refiner for a run and write it beside the run's checkpoint.

    Returns:
        The file; None where the refiner does not improve the held-out views, and none is written.

    Raises:
        NerfkitError: bad settings, no run, or its data set cannot be read.
    """
    if config.scale not in SCALES:
        raise NerfkitError(f"--scale: want one of {SCALES}, got {config.scale}")
    if config.minutes <= 0 or config.sources < 3:
        raise NerfkitError("--minutes: want more than 0; --sources: want at least 3")
    began = time.monotonic()
    console = Console(file=sys.stderr, soft_wrap=True, highlight=False)
    trainer = Trainer(Run.load(run_path), config)
    prepared = time.monotonic() - began
    console.print(f"{len(trainer.views)} views rendered and matched in {prepared:.0f} s")
    shown, total, count = time.monotonic(), 0.0, 0
    bar = Progress(console=console, transient=True, disable=not console.is_terminal)
    with interruptible() as asked, bar:
        task = bar.add_task("training", total=1.0)
        while not asked.is_set():
            now = time.monotonic()
            # from the end of the preparation: the learning rate starts at its largest
            share = (now - began - prepared) / max(60 * config.minutes - prepared, 1e-3)
            if share >= 1 and trainer.steps:
                break
            total, count = total + trainer.step(min(share, 1.0)), count + 1
            bar.update(task, completed=share, description=f"step {trainer.steps}")
            if now - shown > REPORT_SECONDS:
                console.print(f"{share:4.0%}  step {trainer.steps}  loss {total / count:.5f}")
                shown, total, count = now, 0.0, 0
    plain, refined = trainer.validate()
    console.print(
        f"held-out views: {plain:.2f} dB enlarged, {refined:.2f} dB refined, {trainer.steps} steps"
    )
    path = refiner_path(run_path, config.scale)
    if refined <= plain:
        console.print("not better than plain enlargement: not kept; train for longer")
        return None
    facts = {"steps": trainer.steps, "minutes": config.minutes, "plain": plain, "refined": refined}
    save_refiner(path, trainer.average.network, trainer.sources.distances, facts)
    return path
