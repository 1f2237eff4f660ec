"""Rays against triangles: Embree where it is installed, trimesh's own slow engine (which needs the
package rtree) elsewhere.

Rays are origins, directions [n, 3] float32, directions of unit length, t the distance along them.
"""

import importlib.util

import numpy as np
import trimesh

from nerfkit.errors import NerfkitError
from nerfkit.scenes.tracer.assembly import distinct_rows

try:
    from embreex.mesh_construction import TriangleMesh
    from embreex.rtcore_scene import EmbreeScene
except ImportError:  # no wheel for this processor
    EmbreeScene = None


class RayTracer:
    """Closest hits and shadows for triangles [F, 3, 3].

    Raises:
        NerfkitError: neither embreex nor rtree is installed.
    """

    def __init__(self, triangles: np.ndarray, use_embree: bool = EmbreeScene is not None) -> None:
        self._triangles = np.ascontiguousarray(triangles, np.float32)
        faces = np.arange(3 * len(triangles), dtype=np.int32).reshape(-1, 3)
        vertices = self._triangles.reshape(-1, 3)
        self._scene = self._engine = None
        if use_embree:
            self._scene = EmbreeScene()
            self._mesh = TriangleMesh(self._scene, vertices, faces)
        else:
            if importlib.util.find_spec("rtree") is None:
                raise NerfkitError(
                    "built-in scenes: wanted embreex, or rtree where embreex has no wheel, "
                    "found neither; run: pip install embreex (or: pip install rtree)"
                )
            mesh = trimesh.Trimesh(vertices, faces, process=False)
            self._engine = trimesh.ray.ray_triangle.RayMeshIntersector(mesh)

    def first_hit(
        self, origins: np.ndarray, directions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """t [n] (inf where missed), triangle int32 [n] (-1 where missed), corner weights [n, 3]."""
        origins = np.ascontiguousarray(origins, np.float32)
        directions = np.ascontiguousarray(directions, np.float32)
        if self._scene is not None:
            hit = self._scene.run(origins, directions, output=1)
            triangle = hit["primID"]
            t = np.where(triangle >= 0, hit["tfar"], np.float32(np.inf))
            u, v = hit["u"], hit["v"]
            return t, triangle, np.stack([1 - u - v, u, v], 1)
        found, ray, where = self._engine.intersects_id(
            origins, directions, multiple_hits=False, return_locations=True
        )
        t = np.full(len(origins), np.inf, np.float32)
        triangle = np.full(len(origins), -1, np.int32)
        weights = np.zeros((len(origins), 3), np.float32)
        triangle[ray] = found
        t[ray] = np.einsum("ni,ni->n", where - origins[ray], directions[ray])
        weights[ray] = trimesh.triangles.points_to_barycentric(self._triangles[found], where)
        return t, triangle, weights

    def occluded(self, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Whether anything lies along each ray, bool [n]."""
        origins = np.ascontiguousarray(origins, np.float32)
        directions = np.ascontiguousarray(directions, np.float32)
        if self._scene is not None:
            return self._scene.run(origins, directions, query="OCCLUDED") >= 0
        return self._engine.intersects_any(origins, directions)


def openness(
    tracer: RayTracer, positions: np.ndarray, normals: np.ndarray, rays: int
) -> np.ndarray:
    """Ambient occlusion at triangle corners: the cosine-weighted part of the sky that is free.

    Args:
        positions, normals: [F, 3, 3]. rays: directions a distinct corner.

    Returns:
        [F, 3] float32 in [0, 1].
    """
    flat = np.concatenate([positions, normals], axis=2).reshape(-1, 6)
    keys = np.round(flat * np.float32([2e4] * 3 + [50] * 3)).astype(np.int32)
    first, inverse = distinct_rows(keys)
    points, up = flat[first, :3], flat[first, 3:]
    side = np.cross(up, np.where(np.abs(up[:, :1]) < 0.7, np.eye(3)[0], np.eye(3)[1]))
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    other = np.cross(up, side)
    free = np.zeros(len(points), np.float32)
    for i in range(rays):  # a sunflower disc lifted to the hemisphere is cosine-weighted
        radius = np.sqrt((i + 0.5) / rays)
        angle = i * np.pi * (3 - np.sqrt(5))  # the same everywhere: bands, but no noise
        direction = radius * (np.cos(angle) * side + np.sin(angle) * other)
        direction += np.sqrt(1 - radius**2) * up
        free += ~tracer.occluded(points + 4e-3 * up, direction)
    return (free / rays)[inverse].reshape(-1, 3)
