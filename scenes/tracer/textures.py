"""Procedural 3-D textures: functions of points [n, 3] in the part's own frame, world units.

Scalar textures return [n] in [0, 1]; `mix` turns one into linear RGB [n, 3].
"""

from functools import lru_cache

import numpy as np
from scipy import ndimage

TABLE = 64  # cells a side of the tiled noise table


def rgb(code: str) -> np.ndarray:
    """Linear RGB [3] of a display colour such as "e0a020"."""
    display = np.frombuffer(bytes.fromhex(code), np.uint8) / 255
    return np.float32(
        np.where(display <= 0.04045, display / 12.92, ((display + 0.055) / 1.055) ** 2.4)
    )


def _smooth(cells: int) -> np.ndarray:
    """Weights [cells, TABLE] that interpolate a periodic row by a cubic B-spline."""
    at = np.arange(TABLE) * cells / TABLE
    away = np.abs(at[None] - np.arange(cells)[:, None])
    away = np.minimum(away, cells - away)
    near = 2 / 3 - away**2 + away**3 / 2
    return np.float32(np.where(away < 1, near, np.clip(2 - away, 0, None) ** 3 / 6))


@lru_cache(maxsize=1)
def _noise_table() -> np.ndarray:
    """Four octaves of smooth noise that tile, [TABLE]^3 in [0, 1]; always the same values."""
    random = np.random.default_rng(12345)
    total = np.zeros((TABLE,) * 3, np.float32)
    for octave in range(4):
        cells = 8 << octave
        lattice = random.random((cells,) * 3, np.float32) / (1 << octave)
        for _ in range(3):  # along the first axis, which then becomes the last
            lattice = np.tensordot(lattice, _smooth(cells), (0, 0))
        total += lattice
    low, high = np.percentile(total, [1, 99])
    return np.clip((total - low) / (high - low), 0, 1)


def noise(points: np.ndarray, scale: float) -> np.ndarray:
    """Fractal noise whose largest features are about `scale` world units wide."""
    at = (points.T * np.float32(TABLE / 8 / scale)).astype(np.float32)
    return ndimage.map_coordinates(_noise_table(), at, order=1, mode="grid-wrap", prefilter=False)


def checker(points: np.ndarray, cell: float, axes: tuple[int, ...] = (0, 1)) -> np.ndarray:
    """0 or 1 in alternating squares (two axes) or cubes (three axes), `cell` wide."""
    index = np.floor(points[:, axes] / np.float32(cell) + np.float32(1e-3)).astype(np.int32)
    return (index.sum(1) & 1).astype(np.float32)


def stripes(
    points: np.ndarray, period: float, direction: tuple[float, float, float], duty: float = 0.5
) -> np.ndarray:
    """1 in bands across `direction`, of which `duty` of every period is 1."""
    unit = np.float32(direction) / np.float32(np.linalg.norm(direction))
    phase = points @ unit / np.float32(period)
    return (phase - np.floor(phase) < duty).astype(np.float32)


def bricks(
    points: np.ndarray, size: tuple[float, float], joint: float
) -> tuple[np.ndarray, np.ndarray]:
    """Running bond by height (z) and by x + y: (1 in mortar joints, a random shade a brick)."""
    course = np.floor(points[:, 2] / np.float32(size[1]))
    along = (points[:, 0] + points[:, 1]) / np.float32(size[0]) + 0.5 * (course % 2)
    column = np.floor(along)
    gap = np.minimum(along - column, 1 - (along - column)) * np.float32(size[0])
    rise = points[:, 2] - course * np.float32(size[1])
    gap = np.minimum(gap, np.minimum(rise, np.float32(size[1]) - rise))
    shade = np.abs(np.sin(course * 12.9898 + column * 78.233) * 43758.547) % 1
    return (gap < joint / 2).astype(np.float32), shade.astype(np.float32)


def rings(points: np.ndarray, period: float, wobble: float = 0.5) -> np.ndarray:
    """Growth rings about the X axis, off-centre, distorted by noise: a wood grain."""
    bend = (noise(points * np.float32([0.2, 1, 1]), 8 * period) - 0.5) * np.float32(4 * wobble)
    radius = np.hypot(points[:, 1] - 3 * period, points[:, 2] + 7 * period) / np.float32(period)
    phase = radius + bend
    saw = phase - np.floor(phase)
    return np.where(saw < 0.8, saw / 0.8, (1 - saw) / 0.2) ** 2


def mix(low: np.ndarray, high: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Linear RGB [n, 3] between two colours [3] or [n, 3] by weight [n]."""
    return low + (high - low) * np.asarray(weight, np.float32)[:, None]
