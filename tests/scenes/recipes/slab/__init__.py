"""`slab`: a chequered slab under a ball, quick to build; for the tests."""

from nerfkit.scenes.tracer import shapes
from nerfkit.scenes.tracer.assembly import Assembly, Geometry
from nerfkit.scenes.tracer.materials import Material, plain
from nerfkit.scenes.tracer.textures import checker, mix, rgb


def geometry() -> Geometry:
    """Build the scene."""
    scene = Assembly()
    tiles = Material(lambda p: mix(rgb("f0f0f0"), rgb("205090"), checker(p, 0.25)))
    scene.add(shapes.box((2, 2, 0.2), 0.02), tiles)
    scene.add(shapes.sphere(0.5, 3), plain("d04020", 0.2), (0, 0, 0.6))
    return scene.geometry()
