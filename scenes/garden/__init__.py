"""`garden`: a small tree in a glazed pot on paving, with a trellis, flowers and grass.

Thin branches, hundreds of translucent leaves that shadow each other, shiny fruit.
"""

import numpy as np

from nerfkit.scenes.tracer import shapes
from nerfkit.scenes.tracer.assembly import Assembly, Geometry, aim, turn
from nerfkit.scenes.tracer.materials import Material, plain
from nerfkit.scenes.tracer.textures import bricks, mix, noise, rgb, rings, stripes

SOIL = -0.30  # height of the soil in the pot
GROUND = -0.80


def _bark(p: np.ndarray) -> np.ndarray:
    return mix(rgb("4f3826"), rgb("9a7a58"), noise(p * np.float32([1, 1, 0.3]), 0.07))


def _glaze(p: np.ndarray) -> np.ndarray:
    angle = np.arctan2(p[:, 1], p[:, 0])
    wave = np.abs(p[:, 2] - 0.30 - 0.035 * np.sin(8 * angle)) < 0.022
    dots = (np.hypot((angle * 6 / np.pi) % 1 - 0.5, (p[:, 2] - 0.16) / 0.075) < 0.28) | wave
    base = mix(rgb("1c5f8a"), rgb("3f9fc0"), noise(p, 0.25))
    return np.where(dots[:, None], rgb("f3ead2"), base)


def _paving(p: np.ndarray) -> np.ndarray:
    turned = np.stack([p[:, 0] * 0.5, p[:, 0] * 0.5, p[:, 1] + 4], 1)
    joint, shade = bricks(turned, (0.30, 0.17), 0.014)
    stone = mix(rgb("9b8f80"), rgb("cbb9a0"), shade) * (0.7 + 0.6 * noise(p, 0.09))[:, None]
    return np.where(joint[:, None] > 0, rgb("5b5a4a"), stone)


def _soil(p: np.ndarray) -> np.ndarray:
    return mix(rgb("2a1c13"), rgb("6a4a33"), noise(p, 0.05))


def _apple(p: np.ndarray) -> np.ndarray:
    blush = np.clip(0.5 + 6 * p[:, 0] + 1.5 * (noise(p, 0.05) - 0.5), 0, 1)
    return mix(rgb("e9c23a"), rgb("c8201f"), blush)


def _veined(dark: str, light: str) -> Material:
    """A leaf: a pale midrib and side veins that slant towards the tip."""

    def colour(p: np.ndarray) -> np.ndarray:
        side = np.abs(p[:, 1])
        vein = stripes(np.stack([p[:, 0] - 0.8 * side] * 3, 1), 0.045, (1, 1, 1), 0.16)
        vein = np.maximum(vein, side < 0.005)
        return mix(rgb(dark), rgb(light), 0.75 * vein + 0.25 * noise(p, 0.1))

    return Material(colour, 0.38, translucency=0.5)


BARK = Material(_bark, 0.85)
GLAZE = Material(_glaze, 0.12)
PAVING = Material(_paving, 0.75)
SOIL_MATERIAL = Material(_soil, 0.95)
APPLE = Material(_apple, 0.14)
CANE = Material(lambda p: mix(rgb("c9a45c"), rgb("8a6a34"), rings(p, 0.03)), 0.5)
LEAVES = [_veined("2f6b23", "79b04a"), _veined("417f2a", "93c45a"), _veined("5b8f2c", "b9cf62")]
GRASS = [plain("4d8a34", 0.5, translucency=0.4), plain("79a945", 0.5, translucency=0.4)]
STALK = plain("5c8f3c", 0.5)
PETALS = [
    plain("e8447c", 0.45, translucency=0.4),
    plain("f4efe6", 0.45, translucency=0.4),
    plain("8a5ad6", 0.45, translucency=0.4),
]
HEART = plain("f2b91e", 0.5)
STRING = plain("d8d2c2", 0.8)


