"""Who works with whom: what ranks share, sum and agree on; here for one process on its own.

Every rank calls the same methods in the same order, as with torch.distributed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from nerfkit.device import CPU
from nerfkit.memory import large_zeros

Result = TypeVar("Result")


class Team:
    """One process on its own: nothing to wait for, nothing to sum.

    Attributes:
        rank, size: S.
        local_rank, local_size: the same among the ranks of this node, L.
        nodes: N.
    """

    rank = local_rank = 0
    size = local_size = nodes = 1

    @property
    def leads(self) -> bool:
        """Whether this rank decides, reports and writes."""
        return self.rank == 0

    @property
    def leads_node(self) -> bool:
        """Whether this rank does what is done once in the node's shared memory."""
        return self.local_rank == 0

    def share(self, n: int) -> slice:
        """This rank's part of n things."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def rows(self, n: int, multiple: int = 1) -> slice:
        """This rank's part of n rows of a table of its node, in whole multiples."""
        blocks = -(-n // multiple)
        first, last = (blocks * (self.local_rank + i) // self.local_size for i in (0, 1))
        return slice(first * multiple, min(n, last * multiple))

    def speaks(self) -> bool:
        """Whether this rank tells the user what went wrong: the lowest one that lives."""
        return True

    def lost_one(self) -> bool:
        """Whether a rank of this node has died."""
        return False

    def meet(self) -> None:
        """Wait for all ranks."""

    def barrier(self) -> None:
        """Wait for the ranks of this node."""

    def sum_(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by its sum over all ranks; every rank gets the same bits."""
        return tensor

    def total(self, *numbers: float) -> list[float]:
        """Sums over all ranks."""
        return list(numbers)

    def max_nodes_(self, values: Tensor) -> Tensor:
        """Replace values that all ranks of a node have by the largest of the nodes."""
        return values

    def own_generator(self, shared: torch.Generator) -> torch.Generator:
        """For numbers of which ranks draw unequal amounts; `shared` is alike on all of them."""
        return shared

    def from_leader(self, make: Callable[[], Result]) -> Result:
        """What the leader makes, or the NerfkitError it raises; the others do not call it."""
        return make()

    def attempt(self, make: Callable[[], Result]) -> Result:
        """What every rank makes; NerfkitError on all of them if it was raised on any."""
        return make()

    def zeros(
        self, *shape: int, dtype: torch.dtype = torch.float32, device: torch.device = CPU
    ) -> Tensor:
        """A table of zeros that the ranks of a node share, in huge pages where there are any."""
        return large_zeros(*shape, dtype=dtype, device=device)

    def sum_tables_(self, values: Tensor, touched: Tensor) -> None:
        """Replace a shared table [V, C] by its sum over the nodes; other rows hold zeros.

        Args:
            touched: [V] uint8, rows that are not zero; afterwards, on any node.
        """


ALONE = Team()
