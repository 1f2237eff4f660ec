"""Train a super-resolution network on a folder of images.

L1 on patches, Adam, cosine decay, an exponential average of the weights; the last fifth minimises
the squared error instead, at the learning rate of the cosine's end, which PSNR rewards
(arXiv:2205.07514, section 3.4, fine-tunes alike). Written to the output folder:
`network.safetensors` (the averaged weights, ready for `sr apply`), `checkpoint.safetensors` (all
that `--resume` needs) and `metrics.json`.
"""

import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import save
from torch import Tensor, nn

from nerfkit.errors import NerfkitError
from nerfkit.files import atomic_write, write_json
from nerfkit.metrics import psnr
from nerfkit.postprocess.blur.kernel_files import load_kernel
from nerfkit.postprocess.degrade import Degradation
from nerfkit.postprocess.models import build, save_network, start_from
from nerfkit.postprocess.pairs import Pair, Patches, load_pairs, to_tensor
from nerfkit.postprocess.pictures import image_files
from nerfkit.training.interrupt import interruptible

AVERAGE = 0.999
SQUARED_FROM = 0.8  # share of the training after which the loss is the squared error
WARM_UP = 200  # steps
HELD_OUT = 50  # every so manieth image is for validation
REPORT_SECONDS = 20.0


@dataclass
class TrainConfig:
    """What `nerfkit sr train --data` trains."""

    data: tuple[Path, ...]
    """Folders of images."""
    output: Path
    """Folder to write to."""
    scale: int = 2
    """2, 3 or 4."""
    model: str = "compact"
    """compact, edsr-small, edsr-baseline or edsr."""
    steps: int | None = None
    """Length of the training (default 60000, or `minutes`)."""
    minutes: float | None = None
    """Length of the training in minutes of this process, in place of `steps`."""
    start: Path | None = None
    """Network file to begin with; one of another scale gives all but the tail."""
    batch: int = 16
    """Patches a step."""
    patch: int = 32
    """Side of a patch before enlarging, in pixels."""
    rate: float = 1e-3
    """Largest learning rate."""
    reductions: tuple[float, ...] = (1.0, 0.8, 0.6)
    """Sizes at which every image is used."""
    blur: tuple[float, float] | None = None
    """Range of the standard deviation of a Gaussian blur before the reduction, in pixels."""
    kernel: Path | None = None
    """File of a blur kernel, such as `nerfkit blur-kernel` writes, to use in place of `blur`."""
    noise: tuple[float, float] | None = None
    """Range of the standard deviation of noise after it, in grey levels."""
    jpeg: tuple[int, int] | None = None
    """Range of the quality of a compression last."""
    adversarial: float = 0.0
    """Weight of an adversarial loss beside pixels and features (`postprocess.adversarial`)."""
    seed: int = 0
    """Of weights, patches and degradations."""
    resume: bool = False
    """Go on from the checkpoint in the output folder."""
    save_every: float = 300.0
    """Seconds between checkpoints."""


