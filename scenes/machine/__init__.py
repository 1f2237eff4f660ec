"""`machine`: a toy excavator on a studded plate, with a brick wall, a crate and a railing.

Many small parts, thin rods, hard shadows and sharp textures; the default demo scene. +X is the
excavator's front.
"""

import itertools

import numpy as np

from nerfkit.scenes.tracer import shapes
from nerfkit.scenes.tracer.assembly import Assembly, Geometry, aim, turn
from nerfkit.scenes.tracer.materials import Material, plain
from nerfkit.scenes.tracer.textures import bricks, checker, mix, noise, rgb, rings, stripes

FLOOR = -0.60  # height of the plate's top

YELLOW = plain("f2b01e", 0.28)
DARK = plain("2b2d31", 0.45)
RUBBER = plain("1c1c1f", 0.7)
GREY = plain("8d9299", 0.35)
STEEL = plain("d9dde2", 0.22, metallic=1.0)
RED = plain("c92a1e", 0.25)
GLASS = plain("3f7fb5", 0.08)
LAMP = plain("ff8a1f", 0.1)


def _plate(p: np.ndarray) -> np.ndarray:
    tone = mix(rgb("5d8745"), rgb("6c9650"), noise(p, 0.5))
    road = np.abs(p[:, 1] + 0.0) < 0.30
    paved = mix(rgb("7b7c80"), rgb("94959a"), noise(p, 0.08))
    line = (np.abs(np.abs(p[:, 1]) - 0.26) < 0.012) | (
        (np.abs(p[:, 1]) < 0.012) & (stripes(p, 0.24, (1, 0, 0)) > 0)
    )
    paved = np.where(line[:, None], rgb("eeeadc"), paved)
    return np.where(road[:, None], paved, tone)


def _hazard(p: np.ndarray) -> np.ndarray:
    return mix(rgb("1d1d1f"), rgb("f5c518"), stripes(p, 0.11, (0, 1, 1)))


def _brick(p: np.ndarray) -> np.ndarray:
    joint, shade = bricks(p, (0.15, 0.062), 0.012)
    clay = mix(rgb("8c3b2a"), rgb("c46a4a"), shade) * (0.75 + 0.5 * noise(p, 0.06))[:, None]
    return np.where(joint[:, None] > 0, rgb("cfc8bb"), clay)


def _wood(p: np.ndarray) -> np.ndarray:
    return mix(rgb("d3a066"), rgb("7f4f26"), rings(p, 0.022, 0.8))


def _roof(p: np.ndarray) -> np.ndarray:
    return mix(rgb("f4f1e8"), rgb("c92a1e"), checker(p, 0.055))


def _rust(p: np.ndarray) -> np.ndarray:
    return mix(rgb("6b4a37"), rgb("a7a29b"), np.clip(2.2 * noise(p, 0.12) - 0.5, 0, 1))


PLATE = Material(_plate, 0.55)
HAZARD = Material(_hazard, 0.35)
BRICK = Material(_brick, 0.8)
WOOD = Material(_wood, 0.5)
ROOF = Material(_roof, 0.25)
RUST = Material(_rust, 0.5)


def geometry() -> Geometry:
    """Build the scene."""
    scene = Assembly()
    _ground(scene)
    with scene.frame((-0.12, 0.0, FLOOR), turn(z=14)):
        for side in (-1, 1):
            _track(scene, side * 0.255)
        scene.add(shapes.box((0.42, 0.36, 0.12), 0.015), DARK, (0, 0, 0.2))
        scene.add(shapes.cylinder(0.17, 0.07, 48, bevel=0.01), STEEL, (0, 0, 0.285))
        with scene.frame((0, 0, 0.31), turn(z=-34)):
            _body(scene)
            _cabin(scene)
            _boom(scene)
    with scene.frame((-0.48, 0.57, FLOOR), turn(z=12)):
        _wall(scene)
    with scene.frame((0.60, -0.53, FLOOR), turn(z=-25)):
        _crates(scene)
    _railing(scene)
    _cones(scene)
    return scene.geometry()


def _ground(scene: Assembly) -> None:
    scene.add(shapes.box((1.68, 1.52, 0.07), 0.012), PLATE, (0, 0, FLOOR - 0.035))
    stud = shapes.cylinder(0.03, 0.024, 18, bevel=0.006)
    green = [plain("67914b", 0.4), plain("5d8745", 0.4)]
    for i in range(15):
        for j in range(13):
            x, y = -0.77 + 0.11 * i, -0.66 + 0.11 * j
            if abs(y) > 0.32:
                scene.add(stud, green[(i + j) % 2], (x, y, FLOOR + 0.012))


