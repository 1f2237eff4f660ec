"""Materials and lights: GGX highlights over a diffuse base, one sun and an analytic sky.

Symbols: n normal, v towards the eye, l towards the sun, all unit [n, 3]; albedo linear RGB.
Sun and sky strengths are irradiance over pi, so a white surface facing the sun shows `sun_colour`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from nerfkit.scenes.tracer.textures import rgb

SUN_SIZE = 0.07  # GGX alpha that the sun's disc adds: polished surfaces show a spot, not a point
PANEL_SHARPNESS = 30.0  # a radius of about 15 degrees
PANEL_STRENGTH = (7.0, 3.0)

Albedo = Callable[[np.ndarray], np.ndarray] | np.ndarray


@dataclass(frozen=True)
class Material:
    """How a surface looks.

    Attributes:
        albedo: linear RGB [3], or a function of points [n, 3] in the part's frame to [n, 3].
        roughness: 0.05 (polished) to 1 (matt); GGX alpha is its square.
        metallic: 0 for dielectrics, 1 for metals, whose highlights take the albedo's colour.
        translucency: part of the diffuse light that passes to the other side (leaves).
    """

    albedo: Albedo
    roughness: float = 0.5
    metallic: float = 0.0
    translucency: float = 0.0

    def colour(self, points: np.ndarray) -> np.ndarray:
        """Albedo [n, 3] at points [n, 3]."""
        if callable(self.albedo):
            return np.float32(self.albedo(points))
        return np.broadcast_to(np.float32(self.albedo), points.shape)


def _unit(vector: tuple[float, float, float]) -> np.ndarray:
    return np.float32(vector) / np.float32(np.linalg.norm(vector))


@dataclass(frozen=True)
class Light:
    """One sun that casts shadows, and a sky with a bright panel that shiny surfaces mirror.

    Attributes:
        towards_sun: unit [3].
        sun_colour, sky_colour, ground_colour: linear RGB [3].
        panels: unit [2, 3], the middles of two round soft lights that only highlights show.
    """

    towards_sun: np.ndarray = field(default_factory=lambda: _unit((0.55, -0.45, 0.85)))
    sun_colour: np.ndarray = field(default_factory=lambda: np.float32([2.3, 2.1, 1.8]))
    sky_colour: np.ndarray = field(default_factory=lambda: np.float32([0.62, 0.74, 0.95]))
    ground_colour: np.ndarray = field(default_factory=lambda: np.float32([0.40, 0.35, 0.30]))
    panels: np.ndarray = field(
        default_factory=lambda: np.stack([_unit((-0.8, -0.25, 0.55)), _unit((0.1, 0.9, 0.45))])
    )

    def irradiance(self, normals: np.ndarray) -> np.ndarray:
        """Light from sky and ground on unoccluded surfaces, [n, 3], over pi."""
        up = 0.5 + 0.5 * normals[:, 2:]
        return self.ground_colour + (self.sky_colour - self.ground_colour) * up

    def reflection(self, directions: np.ndarray, roughness: np.ndarray) -> np.ndarray:
        """What a surface of roughness [n] mirrors from unit directions [n, 3]: RGB [n, 3]."""
        edge = 0.08 + roughness[:, None]  # rougher surfaces see a softer horizon
        up = np.clip(0.5 + directions[:, 2:] / (2 * edge), 0, 1)
        up = up * up * (3 - 2 * up)
        sky = self.sky_colour * (1.15 - 0.35 * directions[:, 2:])
        light = self.ground_colour + (sky - self.ground_colour) * up
        # a panel and the surface's lobe are spherical Gaussians; blurring one by the other
        # gives a wider and weaker one
        lobe = 0.5 / (roughness**4 + 1e-4)
        sharp = PANEL_SHARPNESS * lobe / (PANEL_SHARPNESS + lobe)
        for panel, strength in zip(self.panels, PANEL_STRENGTH, strict=True):
            glow = np.exp(sharp * (directions @ panel - 1)) * (sharp / PANEL_SHARPNESS)
            light += (strength * np.minimum(1.6 * glow, 1))[:, None]
        return light


def shade(
    light: Light,
    normals: np.ndarray,
    towards_eye: np.ndarray,
    sunlit: np.ndarray,
    openness: np.ndarray,
    albedo: np.ndarray,
    roughness: np.ndarray,
    metallic: np.ndarray,
    translucency: np.ndarray,
) -> np.ndarray:
    """Linear RGB [n, 3] that leaves each surface point towards the eye.

    Args:
        normals, towards_eye: unit [n, 3], the normals on the eye's side.
        sunlit: bool [n], no shadow. openness: [n] in [0, 1], the part of the sky that is seen.
        albedo: [n, 3]; roughness, metallic, translucency: [n].

    GGX with Schlick's Fresnel and Smith terms (Karis, "Real Shading in Unreal Engine 4", 2013).
    """
    half = light.towards_sun + towards_eye
    half /= np.sqrt(np.einsum("ni,ni->n", half, half))[:, None]
    n_l = normals @ light.towards_sun
    n_v = np.einsum("ni,ni->n", normals, towards_eye)
    n_h = np.einsum("ni,ni->n", normals, half).clip(0, 1)
    v_h = np.einsum("ni,ni->n", towards_eye, half).clip(0, 1)
    lit = n_l.clip(0, 1) * sunlit
    nv = n_v.clip(1e-3, 1)

    base = albedo * (1 - metallic)[:, None]
    mirror = 0.04 + (albedo - 0.04) * metallic[:, None]
    squared = roughness**4 + np.float32(SUN_SIZE**2)  # GGX alpha squared
    spread = n_h * n_h * (squared - 1) + 1
    lobe = squared / (spread * spread)
    k = np.sqrt(squared) / 2
    mask = 0.25 / ((n_l.clip(0, 1) * (1 - k) + k) * (nv * (1 - k) + k))
    fresnel = mirror + (1 - mirror) * ((1 - v_h) ** 5)[:, None]
    highlight = fresnel * (lobe * mask * lit)[:, None]

    through = translucency * (-n_l).clip(0, 1) * sunlit
    diffuse = lit * (1 - 0.5 * translucency) + through
    ambient = light.irradiance(normals) * openness[:, None]
    reflected = 2 * n_v[:, None] * normals - towards_eye
    rim = mirror + (np.maximum(1 - roughness[:, None], mirror) - mirror) * ((1 - nv) ** 5)[:, None]
    gloss = light.reflection(reflected, roughness) * rim * (openness**1.5)[:, None]
    return (
        base * (diffuse[:, None] * light.sun_colour + ambient)
        + highlight * light.sun_colour
        + gloss
    )


def display(linear: np.ndarray) -> np.ndarray:
    """Display-encoded RGB in [0, 1] of linear RGB: a filmic curve, then the sRGB curve.

    The curve is Narkowicz' fit of ACES (2015), which rolls highlights off instead of clipping.
    """
    x = np.maximum(linear, 0) * 0.72
    film = np.clip(x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14), 0, 1)
    # sRGB from square roots, worst error 0.0033: a third of the cost of the exact power
    root = np.sqrt(film)
    fourth = np.sqrt(root)
    return (0.585122381 * root + 0.783140355 * fourth - 0.368262736 * np.sqrt(fourth)).clip(0, 1)


def plain(code: str, roughness: float = 0.5, **options: float) -> Material:
    """A material of one display colour, e.g. plain("e0a020", 0.3)."""
    return Material(rgb(code), roughness, **options)
