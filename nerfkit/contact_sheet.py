"""One PNG that shows, view by view, truth, render, error and depth side by side.

Images are [h, w, 3] display-encoded, floats in [0, 1] or uint8; opacity and ray_distance [h, w].
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from nerfkit.files import atomic_write

ERROR_SCALE = 8  # an error of 1/8 of the range is the hottest colour
TILE = 400  # wider images are shrunk to this many pixels
STRIP = 22  # height of a line of text
GAP = 6
# Rows: constant to x^5; columns r, g, b. Google's Turbo map, polynomial fit by R. Du (2019),
# gist mikhailov-work/0d177465a8151eb6ede1768d51d476c7 (Apache-2.0).
TURBO = np.array(
    [
        [0.13572138, 0.09140261, 0.10667330],
        [4.61539260, 2.19418839, 12.64194608],
        [-42.66032258, 4.84296658, -60.58204836],
        [132.13108234, -14.18503333, 110.36276771],
        [-152.94239396, 4.27729857, -89.90310912],
        [59.28637943, 2.82956604, 27.34824973],
    ]
)


def turbo(values: np.ndarray) -> np.ndarray:
    """Colours [..., 3] in [0, 1], blue for 0 over green to red for 1, of values [...]."""
    x = np.clip(values, 0, 1)[..., None]
    return np.clip(sum(row * x**i for i, row in enumerate(TURBO)), 0, 1)


def heat(values: np.ndarray) -> np.ndarray:
    """Colours [..., 3] in [0, 1], black for 0 over red and yellow to white for 1."""
    return np.clip(3 * np.clip(values, 0, 1)[..., None] - [0, 1, 2], 0, 1)


def psnr(truth: np.ndarray, render: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of images in [0, 1]; inf where they are equal."""
    error = np.mean((np.float64(truth) - np.float64(render)) ** 2)
    return float("inf") if error == 0 else float(-10 * np.log10(error))


def depth_colours(ray_distance: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """Turbo colours [h, w, 3]: near is red, far is blue, what is transparent fades to white.

    The range is the 1st to 99th percentile of the distances where opacity is above one half.
    """
    solid = ray_distance[opacity > 0.5]
    near, far = np.percentile(solid, [1, 99]) if solid.size else (0.0, 1.0)
    colours = turbo(1 - (ray_distance - near) / max(far - near, 1e-9))
    alpha = np.clip(opacity, 0, 1)[..., None]
    return colours * alpha + 1 - alpha


def contact_sheet(
    rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]], path: str | Path
) -> None:
    """Write the sheet: a row a view, columns truth, render, error (a heat map), depth.

    Args:
        rows: (truth [h, w, 3], render [h, w, 3], opacity [h, w], ray_distance [h, w]) a view,
            numpy arrays or CPU tensors; all views of one size.
        path: the PNG to write.

    Raises:
        ValueError: no rows, or shapes that do not agree.
    """
    if not rows:
        raise ValueError("contact_sheet: rows: wanted at least one view, received none")
    tiles, labels, shape = [], [], ()
    for i, (truth, render, opacity, ray_distance) in enumerate(rows):
        truth, render = _unit_range(truth), _unit_range(render)
        opacity, ray_distance = np.asarray(opacity), np.asarray(ray_distance)
        shape = shape or truth.shape[:2]
        if truth.shape != (*shape, 3) or render.shape != (*shape, 3):
            raise ValueError(
                f"contact_sheet: row {i}: wanted truth and render of shape {(*shape, 3)}, "
                f"received {truth.shape} and {render.shape}"
            )
        if opacity.shape != shape or ray_distance.shape != shape:
            raise ValueError(
                f"contact_sheet: row {i}: wanted opacity and ray_distance of shape {shape}, "
                f"received {opacity.shape} and {ray_distance.shape}"
            )
        error = heat(ERROR_SCALE * np.abs(truth - render).mean(-1))
        images = truth, render, error, depth_colours(ray_distance, opacity)
        tiles.append([_tile(image) for image in images])
        labels.append(f"view {i}   PSNR {psnr(truth, render):.2f} dB")
    sheet = _paste(tiles, labels, ["truth", "render", f"error x{ERROR_SCALE}", "depth"])
    with atomic_write(Path(path), "wb") as handle:
        sheet.save(handle, "png")


def _unit_range(image: np.ndarray) -> np.ndarray:
    image = np.asarray(image)
    return image / 255 if image.dtype == np.uint8 else np.clip(image, 0, 1)


def _tile(image: np.ndarray) -> Image.Image:
    tile = Image.fromarray(np.uint8(image * 255 + 0.5))
    if tile.width > TILE:
        tile = tile.resize((TILE, round(tile.height * TILE / tile.width)), Image.Resampling.BOX)
    return tile


def _paste(tiles: list[list[Image.Image]], labels: list[str], titles: list[str]) -> Image.Image:
    """The sheet: titles on top, then a line of text and four pictures a view."""
    width, height = tiles[0][0].size
    right, down = width + GAP, STRIP + height
    size = (GAP + right * len(titles), STRIP + down * len(tiles) + GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default()
    for column, title in enumerate(titles):
        middle = GAP + column * right + width / 2
        draw.text((middle, STRIP / 2), title, fill="black", font=font, anchor="mm")
    for row, (line, label) in enumerate(zip(tiles, labels, strict=True)):
        top = STRIP + row * down
        draw.text((GAP, top + STRIP / 2), label, fill="black", font=font, anchor="lm")
        for column, tile in enumerate(line):
            sheet.paste(tile, (GAP + column * right, top + STRIP))
    return sheet