def _track(scene: Assembly, y: float) -> None:
    """A loop of tread plates around five wheels, 0.8 long and 0.24 high."""
    half, radius, count = 0.28, 0.115, 34
    length = 4 * half + 2 * np.pi * radius
    tread = shapes.box((length / count * 0.74, 0.17, 0.026), 0.004)
    for i in range(count):
        s = (i + 0.5) / count * length
        if s < 2 * half:
            x, z, angle = s - half, 2 * radius, 0.0
        elif s < 2 * half + np.pi * radius:
            angle = (s - 2 * half) / radius
            x, z = half + radius * np.sin(angle), radius + radius * np.cos(angle)
        elif s < 4 * half + np.pi * radius:
            x, z, angle = half - (s - 2 * half - np.pi * radius), 0.0, np.pi
        else:
            angle = np.pi + (s - 4 * half - np.pi * radius) / radius
            x, z = -half + radius * np.sin(angle), radius + radius * np.cos(angle)
        scene.add(tread, RUBBER, (x, y, z + 0.013), turn(y=np.degrees(angle)))
    scene.add(shapes.box((2 * half, 0.09, 0.06), 0.01), GREY, (0, y, radius + 0.013))
    wheel, hub = shapes.cylinder(0.085, 0.13, 36, bevel=0.012), shapes.cylinder(0.03, 0.15, 20)
    small = shapes.cylinder(0.05, 0.13, 28, bevel=0.008)
    for x, disc, z in (
        (-half, wheel, radius + 0.013),
        (half, wheel, radius + 0.013),
        (-0.13, small, 0.077),
        (0.0, small, 0.077),
        (0.13, small, 0.077),
    ):
        scene.add(disc, GREY, (x, y, z), turn(x=90))
        scene.add(hub, RED, (x, y, z), turn(x=90))


def _body(scene: Assembly) -> None:
    scene.add(shapes.box((0.74, 0.5, 0.07), 0.014), DARK, (-0.06, 0, 0.04))
    scene.add(shapes.box((0.34, 0.46, 0.22), 0.03), YELLOW, (-0.22, 0, 0.18))
    scene.add(shapes.box((0.10, 0.48, 0.24), 0.03), HAZARD, (-0.42, 0, 0.17))
    scene.add(shapes.box((0.30, 0.2, 0.12), 0.02), YELLOW, (0.12, -0.14, 0.13))
    slat = shapes.box((0.20, 0.012, 0.014))
    for k in range(7):  # engine grille on both sides
        for y in (-0.236, 0.236):
            scene.add(slat, DARK, (-0.22, y, 0.105 + 0.025 * k))
    vent = shapes.box((0.012, 0.24, 0.012))
    for k in range(6):
        scene.add(vent, DARK, (-0.16 - 0.028 * k, -0.04, 0.293))
    scene.add(shapes.cylinder(0.026, 0.22, 24), STEEL, (-0.30, -0.16, 0.38))
    scene.add(
        shapes.tube([(0, 0, 0), (0, 0, 0.05), (-0.03, 0, 0.085), (-0.075, 0, 0.1)], 0.021, 16),
        STEEL,
        (-0.30, -0.16, 0.48),
    )
    stud = shapes.cylinder(0.026, 0.022, 20, bevel=0.005)
    for i in range(3):
        for y in (0.1, 0.17):
            scene.add(stud, YELLOW, (-0.33 + 0.085 * i, y, 0.30))
    for k, y in enumerate((-0.21, -0.07, 0.07, 0.21)):
        scene.add(shapes.sphere(0.022, 3), RED if k in (0, 3) else LAMP, (-0.475, y, 0.12))


