"""Atomic writes, JSON reading and path confinement."""

import errno
import os
from pathlib import Path

import pytest

from nerfkit.errors import NerfkitError
from nerfkit.files import atomic_write, read_json, resolve_inside, write_json


def test_write_replaces_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with atomic_write(path) as f:
        f.write(b"new")
        f.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_write_follows_the_umask(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a", "w") as f:
        f.write("é")
    (tmp_path / "b").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_failure_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyError), atomic_write(path, "w") as f:
        f.write("half")
        raise KeyError("stop")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_disk_full_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NerfkitError, match=r"a\.json: cannot be written: No space left"):
        write_json(tmp_path / "a.json", {})
    assert os.listdir(tmp_path) == []


def test_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(NerfkitError, match="cannot be written: No such file or directory"):
        write_json(tmp_path / "none" / "a.json", {})


def test_errors_of_the_caller_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a"):
        open(tmp_path / "not there")


def test_write_through_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_json(tmp_path / "link", [1])
    assert (tmp_path / "link").is_symlink() and read_json(tmp_path / "real") == [1]


def test_bad_mode(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mode"), atomic_write(tmp_path / "a", "a"):
        pass


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{\n "a": 1,\n oops\n}', r"a\.json: not JSON: line 3 column 2"),
        (b"", r"a\.json: not JSON: line 1"),
        (b"\xff\xfe{}", r"a\.json: not JSON: not UTF-8"),
        (b"[" * 200_000, r"a\.json: not JSON"),
    ],
)
def test_read_json_says_where(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(NerfkitError, match=message):
        read_json(path)


def test_read_json_absent(tmp_path: Path) -> None:
    with pytest.raises(NerfkitError, match="cannot be read: No such file"):
        read_json(tmp_path / "a.json")


def test_json_round_trip(tmp_path: Path) -> None:
    value = {"pi": 3.141592653589793, "list": [1, None, "é"]}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value


def test_resolve_inside(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    (tmp_path / "alias").symlink_to(root)
    assert resolve_inside(root, "a/../b.png") == (root / "b.png").resolve()
    assert resolve_inside(tmp_path / "alias", "b") == (root / "b").resolve()
    assert resolve_inside(root, root / "c") == (root / "c").resolve()
    for bad in ("../x", "/etc/passwd", "link/x", "a/../../root2"):
        with pytest.raises(NerfkitError, match="points outside the folder"):
            resolve_inside(root, bad)
    with pytest.raises(NerfkitError, match="bad path"):
        resolve_inside(root, "a\0b")
