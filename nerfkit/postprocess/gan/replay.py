"""A buffer of earlier samples, shown to the discriminator among new ones.

A discriminator that sees only the latest samples forgets what it learnt of earlier ones, and the
generator can go round in circles (arXiv 1612.07828, section 2.3).
"""

import torch
from torch import Tensor


class ReplayBuffer:
    """Keeps up to `capacity` samples; each batch comes back with half of it from the past.

    Args:
        capacity: samples to keep.
        generator: random numbers; torch's own where left out.
    """

    def __init__(self, capacity: int, generator: torch.Generator | None = None) -> None:
        if capacity < 1:
            raise ValueError(f"`capacity` must be positive, got {capacity}")
        self.capacity, self.generator = capacity, generator
        self.samples: Tensor | None = None

    def mix(self, *fresh: Tensor) -> tuple[Tensor, ...]:
        """Store `fresh` [N, ...] and return N samples, half of them older where there are any.

        Several tensors (a sample and its condition) are kept together, in the last dimensions
        they have: pass the same number each time.
        """
        flat = torch.cat([t.detach().flatten(1) for t in fresh], dim=1)
        count = len(flat)
        if self.samples is None or len(self.samples) < self.capacity:
            old = self.samples if self.samples is not None else flat[:0]
            self.samples = torch.cat([old, flat])[: self.capacity].clone()
            return tuple(t.detach() for t in fresh)
        half = min(count // 2, self.capacity)
        places = torch.randperm(self.capacity, generator=self.generator)[:half]
        mixed = flat.clone()
        mixed[:half] = self.samples[places]
        self.samples[places] = flat[:half]
        parts = mixed.split([t[0].numel() for t in fresh], dim=1)
        return tuple(p.reshape(t.shape) for p, t in zip(parts, fresh, strict=True))