def geometry() -> Geometry:
    """Build the scene."""
    scene = Assembly()
    random = np.random.default_rng(7)
    scene.add(shapes.cylinder(0.94, 0.08, 72, bevel=0.015), PAVING, (0, 0, GROUND - 0.04))
    _pot(scene)
    tips = _tree(scene, random)
    _foliage(scene, random, tips)
    _trellis(scene)
    _flowers(scene, random)
    _grass(scene, random)
    _can(scene)
    return scene.geometry()


def _pot(scene: Assembly) -> None:
    profile = [(0, 0.03), (0.25, 0.03), (0.27, 0.0), (0.31, 0.0), (0.335, 0.06), (0.375, 0.18)]
    profile += [(0.40, 0.30), (0.405, 0.40), (0.40, 0.46), (0.435, 0.47), (0.45, 0.49)]
    profile += [(0.45, 0.53), (0.435, 0.55), (0.40, 0.55), (0.385, 0.53), (0.375, 0.45), (0, 0.45)]
    scene.add(shapes.lathe(profile, 72), GLAZE, (0, 0, GROUND))
    scene.add(shapes.cylinder(0.385, 0.04, 48, bevel=0.015), SOIL_MATERIAL, (0, 0, SOIL - 0.02))
    pebble = shapes.sphere(0.03, 2)
    for k in range(14):
        angle = 2.4 * k
        at = (0.33 * np.cos(angle), 0.33 * np.sin(angle), SOIL + 0.004)
        scene.add(pebble, plain(("b9b2a6", "8d8982", "d6cdbd")[k % 3], 0.6), at)


