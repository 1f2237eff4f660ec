"""Frames of a video: spread over its motion, the sharp ones."""

import imageio_ffmpeg
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from nerfkit.errors import NerfkitError
from nerfkit.prepare.video import choose, select_frames


def test_frames_are_even_in_motion_not_in_time():
    motion = np.concatenate([np.zeros(100), np.full(100, 0.01)])  # a rest, then a steady pan
    chosen = choose(np.ones(200), motion, 10)
    assert len(chosen) == 10 and chosen[0] >= 100
    assert np.abs(np.diff(chosen) - 10).max() <= 3


def test_the_sharpest_near_its_place_is_taken():
    sharpness = np.ones(200)
    sharpness[3::7] = 5.0
    chosen = choose(sharpness, np.full(200, 0.01), 15)
    assert len(chosen) == 15 and (sharpness[chosen] == 5).all()


def test_how_many_follows_the_motion():
    assert len(choose(np.ones(900), np.full(900, 0.01))) == 150
    assert len(choose(np.ones(900), np.full(900, 0.1))) == 200
    assert len(choose(np.ones(900), np.zeros(900))) == 40
    assert len(choose(np.ones(12), np.full(12, 0.01))) == 12


def test_a_video(tmp_path):
    rng = np.random.default_rng(0)
    wide = gaussian_filter(rng.random((96, 400)), 1.5)
    wide = ((wide - wide.min()) / np.ptp(wide) * 255).astype(np.uint8)
    writer = imageio_ffmpeg.write_frames(
        str(tmp_path / "pan.mp4"), (128, 96), fps=10, macro_block_size=16, quality=9
    )
    writer.send(None)
    for i in range(40):  # stands still for ten frames; every second one is blurred
        left = 8 * max(0, i - 10)
        frame = wide[:, left : left + 128].astype(float)
        frame = gaussian_filter(frame, 3) if i % 2 else frame
        writer.send(np.repeat(frame.astype(np.uint8)[..., None], 3, 2).tobytes())
    writer.close()
    (tmp_path / "images").mkdir()
    found = select_frames(tmp_path / "pan.mp4", tmp_path / "images", 8)
    numbers = [int(picture.name[6:11]) for picture in found]
    assert len(found) == 8 and all(n % 2 == 0 for n in numbers) and numbers[0] >= 10
    assert {(p.width, p.height) for p in found} == {(128, 96)}
    assert all((tmp_path / "images" / p.name).is_file() for p in found)


def test_not_a_video(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"nothing of the kind" * 10)
    with pytest.raises(NerfkitError, match=r"a\.mp4: not a video that ffmpeg can read"):
        select_frames(tmp_path / "a.mp4", tmp_path, None)