def _cabin(scene: Assembly) -> None:
    """Open cabin with thin pillars, a seat, levers and a chequered roof."""
    with scene.frame((0.13, 0.13, 0.075)):
        scene.add(shapes.box((0.30, 0.22, 0.10), 0.012), YELLOW, (0, 0, 0.05))
        for x, y in ((-0.135, -0.095), (-0.135, 0.095), (0.135, -0.095), (0.135, 0.095)):
            lean = 0.0 if x < 0 else -0.03
            scene.add(shapes.rod((x, y, 0.09), (x + lean, y, 0.41), 0.0105), DARK)
        scene.add(shapes.box((0.33, 0.26, 0.03), 0.01), ROOF, (-0.01, 0, 0.42))
        scene.add(shapes.box((0.008, 0.17, 0.26)), GLASS, (-0.135, 0, 0.25))
        scene.add(shapes.box((0.11, 0.11, 0.03), 0.01), RED, (-0.05, 0, 0.125))
        scene.add(shapes.box((0.03, 0.11, 0.13), 0.01), RED, (-0.10, 0, 0.20))
        for y in (-0.045, 0.045):
            scene.add(shapes.rod((0.07, y, 0.09), (0.04, y, 0.20), 0.006), STEEL)
            scene.add(shapes.sphere(0.015, 3), DARK, (0.04, y, 0.205))
        scene.add(shapes.cylinder(0.028, 0.02, 24), DARK, (-0.08, 0, 0.445))
        scene.add(shapes.sphere(0.028, 3), LAMP, (-0.08, 0, 0.462))
        scene.add(shapes.rod((-0.13, -0.1, 0.43), (-0.16, -0.1, 0.66), 0.005, 8), DARK)
        scene.add(shapes.sphere(0.012, 2), RED, (-0.16, -0.1, 0.66))


def _boom(scene: Assembly) -> None:
    """Two-part arm with hydraulic cylinders and hoses, and a toothed bucket."""
    base, elbow, tip = np.array([(0.24, 0.16), (0.62, 0.66), (0.93, 0.22)])
    y = -0.13
    for start, end, wide in ((base, elbow, 0.085), (elbow, tip, 0.065)):
        along = end - start
        length = np.linalg.norm(along)
        angle = np.degrees(np.arctan2(along[1], along[0]))
        outline = [(-0.04, -0.03), (length * 0.45, -wide), (length + 0.04, -0.03)]
        outline += [(length + 0.04, 0.03), (length * 0.45, wide * 0.5), (-0.04, 0.03)]
        with scene.frame((start[0], y, start[1]), turn(y=-angle)):
            scene.add(shapes.prism(outline, 0.075), YELLOW)
            scene.add(shapes.box((length * 0.5, 0.082, 0.014)), DARK, (length * 0.45, 0, -0.02))
            scene.add(shapes.cylinder(0.034, 0.11, 28, bevel=0.006), STEEL, (0, 0, 0), turn(x=90))
    scene.add(shapes.cylinder(0.03, 0.11, 28), STEEL, (tip[0], y, tip[1]), turn(x=90))
    for side in (-0.062, 0.062):
        for a, b in (((0.30, 0.12), (0.47, 0.36)), ((0.44, 0.58), (0.74, 0.55))):
            a, b = np.array([a[0], y + side, a[1]]), np.array([b[0], y + side, b[1]])
            scene.add(shapes.rod(a, a + 0.6 * (b - a), 0.022, 20), DARK)
            scene.add(shapes.rod(a + 0.55 * (b - a), b, 0.012, 14), STEEL)
    t = np.linspace(0, 1, 14)[:, None]
    for side in (-0.03, 0.03):  # hoses hang from the boom to the arm
        hose = (1 - t) ** 2 * [0.45, y + side, 0.52] + t**2 * [0.80, y + side, 0.47]
        scene.add(shapes.tube(hose + 2 * t * (1 - t) * [0.66, y + side, 0.86], 0.008, 8), RUBBER)
    with scene.frame((tip[0], y, tip[1])):
        arc = np.radians(np.linspace(100, 290, 12))
        inner = np.stack([0.13 * np.cos(arc), 0.13 * np.sin(arc)], 1) + [0.0, -0.13]
        for a, b in itertools.pairwise(inner):
            middle, along = (a + b) / 2, b - a
            angle = np.degrees(np.arctan2(along[1], along[0]))
            plate = shapes.box((np.linalg.norm(along) * 1.25, 0.26, 0.018))
            scene.add(plate, RUST, (middle[0], 0, middle[1]), turn(y=-angle))
        for side in (-0.13, 0.13):
            scene.add(shapes.prism([tuple(p) for p in inner], 0.016), RUST, (0, side, 0))
        tooth = shapes.prism([(0, -0.012), (0.07, 0), (0, 0.012)], 0.03)
        for k in range(5):
            scene.add(tooth, STEEL, (inner[-1][0], -0.108 + 0.054 * k, inner[-1][1]), turn(y=-22))