def _tree(scene: Assembly, random: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Branches that fork three times; where leaves can grow: (point, direction of the twig)."""
    spots = []

    def grow(start: np.ndarray, direction: np.ndarray, length: float, radius: float, depth: int):
        bend = random.normal(0, 0.22, 3)
        t = np.linspace(0, 1, 7)[:, None]
        path = start + length * (t * direction + t**2 * (bend + [0, 0, 0.10]) * 0.6)
        taper = radius * (1 - 0.45 * t[:, 0])
        scene.add(shapes.tube(path, taper, 12 if depth < 2 else 7), BARK)
        heading = path[-1] - path[-2]
        heading /= np.linalg.norm(heading)
        if depth >= 2:
            spots.extend((path[i], heading) for i in range(1 if depth == 3 else 3, 7))
        if depth == 3:
            return
        turns = random.random() * 2 * np.pi
        children = (5, 4, 3)[depth]
        for k in range(children):
            angle = turns + 2 * np.pi * k / children + random.normal(0, 0.2)
            side = np.array([np.cos(angle), np.sin(angle), 0.0])
            spread = (0.75, 0.85, 0.9)[depth]
            child = heading + spread * side * random.uniform(0.75, 1.2)
            child /= np.linalg.norm(child)
            at = path[-1] if k == 0 else path[-1 - k % 3]
            grow(at, child, length * random.uniform(0.55, 0.72), taper[-1] * 0.72, depth + 1)

    grow(np.array([0.0, 0.0, SOIL - 0.02]), np.array([0.05, 0.02, 1.0]), 0.50, 0.062, 0)
    return spots


def _foliage(
    scene: Assembly, random: np.random.Generator, spots: list[tuple[np.ndarray, np.ndarray]]
) -> None:
    blades = [shapes.leaf(0.15, 0.075, 0.25), shapes.leaf(0.12, 0.065, 0.4)]
    order = random.permutation(len(spots))
    for k in order[:520]:
        point, heading = spots[k]
        out = heading + random.normal(0, 0.75, 3) + [0, 0, -0.15]
        scene.add(
            blades[k % 2],
            LEAVES[int(random.integers(3))],
            point,
            aim(out, roll=random.normal(0, 30)),
        )
    apple, stem = shapes.sphere(0.048, 3), shapes.rod((0, 0, 0.04), (0.004, 0, 0.085), 0.004, 6)
    for k in order[:13]:
        at = spots[k][0] - [0, 0, 0.085]
        with scene.frame(at, turn(z=random.random() * 360)):
            scene.add(apple, APPLE)
            scene.add(stem, BARK)


def _trellis(scene: Assembly) -> None:
    """A fan of canes tied with string behind the pot."""
    for k in range(6):
        x = -0.42 + 0.168 * k
        scene.add(shapes.rod((0.75 * x, 0.66, GROUND), (1.35 * x, 0.70, 0.25), 0.011, 8), CANE)
    for height in (-0.5, -0.22, 0.06):
        wide = 0.42 * (0.75 + 0.6 * (height - GROUND) / 1.05) + 0.05
        scene.add(shapes.rod((-wide, 0.685, height), (wide, 0.685, height), 0.009, 8), CANE)
        for k in range(6):
            x = (-0.42 + 0.168 * k) * (0.75 + 0.6 * (height - GROUND) / 1.05)
            scene.add(shapes.torus(0.019, 0.005, 12, 6), STRING, (x, 0.683, height), turn(x=90))


def _flowers(scene: Assembly, random: np.random.Generator) -> None:
    petal = shapes.leaf(0.062, 0.042, 0.1)
    for k in range(15):
        angle = -2.5 + 0.36 * k + random.normal(0, 0.06)
        radius = random.uniform(0.56, 0.84)
        x, y = radius * np.cos(angle), radius * np.sin(angle)
        height = random.uniform(0.14, 0.30)
        t = np.linspace(0, 1, 6)[:, None]
        sway = random.normal(0, 0.035, 2)
        stalk = np.concatenate([[x, y] + sway * t**2, GROUND + height * t], 1)
        scene.add(shapes.tube(stalk, 0.006, 6), STALK)
        for s in (0.3, 0.55):
            scene.add(
                shapes.leaf(0.10, 0.03, 0.3),
                LEAVES[1],
                stalk[int(s * 5)],
                aim(np.array([np.cos(9 * s + k), np.sin(9 * s + k), 0.6])),
            )
        lean = turn(x=random.normal(0, 18), y=random.normal(0, 18))
        with scene.frame(stalk[-1], lean):
            for j in range(8):
                with scene.frame((0, 0, 0.004), turn(z=45 * j)):
                    scene.add(petal, PETALS[k % 3], (0.012, 0, 0), turn(y=-18))
            scene.add(shapes.sphere(0.02, 2), HEART, (0, 0, 0.008))


def _grass(scene: Assembly, random: np.random.Generator) -> None:
    """Tufts along the rim of the paving and round the pot."""
    for k in range(34):
        angle = k * 2 * np.pi / 34 + random.normal(0, 0.06)
        radius = random.uniform(0.84, 0.90) if k % 3 else random.uniform(0.40, 0.46)
        for _ in range(6):
            at = (
                radius * np.cos(angle) + random.normal(0, 0.02),
                radius * np.sin(angle) + random.normal(0, 0.02),
                GROUND,
            )
            blade = shapes.leaf(random.uniform(0.10, 0.2), 0.018, random.uniform(0.1, 0.5))
            direction = np.array([*random.normal(0, 0.4, 2), 1.0])
            scene.add(
                blade, GRASS[int(random.integers(2))], at, aim(direction, random.random() * 360)
            )


def _can(scene: Assembly) -> None:
    """A metal watering can in front."""
    tin = plain("b9c4c9", 0.25, metallic=1.0)
    with scene.frame((0.52, -0.50, GROUND), turn(z=-130)):
        scene.add(shapes.cylinder(0.13, 0.2, 48, top=0.115, bevel=0.008), tin, (0, 0, 0.10))
        for z in (0.04, 0.16):
            scene.add(shapes.torus(0.128 - 0.06 * (z - 0.04), 0.006, 48, 8), tin, (0, 0, z))
        scene.add(shapes.rod((0.11, 0, 0.05), (0.27, 0, 0.23), 0.016, 14), tin)
        scene.add(shapes.cylinder(0.016, 0.05, 24, top=0.045), tin, (0.285, 0, 0.247), turn(y=48))
        arc = np.linspace(-0.35 * np.pi, 0.75 * np.pi, 20)
        handle = np.stack([-0.10 - 0.11 * np.cos(arc), 0 * arc, 0.16 + 0.11 * np.sin(arc)], 1)
        scene.add(shapes.tube(handle, 0.010, 10), plain("7a3b22", 0.3))
