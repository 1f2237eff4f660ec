"""Which of several processes does which of many things: locks that end with their holder.

A claim on thing i is a lock on byte i of a file. The system drops it when its process ends in
whatever way, so that another one can take over; nothing is left to clean up, no clock is asked.
It works between machines where their common file system has POSIX locks (NFS has).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType

try:
    import fcntl
except ImportError:  # Windows: nobody to share with
    fcntl = None

from nerfkit.errors import NerfkitError


class Claims:
    """Claims in the file `path`, which is made; one object a process and file, no more."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise NerfkitError(f"{path}: cannot be written: {error.strerror}") from error

    def __enter__(self) -> Claims:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        os.close(self.file)

    def take(self, i: int, wait: bool = False) -> bool:
        """Claim thing `i`; False if another process has it."""
        if fcntl is None:
            return True
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, i)
        except BlockingIOError:
            return False
        except PermissionError:  # what some systems say for the same
            return False
        return True

    def drop(self, i: int) -> None:
        """Give thing `i` up."""
        if fcntl is not None:
            fcntl.lockf(self.file, fcntl.LOCK_UN, 1, i)

    def remove(self) -> None:
        """Delete the file; who has it open still has its claims."""
        with contextlib.suppress(OSError):
            self.path.unlink()
