"""Train the Restorer and the Estimator of `blur.network` on blurred patches of sharp images.

The two are trained together, each on what the other hands over, but no gradient crosses the
hand-over (as DAN's code does, arXiv 2010.02631): k_1 from k_0 and its closed-form x_0, x_1 from
k_1, k_2 from x_1. Losses: |x - truth| averaged, and for kernels the sum |k - truth|, which weighs
wide and narrow kernels alike. Learning rate lr / sqrt(1 + step / 1000) and averaged weights:
training may stop at any step. Resumable and, on one thread, repeatable.
"""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from nerfkit.errors import NerfkitError
from nerfkit.files import atomic_write
from nerfkit.postprocess.blur.forward import bicubic_taps, degrade
from nerfkit.postprocess.blur.kernels import SIZE, Family, random_kernels
from nerfkit.postprocess.blur.network import BlindNetwork, reshaped
from nerfkit.postprocess.blur.wiener import wiener_restore
from nerfkit.postprocess.gan.average import WeightAverage
from nerfkit.postprocess.pictures import read_luma

STATE = "state.pt"
NETWORK = "network.safetensors"
AVERAGE = 0.998
GUESS_ERROR = 0.12  # of log sigma; more than the spectral guess has on T91 and BSDS400
LOSS_BORDER = 3  # pixels of y: what lies outside the patch reaches this far in


@dataclass(frozen=True)
class TrainConfig:
    """How a blind network is trained.

    Attributes:
        scale: 2, 3 or 4.
        families: kernels to train on, mixed evenly.
        width: channels of the networks.
        blocks: residual blocks of the Restorer.
        batch: patches a step.
        patch: side of a patch of y, pixels.
        learning_rate: of Adam at the first step.
        noise: standard deviation of white noise on y, in 0..1.
        seed: of weights, patches and kernels.
    """

    scale: int
    families: tuple[Family, ...] = ("isotropic",)
    width: int = 32
    blocks: int = 5
    batch: int = 8
    patch: int = 32
    learning_rate: float = 2e-3
    noise: float = 0.0
    seed: int = 0


