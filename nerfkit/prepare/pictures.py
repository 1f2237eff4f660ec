"""Photos into the images folder of a data set: upright, in a format everything reads.

Camera poses belong to the stored raster, so a photo that EXIF says to turn is turned here, once.
Focal lengths are in pixels of the stored raster.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import ExifTags, Image, ImageOps

from nerfkit.data.deep import TIFF, encode_png, orientation, read_deep, upright
from nerfkit.data.images import BAD_IMAGE
from nerfkit.errors import NerfkitError
from nerfkit.files import atomic_write

KEPT = (".jpg", ".jpeg", ".png")  # copied as they are, if upright
CONVERTED = (".webp", ".tif", ".tiff", ".bmp")
HEIC = (".heic", ".heif")
QUALITY = 95  # of JPEG
DIAGONAL_35MM = math.hypot(36, 24)  # of the film that "35 mm equivalent" means
MILLIMETRES = {2: 25.4, 3: 10.0}  # of EXIF's units of resolution: inch, centimetre


@dataclass(frozen=True)
class Picture:
    """One picture of a data set.

    Attributes:
        name: its path below the images folder.
        width, height: pixels.
        camera: equal for pictures of one lens at one zoom.
        focal: in pixels, if EXIF says it.
    """

    name: str
    width: int
    height: int
    camera: tuple = ()
    focal: float | None = None


def gather(folder: Path, images: Path, doing: Callable[[str], None] = lambda _: None) -> list:
    """Copy the photos below `folder` to `images`, in order of their paths.

    Raises:
        NerfkitError: none there; one cannot be read; HEIC without pillow-heif.
    """
    suffixes = (*KEPT, *CONVERTED, *HEIC)
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
    paths = [p for p in paths if not p.name.startswith(".")]
    if not paths:
        raise NerfkitError(f"{folder}: no photos in it ({', '.join(suffixes)})")
    if any(p.suffix.lower() in HEIC for p in paths):
        _read_heic(next(p for p in paths if p.suffix.lower() in HEIC))
    pictures: dict[str, Picture] = {}
    for i, path in enumerate(paths):
        doing(f"copying photos: {i} of {len(paths)}")
        # COLMAP's lists of pictures are separated by blanks
        name = Path("_".join(path.relative_to(folder).as_posix().split()))
        if path.suffix.lower() not in KEPT:
            name = name.with_suffix(".png" if _is_deep(path) else ".jpg")
        if name.as_posix() in pictures:
            raise NerfkitError(f"{path}: two photos would be named {name}; rename one")
        pictures[name.as_posix()] = _store(path, images, name)
    return list(pictures.values())


def _is_deep(path: Path) -> bool:
    """Whether a file that is not kept has 16 bits a channel, which JPEG has not."""
    if path.suffix.lower() not in TIFF:
        return False
    try:
        with tifffile.TiffFile(path) as file:
            return file.pages[0].dtype == np.uint16
    except BAD_IMAGE as error:
        raise NerfkitError(f"{path}: not a photo we can read ({error}); remove it") from error


def _read_heic(example: Path) -> None:
    """Teach Pillow HEIC; NerfkitError where pillow-heif is not installed."""
    try:
        import pillow_heif
    except ModuleNotFoundError:
        raise NerfkitError(
            f"{example}: HEIC photos need pillow-heif; pip install pillow-heif, or save as JPEG"
        ) from None
    pillow_heif.register_heif_opener()


def _store(path: Path, images: Path, name: Path) -> Picture:
    target = images / name
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with Image.open(path) as image:
            exif = image.getexif()
            turned = exif.get(ExifTags.Base.Orientation, 1) not in (0, 1)
            focal = focal_in_pixels(exif, image.size)
            deep = read_deep(path, image)
            if deep is not None and (turned or name.suffix.lower() != path.suffix.lower()):
                deep = upright(deep, orientation(image))
                size = deep.shape[1], deep.shape[0]
                with atomic_write(target) as file:
                    file.write(encode_png(deep))
            elif turned or name.suffix.lower() != path.suffix.lower() or path.suffix not in KEPT:
                raised = ImageOps.exif_transpose(image)
                size = raised.size
                _save(raised, target)
            else:
                image.load()  # better a broken photo is found now
                size = image.size
                with atomic_write(target) as file:
                    file.write(path.read_bytes())
    except BAD_IMAGE as error:
        raise NerfkitError(f"{path}: not a photo we can read ({error}); remove it") from error
    detail = exif.get_ifd(ExifTags.IFD.Exif)
    lens = (
        exif.get(ExifTags.Base.Make),
        exif.get(ExifTags.Base.Model),
        detail.get(ExifTags.Base.LensModel),
        _number(detail.get(ExifTags.Base.FocalLength)),
        _number(detail.get(ExifTags.Base.FocalLengthIn35mmFilm)),
    )
    return Picture(name.as_posix(), *size, camera=(*size, *lens), focal=focal)


def _save(image: Image.Image, target: Path) -> None:
    options = {} if target.suffix.lower() == ".png" else {"quality": QUALITY, "subsampling": 0}
    kind = "PNG" if target.suffix.lower() == ".png" else "JPEG"
    if kind == "JPEG" and image.mode not in ("RGB", "L"):
        image = image.convert("RGB")
    exif = image.getexif()  # upright: `exif_transpose` took the orientation out
    with atomic_write(target) as file:
        image.save(file, kind, exif=exif, **options)


def focal_in_pixels(exif: Image.Exif, size: tuple[int, int]) -> float | None:
    """Focal length in pixels of an image [width, height] by its EXIF data, if they say it.

    From the 35 mm equivalent, which compares diagonals, or else from the focal length and the
    sensor's resolution, which is that of the image as the camera took it.
    """
    detail = exif.get_ifd(ExifTags.IFD.Exif)
    equivalent = _number(detail.get(ExifTags.Base.FocalLengthIn35mmFilm))
    if equivalent:
        return equivalent / DIAGONAL_35MM * math.hypot(*size)
    length = _number(detail.get(ExifTags.Base.FocalLength))
    resolution = _number(detail.get(ExifTags.Base.FocalPlaneXResolution))
    unit = MILLIMETRES.get(detail.get(ExifTags.Base.FocalPlaneResolutionUnit, 2))
    taken = _number(detail.get(ExifTags.Base.ExifImageWidth)) or max(size)
    if length and resolution and unit:
        return length * resolution / unit * max(size) / taken
    return None


def _number(value: object) -> float | None:
    """A positive number, which cameras do not always write."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if 0 < number < math.inf else None
