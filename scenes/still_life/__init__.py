"""`still_life`: glazed, polished and turned objects on a chequered marble table.

Sharp highlights that move with the view, procedural textures, a wire sphere and a torus knot.
"""

import numpy as np
from scipy.interpolate import CubicSpline

from nerfkit.scenes.tracer import shapes
from nerfkit.scenes.tracer.assembly import Assembly, Geometry, aim, turn
from nerfkit.scenes.tracer.materials import Material, plain
from nerfkit.scenes.tracer.textures import checker, mix, noise, rgb, rings, stripes

TABLE = -0.45  # height of the table's top


def _marble(p: np.ndarray) -> np.ndarray:
    bent = p[:, 0] + p[:, 1] + 0.35 * noise(p, 0.35)
    vein = np.abs(np.sin(14 * bent + 5 * noise(p, 0.15))) < 0.10
    black = mix(rgb("23262b"), rgb("8d9096"), 0.6 * vein)
    white = mix(rgb("ece7dd"), rgb("a39c92"), 0.7 * vein)
    square = checker(p + np.float32(0.0625), 0.125)
    tiles = np.where(square[:, None] > 0, black, white)
    rim = np.hypot(p[:, 0], p[:, 1]) > 0.86
    return np.where(
        rim[:, None], mix(rgb("6b4426"), rgb("9c6a3c"), noise(p * [1, 1, 6], 0.12)), tiles
    )


def _vase(p: np.ndarray) -> np.ndarray:
    angle = np.arctan2(p[:, 1], p[:, 0])
    twist = np.floor(angle * 9 / np.pi + 7 * p[:, 2]) % 2
    bands = np.abs(p[:, 2] - 0.36) < 0.19
    blue = np.where(bands, twist, np.abs(np.sin(26 * p[:, 2])) < 0.25)
    return mix(rgb("f3efe4"), rgb("1f3f9a"), blue)


def _wood(p: np.ndarray) -> np.ndarray:
    return mix(rgb("d9a566"), rgb("7a4420"), rings(p, 0.028, 0.9))


def _orange(p: np.ndarray) -> np.ndarray:
    return mix(rgb("d96a0b"), rgb("ff9a2a"), noise(p, 0.018))


def _planet(p: np.ndarray) -> np.ndarray:
    swirl = noise(p, 0.22)
    return mix(
        mix(rgb("0f5b5e"), rgb("2fb5a0"), swirl),
        rgb("f6e7b4"),
        stripes(p + 0.07 * swirl[:, None], 0.075, (0, 0, 1), 0.38),
    )


def _cloth(p: np.ndarray) -> np.ndarray:
    weave = checker(p, 0.011)
    tartan = 0.5 * stripes(p, 0.11, (1, 0, 0), 0.45) + 0.5 * stripes(p, 0.11, (0, 1, 0), 0.45)
    return mix(rgb("8f1d2c"), rgb("f0dfc4"), tartan) * (0.8 + 0.2 * weave)[:, None]


MARBLE = Material(_marble, 0.18)
VASE = Material(_vase, 0.08)
WOOD = Material(_wood, 0.35)
ORANGE = Material(_orange, 0.42)
PLANET = Material(_planet, 0.1)
CLOTH = Material(_cloth, 0.9)
GOLD = plain("ffc766", 0.28, metallic=1.0)
COPPER = plain("d98a63", 0.28, metallic=1.0)
STEEL = plain("cfd4da", 0.16, metallic=1.0)
CHERRY = plain("a3122a", 0.06)
JADE = plain("3f8f5e", 0.12)
IVORY = plain("f2e9d2", 0.25)
BLACK = plain("1b1b1f", 0.2)
GREEN = plain("3f6f2f", 0.5)


