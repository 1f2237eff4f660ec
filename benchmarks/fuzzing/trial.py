"""Damaged inputs one after the other to one loader, in a process that watches itself.

What counts as a finding: an exception other than NerfkitError, one of several lines, a
RuntimeWarning beside it, an input that takes longer than SECONDS, memory beyond MEMORY above what
was used before, a file opened outside the loader's folder (to read: other than those of Python and
its packages), written or deleted anywhere, and the end of the process.
"""

import json
import os
import random
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

from nerfkit.errors import NerfkitError

from .mutations import damage
from .seeds import Loader

SECONDS = 20.0
MEMORY = 2 << 30
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "shutil.rmtree", "os.truncate")
PYTHON = {os.path.realpath(folder) for folder in (*sys.path, sys.prefix, sys.base_prefix) if folder}
SYSTEM = (*PYTHON, "/usr", "/lib", "/proc", "/sys", "/dev", "/etc/ld")


class Hang(BaseException):
    """An input took too long."""


@dataclass
class Finding:
    """An input that was not dealt with: `seed` makes it again."""

    loader: str
    seed: int
    file: str
    what: str


class Watch:
    """Files opened while `folder` is set."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.seen: list[str] = []
        self.code = str(Path(__file__).resolve().parents[2])
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple) -> None:
        if self.folder is None or not (event == "open" or event in CHANGES):
            return
        path = arguments[0]
        if not isinstance(path, str | bytes | os.PathLike):
            return
        path = os.path.realpath(os.fsdecode(path))
        changes = event != "open" or bool(arguments[2] and arguments[2] & WRITES)
        inside = path.startswith(self.folder + os.sep) or path == self.folder
        known = path.startswith((*SYSTEM, self.code))
        if changes or not (inside or known):
            self.seen.append(f"{event} {path}")


def limit_memory() -> None:
    """Let this process grow by no more than MEMORY from here."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


def trial(
    loader: Loader, seeds: range, work: Path, watch: Watch, progress: Path | None = None
) -> tuple[list[Finding], int]:
    """Feed damaged inputs; returns the findings, and how many inputs were refused."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(loader.folder, work)
    files = [path.relative_to(loader.folder) for path in loader.inputs()]
    findings, refused = [], 0
    signal.signal(signal.SIGALRM, _too_long)
    for seed in seeds:
        rng = random.Random(f"{loader.name} {seed}")
        name = rng.choice(files)
        whole = (loader.folder / name).read_bytes()
        (work / name).write_bytes(damage(whole, rng, name.name))
        if progress is not None:
            progress.write_text(json.dumps(asdict(Finding(loader.name, seed, str(name), "died"))))
        what = None
        watch.folder, watch.seen = str(work.resolve()), []
        began = time.monotonic()
        try:
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("ignore")
                warnings.simplefilter("always", RuntimeWarning)
                loader.load(work)
        except NerfkitError as error:
            refused += 1
            if "\n" in str(error).strip():
                what = f"a message of several lines: {error!r:.300}"
        except Hang:
            what = f"hangs: {traceback.format_exc(limit=-3)}"
        except Exception:
            what = traceback.format_exc(limit=-6)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            watch.folder = None
        if what is None and warned:
            what = f"warns: {warned[0].filename}:{warned[0].lineno} {warned[0].message}"
        if what is None and time.monotonic() - began > SECONDS:
            what = f"took {time.monotonic() - began:.0f} s"
        if watch.seen:
            what = f"{what or ''} touched {watch.seen[:3]}"
        if what:
            findings.append(Finding(loader.name, seed, str(name), what))
        (work / name).write_bytes(whole)
    return findings, refused


def _too_long(number: int, frame: object) -> None:
    raise Hang
