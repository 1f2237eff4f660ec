"""Decoding of every pixel format to whole numbers, and exact block means."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageOps

from nerfkit.data.deep import encode_png
from nerfkit.data.images import in_threads, read_image, read_mask, reduce_image
from nerfkit.errors import NerfkitError

SIZE = (6, 4)  # width, height


def pixels(channels: int, seed: int = 0) -> np.ndarray:
    shape = (SIZE[1], SIZE[0], channels) if channels > 1 else (SIZE[1], SIZE[0])
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_rgb_and_rgba_unchanged(tmp_path: Path) -> None:
    for channels in (3, 4):
        wanted = pixels(channels)
        Image.fromarray(wanted).save(tmp_path / "a.png")
        assert read_image(tmp_path / "a.png", SIZE).tolist() == wanted.tolist()


def test_grey_becomes_rgb(tmp_path: Path) -> None:
    grey = pixels(1)
    Image.fromarray(grey).save(tmp_path / "a.png")
    got = read_image(tmp_path / "a.png", SIZE)
    assert got.shape == (4, 6, 3)
    assert all(got[..., c].tolist() == grey.tolist() for c in range(3))


def deep_pixels(channels: int) -> np.ndarray:
    shape = (4, 6, channels)
    return np.random.default_rng(3).integers(0, 65536, shape, dtype=np.uint16)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_kept(tmp_path: Path, suffix: str, channels: int) -> None:
    values = deep_pixels(channels)
    path = tmp_path / f"a.{suffix}"
    if suffix == "png":
        path.write_bytes(encode_png(values))
    else:
        photometric = "minisblack" if channels == 1 else "rgb"
        tifffile.imwrite(path, values[..., 0] if channels == 1 else values, photometric=photometric)
    got = read_image(path, SIZE)
    assert got.dtype == torch.uint16 and got.shape == (4, 6, max(channels, 3))
    assert got.numpy().tolist() == np.broadcast_to(values, got.shape).tolist()


def test_16_bit_block_means_round_exactly(tmp_path: Path) -> None:
    values = deep_pixels(3)
    (tmp_path / "a.png").write_bytes(encode_png(values))
    got = read_image(tmp_path / "a.png", SIZE, downscale=2)
    wanted = values.reshape(2, 2, 3, 2, 3).astype(np.float64).mean((1, 3))
    assert got.numpy().tolist() == np.floor(wanted + 0.5).tolist()


def test_palette(tmp_path: Path) -> None:
    image = Image.fromarray(pixels(3)).quantize(8)
    image.save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", SIZE).tolist() == np.array(image.convert("RGB")).tolist()
    image.save(tmp_path / "b.png", transparency=0)
    got = read_image(tmp_path / "b.png", SIZE)
    assert got.shape == (4, 6, 4)
    assert (got[..., 3] == 0).tolist() == (np.array(image) == 0).tolist()


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("deep", [False, True])
def test_orientation_is_applied_where_the_camera_is_that_of_the_upright_picture(
    tmp_path: Path, turned: int, deep: bool
) -> None:
    image = Image.fromarray(pixels(3))
    exif = image.getexif()
    exif[0x0112] = turned
    path = tmp_path / "a.png"
    image.save(path, exif=exif)
    upright = np.array(ImageOps.exif_transpose(image))
    if deep:
        stored = pixels(3).astype(np.uint16) * 257
        with_exif(path, encode_png(stored))
        upright = upright.astype(np.uint16) * 257
    assert read_image(path, SIZE).numpy().tolist() == (stored if deep else pixels(3)).tolist()
    if turned > 4:
        assert read_image(path, SIZE[::-1]).numpy().tolist() == upright.tolist()
    else:
        with pytest.raises(NerfkitError, match="image is 6x4, its camera says 4x6; resize"):
            read_image(path, SIZE[::-1])


def with_exif(path: Path, png: bytes) -> None:
    """Write `png` with the eXIf chunk of the file that is there."""
    old = path.read_bytes()
    at = old.index(b"eXIf") - 4
    chunk = old[at : at + 12 + int.from_bytes(old[at : at + 4], "big")]
    path.write_bytes(png[:33] + chunk + png[33:])  # after the header


@pytest.mark.parametrize("factor", [2, 3, 5])
def test_rgb_block_means_are_exact(factor: int) -> None:
    image = np.random.default_rng(1).integers(0, 256, (17, 31, 3), dtype=np.uint8)
    height, width = 17 // factor, 31 // factor
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    wanted = np.floor(blocks.astype(np.float64).mean(axis=(1, 3)) + 0.5)
    assert reduce_image(torch.from_numpy(image), factor).tolist() == wanted.tolist()


def test_rgba_means_are_weighted_by_alpha() -> None:
    image = torch.tensor(
        [
            [[100, 0, 0, 255], [0, 200, 0, 0], [9, 9, 9, 0], [7, 7, 7, 0]],
            [[50, 0, 0, 255], [0, 200, 0, 0], [9, 9, 9, 0], [7, 7, 7, 0]],
        ],
        dtype=torch.uint8,
    )
    # the transparent green takes no part; a block without any alpha has no colour
    assert reduce_image(image, 2).tolist() == [[[75, 0, 0, 128], [0, 0, 0, 0]]]


@pytest.mark.parametrize("factor", [2, 8, 9])
def test_rgba_means_round_exactly(factor: int) -> None:
    """Against whole-number arithmetic, on every pixel."""
    image = np.random.default_rng(3).integers(0, 256, (72, 144, 4), dtype=np.uint8)
    blocks = image.reshape(72 // factor, factor, 144 // factor, factor, 4).astype(np.int64)
    alpha = blocks[..., 3:].sum(axis=(1, 3))
    colour = (blocks[..., :3] * blocks[..., 3:]).sum(axis=(1, 3))
    got = reduce_image(torch.from_numpy(image), factor)
    assert got[..., :3].tolist() == ((2 * colour + alpha) // (2 * alpha)).tolist()
    area = factor * factor
    assert got[..., 3:].tolist() == ((2 * alpha + area) // (2 * area)).tolist()


def test_opaque_rgba_equals_rgb() -> None:
    image = torch.from_numpy(np.random.default_rng(2).integers(0, 256, (8, 8, 4), dtype=np.uint8))
    image[..., 3] = 255
    assert torch.equal(reduce_image(image, 4)[..., :3], reduce_image(image[..., :3], 4))


def test_factor_one_is_the_image_itself() -> None:
    image = torch.zeros(2, 2, 3, dtype=torch.uint8)
    assert reduce_image(image, 1) is image


def test_large_factor_stays_exact() -> None:
    """255 * 255 * 200 * 200 does not fit into the 24 bits of a float32."""
    image = torch.full((200, 200, 4), 255, dtype=torch.uint8)
    assert reduce_image(image, 200).tolist() == [[[255] * 4]]


def test_mask_pixel_needs_its_whole_block(tmp_path: Path) -> None:
    mask = np.full((4, 6), 7, np.uint8)
    mask[3, 5] = 0
    Image.fromarray(mask).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png", SIZE, 2).tolist() == [[255] * 3, [255, 255, 0]]


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_image(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    large = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(large).save(path)
    path.write_bytes(path.read_bytes()[:-600])
    with pytest.raises(NerfkitError, match=rf"a\.{suffix}: not an image we can read"):
        read_image(path, (64, 64))


def test_not_an_image(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(NerfkitError, match=r"a\.png: not an image we can read"):
        read_image(tmp_path / "a.png", SIZE)


def test_float_image_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((4, 6), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(NerfkitError, match="floating-point pixels"):
        read_image(tmp_path / "a.tif", SIZE)


def test_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(pixels(3)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5)
    with pytest.raises(NerfkitError, match="decompression bomb"):
        read_image(tmp_path / "a.png", SIZE)


def test_threads_keep_order_and_errors() -> None:
    assert in_threads(lambda x: x * x, range(20)) == [x * x for x in range(20)]
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda x: 1 / x, [1, 0, 2])