def geometry() -> Geometry:
    """Build the scene."""
    scene = Assembly()
    profile = [(0, -0.07), (0.85, -0.07), (0.91, -0.055), (0.92, -0.02), (0.90, 0), (0, 0)]
    scene.add(shapes.lathe(profile, 96), MARBLE, (0, 0, TABLE))
    foot = [(0, -0.36), (0.42, -0.36), (0.42, -0.33), (0.16, -0.29), (0.10, -0.2), (0.13, -0.07)]
    scene.add(shapes.lathe([*foot, (0, -0.07)], 64), WOOD, (0, 0, TABLE))
    _vase_with_twigs(scene)
    _knot(scene)
    _fruit(scene)
    _wire_sphere(scene)
    _dice(scene)
    _chess(scene)
    with scene.frame((0.10, -0.52, TABLE + 0.17)):
        scene.add(shapes.sphere(0.17, 5), PLANET, rotation=turn(x=24, y=12))
    scene.add(shapes.sphere(0.085, 4), CHERRY, (-0.16, -0.68, TABLE + 0.085))
    scene.add(shapes.sphere(0.065, 4), STEEL, (0.35, -0.70, TABLE + 0.065))
    return scene.geometry()


def _vase_with_twigs(scene: Assembly) -> None:
    outer = np.array(
        [(0.10, 0.0), (0.13, 0.015), (0.19, 0.10), (0.225, 0.22), (0.215, 0.34), (0.16, 0.47)]
        + [(0.095, 0.56), (0.075, 0.63), (0.08, 0.68), (0.11, 0.73)]
    )
    t, fine = np.linspace(0, 1, len(outer)), np.linspace(0, 1, 48)
    wall = CubicSpline(t, outer)(fine)
    inner = [(r - 0.014, z) for r, z in wall[:12:-1]]
    profile = [(0, 0), *map(tuple, wall), *inner, (0, inner[-1][1])]
    with scene.frame((-0.16, 0.30, TABLE)):
        scene.add(shapes.lathe(profile, 72), VASE)
        random = np.random.default_rng(3)
        for k in range(7):
            angle = 2 * np.pi * k / 7
            out = np.array([np.cos(angle), np.sin(angle)]) * random.uniform(0.16, 0.34)
            t = np.linspace(0, 1, 9)[:, None]
            path = np.concatenate([out * t**1.8, 0.25 + random.uniform(0.66, 0.86) * t], 1)
            path[:, :2] += random.normal(0, 0.008, (9, 2)) * t
            scene.add(shapes.tube(path, 0.008 - 0.004 * t[:, 0], 7), COPPER)
            for i in range(5, 9):
                scene.add(
                    shapes.sphere(0.019, 2), CHERRY if k % 2 else IVORY, path[i] + [0, 0, 0.02]
                )
                scene.add(
                    shapes.leaf(0.085, 0.03, 0.3),
                    GREEN,
                    path[i],
                    aim(np.array([np.cos(2.4 * i + k), np.sin(2.4 * i + k), 0.4])),
                )


def _knot(scene: Assembly) -> None:
    """A trefoil on a wooden block."""
    t = np.linspace(0, 2 * np.pi, 150, endpoint=False)
    path = np.stack(
        [
            np.sin(t) + 2 * np.sin(2 * t),
            np.cos(t) - 2 * np.cos(2 * t),
            -np.sin(3 * t),
        ],
        1,
    )
    with scene.frame((0.42, 0.26, TABLE), turn(z=25)):
        scene.add(shapes.box((0.36, 0.26, 0.13), 0.012), WOOD, (0, 0, 0.065))
        scene.add(
            shapes.tube(0.078 * path, 0.040, 18, closed=True), GOLD, (0, 0, 0.345), turn(x=76)
        )


