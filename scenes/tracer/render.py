"""One posed image: trace pixel centres, then 2x2 samples where the image changes.

A pixel is refined when a neighbour shows another part, another depth, a bent normal or a visibly
different colour, so edges and fine textures are smooth and flat areas cost one sample. The four
samples form a fixed grid; nothing is random, so the same view gives the same bytes.
"""

from dataclasses import dataclass

import numpy as np

from nerfkit.scenes.tracer.assembly import Geometry
from nerfkit.scenes.tracer.materials import display, shade
from nerfkit.scenes.tracer.rays import RayTracer, openness
from nerfkit.scenes.tracer.rig import Camera

AO_RAYS = 40
LIFT = 2e-3  # shadow rays start this far above the surface
CONTRAST = 0.05  # display-encoded step between neighbours that asks for more samples


@dataclass(frozen=True)
class Frame:
    """A rendered view.

    Attributes:
        rgba: uint8 [h, w, 4], display-encoded colour, straight alpha.
        ray_distance: float32 [h, w], distance along the unit ray through the pixel's centre.
        z_depth: float32 [h, w], the same point's distance along the optical axis.
        normal: float32 [h, w, 3], unit world normal there, on the camera's side.
            All three are 0 where that ray hits nothing.
    """

    rgba: np.ndarray
    ray_distance: np.ndarray
    z_depth: np.ndarray
    normal: np.ndarray


@dataclass(frozen=True)
class _Samples:
    """What n rays saw; part is -1 and everything else 0 where nothing was hit."""

    rgb: np.ndarray
    part: np.ndarray
    t: np.ndarray
    normal: np.ndarray

    @classmethod
    def nothing(cls, n: int) -> "_Samples":
        """n rays that hit nothing."""
        return cls(
            np.zeros((n, 3), np.float32),
            np.full(n, -1, np.int32),
            np.zeros(n, np.float32),
            np.zeros((n, 3), np.float32),
        )

    def put(self, where: np.ndarray, samples: "_Samples") -> None:
        """Overwrite the rays at indices `where`."""
        self.rgb[where], self.part[where] = samples.rgb, samples.part
        self.t[where], self.normal[where] = samples.t, samples.normal


