"""Memory that ranks share: huge pages below large tables."""

import os
import platform
import re
from pathlib import Path

import pytest
import torch

from nerfkit.ranks import shared_memory

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage")
release = tuple(map(int, re.findall(r"\d+", platform.release())[:2]))
collapses = HUGE_PAGES.exists() and release >= (6, 1)  # MADV_COLLAPSE


def huge_bytes() -> int:
    """Shared memory of this process that huge pages map."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("ShmemPmdMapped:"))
    return int(line.split()[1]) << 10


@pytest.mark.skipif(not collapses, reason="huge pages on demand want Linux 6.1")
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_a_new_table_lies_in_huge_pages(dtype):
    n_bytes = 2 * shared_memory.HUGE + 5000
    before = huge_bytes()
    fd = shared_memory.create(n_bytes)
    place = shared_memory.place(os.getpid(), fd)
    table, other = (
        shared_memory.attach(place, n_bytes // dtype.itemsize, dtype=dtype) for _ in range(2)
    )
    os.close(fd)
    shared_memory.make_huge(table)
    assert not other.any()
    found = huge_bytes() - before
    table.fill_(0)
    again = (table.data_ptr(), 2 * shared_memory.HUGE, shared_memory.MADV_COLLAPSE)
    if shared_memory._libc().madvise(*again) != 0:
        pytest.skip("this machine has no huge page to give")
    assert found == 2 * 2 * shared_memory.HUGE  # in both mappings