def _fruit(scene: Assembly) -> None:
    """A footed bowl of oranges on a folded cloth."""
    with scene.frame((-0.52, -0.24, TABLE), turn(z=20)):
        scene.add(shapes.box((0.50, 0.50, 0.012), 0.003), CLOTH, (0, 0, 0.006))
        wall = [(0, 0.012), (0.09, 0.012), (0.10, 0.02), (0.06, 0.05), (0.12, 0.07), (0.19, 0.11)]
        wall += [
            (0.23, 0.17),
            (0.24, 0.19),
            (0.228, 0.19),
            (0.215, 0.165),
            (0.18, 0.12),
            (0, 0.085),
        ]
        scene.add(shapes.lathe(wall, 64), JADE)
        ball = shapes.sphere(0.088, 4)
        for k in range(4):
            angle = np.radians(90 * k + 15)
            scene.add(ball, ORANGE, (0.115 * np.cos(angle), 0.115 * np.sin(angle), 0.205))
        scene.add(ball, ORANGE, (0.0, 0.01, 0.315))
        for at in ((0.0, 0.01, 0.402), (0.115 * np.cos(0.26), 0.115 * np.sin(0.26), 0.292)):
            scene.add(shapes.cylinder(0.011, 0.012, 10), GREEN, at)


def _wire_sphere(scene: Assembly) -> None:
    """Thin rings of latitude and longitude around a small polished ball."""
    ring = shapes.torus(0.175, 0.0065, 72, 8)
    with scene.frame((0.52, -0.30, TABLE + 0.19)):
        for k in range(5):
            scene.add(ring, STEEL, rotation=turn(x=90, z=36 * k))
        for latitude in (-40, 0, 40):
            scale = np.cos(np.radians(latitude))
            at = (0, 0, 0.175 * np.sin(np.radians(latitude)))
            scene.add(shapes.torus(0.175 * scale, 0.0065, 64, 8), STEEL, at)
        scene.add(shapes.sphere(0.07, 4), COPPER)


def _dice(scene: Assembly) -> None:
    pip = shapes.cylinder(0.0125, 0.004, 16)
    spots = {
        1: [(0, 0)],
        2: [(-1, -1), (1, 1)],
        3: [(-1, -1), (0, 0), (1, 1)],
        4: [(-1, -1), (-1, 1), (1, -1), (1, 1)],
        5: [(-1, -1), (-1, 1), (1, -1), (1, 1), (0, 0)],
        6: [(-1, -1), (-1, 0), (-1, 1), (1, -1), (1, 0), (1, 1)],
    }
    sides = [(1, turn()), (6, turn(x=180)), (2, turn(y=90)), (5, turn(y=-90))]
    sides += [(3, turn(x=90)), (4, turn(x=-90))]
    for at, angle, colour, dots in (
        ((-0.02, -0.22, 0.065), 25, IVORY, BLACK),
        ((0.17, -0.26, 0.065), -12, CHERRY, IVORY),
        ((0.08, -0.235, 0.196), 40, BLACK, IVORY),
    ):
        with scene.frame((at[0], at[1], TABLE + at[2]), turn(z=angle)):
            scene.add(shapes.box((0.13, 0.13, 0.13), 0.012), colour)
            for number, rotation in sides:
                with scene.frame((0, 0, 0), rotation):
                    for x, y in spots[number]:
                        scene.add(pip, dots, (0.035 * x, 0.035 * y, 0.0645))


def _chess(scene: Assembly) -> None:
    """Three turned pawns and a bishop-like piece."""
    profile = [(0, 0), (0.058, 0), (0.06, 0.012), (0.05, 0.026), (0.052, 0.034), (0.028, 0.06)]
    profile += [
        (0.02, 0.11),
        (0.019, 0.13),
        (0.036, 0.137),
        (0.036, 0.143),
        (0.02, 0.15),
        (0, 0.152),
    ]
    pawn = shapes.lathe(profile, 36)
    for x, y, material in (
        (0.16, 0.66, IVORY),
        (0.32, 0.60, BLACK),
        (-0.58, 0.28, BLACK),
        (-0.46, 0.48, IVORY),
        (-0.62, 0.46, WOOD),
    ):
        scene.add(pawn, material, (x, y, TABLE))
        scene.add(shapes.sphere(0.034, 3), material, (x, y, TABLE + 0.176))
