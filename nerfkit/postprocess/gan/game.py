"""The adversarial game: one step of discriminator and generator, with all that steadies it.

Samples are [N, ...]. The generator maps an input [N, ...] (noise, or an image to restore) to
samples. The discriminator maps samples, and where the game is conditional also the condition
[N, ...] (pix2pix, arXiv 1611.07004: the generator's input), to raw outputs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nerfkit.postprocess.gan import penalties
from nerfkit.postprocess.gan.average import WeightAverage
from nerfkit.postprocess.gan.balance import Balance
from nerfkit.postprocess.gan.losses import LOSSES
from nerfkit.postprocess.gan.replay import ReplayBuffer
from nerfkit.postprocess.gan.unrolled import unrolled_output

ContentLoss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class GameConfig:
    """How the game is played.

    Attributes:
        loss: a key of `losses.LOSSES`.
        discriminator_steps: moves of the discriminator to one of the generator.
        r1: weight of R1 on data.
        r2: weight of its counterpart on samples.
        gradient_penalty: weight of WGAN-GP's penalty (10 in arXiv 1704.00028).
        penalty_every: moves between two penalties, their weight multiplied alike (arXiv
            1912.04958, "lazy regularisation").
        clip: largest weight of the discriminator (WGAN: 0.01), or none.
        unrolled_steps: the generator looks this many steps ahead (arXiv 1611.02163).
        unrolled_rate: learning rate of those steps. Too large, it drives the samples away: on
            the ring of `toys`, 0.01 covers 8 modes of 8 and 0.05 none.
        replay: earlier samples kept for the discriminator; 0 for none.
        adversarial: weight of the adversarial loss beside the content loss.
        average: decay of the generator's averaged weights.
        balance: (low, high) accuracy between which both players move.
    """

    loss: str = "nonsaturating"
    discriminator_steps: int = 1
    r1: float = 0.0
    r2: float = 0.0
    gradient_penalty: float = 0.0
    penalty_every: int = 1
    clip: float | None = None
    unrolled_steps: int = 0
    unrolled_rate: float = 1e-2
    replay: int = 0
    adversarial: float = 1.0
    average: float = 0.999
    balance: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        if self.loss not in LOSSES:
            raise ValueError(f"`loss` must be one of {', '.join(LOSSES)}, got {self.loss!r}")
        if self.discriminator_steps < 1 or self.penalty_every < 1:
            raise ValueError("`discriminator_steps` and `penalty_every` must be at least 1")


class AdversarialGame:
    """Both players, their optimisers and what the game remembers.

    Args:
        generator: input -> samples.
        discriminator: samples (and condition) -> raw outputs.
        generator_optimiser: over the generator's parameters.
        discriminator_optimiser: over the discriminator's.
        config: how to play.
        content: loss of (samples, data) that the generator minimises as well, for restoration.
        random: random numbers of penalties and replay; torch's own where left out.

    Attributes:
        average: the generator to keep, with averaged weights.
        balance: the discriminator's accuracy so far.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        generator_optimiser: torch.optim.Optimizer,
        discriminator_optimiser: torch.optim.Optimizer,
        config: GameConfig,
        content: ContentLoss | None = None,
        random: torch.Generator | None = None,
    ) -> None:
        self.generator, self.discriminator = generator, discriminator
        self.generator_optimiser = generator_optimiser
        self.discriminator_optimiser = discriminator_optimiser
        self.config, self.content, self.random = config, content, random
        self.loss = LOSSES[config.loss]
        self.average = WeightAverage(generator, config.average)
        self.balance = Balance(*config.balance)
        self.buffer = ReplayBuffer(config.replay, random) if config.replay else None
        self.moves = 0

    def step(
        self, data: Callable[[], tuple[Tensor, Tensor]], conditional: bool = False
    ) -> dict[str, float]:
        """The discriminator's moves, then one of the generator.

        Args:
            data: draws (real [N, ...], input of the generator [N, ...]); called for every move.
            conditional: the discriminator also gets the generator's input.

        Returns:
            Losses: "discriminator", "penalty", "adversarial", "content"; those of a player that
            waited, or that there are none of, are absent.
        """
        losses: dict[str, float] = {}
        for _ in range(self.config.discriminator_steps):
            real, source = data()
            losses |= self._discriminator_move(real, source, (source,) if conditional else ())
        if self.balance.generator_moves:
            real, source = data()
            losses |= self._generator_move(real, source, (source,) if conditional else ())
        return losses

    def _discriminator_move(
        self, real: Tensor, source: Tensor, condition: tuple[Tensor, ...]
    ) -> dict[str, float]:
        config = self.config
        with torch.no_grad():
            fake = self.generator(source)
        of_fake = condition
        if self.buffer is not None:
            fake, *of_fake = self.buffer.mix(fake, *condition)
        on_real = self.discriminator(real, *condition)
        on_fake = self.discriminator(fake, *of_fake)
        self.balance.observe(on_real.detach(), on_fake.detach())
        if not self.balance.discriminator_moves:
            return {}
        loss = self.loss.discriminator(on_real, on_fake)
        losses = {"discriminator": loss.item()}
        if self.moves % config.penalty_every == 0:
            penalty = self._penalty(real, fake, condition)
            if penalty is not None:
                losses["penalty"] = penalty.item()
                loss = loss + config.penalty_every * penalty
        self.moves += 1
        self.discriminator_optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.discriminator_optimiser.step()
        if config.clip is not None:
            penalties.clip_weights(self.discriminator, config.clip)
        return losses

    def _penalty(self, real: Tensor, fake: Tensor, condition: tuple[Tensor, ...]) -> Tensor | None:
        config = self.config

        def discriminate(samples: Tensor) -> Tensor:
            return self.discriminator(samples, *condition)

        terms = []
        if config.r1:
            terms.append(config.r1 * penalties.r1(discriminate, real))
        if config.r2:
            terms.append(config.r2 * penalties.r2(discriminate, fake))
        if config.gradient_penalty:
            penalty = penalties.unit_gradient(discriminate, real, fake, self.random)
            terms.append(config.gradient_penalty * penalty)
        return torch.stack(terms).sum() if terms else None

    def _generator_move(
        self, real: Tensor, source: Tensor, condition: tuple[Tensor, ...]
    ) -> dict[str, float]:
        config = self.config
        fake = self.generator(source)
        if config.unrolled_steps:
            on_fake = unrolled_output(
                self.discriminator,
                self.loss,
                real,
                fake,
                config.unrolled_steps,
                config.unrolled_rate,
                condition,
            )
        else:
            on_fake = self.discriminator(fake, *condition)
        adversarial = self.loss.generator(on_fake)
        losses = {"adversarial": adversarial.item()}
        loss = config.adversarial * adversarial
        if self.content is not None:
            content = self.content(fake, real)
            losses["content"] = content.item()
            loss = loss + content
        self.generator_optimiser.zero_grad(set_to_none=True)
        loss.backward()  # the discriminator's gradients are dropped before its next move
        self.generator_optimiser.step()
        self.average.update(self.generator)
        return losses