class PatchSource:
    """Random sharp patches with blurred, reduced, 8-bit versions of them.

    Args:
        images: luma [H, W] in 0..1 as uint8; those too small for a patch are left out.
    """

    def __init__(self, images: Sequence[Tensor], config: TrainConfig) -> None:
        self.config = config
        scale = config.scale
        _, taps = bicubic_taps(scale)
        # cut off after blurring: the neighbours of a patch are real, not mirrored
        self.margin = -(-(SIZE // 2 + len(taps)) // scale)
        self.side = scale * (config.patch + 2 * self.margin)
        self.images = [image for image in images if min(image.shape) >= self.side]
        if not self.images:
            raise NerfkitError(f"no training image has {self.side} pixels a side")

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """(y [B, 1, p, p], x [B, 1, s p, s p], kernels [B, size, size])."""
        config = self.config
        x = torch.stack([self._patch(generator) for _ in range(config.batch)])[:, None]
        family = config.families[_randint(len(config.families), generator)]
        kernels = random_kernels(family, config.batch, config.scale, generator)
        y = degrade(x, kernels, config.scale)
        if config.noise:
            y = y + config.noise * torch.randn(y.shape, generator=generator)
        y = (y.clamp(0, 1) * 255).round() / 255
        inner = slice(self.margin, -self.margin)
        sharp = slice(self.margin * config.scale, -self.margin * config.scale)
        return y[..., inner, inner].contiguous(), x[..., sharp, sharp], kernels

    def _patch(self, generator: torch.Generator) -> Tensor:
        image = self.images[_randint(len(self.images), generator)]
        top, left = (_randint(n - self.side + 1, generator) for n in image.shape)
        patch = image[top : top + self.side, left : left + self.side].float() / 255
        patch = torch.rot90(patch, _randint(4, generator))
        return patch.flip(0) if _randint(2, generator) else patch


class Trainer:
    """Networks, optimiser, averaged weights and the state of all three on disk."""

    def __init__(self, config: TrainConfig, images: Sequence[Tensor], folder: Path) -> None:
        torch.manual_seed(config.seed)
        self.config, self.folder = config, folder
        self.network = BlindNetwork(config.scale, config.width, config.blocks)
        self.average = WeightAverage(self.network, AVERAGE)
        self.optimiser = torch.optim.Adam(self.network.parameters(), betas=(0.9, 0.99))
        self.generator = torch.Generator().manual_seed(config.seed)
        self.source = PatchSource(images, config)
        self.step = 0
        if (folder / STATE).exists():
            self._restore()

    def advance(self) -> tuple[float, float]:
        """One step; returns the losses of (image, kernel)."""
        config = self.config
        for group in self.optimiser.param_groups:
            warm = min(1, (self.step + 1) / 100)
            group["lr"] = warm * config.learning_rate / math.sqrt(1 + self.step / 1000)
        y, truth, kernels = self.source.draw(self.generator)
        guess = self._guess(kernels)
        first = self.network.estimator(y, wiener_restore(y, guess, config.scale), guess)
        x = self.network.restorer(y, first.detach())
        second = self.network.estimator(y, x.detach(), first.detach())
        border = slice(LOSS_BORDER * config.scale, -LOSS_BORDER * config.scale)
        image_loss = (x - truth)[..., border, border].abs().mean()
        kernel_loss = sum((k - kernels).abs().sum((-2, -1)).mean() for k in (first, second)) / 2
        self.optimiser.zero_grad(set_to_none=True)
        # the two share no weights, so the factor between their losses does not matter to Adam
        (image_loss + kernel_loss).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.average.update(self.network)
        self.step += 1
        return image_loss.item(), kernel_loss.item()

    def _guess(self, kernels: Tensor) -> Tensor:
        """k_0 as the spectral guess errs on whole images: the truth's power, sigma off by 12 %.

        Patches are too small to guess from.
        """
        error = GUESS_ERROR * torch.randn(len(kernels), 1, generator=self.generator)
        shape = torch.cat([2 * error, torch.zeros(len(kernels), 2)], dim=1)
        return reshaped(kernels, shape, torch.zeros(len(kernels), SIZE * SIZE))

    def write(self) -> None:
        """The averaged network, to use, and the whole state, to go on from."""
        save_network(self.folder / NETWORK, self.average.network, self.config, self.step)
        with atomic_write(self.folder / STATE) as f:
            torch.save(
                {
                    "config": asdict(self.config),
                    "step": self.step,
                    "network": self.network.state_dict(),
                    "average": self.average.state_dict(),
                    "optimiser": self.optimiser.state_dict(),
                    "generator": self.generator.get_state(),
                },
                f,
            )

    def _restore(self) -> None:
        state = torch.load(self.folder / STATE, weights_only=True)
        if state["config"] != asdict(self.config):
            raise NerfkitError(
                f"{self.folder / STATE}: written with other settings ({state['config']}); "
                "give the same ones or another folder"
            )
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.generator.set_state(state["generator"])


def train(
    config: TrainConfig, images: Sequence[Path], folder: Path, steps: int, every: int = 50
) -> None:
    """Train up to `steps` in all, going on from what lies in `folder`; log to folder/log.jsonl.

    Args:
        images: files of sharp images.
        every: steps between two lines of the log and two checkpoints.
    """
    folder.mkdir(parents=True, exist_ok=True)
    luma = [(read_luma(path) * 255).round().to(torch.uint8) for path in images]
    trainer = Trainer(config, luma, folder)
    losses: list[tuple[float, float]] = []
    while trainer.step < steps:
        losses.append(trainer.advance())
        if trainer.step % every == 0 or trainer.step == steps:
            trainer.write()
            means = torch.tensor(losses).mean(0).tolist()
            losses.clear()
            line = {"step": trainer.step, "image": means[0], "kernel": means[1]}
            line |= {"cpu_s": round(time.process_time(), 1)}
            with open(folder / "log.jsonl", "a") as log:
                log.write(json.dumps(line) + "\n")


def save_network(path: Path, network: BlindNetwork, config: TrainConfig, step: int) -> None:
    """Weights, settings and step in one safetensors file."""
    metadata = {"config": json.dumps(asdict(config)), "step": str(step)}
    data = save({k: v.contiguous() for k, v in network.state_dict().items()}, metadata)
    with atomic_write(path) as f:
        f.write(data)


def load_network(path: Path) -> BlindNetwork:
    """Read what `save_network` wrote, ready to run.

    Raises:
        NerfkitError: the file is not there or is something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            config = json.loads((file.metadata() or {})["config"])
            weights = {name: file.get_tensor(name) for name in file.keys()}
        network = BlindNetwork(config["scale"], config["width"], config["blocks"])
        network.load_state_dict(weights)
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise NerfkitError(f"{path}: not a blind super-resolution network: {error}") from error
    return network.eval().requires_grad_(False)


def _randint(bound: int, generator: torch.Generator) -> int:
    return int(torch.randint(bound, (), generator=generator))
