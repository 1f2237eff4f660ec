"""Photos into a data set: turned upright, grouped by lens, focal lengths from EXIF."""

import importlib.util
import math

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image

from nerfkit.data.images import read_image
from nerfkit.errors import NerfkitError
from nerfkit.prepare.pictures import focal_in_pixels, gather


def photo(path, size=(40, 30), orientation=1, **detail):
    """A JPEG, left half red and right half blue as stored, with these EXIF entries."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[:, : size[0] // 2, 0] = 250
    pixels[:, size[0] // 2 :, 2] = 250
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Model] = "A1"
    exif.get_ifd(ExifTags.IFD.Exif).update(
        {getattr(ExifTags.Base, k): v for k, v in detail.items()}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif, quality=95)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


def test_photos_are_turned_as_exif_says_and_others_copied_bit_by_bit(tmp_path, images):
    photo(tmp_path / "in" / "a.jpg")
    photo(tmp_path / "in" / "b.JPG", orientation=6)  # to be turned clockwise
    found = gather(tmp_path / "in", images)
    assert [(p.name, p.width, p.height) for p in found] == [("a.jpg", 40, 30), ("b.JPG", 30, 40)]
    assert (images / "a.jpg").read_bytes() == (tmp_path / "in" / "a.jpg").read_bytes()
    with Image.open(images / "b.JPG") as image:
        assert image.size == (30, 40) and image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        red, blue = np.array(image)[5, 15], np.array(image)[35, 15]
    assert red[0] > 200 > red[2] and blue[2] > 200 > blue[0]


def test_lenses_sizes_and_zooms_are_different_cameras(tmp_path, images):
    photo(tmp_path / "in" / "a.jpg", FocalLength=4.2)
    photo(tmp_path / "in" / "b.jpg", FocalLength=4.2)
    photo(tmp_path / "in" / "c.jpg", FocalLength=8.4)
    photo(tmp_path / "in" / "sub" / "d 1.jpg", size=(50, 30), FocalLength=4.2)
    found = {p.name: p.camera for p in gather(tmp_path / "in", images)}
    assert found["a.jpg"] == found["b.jpg"]
    assert len(set(found.values())) == 3 and "sub/d_1.jpg" in found


def test_other_formats_become_jpeg(tmp_path, images):
    (tmp_path / "in").mkdir()
    Image.new("RGBA", (20, 10), (9, 200, 9, 255)).save(tmp_path / "in" / "a.webp")
    assert [p.name for p in gather(tmp_path / "in", images)] == ["a.jpg"]
    with Image.open(images / "a.jpg") as image:
        assert image.format == "JPEG" and image.getpixel((3, 3))[1] > 150


def test_16_bits_of_a_raw_converter_are_kept(tmp_path, images):
    (tmp_path / "in").mkdir()
    values = np.random.default_rng(0).integers(0, 65536, (10, 20, 3), dtype=np.uint16)
    tag = (274, "H", 1, 6, False)  # on its side
    tifffile.imwrite(tmp_path / "in" / "a.tif", values, photometric="rgb", extratags=[tag])
    found = gather(tmp_path / "in", images)
    assert [(p.name, p.width, p.height) for p in found] == [("a.png", 10, 20)]
    got = read_image(images / "a.png", (10, 20))
    assert got.numpy().tolist() == np.rot90(values, -1).tolist()


@pytest.mark.parametrize(
    ("detail", "focal"),
    [
        ({"FocalLengthIn35mmFilm": 26}, 26 / math.hypot(36, 24) * math.hypot(400, 300)),
        # 100 pixels a millimetre on the sensor, of an image stored at half its size
        (
            {
                "FocalLength": 5.0,
                "FocalPlaneXResolution": 2540.0,
                "FocalPlaneResolutionUnit": 2,
                "ExifImageWidth": 800,
            },
            250.0,
        ),
        ({"FocalLength": 5.0}, None),
        ({"FocalLengthIn35mmFilm": 0}, None),
        ({}, None),
    ],
)
def test_focal_length(detail, focal):
    exif = Image.Exif()
    exif.get_ifd(ExifTags.IFD.Exif).update(
        {getattr(ExifTags.Base, k): v for k, v in detail.items()}
    )
    found = focal_in_pixels(exif, (400, 300))
    assert found == (None if focal is None else pytest.approx(focal, rel=1e-6))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.txt", b"", "no photos in it"),
        ("a.jpg", b"not a photo", "a.jpg: not a photo we can read"),
    ],
)
def test_what_cannot_be_read(tmp_path, images, name, content, complaint):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(content)
    with pytest.raises(NerfkitError, match=complaint):
        gather(tmp_path / "in", images)


@pytest.mark.skipif(importlib.util.find_spec("pillow_heif") is not None, reason="reads HEIC here")
def test_heic_is_refused_with_what_to_do(tmp_path, images):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.HEIC").write_bytes(b"")
    with pytest.raises(NerfkitError, match=r"a\.HEIC: HEIC photos need pillow-heif; pip install"):
        gather(tmp_path / "in", images)
