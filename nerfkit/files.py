"""Reading and writing files so that a crash or a full disk never leaves half a file behind."""

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from nerfkit.errors import NerfkitError


@contextlib.contextmanager
def atomic_write(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` that takes its name once it is complete and on disk.

    Args:
        path: The file to write; its folder must exist. A symlink is written through.
        mode: "wb" or "w" (UTF-8).

    Raises:
        NerfkitError: The file cannot be written (disk full, no permission, no such folder). On
            this or any other exception the temporary file is removed and `path` is untouched.
    """
    if mode not in ("wb", "w"):
        raise ValueError(f'`mode` must be "wb" or "w", got {mode!r}')
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        # not tempfile.mkstemp: that makes files only their owner can read
        with open(
            temporary, mode.replace("w", "x"), encoding=None if "b" in mode else "utf-8"
        ) as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, target)
    except OSError as error:
        # an OSError that names another file comes from the caller's own work, not from this write
        if error.filename not in (None, os.fspath(temporary), temporary):
            raise
        raise NerfkitError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def remove_leftovers(folder: Path) -> None:
    """Delete what processes left in a folder that were killed while they wrote a file."""
    for path in folder.glob(".*." + "[0-9a-f]" * 8 + ".tmp"):
        path.unlink(missing_ok=True)


def write_json(path: str | Path, obj: Any) -> None:
    """Write `obj` as indented JSON, atomically; raises NerfkitError as `atomic_write` does."""
    text = json.dumps(obj, indent=2)
    with atomic_write(path, "w") as f:
        f.write(text + "\n")


def read_json(path: str | Path) -> Any:
    """The object in a JSON file; NerfkitError naming file and line if it is absent or not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise NerfkitError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise NerfkitError(f"{path}: not JSON: not UTF-8 text at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise NerfkitError(
            f"{path}: not JSON: line {error.lineno} column {error.colno}: {error.msg}"
        ) from error
    except ValueError as error:  # a number of thousands of digits
        raise NerfkitError(f"{path}: not JSON we can read: {error}") from error
    except RecursionError as error:
        raise NerfkitError(f"{path}: not JSON we can read: nested too deeply") from error


def resolve_inside(root: str | Path, relative: str | Path) -> Path:
    """`root / relative` with symlinks followed; NerfkitError if that lies outside `root`.

    Data sets come from strangers: a path in one must not reach the rest of the disk.
    """
    base = Path(root).resolve()
    try:
        resolved = (base / relative).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a NUL byte, a loop of symlinks
        raise NerfkitError(f"{root}: bad path {str(relative)!r}: {error}") from error
    if not resolved.is_relative_to(base):
        raise NerfkitError(
            f"{root}: path {str(relative)!r} points outside the folder (to {resolved}); "
            "put the file inside it"
        )
    return resolved
