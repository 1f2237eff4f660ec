"""The contact sheet: colours at known places, the numbers on it, and its refusals."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nerfkit.contact_sheet import (
    ERROR_SCALE,
    GAP,
    STRIP,
    contact_sheet,
    depth_colours,
    heat,
    psnr,
    turbo,
)


def test_sheet(tmp_path: Path) -> None:
    h, w = 40, 60
    truth = np.full((h, w, 3), 0.5, np.float32)
    render = truth.copy()
    render[:, : w // 2] += 1 / ERROR_SCALE / 3  # a third of the scale: pure red
    opacity = np.ones((h, w), np.float32)
    opacity[: h // 2] = 0
    rows = [(truth, render, opacity, np.full((h, w), 2.0))] * 2
    contact_sheet(rows, tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape == (STRIP + 2 * (STRIP + h) + GAP, GAP + 4 * (w + GAP), 3)
    top = STRIP + STRIP + h + STRIP  # of the second view
    tiles = [sheet[top : top + h, GAP + k * (w + GAP) : GAP + k * (w + GAP) + w] for k in range(4)]
    assert (tiles[0] == 128).all()
    assert (tiles[1][:, w // 2 :] == 128).all()
    assert np.abs(tiles[2][:, : w // 2].astype(int) - [255, 0, 0]).max() <= 1
    assert (tiles[2][:, w // 2 :] == 0).all()
    assert (tiles[3][: h // 2] == 255).all()
    assert (tiles[3][h // 2 :] < 255).any()
    assert (sheet[:STRIP] < 128).any()  # titles
    assert [p.name for p in tmp_path.iterdir()] == ["sheet.png"]


def test_wide_views_shrink_and_uint8_is_taken(tmp_path: Path) -> None:
    image = np.full((450, 900, 3), 200, np.uint8)
    plane = np.ones((450, 900), np.float32)
    contact_sheet([(image, image, plane, plane)], tmp_path / "sheet.png")
    width, height = Image.open(tmp_path / "sheet.png").size
    assert (width, height) == (GAP + 4 * (400 + GAP), STRIP + STRIP + 200 + GAP)


def test_psnr() -> None:
    assert psnr(np.zeros((4, 4, 3)), np.full((4, 4, 3), 0.1)) == pytest.approx(20)
    assert psnr(np.ones((2, 2, 3)), np.ones((2, 2, 3))) == float("inf")


def test_colour_maps() -> None:
    np.testing.assert_allclose(heat(np.array([0, 1 / 3, 2 / 3, 1, 2]))[:, 0], [0, 1, 1, 1, 1])
    np.testing.assert_allclose(heat(np.array([0, 1 / 3, 2 / 3, 1, 2]))[:, 2], [0, 0, 0, 1, 1])
    low, middle, high = turbo(np.array([0.1, 0.5, 0.9]))
    assert low.argmax() == 2
    assert middle.argmax() == 1
    assert high.argmax() == 0


def test_depth_colours_near_is_red() -> None:
    distance = np.linspace(1, 3, 100)[None]
    colours = depth_colours(distance, np.ones((1, 100)))
    assert colours[0, 10].argmax() == 0
    assert colours[0, 90].argmax() == 2
    assert (depth_colours(distance, np.zeros((1, 100))) == 1).all()


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one view"):
        contact_sheet([], tmp_path / "sheet.png")
    image, plane = np.zeros((4, 5, 3)), np.zeros((4, 5))
    with pytest.raises(ValueError, match=r"row 0: wanted truth and render of shape \(4, 5, 3\)"):
        contact_sheet([(image, image[:, :4], plane, plane)], tmp_path / "sheet.png")
    with pytest.raises(ValueError, match=r"row 0: wanted opacity and ray_distance"):
        contact_sheet([(image, image, plane[:3], plane)], tmp_path / "sheet.png")
