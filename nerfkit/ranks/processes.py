"""The processes that torchrun started, as a team.

Ranks of one node work on the same tables in shared memory, as threads do, and wait for each other
at semaphores; between nodes goes what nerfkit.ranks.exchange sends, by gloo (tensors on a GPU: by
NCCL).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nerfkit.device import CPU, best
from nerfkit.errors import NerfkitError
from nerfkit.memory import large_zeros
from nerfkit.ranks import shared_memory
from nerfkit.ranks.exchange import sum_rows_
from nerfkit.ranks.joining import join
from nerfkit.ranks.team import ALONE, Result, Team

PATIENCE = 0.2  # seconds between looks whether a rank that is waited for still lives


class Ranks(Team):
    """The processes of torch.distributed's default group, which must exist."""

    def __init__(self, local_rank: int, local_size: int) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.host = range(self.rank - local_rank, self.rank - local_rank + local_size)
        # Without memory that ranks share, in the system or of a GPU, each is as good as a node.
        if not shared_memory.available() or best().type != "cpu":
            local_rank, local_size = 0, 1
        self.local_rank, self.local_size = local_rank, local_size
        self.nodes = self.size // local_size
        self.first = self.rank - local_rank
        self._own: torch.Generator | None = None
        self._slots: dict[tuple[torch.dtype, int], tuple[Tensor, list[int]]] = {}
        groups = [
            dist.new_group(range(i, self.size, local_size)) if self.nodes > 1 else None
            for i in range(local_size)
        ]
        self.across = groups[local_rank]
        self._meet()

    def _meet(self) -> None:
        """Learn the other pids, and share the first segment: semaphores, and a number."""
        n_bytes = shared_memory.SEMAPHORE * (self.local_size + 1)
        shared = self.local_size > 1
        fd = shared_memory.create(n_bytes) if shared and self.leads_node else -1
        said: list[Any] = [None] * self.size
        dist.all_gather_object(said, (os.getpid(), fd))
        self.pids = [said[rank][0] for rank in self.host]
        self.whose = said[self.first]
        if shared:
            memory = shared_memory.attach(
                shared_memory.place(*self.whose),
                *(self.local_size + 1, shared_memory.SEMAPHORE),
                dtype=torch.uint8,
            )
            # semaphore 0 counts who has arrived, i lets local rank i go on
            self.semaphores = shared_memory.Semaphores(memory[: self.local_size])
            self.board = memory[-1].view(torch.int64)[:1]
            if self.leads_node:
                self.semaphores.start()
        dist.barrier()
        if fd >= 0:
            os.close(fd)

    def speaks(self) -> bool:
        below = self.pids[: self.rank - self.host.start]
        return self.host.start == 0 and not any(map(lives, below))

    def lost_one(self) -> bool:
        return not all(map(lives, self.pids))

    def meet(self) -> None:
        with _losses():
            dist.barrier()

    def linger(self) -> None:
        """Wait until the rank that speaks has ended, though not for ever."""
        until = time.monotonic() + PATIENCE * 50
        while self.host.start == 0 and not self.speaks() and time.monotonic() < until:
            time.sleep(PATIENCE / 4)

    def barrier(self) -> None:
        if self.local_size == 1:
            return
        if self.leads_node:
            for _ in range(self.local_size - 1):
                self._wait(0)
            for i in range(1, self.local_size):
                self.semaphores.post(i)
        else:
            self.semaphores.post(0)
            self._wait(self.local_rank)

    def _wait(self, i: int) -> None:
        while not self.semaphores.wait(i, PATIENCE):
            gone = [rank for rank, pid in zip(self.host, self.pids, strict=True) if not lives(pid)]
            if gone:
                raise lost(f"rank {gone[0]} has ended")

    def sum_(self, tensor: Tensor) -> Tensor:
        if self.nodes > 1 or tensor.is_cuda:
            with _losses():
                dist.all_reduce(tensor)
            return tensor
        key = tensor.dtype, tensor.numel()
        if key not in self._slots:
            self._slots[key] = self.zeros(2, self.size, key[1], dtype=tensor.dtype), [0]
        slots, turn = self._slots[key]
        # Two sets in turns: who is first at the next sum must not overwrite what is still read.
        turn[0] ^= 1
        slots[turn[0], self.rank] = tensor.view(-1)
        self.barrier()
        tensor.view(-1).copy_(slots[turn[0]].sum(0))
        return tensor

    def total(self, *numbers: float) -> list[float]:
        return self.sum_(torch.tensor(numbers, dtype=torch.float64)).tolist()

    def max_nodes_(self, values: Tensor) -> Tensor:
        if self.nodes > 1:
            with _losses():
                dist.all_reduce(values, dist.ReduceOp.MAX)
        return values

    def from_leader(self, make: Callable[[], Result]) -> Result:
        made: list[Any] = [None, None]
        if self.leads:
            try:
                made[0] = make()
            except NerfkitError as error:
                made[1] = str(error)
        with _losses():
            dist.broadcast_object_list(made)
        if made[1] is not None:
            raise NerfkitError(made[1])
        return made[0]

    def own_generator(self, shared: torch.Generator) -> torch.Generator:
        if self._own is None:
            seed = int(torch.randint(1 << 60, (1,), generator=shared))
            self._own = torch.Generator().manual_seed(seed + self.rank)
        return self._own

    def attempt(self, make: Callable[[], Result]) -> Result:
        result, complaint = None, None
        try:
            result = make()
        except NerfkitError as error:
            complaint = str(error)
        said: list[Any] = [None] * self.size
        with _losses():
            dist.all_gather_object(said, complaint)
        for rank, text in enumerate(said):
            if text is not None:
                raise NerfkitError(text if rank == 0 else f"rank {rank}: {text}")
        return result

    def zeros(
        self, *shape: int, dtype: torch.dtype = torch.float32, device: torch.device = CPU
    ) -> Tensor:
        if self.local_size == 1:
            return large_zeros(*shape, dtype=dtype, device=device)
        n_bytes = max(1, torch.Size(shape).numel() * dtype.itemsize)
        if self.leads_node:
            self.board[0] = shared_memory.create(n_bytes)
        self.barrier()
        fd = int(self.board[0])
        table = shared_memory.attach(shared_memory.place(self.whose[0], fd), *shape, dtype=dtype)
        if self.leads_node:
            shared_memory.make_huge(table)
        self.barrier()
        if self.leads_node:
            os.close(fd)
        return table

    def sum_tables_(self, values: Tensor, touched: Tensor) -> None:
        if self.nodes > 1:
            rows = self.rows(len(values))
            with _losses():
                sum_rows_(values[rows], touched[rows], self.across)
            self.barrier()