class Trainer:
    """The network, its average and its optimiser."""

    def __init__(self, config: TrainConfig, pairs: Sequence[Pair], device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.config, self.device = config, device
        network = build(config.model, config.scale)
        if config.start is not None:
            start_from(network, config.start)
        # channels last: oneDNN's convolutions of few channels run up to twice as fast
        self.network = network.to(device, memory_format=torch.channels_last)
        self.parameters = dict(self.network.named_parameters())
        self.average = {k: p.detach().clone() for k, p in self.parameters.items()}
        self.optimiser = torch.optim.Adam(
            self.parameters.values(), lr=config.rate, betas=(0.9, 0.99)
        )
        self.patches = Patches(pairs, config.patch, config.batch, network.channels, config.seed)
        self.step, self.seconds = 0, 0.0

    @property
    def progress(self) -> float:
        """Share of the training that is done, 0..1."""
        if self.config.minutes is not None:
            return min(self.seconds / (60 * self.config.minutes), 1.0)
        return min(self.step / (self.config.steps or 60000), 1.0)

    def train_step(self) -> float:
        """One step; returns its loss."""
        began, progress = time.monotonic(), self.progress
        rate = self.config.rate * max(0.5 * (1 + math.cos(math.pi * progress)), 1e-3)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * min(1.0, (self.step + 1) / WARM_UP)
        loss = self._move(progress)
        self.step += 1
        self.seconds += time.monotonic() - began
        return loss

    def _move(self, progress: float) -> float:
        """Change the weights and their average; returns the loss."""
        low, high = self.batch(self.step)
        out = self.network(low)
        squared = progress >= SQUARED_FROM
        # times 20: gradients of about the size they have with L1, which Adam's averages remember
        loss = 20 * F.mse_loss(out, high) if squared else F.l1_loss(out, high)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        decay = min(AVERAGE, (self.step + 1) / (self.step + 10))
        torch._foreach_lerp_(
            list(self.average.values()),
            [p.detach() for p in self.parameters.values()],
            1 - decay,
        )
        return loss.item()

    def batch(self, index: int) -> tuple[Tensor, Tensor]:
        """Patches (low, high) on the device, the same for the same index."""
        low, high = self.patches(index)
        return tuple(x.to(self.device, memory_format=torch.channels_last) for x in (low, high))

    def averaged(self) -> nn.Module:
        """A copy of the network with the averaged weights."""
        network = build(self.config.model, self.config.scale)
        network.load_state_dict(self.average)
        return network.eval()

    def save(self, path: Path) -> None:
        """Write all that `load` needs."""
        tensors = self.state()
        metadata = {"step": str(self.step), "seconds": repr(self.seconds)}
        with atomic_write(path) as f:
            f.write(save({k: v.cpu().contiguous() for k, v in tensors.items()}, metadata))

    def state(self) -> dict[str, Tensor]:
        """Weights, their averages and the optimiser's, by name."""
        weights = {f"network.{k}": p.detach() for k, p in self.parameters.items()}
        averages = {f"average.{k}": p for k, p in self.average.items()}
        return weights | averages | adam_state(self.optimiser, self.parameters)

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Take over what `state` gave; `step` is set already."""
        for name, parameter in self.parameters.items():
            parameter.copy_(tensors[f"network.{name}"])
            self.average[name].copy_(tensors[f"average.{name}"])
        restore_adam(self.optimiser, self.parameters, tensors, self.step)

    def load(self, path: Path) -> None:
        """Go on where `save` was called.

        Raises:
            NerfkitError: the file is absent, broken, or of another network.
        """
        try:
            with safetensors.safe_open(path, framework="pt") as f:
                self.step = int(f.metadata()["step"])
                self.seconds = float(f.metadata()["seconds"])
                self.restore({name: f.get_tensor(name) for name in f.keys()})
        except (OSError, KeyError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
            raise NerfkitError(
                f"{path}: no checkpoint of this training: {error}; leave out --resume to start anew"
            ) from error


def adam_state(
    optimiser: torch.optim.Adam, parameters: dict[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Both averages of every parameter, as "first.NAME" and "second.NAME"."""
    kinds = {"first": "exp_avg", "second": "exp_avg_sq"}
    return {
        f"{kind}.{name}": optimiser.state[parameter][key]
        for kind, key in kinds.items()
        for name, parameter in parameters.items()
    }


def restore_adam(
    optimiser: torch.optim.Adam,
    parameters: dict[str, nn.Parameter],
    tensors: dict[str, Tensor],
    step: int,
) -> None:
    """Take over what `adam_state` gave after `step` steps."""
    for name, parameter in parameters.items():
        optimiser.state[parameter] = {
            "step": torch.tensor(float(step)),
            "exp_avg": tensors[f"first.{name}"].to(parameter),
            "exp_avg_sq": tensors[f"second.{name}"].to(parameter),
        }


@torch.inference_mode()
def validate(network: nn.Module, pairs: Sequence[Pair]) -> float:
    """Mean PSNR in dB of the network's channels, borders of `scale` pixels cut, 8 bits."""
    scores = []
    for pair in pairs:
        low = to_tensor(pair.low[None], network.channels)
        high = to_tensor(pair.high[None], network.channels)
        out = network(low)
        inside = (0, slice(None), *(slice(network.scale, -network.scale),) * 2)
        rounded = [(x[inside].clamp(0, 1) * 255).round() / 255 for x in (out, high)]
        scores.append(psnr(*rounded))
    return sum(scores) / len(scores)


def trainer_for(config: TrainConfig) -> type[Trainer]:
    """What trains as `config` asks for."""
    if not config.adversarial:
        return Trainer
    from nerfkit.postprocess.adversarial import AdversarialTrainer

    return AdversarialTrainer


def train(config: TrainConfig) -> Path:
    """Train as `config` says; returns the path of the network file.

    Raises:
        NerfkitError: a folder without images, a bad scale or model, nothing to resume.
    """
    if config.steps is not None and config.minutes is not None:
        raise NerfkitError("--steps and --minutes: give one of them")
    files = image_files(config.data)
    build(config.model, config.scale)  # complain before the images are read
    if config.start is not None and not config.start.exists():
        raise NerfkitError(f"--start: there is no file {config.start}")
    config.output.mkdir(parents=True, exist_ok=True)
    high = config.patch * config.scale
    held_out = files[::HELD_OUT] if len(files) >= HELD_OUT else []
    degradation = Degradation(
        config.scale,
        blur=config.blur,
        kernel=None if config.kernel is None else load_kernel(config.kernel).numpy(),
        noise=config.noise,
        jpeg=config.jpeg,
    )
    pairs = load_pairs(
        [f for f in files if f not in held_out], degradation, config.reductions, high, config.seed
    )
    checks = load_pairs(held_out, degradation, (1.0,), config.scale) if held_out else []
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    trainer = trainer_for(config)(config, pairs, device)
    checkpoint = config.output / "checkpoint.safetensors"
    if config.resume:
        trainer.load(checkpoint)
    history: list[dict[str, float]] = []

    def keep() -> None:
        trainer.save(checkpoint)
        network = trainer.averaged()
        facts = {"step": trainer.step, "seconds": round(trainer.seconds)}
        if checks:
            facts["psnr"] = round(validate(network, checks), 3)
            console.print(f"held-out images: {facts['psnr']:.3f} dB", highlight=False)
        history.append(facts)
        write_json(config.output / "metrics.json", history)
        settings = {k: v for k, v in asdict(config).items() if k not in ("output", "resume")}
        save_network(
            config.output / "network.safetensors",
            network,
            json.loads(json.dumps(facts | settings, default=lambda path: path.name)),
        )

    console = Console(file=sys.stderr, soft_wrap=True)
    bar = Progress(console=console, transient=True, disable=not console.is_terminal)
    with interruptible() as asked, bar:
        task = bar.add_task("training", total=1.0)
        saved = shown = time.monotonic()
        total, count = 0.0, 0
        while trainer.progress < 1 and not asked.is_set():
            total, count = total + trainer.train_step(), count + 1
            now = time.monotonic()
            bar.update(task, completed=trainer.progress, description=f"step {trainer.step}")
            if now - shown > REPORT_SECONDS:
                console.print(
                    f"{trainer.progress:4.0%}  step {trainer.step}  loss {total / count:.5f}  "
                    f"{1000 * (now - shown) / count:.0f} ms a step",
                    highlight=False,
                )
                shown, total, count = now, 0.0, 0
            if now - saved > config.save_every:
                keep()
                saved = time.monotonic()
        keep()
    if asked.is_set():
        raise KeyboardInterrupt(f"the checkpoint is in {config.output}; --resume goes on")
    return config.output / "network.safetensors"
