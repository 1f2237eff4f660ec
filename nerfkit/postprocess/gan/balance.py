"""Who moves when: a schedule that holds back a discriminator that is winning.

A discriminator that is always right gives the generator no gradient (arXiv 1701.04862); one that
is always wrong gives a false one.
"""

from torch import Tensor

MEMORY = 0.9  # the accuracy is an average over about ten steps


class Balance:
    """Skips a player's move while the discriminator's accuracy lies outside low .. high.

    Above `high` the discriminator waits, below `low` the generator does. Accuracy is the share of
    data scored above, and of samples scored below, the middle between both mean outputs: it has
    the same meaning for losses with and without a probability.

    Args:
        low: 0.5 is guessing.
        high: 1.0 is certainty, and never waits.
    """

    def __init__(self, low: float = 0.0, high: float = 1.0) -> None:
        if not 0 <= low < high <= 1:
            raise ValueError(f"`low` and `high` must be 0 <= low < high <= 1, got {low}, {high}")
        self.low, self.high = low, high
        self.accuracy = 0.5 * (low + high)

    def observe(self, real: Tensor, fake: Tensor) -> None:
        """Take in the discriminator's raw outputs for data and samples."""
        middle = 0.5 * (real.mean() + fake.mean())
        hits = 0.5 * ((real > middle).float().mean() + (fake < middle).float().mean())
        self.accuracy = MEMORY * self.accuracy + (1 - MEMORY) * hits.item()

    @property
    def discriminator_moves(self) -> bool:
        return self.accuracy <= self.high

    @property
    def generator_moves(self) -> bool:
        return self.accuracy >= self.low
