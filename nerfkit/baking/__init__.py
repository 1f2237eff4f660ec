"""Bake a fitted scene: no network, only what training cameras see, in bytes.

1. Voxels that no training camera sees are dropped (nerfkit.baking.visible).
2. Densities on the corners of the others are stored in 16 bits (density).
3. Colours become harmonics of the direction a corner and a detail a corner of half voxels (colors),
   fitted again to what the field shows from many places (views, refine), and then stored in 8 bits
   each.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from nerfkit.baking.colors import fit_details, fit_records, quantised
from nerfkit.baking.density import quantised_density
from nerfkit.baking.refine import fit_to_views
from nerfkit.baking.storage import load_baked, save_baked
from nerfkit.baking.views import Views
from nerfkit.baking.visible import visible_voxels
from nerfkit.cameras import Cameras
from nerfkit.errors import NerfkitError
from nerfkit.fields.bakeable import Bakeable
from nerfkit.fields.baked import BakedColors, BakedField
from nerfkit.fields.field import Field
from nerfkit.kernels.baked_render import Layout
from nerfkit.octree import morton_decode

__all__ = ["bake", "load_baked", "save_baked"]


def bake(
    field: Field,
    cameras: Cameras,
    background: Tensor,
    progress: Callable[[str, float], None] = lambda what, done: None,
) -> BakedField:
    """Bake a field as training cameras see it.

    Args:
        cameras: the training cameras.
        background: [3], of the run.
        progress: called with what is being done and the share of it that is done.

    Raises:
        NerfkitError: the field is of a kind that cannot be baked, or cameras see nothing of it.
    """
    if not isinstance(field, Bakeable):
        raise NerfkitError(f"a {type(field).__name__} cannot be baked; bake the run it came from")

    def telling(what: str) -> Callable[[float], None]:
        return lambda done: progress(what, done)

    source = field.source()
    octree, seen = visible_voxels(source, cameras, telling("visible voxels"))
    if not len(octree):
        raise NerfkitError(
            "the training cameras see nothing of this scene: there is nothing to bake"
        )
    centers = cameras.c2w[:, :, 3].float()
    layout = Layout.of(octree)
    corners = morton_decode(layout.codes)
    shape, density = quantised_density(source, layout)
    records = fit_records(source, octree, seen, corners, centers, telling("colours of corners"))
    details = fit_details(source, octree, seen, layout, centers, records, telling("details"))

    def colors() -> BakedColors:
        return BakedColors(*quantised(records), *quantised(details))

    baked = BakedField(shape, octree, layout, density, colors())
    wanted = Views.of(source.field, cameras, background, telling("views"))
    fit_to_views(baked, records, details, wanted, background, telling("colours of pixels"))
    return BakedField(shape, octree, layout, density, colors())
