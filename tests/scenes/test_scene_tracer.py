"""The ray tracer against a sphere, whose distances and normals are known in closed form."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from nerfkit.scenes.tracer import shapes
from nerfkit.scenes.tracer.assembly import RADIUS, Assembly, turn
from nerfkit.scenes.tracer.materials import plain
from nerfkit.scenes.tracer.rays import EmbreeScene, RayTracer
from nerfkit.scenes.tracer.render import Renderer
from nerfkit.scenes.tracer.rig import Camera, orbit_poses, train_poses


def pixel_rays(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = np.divmod(np.arange(camera.height * camera.width), camera.width)
    return camera.rays(columns + 0.5, rows + 0.5)


@pytest.fixture(scope="module")
def sphere() -> Renderer:
    scene = Assembly()
    scene.add(shapes.sphere(1.0, 5), plain("c03020"))
    return Renderer(scene.geometry())


@pytest.fixture
def camera() -> Camera:
    return Camera(train_poses(7, 5.0, seed=3)[2], 48, 32)


def test_depth_and_normals_of_a_sphere(sphere: Renderer, camera: Camera) -> None:
    frame = sphere(camera)
    origins, directions = (v.astype(np.float64) for v in pixel_rays(camera))
    along = -np.einsum("ni,ni->n", origins, directions)
    gap = RADIUS**2 - (np.einsum("ni,ni->n", origins, origins) - along**2)
    inside = gap > 0.05  # away from the rim, where facets matter
    distance = along - np.sqrt(np.where(inside, gap, 0))
    points = origins + distance[:, None] * directions

    error = np.abs(frame.ray_distance.ravel() - distance)[inside]
    assert error.max() < 4e-3  # 1.5e-3 measured: facets, not rounding
    cosine = directions @ -camera.c2w[:3, 2]
    np.testing.assert_allclose(
        frame.z_depth.ravel()[inside], (distance * cosine)[inside], atol=4e-3
    )
    normal = frame.normal.reshape(-1, 3)[inside]
    assert np.abs(normal - points[inside] / RADIUS).max() < 5e-3  # 9e-4 measured

    outside = gap < -0.4  # more than a pixel from the rim
    assert not frame.ray_distance.ravel()[outside].any()
    assert not frame.z_depth.ravel()[outside].any()
    assert not frame.normal.reshape(-1, 3)[outside].any()
    assert not frame.rgba.reshape(-1, 4)[outside].any()


def test_alpha_is_partial_only_at_edges(sphere: Renderer, camera: Camera) -> None:
    alpha = sphere(camera).rgba[..., 3]
    partial = (alpha > 0) & (alpha < 255)
    assert partial.sum() > 20
    assert set(np.unique(alpha[partial])) <= {64, 128, 191}  # of four samples
    around = sliding_window_view(np.pad(alpha, 2, mode="edge"), (5, 5)).reshape(32, 48, 25)
    assert (around[partial].min(1) == 0).all()
    assert (around[partial].max(1) == 255).all()


def test_a_known_point_shows_at_its_pixel() -> None:
    scene = Assembly()
    scene.add(shapes.box((1.2, 1.2, 1.2)), plain("303030"))
    red = shapes.sphere(0.08)
    scene.add(red, plain("ff1010"), (0.4, -0.6, 0.35))
    renderer = Renderer(scene.geometry())
    mine = renderer.geometry.part == 1
    centre = renderer.geometry.positions[mine].reshape(-1, 3).mean(0)
    seen = 0
    for c2w in orbit_poses(8, 4.0):
        camera = Camera(c2w, 64, 48)
        x, y = camera.project(centre[None])[0]
        frame = renderer(camera)
        distance = np.linalg.norm(centre - c2w[:3, 3])
        if abs(frame.ray_distance[int(y), int(x)] - distance) > 0.12:
            continue  # behind the box
        seen += 1
        r, g, b, _ = frame.rgba[int(y), int(x)].astype(int)
        assert r > 2 * max(g, b)
        rows, columns = np.nonzero(frame.rgba[..., 0] > 2.0 * frame.rgba[..., 1].astype(int) + 40)
        middle = np.array([columns.mean() + 0.5, rows.mean() + 0.5])
        assert np.abs(middle - (x, y)).max() < 1.0  # 0.43 pixels measured
    assert seen >= 3


@pytest.mark.parametrize("engine", [True, False], ids=lambda e: "embree" if e else "trimesh")
def test_first_hit_and_shadow(engine: bool) -> None:
    if engine and EmbreeScene is None:
        pytest.skip("embreex is not installed")
    if not engine:
        pytest.importorskip("rtree", reason="trimesh's own engine needs rtree")
    triangles = np.float32(
        [[[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 0, -1], [1, 0, -1], [0, 1, -1]]]
    )
    tracer = RayTracer(triangles, use_embree=engine)
    origins = np.float32([[0.2, 0.3, 2], [0.2, 0.3, -0.5], [2, 2, 2]])
    directions = np.float32([[0, 0, -1]] * 3)
    t, triangle, weights = tracer.first_hit(origins, directions)
    assert triangle.tolist() == [0, 1, -1]
    np.testing.assert_allclose(t[:2], [2, 0.5], atol=1e-6)  # 1e-7 measured
    assert np.isinf(t[2])
    np.testing.assert_allclose(weights[:2], [[0.5, 0.2, 0.3]] * 2, atol=1e-6)  # 6e-8 measured
    assert tracer.occluded(origins, directions).tolist() == [True, True, False]


def test_a_shadow_is_darker() -> None:
    """A slab under a smaller raised slab: the lit part of the floor is much brighter."""
    scene = Assembly()
    scene.add(shapes.box((2, 2, 0.05)), plain("c0c0c0"))
    scene.add(shapes.box((0.6, 0.6, 0.05)), plain("c0c0c0"), (0, 0, 0.6))
    renderer = Renderer(scene.geometry())
    low, high = renderer.geometry.positions.reshape(-1, 3)[:, 2].min(), 0.05
    camera = Camera(orbit_poses(4, 4.0)[0], 64, 64)
    frame = renderer(camera)
    origins, directions = pixel_rays(camera)
    points = origins + frame.ray_distance.reshape(-1, 1) * directions
    floor = (frame.normal.reshape(-1, 3)[:, 2] > 0.99) & (points[:, 2] < (low + high) / 2)
    light = frame.rgba.reshape(-1, 4)[floor, 0].astype(int)
    dark = light < 0.75 * np.median(light)
    assert 0.02 < dark.mean() < 0.3
    sun = renderer.geometry.light.towards_sun
    height = renderer.geometry.positions[..., 2].max() - points[floor][:, 2]
    shadow_source = points[floor] + (height / sun[2])[:, None] * sun
    under = np.abs(shadow_source[dark][:, :2]).max(1)
    assert np.median(under) < 0.45  # dark floor lies sunward-below the small slab


def test_rotation_order_and_frames() -> None:
    scene = Assembly()
    with scene.frame((1, 0, 0), turn(z=90)):
        scene.add(shapes.box((0.2, 0.2, 0.2)), plain("ffffff"), (1, 0, 0))
        scene.add(shapes.box((0.2, 0.2, 0.2)), plain("ffffff"))
    scene.add(shapes.box((0.2, 0.2, 0.2)), plain("ffffff"))
    geometry = scene.geometry()
    middles = [geometry.positions[geometry.part == i].mean((0, 1)) for i in range(3)]
    a, b = middles[0] - middles[1], middles[1] - middles[2]
    np.testing.assert_allclose(a / np.linalg.norm(a), [0, 1, 0], atol=1e-5)
    np.testing.assert_allclose(b / np.linalg.norm(b), [1, 0, 0], atol=1e-5)
    farthest = np.linalg.norm(geometry.positions, axis=2).max()
    assert farthest == pytest.approx(RADIUS, rel=1e-6)