@contextlib.contextmanager
def joined() -> Iterator[Team]:
    """The team of this process, by the environment that torchrun sets; ALONE without one.

    Of errors and interruptions that reach all ranks only one is told: elsewhere they end the
    process quietly, by SystemExit.

    Raises:
        NerfkitError: nodes with unequal numbers of ranks, or out of each other's reach.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "MASTER_ADDR" not in os.environ:
        yield ALONE
        return
    local_rank, local_size = (
        int(os.environ.get(name, default))
        for name, default in (("LOCAL_RANK", "0"), ("LOCAL_WORLD_SIZE", "1"))
    )
    if int(os.environ["RANK"]) % local_size != local_rank or size % local_size:
        raise NerfkitError(
            f"torchrun: want as many processes on every node, got {local_size} here of {size}"
        )
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank % torch.cuda.device_count())
    join()
    team = Ranks(local_rank, local_size)
    try:
        yield team
    except (NerfkitError, KeyboardInterrupt) as error:
        if team.speaks():
            raise
        team.linger()  # torchrun ends the others as soon as one has: not before it has spoken
        raise SystemExit(2 if isinstance(error, NerfkitError) else 130) from error
    finally:
        dist.destroy_process_group()


def lives(pid: int) -> bool:
    """Whether a process of this machine runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def lost(what: str) -> NerfkitError:
    """The error where another rank is gone."""
    return NerfkitError(f"{what}; what was written before is whole: --resume goes on from there")


@contextlib.contextmanager
def _losses() -> Iterator[None]:
    """Where torch.distributed fails because another process is gone, say so."""
    try:
        yield
    except RuntimeError as error:
        raise lost("another process has ended") from error
