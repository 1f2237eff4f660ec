"""Memory that processes of one machine share: tables in huge pages, and semaphores. Linux only.

A segment is an anonymous file (memfd) that the others open by /proc/PID/fd: no name is left behind
whatever dies, and neither /dev/shm nor its size, 64 MB in many containers, matters.

Pages of shared memory are small by default, and random access to a table in these misses the TLB;
MADV_COLLAPSE makes them huge where the addresses are aligned, whatever the system's settings say.
"""

from __future__ import annotations

import ctypes
import errno
import math
import mmap
import os
import time
import weakref

import torch
from torch import Tensor

HUGE = 1 << 21
MADV_COLLAPSE = 25
PROT_NONE, MAP_FIXED = 0, 0x10
SEMAPHORE = 64  # bytes; sem_t has 32 on 64-bit Linux
TRIES = 200  # before a wait goes to sleep


def available() -> bool:
    """Whether this system has it."""
    return hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd")


def create(n_bytes: int) -> int:
    """A new segment of zeros; returns its file descriptor."""
    fd = os.memfd_create("nerfkit", os.MFD_CLOEXEC)
    os.ftruncate(fd, n_bytes)
    return fd


def place(pid: int, fd: int) -> str:
    """Where another process finds the segment that process `pid` holds open as `fd`."""
    return f"/proc/{pid}/fd/{fd}"


def attach(path: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """A tensor in the segment at `path`, which stays mapped for as long as the tensor lives."""
    n_bytes = max(1, math.prod(shape) * dtype.itemsize)
    fd = os.open(path, os.O_RDWR)
    try:
        address = _map(fd, n_bytes)
    finally:
        os.close(fd)
    buffer = (ctypes.c_char * n_bytes).from_address(address)
    # torch holds the buffer, the buffer's end unmaps
    weakref.finalize(buffer, _libc().munmap, address, n_bytes).atexit = False
    return torch.frombuffer(buffer, dtype=dtype, count=math.prod(shape)).view(shape)


def make_huge(tensor: Tensor) -> None:
    """Ask for huge pages below a mapped tensor of zeros, at once; only a hint."""
    n_bytes = tensor.numel() * tensor.element_size() // HUGE * HUGE
    if n_bytes:
        # where nothing has been written, there is nothing to collapse (Linux 6.18: EINVAL)
        tensor.view(-1)[:: HUGE // tensor.element_size()] = 0
        _libc().madvise(tensor.data_ptr(), n_bytes, MADV_COLLAPSE)


class Semaphores:
    """POSIX semaphores in shared zeros [n, SEMAPHORE] uint8; their creator calls `start`."""

    def __init__(self, memory: Tensor) -> None:
        self.memory, self.libc = memory, _libc()
        self.places = [memory[i].data_ptr() for i in range(len(memory))]

    def start(self) -> None:
        for address in self.places:
            self.libc.sem_init(address, 1, 0)

    def post(self, i: int) -> None:
        self.libc.sem_post(self.places[i])

    def wait(self, i: int, seconds: float) -> bool:
        """Take one from semaphore `i`; False if there was none for so long."""
        address = self.places[i]
        for _ in range(TRIES):
            if self.libc.sem_trywait(address) == 0:
                return True
        until = time.time() + seconds  # of CLOCK_REALTIME, as sem_timedwait has it
        limit = _Timespec(int(until), int(until % 1 * 1e9))
        while self.libc.sem_timedwait(address, ctypes.byref(limit)) != 0:
            if ctypes.get_errno() != errno.EINTR:
                return False
        return True


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def _map(fd: int, n_bytes: int) -> int:
    """Map the file; where it is large, at an address that huge pages need."""
    libc = _libc()
    shared, both = mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE
    if n_bytes < HUGE:
        return _checked(libc.mmap(None, n_bytes, both, shared, fd, 0))
    hidden = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    start = _checked(libc.mmap(None, n_bytes + HUGE, PROT_NONE, hidden, -1, 0))
    first = -(-start // HUGE) * HUGE
    end = first + -(-n_bytes // mmap.PAGESIZE) * mmap.PAGESIZE
    if first > start:
        libc.munmap(start, first - start)
    if end < start + n_bytes + HUGE:
        libc.munmap(end, start + n_bytes + HUGE - end)
    return _checked(libc.mmap(first, n_bytes, both, shared | MAP_FIXED, fd, 0))


def _checked(address: int) -> int:
    if address == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return address


def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    size, pointer, number = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int
    libc.mmap.restype = pointer
    libc.mmap.argtypes = (pointer, size, number, number, number, ctypes.c_long)
    libc.munmap.argtypes = (pointer, size)
    libc.madvise.argtypes = (pointer, size, number)
    libc.sem_init.argtypes = (pointer, number, ctypes.c_uint)
    libc.sem_post.argtypes = libc.sem_trywait.argtypes = (pointer,)
    libc.sem_timedwait.argtypes = (pointer, pointer)
    return libc
