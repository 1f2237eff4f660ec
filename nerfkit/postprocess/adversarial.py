"""Adversarial training of a super-resolution network: sharper pictures at a lower PSNR.

The generator minimises |x - truth| + the distance of the discriminator's features + `adversarial`
times the non-saturating loss of a PatchGAN with spectral norm (after SRGAN, arXiv 1609.04802, and
pix2pix, 1611.07004). Begin with a network trained on pixels (`--start`), as both do.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from nerfkit.postprocess.gan import (
    AdversarialGame,
    GameConfig,
    PatchDiscriminator,
    RestorationLoss,
    RestorationWeights,
)
from nerfkit.postprocess.pairs import Pair
from nerfkit.postprocess.train import AVERAGE, TrainConfig, Trainer, adam_state, restore_adam

WIDTH = 32  # channels of the discriminator's first layer
STRIDES = 2  # an output sees 34 x 34 pixels: a patch has room for many


class AdversarialTrainer(Trainer):
    """A `Trainer` whose network plays against a discriminator."""

    def __init__(self, config: TrainConfig, pairs: Sequence[Pair], device: torch.device) -> None:
        super().__init__(config, pairs, device)
        discriminator = PatchDiscriminator(self.network.channels, width=WIDTH, strides=STRIDES)
        self.discriminator = discriminator.to(device)
        self.opponent = torch.optim.Adam(
            self.discriminator.parameters(), lr=config.rate, betas=(0.9, 0.99)
        )
        self.game = AdversarialGame(
            self.network,
            self.discriminator,
            self.optimiser,
            self.opponent,
            GameConfig(adversarial=config.adversarial, average=AVERAGE),
            RestorationLoss(RestorationWeights(), self.discriminator),
        )
        self.average = dict(self.game.average.network.named_parameters())

    def _move(self, progress: float) -> float:
        for group in self.opponent.param_groups:
            group["lr"] = self.optimiser.param_groups[0]["lr"]
        batches = iter((2 * self.step, 2 * self.step + 1))  # each player's move sees its own

        def data() -> tuple[Tensor, Tensor]:
            low, high = self.batch(next(batches))
            return high, low

        losses = self.game.step(data)
        return losses["content"] + self.config.adversarial * losses["adversarial"]

    def state(self) -> dict[str, Tensor]:
        theirs = self.discriminator.state_dict() | adam_state(
            self.opponent, dict(self.discriminator.named_parameters())
        )
        return super().state() | {f"discriminator.{k}": v for k, v in theirs.items()}

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        super().restore(tensors)
        start = "discriminator."
        theirs = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
        self.discriminator.load_state_dict({k: theirs[k] for k in self.discriminator.state_dict()})
        restore_adam(self.opponent, dict(self.discriminator.named_parameters()), theirs, self.step)
        self.game.average.updates = self.step
