"""The least that a call must do, and which of a machine's ceilings that comes closest to."""

from __future__ import annotations

from dataclasses import dataclass

from .ceilings import Rates


@dataclass(frozen=True)
class Work:
    """Of one call.

    Attributes:
        bytes: read once and written once.
        flops: float operations of its matrix products, 2 for a multiplication and addition.
        gathers: different records of 64 bytes that are looked up in a table, each counted once,
            for the next look-up may find it in a cache.
    """

    bytes: float = 0.0
    flops: float = 0.0
    gathers: float = 0.0

    def bound(self, rates: Rates, half: bool) -> tuple[str, float] | None:
        """The ceiling that binds, and the least seconds under it; None for no work.

        Args:
            half: whether matrices are multiplied in 16 bits.
        """
        product = "bf16" if half else "sgemm"
        amounts = {"memcpy": self.bytes, product: self.flops, "gather": self.gathers}
        seconds = {name: amount / rates[name].median for name, amount in amounts.items()}
        name = max(seconds, key=seconds.__getitem__)
        return (name, seconds[name]) if seconds[name] > 0 else None
