"""Encoded video: colours survive, odd sizes are padded, failures leave nothing behind."""

import imageio.v3 as imageio
import imageio_ffmpeg
import numpy as np
import pytest

from nerfkit import video
from nerfkit.errors import NerfkitError


def two_colours(height: int = 48, width: int = 64) -> np.ndarray:
    picture = np.empty((height, width, 3), np.uint8)
    picture[:, : width // 2] = (200, 60, 30)
    picture[:, width // 2 :] = (20, 120, 220)
    return picture


def decoded(path) -> np.ndarray:
    return np.stack(list(imageio.imiter(path, plugin="FFMPEG")))


def test_colours_and_number_of_frames_survive(tmp_path):
    frames = [two_colours(), 255 - two_colours(), two_colours()]
    assert video.write_mp4(tmp_path / "a.mp4", frames, fps=10) == (64, 48)
    back = decoded(tmp_path / "a.mp4").astype(int)
    assert len(back) == 3
    # away from the edge, where colour is stored at half resolution; 2 of 255 seen
    apart = np.abs(back - np.stack(frames).astype(int))[:, :, [8, 55]]
    assert apart.max() <= 5
    assert imageio.immeta(tmp_path / "a.mp4", plugin="FFMPEG")["fps"] == 10


def test_odd_sizes_gain_a_row_and_a_column(tmp_path):
    assert video.write_mp4(tmp_path / "a.mp4", [two_colours(47, 63)], fps=10) == (64, 48)
    back = decoded(tmp_path / "a.mp4")
    assert back.shape[1:3] == (48, 64)
    assert np.abs(back[0, -1, 60].astype(int) - [20, 120, 220]).max() <= 5  # 2 seen


def test_the_index_comes_first_so_that_browsers_start_at_once(tmp_path):
    video.write_mp4(tmp_path / "a.mp4", [two_colours()], fps=10)
    content = (tmp_path / "a.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_an_error_while_rendering_leaves_no_file(tmp_path):
    def frames():
        yield two_colours()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        video.write_mp4(tmp_path / "a.mp4", frames(), fps=10)
    assert list(tmp_path.iterdir()) == []


def test_ffmpeg_failure_is_one_clear_error(tmp_path):
    frames = [two_colours(480, 640)] * 8  # more than the pipe holds
    with pytest.raises(NerfkitError, match=r"ffmpeg could not write the video: .*No such file"):
        video.write_mp4(tmp_path / "gone" / "a.mp4", frames, fps=10)


def test_without_ffmpeg_frames_are_suggested(monkeypatch):
    def absent():
        raise RuntimeError("No ffmpeg exe could be found")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", absent)
    with pytest.raises(NerfkitError, match="PNG frames"):
        video.ffmpeg_executable()
