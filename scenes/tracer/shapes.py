"""Shapes as triangle soups: corner positions and shading normals in the shape's own frame.

A soup has F triangles; positions and normals are [F, 3, 3] float32 (triangle, corner, xyz).
Lengths are world units, angles degrees. Cylinders, lathes and tori have +Z as their axis.
"""

from dataclasses import dataclass

import numpy as np
import trimesh

CREASE = 40.0  # faces that meet at a smaller angle than this are shaded as one smooth surface


@dataclass(frozen=True)
class Shape:
    """A triangle soup: positions [F, 3, 3] and unit shading normals [F, 3, 3], both float32."""

    positions: np.ndarray
    normals: np.ndarray

    def placed(self, rotation: np.ndarray, offset: np.ndarray) -> "Shape":
        """The shape turned by rotation [3, 3], then moved by offset [3]."""
        rotation, offset = np.float32(rotation), np.float32(offset)
        return Shape(self.positions @ rotation.T + offset, self.normals @ rotation.T)


def from_mesh(vertices: np.ndarray, faces: np.ndarray, crease: float = CREASE) -> Shape:
    """A shape of an indexed mesh; normals are smooth except across edges sharper than `crease`."""
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces, np.int64)
    corners = vertices[faces]
    cross = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(cross, axis=1, keepdims=True)
    keep = area[:, 0] > 1e-14
    corners, faces, cross = corners[keep], faces[keep], cross[keep]
    unit = cross / area[keep]
    # Every pair (corner, corner) at one vertex: sort corners by vertex, then expand each group.
    vertex = faces.ravel()
    order = np.argsort(vertex, kind="stable")
    _, start, count = np.unique(vertex[order], return_index=True, return_counts=True)
    group = np.repeat(np.arange(len(count)), count)
    first = np.repeat(order, count[group])
    inside = np.arange(len(first)) - np.repeat(np.cumsum(count[group]) - count[group], count[group])
    second = order[np.repeat(start[group], count[group]) + inside]
    smooth = (unit[first // 3] * unit[second // 3]).sum(1) > np.cos(np.radians(crease))
    normals = np.zeros((len(vertex), 3))
    np.add.at(normals, first[smooth], cross[second[smooth] // 3])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Shape(np.float32(corners), np.float32(normals.reshape(-1, 3, 3)))


def box(size: tuple[float, float, float], bevel: float = 0.0) -> Shape:
    """A box centred at the origin with edges cut at 45 degrees, `bevel` deep."""
    half = np.asarray(size, np.float64) / 2
    signs = np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float64)
    if bevel == 0.0:
        mesh = trimesh.creation.box(extents=size)
        return from_mesh(mesh.vertices, mesh.faces)
    points = np.concatenate([signs * (half - bevel * np.float64(axis)) for axis in 1 - np.eye(3)])
    hull = trimesh.convex.convex_hull(points)
    return from_mesh(hull.vertices, hull.faces, crease=10.0)


def cylinder(
    radius: float, height: float, sections: int = 32, top: float | None = None, bevel: float = 0.0
) -> Shape:
    """A cylinder, or a cone frustum with radius `top` at its upper end, centred at the origin."""
    upper, half = radius if top is None else top, height / 2
    if bevel == 0.0:
        profile = [(0, -half), (radius, -half), (upper, half), (0, half)]
    else:
        profile = [(0, -half), (radius - bevel, -half), (radius, bevel - half)]
        profile += [(upper, half - bevel), (upper - bevel, half), (0, half)]
    return lathe(profile, sections)


def lathe(profile: list[tuple[float, float]] | np.ndarray, sections: int = 48) -> Shape:
    """A profile of (radius, z) points, from bottom to top on the outside, turned about +Z."""
    mesh = trimesh.creation.revolve(np.asarray(profile, np.float64), sections=sections)
    mesh.merge_vertices()
    return from_mesh(mesh.vertices, mesh.faces)


def sphere(radius: float, subdivisions: int = 4) -> Shape:
    """An icosphere with the exact sphere's normals."""
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    positions = np.float32(mesh.vertices[mesh.faces])
    return Shape(positions, positions / np.linalg.norm(positions, axis=2, keepdims=True))


def torus(major: float, minor: float, sections: int = 64, around: int = 20) -> Shape:
    """A ring about +Z with tube radius `minor`."""
    mesh = trimesh.creation.torus(major, minor, major_sections=sections, minor_sections=around)
    return from_mesh(mesh.vertices, mesh.faces)


def tube(
    path: np.ndarray, radii: float | np.ndarray, sections: int = 8, closed: bool = False
) -> Shape:
    """A tube along path [n, 3] with one radius or one a point; its ends are capped.

    The cross-section is carried along by parallel transport, so it does not twist; on a closed
    path the remaining turn is spread evenly.
    """
    path = np.asarray(path, np.float64)
    radii = np.broadcast_to(np.asarray(radii, np.float64), len(path))
    if closed:
        tangents = np.roll(path, -1, 0) - np.roll(path, 1, 0)
    else:
        tangents = np.gradient(path, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    side = np.cross(tangents[0], np.eye(3)[np.abs(tangents[0]).argmin()])
    sides = []
    for tangent in tangents:
        side = side - tangent * (side @ tangent)
        side = side / np.linalg.norm(side)
        sides.append(side)
    sides = np.array(sides)
    ups = np.cross(tangents, sides)
    turn = np.zeros(len(path))
    if closed:
        back = sides[-1] - tangents[0] * (sides[-1] @ tangents[0])
        turn = np.linspace(0, 1, len(path)) * -np.arctan2(back @ ups[0], back @ sides[0])
    angle = np.linspace(0, 2 * np.pi, sections, endpoint=False)[None] + turn[:, None]
    ring = np.cos(angle)[..., None] * sides[:, None] + np.sin(angle)[..., None] * ups[:, None]
    vertices = (path[:, None] + radii[:, None, None] * ring).reshape(-1, 3)
    rows = len(path) if closed else len(path) - 1
    i, j = np.meshgrid(np.arange(rows), np.arange(sections), indexing="ij")
    a, b = i * sections + j, i * sections + (j + 1) % sections
    c, d = (a + sections) % len(vertices), (b + sections) % len(vertices)
    faces = np.concatenate([np.stack(t, -1).reshape(-1, 3) for t in ((a, b, d), (a, d, c))])
    if not closed:
        last = len(vertices)
        vertices = np.concatenate([vertices, path[[0, -1]]])
        j, k = np.arange(sections), (np.arange(sections) + 1) % sections
        end = rows * sections
        faces = np.concatenate(
            [
                faces,
                np.stack([k, j, np.full_like(j, last)], -1),
                np.stack([end + j, end + k, np.full_like(j, last + 1)], -1),
            ]
        )
    return from_mesh(vertices, faces, crease=60.0)


def rod(start: tuple, end: tuple, radius: float, sections: int = 10) -> Shape:
    """A straight round bar between two points."""
    return tube(np.array([start, end]), radius, sections)


def prism(outline: list[tuple[float, float]], depth: float) -> Shape:
    """A convex outline of (x, z) points, counter-clockwise seen from -Y, `depth` thick along Y."""
    flat = np.array([(x, 0, z) for x, z in outline], np.float64)
    shift = np.array([0, depth / 2, 0])
    hull = trimesh.convex.convex_hull(np.concatenate([flat - shift, flat + shift]))
    return from_mesh(hull.vertices, hull.faces, crease=10.0)


def leaf(length: float, width: float, curl: float) -> Shape:
    """A pointed blade along +X from the origin, facing +Z, bent down by `curl`, slightly folded."""
    along = np.array([0.0, 0.25, 0.55, 0.8, 1.0])
    half = width / 2 * np.array([0.0, 0.8, 1.0, 0.6, 0.0])
    spine = np.stack([along * length, np.zeros(5), -curl * length * along**2], -1)
    edge = np.stack([np.zeros(5), half, 0.35 * half], -1)
    vertices = np.concatenate([spine, spine + edge, spine + edge * [1, -1, 1]])
    faces = []
    for i in range(4):
        faces += [(i, i + 1, 5 + i), (i + 1, 6 + i, 5 + i)]
        faces += [(i, 10 + i, i + 1), (i + 1, 10 + i, 11 + i)]
    return from_mesh(vertices, np.array(faces), crease=60.0)
