"""Putting shapes together: frames, materials, and the finished triangle soup of a scene."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import trimesh

from nerfkit.scenes.tracer.materials import Light, Material
from nerfkit.scenes.tracer.shapes import Shape

RADIUS = 1.35  # every scene is scaled to this bounding sphere, so that one camera rig fits all
AO_EDGE = 0.09  # longest triangle edge: ambient occlusion is stored at corners and interpolated


def turn(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    """Rotation [3, 3] by degrees about the fixed axes x, then y, then z."""
    return trimesh.transformations.euler_matrix(*np.radians([x, y, z]), axes="sxyz")[:3, :3]


def aim(direction: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """Rotation [3, 3] that sends +X to `direction`, +Z nearly up, then rolled by degrees."""
    x = np.asarray(direction, np.float64) / np.linalg.norm(direction)
    up = np.array([0.0, 0.0, 1.0]) if abs(x[2]) < 0.99 else np.array([1.0, 0.0, 0.0])
    y = np.cross(up, x)
    y /= np.linalg.norm(y)
    return np.stack([x, y, np.cross(x, y)], 1) @ turn(x=roll)


@dataclass(frozen=True)
class Geometry:
    """A finished scene, as F triangles.

    Attributes:
        positions, normals, local: [F, 3, 3] corner positions, unit shading normals, and positions
            in the part's own frame (where textures are evaluated).
        material, part: int32 [F], index into `materials`, and which added shape it came from.
    """

    positions: np.ndarray
    normals: np.ndarray
    local: np.ndarray
    material: np.ndarray
    part: np.ndarray
    materials: list[Material]
    light: Light


class Assembly:
    """Collects shapes with their materials; `frame` nests coordinate frames."""

    def __init__(self, light: Light | None = None) -> None:
        self._light = light or Light()
        self._rotation, self._offset = np.eye(3), np.zeros(3)
        self._shapes: list[tuple[Shape, Shape, Material]] = []

    @contextmanager
    def frame(self, at: tuple = (0, 0, 0), rotation: np.ndarray | None = None) -> Iterator[None]:
        """Inside the block, shapes are placed relative to this frame (in the frame outside)."""
        outside = self._rotation, self._offset
        self._offset = self._rotation @ np.asarray(at, np.float64) + self._offset
        self._rotation = self._rotation @ (np.eye(3) if rotation is None else rotation)
        try:
            yield
        finally:
            self._rotation, self._offset = outside

    def add(
        self,
        shape: Shape,
        material: Material,
        at: tuple = (0, 0, 0),
        rotation: np.ndarray | None = None,
    ) -> None:
        """Place a shape, turned by rotation [3, 3] and moved to `at`, in the current frame."""
        with self.frame(at, rotation):
            self._shapes.append((shape, shape.placed(self._rotation, self._offset), material))

    def geometry(self) -> Geometry:
        """The soup of all shapes, with triangles cut until no edge is longer than AO_EDGE.

        The whole is moved and scaled so that its bounding box is centred on the origin and its
        farthest corner is RADIUS away; textures keep the lengths the recipe was written in.
        """
        materials = list({id(m): m for *_, m in self._shapes}.values())
        index = {id(m): i for i, m in enumerate(materials)}
        count = [len(s.positions) for s, *_ in self._shapes]
        soup = np.concatenate(
            [
                np.concatenate([p.positions, p.normals, s.positions], axis=2)
                for s, p, _ in self._shapes
            ]
        )
        part = np.repeat(np.arange(len(count), dtype=np.int32), count)
        material = np.repeat(np.int32([index[id(m)] for *_, m in self._shapes]), count)
        corners = soup[..., :3].reshape(-1, 3)
        corners = corners - (corners.min(0) + corners.max(0)) / 2
        corners *= RADIUS / np.linalg.norm(corners, axis=1).max()
        soup[..., :3] = corners.reshape(-1, 3, 3)
        soup, source = _split_long_edges(soup, AO_EDGE)
        normals = soup[..., 3:6] / np.linalg.norm(soup[..., 3:6], axis=2, keepdims=True)
        return Geometry(
            np.ascontiguousarray(soup[..., :3]),
            normals,
            np.ascontiguousarray(soup[..., 6:]),
            material[source],
            part[source],
            materials,
            self._light,
        )


def _split_long_edges(soup: np.ndarray, longest: float) -> tuple[np.ndarray, np.ndarray]:
    """Halve the longest edge of triangles [F, 3, 9] until all are short; (soup, source index)."""
    source = np.arange(len(soup))
    done, done_source = [], []
    while len(soup):
        edges = np.linalg.norm(np.roll(soup, -1, 1)[..., :3] - soup[..., :3], axis=2)
        keep = edges.max(1) <= longest
        done.append(soup[keep])
        done_source.append(source[keep])
        soup, source, edges = soup[~keep], source[~keep], edges[~keep]
        row, k = np.arange(len(soup)), edges.argmax(1)
        a, b, c = soup[row, k], soup[row, (k + 1) % 3], soup[row, (k + 2) % 3]
        middle = (a + b) / 2
        soup = np.concatenate([np.stack([a, middle, c], 1), np.stack([middle, b, c], 1)])
        source = np.concatenate([source, source])
    return np.concatenate(done), np.concatenate(done_source)


def distinct_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of one row for every distinct row of integers [n, k], and which one each row is [n].

    By a 64-bit hash: ten times as fast as np.unique(axis=0), and with a million rows the chance of
    a collision is below 1e-7.
    """
    code = np.zeros(len(rows), np.uint64)
    for column in rows.T.astype(np.uint64):
        code = (code ^ column) * np.uint64(0x9E3779B97F4A7C15)
        code ^= code >> np.uint64(29)
    _, first, inverse = np.unique(code, return_index=True, return_inverse=True)
    return first, inverse