def _wall(scene: Assembly) -> None:
    """A broken brick wall with steps, and a drum before it."""
    for k, (width, x) in enumerate(((0.60, 0.0), (0.60, 0.0), (0.45, -0.075), (0.15, -0.225))):
        scene.add(shapes.box((width, 0.10, 0.124), 0.004), BRICK, (x, 0, 0.062 + 0.124 * k))
    scene.add(
        shapes.cylinder(0.075, 0.2, 36, bevel=0.008),
        Material(_stripe_drum, 0.3),
        (0.45, -0.02, 0.1),
    )
    for z in (0.035, 0.1, 0.165):
        scene.add(shapes.torus(0.076, 0.006, 40, 8), STEEL, (0.45, -0.02, z))


def _stripe_drum(p: np.ndarray) -> np.ndarray:
    return mix(rgb("1d6fa5"), rgb("f4f4ee"), np.abs(p[:, 2]) < 0.022)


def _crates(scene: Assembly) -> None:
    """Two wooden crates of planks and a stack of bright toy bricks."""
    for at, size, angle in (((0, 0, 0), 0.24, 0), ((0.02, 0.01, 0.24), 0.17, 30)):
        with scene.frame(at, turn(z=angle)):
            plank = shapes.box((size, size * 0.02 + 0.008, size * 0.28), 0.003)
            for face in range(4):
                with scene.frame((0, 0, 0), turn(z=90 * face)):
                    for k in range(3):
                        scene.add(plank, WOOD, (0, -size / 2 + 0.01, size * (0.17 + 0.33 * k)))
            scene.add(shapes.box((size * 0.94, size * 0.94, size * 0.9)), DARK, (0, 0, size * 0.47))
            lid = shapes.box((size, size * 0.3, 0.014), 0.003)
            for k in (-1, 0, 1):
                scene.add(lid, WOOD, (0, k * size * 0.33, size * 0.99))
    brick, stud = (
        shapes.box((0.20, 0.10, 0.07), 0.006),
        shapes.cylinder(0.026, 0.02, 20, bevel=0.005),
    )
    for colour, at, angle in (
        ("d7263d", (-0.36, -0.10, 0.0), 20),
        ("1b7ac2", (-0.34, -0.09, 0.07), 75),
        ("f4f1e8", (-0.36, -0.11, 0.14), 10),
    ):
        toy = plain(colour, 0.2)
        with scene.frame(at, turn(z=angle)):
            scene.add(brick, toy, (0, 0, 0.035))
            for x in (-0.05, 0.05):
                for y in (-0.025, 0.025):
                    scene.add(stud, toy, (x, y, 0.08), None)


def _railing(scene: Assembly) -> None:
    """Thin posts and rails along two edges of the plate."""
    far, side = 0.71, 0.79
    posts = [(x, far) for x in np.linspace(0.05, side, 7)]
    posts += [(side, y) for y in np.linspace(far, 0.36, 4)[1:]]
    for x, y in posts:
        scene.add(shapes.rod((x, y, FLOOR), (x, y, FLOOR + 0.26), 0.008, 8), STEEL)
        scene.add(shapes.sphere(0.016, 2), RED, (x, y, FLOOR + 0.27))
    for height in (0.13, 0.24):
        for a, b in (((0.05, far), (side, far)), ((side, far), (side, 0.36))):
            scene.add(shapes.rod((*a, FLOOR + height), (*b, FLOOR + height), 0.006, 8), STEEL)


def _cones(scene: Assembly) -> None:
    def bands(p: np.ndarray) -> np.ndarray:
        return mix(rgb("ee5a1c"), rgb("f6f3ea"), stripes(p + 0.02, 0.075, (0, 0, 1), 0.4))

    orange = Material(bands, 0.4)
    for x, y in ((0.70, 0.22), (-0.74, -0.2), (-0.70, -0.62), (0.0, -0.64)):
        scene.add(shapes.box((0.12, 0.12, 0.016), 0.004), DARK, (x, y, FLOOR + 0.032), turn(z=20))
        scene.add(shapes.cylinder(0.045, 0.16, 28, top=0.012), orange, (x, y, FLOOR + 0.118))
    ball = aim(np.array([0.3, 0.2, 1.0]))
    scene.add(shapes.sphere(0.09), Material(_ball, 0.12), (-0.46, -0.55, FLOOR + 0.112), ball)


def _ball(p: np.ndarray) -> np.ndarray:
    wedge = np.floor(np.arctan2(p[:, 1], p[:, 2]) / (np.pi / 3)) % 2
    return np.where((wedge > 0)[:, None], rgb("f7f4ea"), rgb("2457c5"))