class Renderer:
    """Renders views of one scene; ambient occlusion [F, 3] is computed here unless given."""

    def __init__(self, geometry: Geometry, ambient: np.ndarray | None = None) -> None:
        self.geometry = geometry
        self._tracer = RayTracer(geometry.positions)
        if ambient is None:
            ambient = openness(self._tracer, geometry.positions, geometry.normals, AO_RAYS)
        self.ambient = ambient
        # one contiguous record a triangle, so that a hit costs one gather
        self._corners = np.concatenate(
            [geometry.normals, geometry.local, ambient[..., None]], axis=2
        )
        low, high = geometry.positions.min((0, 1)), geometry.positions.max((0, 1))
        self._box = np.array(np.meshgrid(*zip(low, high, strict=True))).reshape(3, 8).T
        materials = geometry.materials
        self._roughness = np.float32([m.roughness for m in materials])
        self._metallic = np.float32([m.metallic for m in materials])
        self._translucency = np.float32([m.translucency for m in materials])

    def __call__(self, camera: Camera) -> Frame:
        """Trace one view."""
        h, w = camera.height, camera.width
        rows, columns = np.divmod(np.arange(h * w), w)
        centre = _Samples.nothing(h * w)
        inside = np.flatnonzero(self._may_hit(camera, columns, rows))
        centre.put(inside, self._trace(*camera.rays(columns[inside] + 0.5, rows[inside] + 0.5)))
        alpha = (centre.part >= 0).astype(np.float32)
        rgb = centre.rgb * alpha[:, None]
        again = np.flatnonzero(_changes(centre, h, w))
        total, cover = np.zeros((len(again), 3), np.float32), np.zeros(len(again), np.float32)
        for dy in (0.25, 0.75):
            for dx in (0.25, 0.75):
                sample = self._trace(*camera.rays(columns[again] + dx, rows[again] + dy))
                total += sample.rgb
                cover += sample.part >= 0
        rgb[again] = total / np.maximum(cover, 1)[:, None]
        alpha[again] = cover / 4
        rgba = np.concatenate([rgb, alpha[:, None]], 1).reshape(h, w, 4)
        # ray distance to z-depth: the cosine between the ray and the optical axis
        x, y = (columns + 0.5 - w / 2) / camera.focal, (rows + 0.5 - h / 2) / camera.focal
        cosine = (1 / np.sqrt(x * x + y * y + 1)).astype(np.float32)
        return Frame(
            np.uint8(rgba * 255 + 0.5),
            centre.t.reshape(h, w),
            (centre.t * cosine).reshape(h, w),
            centre.normal.reshape(h, w, 3),
        )

    def albedo(self) -> np.ndarray:
        """Display-encoded base colour at every triangle corner, uint8 [F, 3, 3]."""
        colour = self._colour(
            np.repeat(self.geometry.material, 3), self.geometry.local.reshape(-1, 3)
        )
        return np.uint8(display(colour) * 255 + 0.5).reshape(-1, 3, 3)

    def _colour(self, material: np.ndarray, local: np.ndarray) -> np.ndarray:
        """Albedo [n, 3] of material indices [n] at points [n, 3] in their parts' frames."""
        albedo = np.empty((len(local), 3), np.float32)
        order = np.argsort(material, kind="stable")
        ends = np.searchsorted(material[order], np.arange(len(self.geometry.materials) + 1))
        for i, item in enumerate(self.geometry.materials):
            mine = order[ends[i] : ends[i + 1]]
            if len(mine):
                albedo[mine] = item.colour(local[mine])
        return albedo

    def _may_hit(self, camera: Camera, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Which pixels lie within a pixel of the projected bounding box, bool."""
        corners = camera.project(self._box)
        (x0, y0), (x1, y1) = corners.min(0) - 1, corners.max(0) + 1
        return (columns + 1 > x0) & (columns < x1) & (rows + 1 > y0) & (rows < y1)

    def _trace(self, origins: np.ndarray, directions: np.ndarray) -> _Samples:
        """Colour, part, distance and normal for rays [n, 3]."""
        n = len(origins)
        t_all, triangle, weights = self._tracer.first_hit(origins, directions)
        hit = np.flatnonzero(triangle >= 0)
        triangle, weights, t = triangle[hit], weights[hit], t_all[hit]
        surface = np.einsum("nk,nki->ni", weights, self._corners.take(triangle, axis=0))
        normals, local, ambient = surface[:, :3], surface[:, 3:6], surface[:, 6]
        normals /= np.sqrt(np.einsum("ni,ni->n", normals, normals))[:, None]
        towards_eye = -directions[hit]
        facing = np.einsum("ni,ni->n", normals, towards_eye)
        normals[facing < 0] *= -1
        material = self.geometry.material[triangle]
        points = origins[hit] + t[:, None] * directions[hit]
        towards_sun = self.geometry.light.towards_sun
        n_l = normals @ towards_sun
        translucency = self._translucency[material]
        ask = np.flatnonzero((n_l > 0) | (translucency > 0))
        lifted = points[ask] + np.copysign(LIFT, n_l[ask])[:, None] * normals[ask]
        sunlit = np.zeros(len(hit), np.float32)
        sunlit[ask] = ~self._tracer.occluded(lifted, np.broadcast_to(towards_sun, lifted.shape))
        linear = shade(
            self.geometry.light,
            normals,
            towards_eye,
            sunlit,
            ambient,
            self._colour(material, local),
            self._roughness[material],
            self._metallic[material],
            translucency,
        )
        samples = _Samples.nothing(n)
        part = self.geometry.part[triangle]
        samples.put(hit, _Samples(display(linear), part, t, normals))
        return samples


def _changes(samples: _Samples, h: int, w: int) -> np.ndarray:
    """Which pixels differ from a neighbour (or are next to one that does), bool [h * w]."""
    part = samples.part.reshape(h, w)
    rgb, normal = samples.rgb.reshape(h, w, 3), samples.normal.reshape(h, w, 3)
    t = samples.t.reshape(h, w)
    outline = np.zeros((h, w), bool)
    texture = np.zeros((h, w), bool)
    for axis in (0, 1):
        a = (slice(None, -1), slice(None)) if axis == 0 else (slice(None), slice(None, -1))
        b = (slice(1, None), slice(None)) if axis == 0 else (slice(None), slice(1, None))
        edge = part[a] != part[b]
        step = np.abs(rgb[a] - rgb[b])
        contrast = np.maximum(np.maximum(step[..., 0], step[..., 1]), step[..., 2])
        bent = np.einsum("ijk,ijk->ij", normal[a], normal[b]) < 0.8
        other = (contrast > CONTRAST) | (bent & (part[a] >= 0))
        other |= np.abs(t[a] - t[b]) > 0.1
        for side in (a, b):
            outline[side] |= edge & ((part[a] < 0) | (part[b] < 0))
            texture[side] |= edge | other
    grown = outline.copy()  # thin parts can pass between pixel centres beside a found edge
    grown[1:] |= outline[:-1]
    grown[:-1] |= outline[1:]
    grown[:, 1:] |= outline[:, :-1]
    grown[:, :-1] |= outline[:, 1:]
    return (grown | texture).ravel()
