"""Cameras: rays and projection undo each other; distortion undoes itself; bad ones are refused."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nerfkit.cameras import Cameras, check_cameras
from nerfkit.distortion import (
    distort_fisheye,
    distort_opencv,
    undistort_fisheye,
    undistort_opencv,
)
from nerfkit.errors import NerfkitError

LENSES = {
    "PINHOLE": [0.0] * 6,
    "OPENCV": [0.0578, -0.0805, 0.01, 0.0, -0.00098, 0.000156],
    "OPENCV_FISHEYE": [0.03, -0.01, 0.004, -0.001, 0.0, 0.0],
}


def random_rotations(n: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    q, r = torch.linalg.qr(torch.randn(n, 3, 3, generator=generator, dtype=torch.float64))
    q = q * torch.sign(torch.diagonal(r, dim1=1, dim2=2))[:, None]
    return q * torch.linalg.det(q)[:, None, None]


def make_cameras(models: list[str], width: int = 40, height: int = 30) -> Cameras:
    n = len(models)
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn(n, 3, 1, generator=generator, dtype=torch.float64)
    return Cameras(
        c2w=torch.cat([random_rotations(n), centres], dim=2),
        fx=torch.full((n,), 0.9 * width) + torch.arange(n),
        fy=torch.full((n,), 0.95 * width),
        cx=torch.full((n,), 0.51 * width),
        cy=torch.full((n,), 0.48 * height),
        width=torch.full((n,), width),
        height=torch.full((n,), height),
        model=models,
        distortion=torch.tensor([LENSES[m] for m in models]),
    )


def test_pinhole_by_hand() -> None:
    """Camera at (1, 2, 3), unrotated: looks along -Z; pixel right of centre goes +X."""
    c2w = torch.eye(4)[None, :3].clone()
    c2w[0, :, 3] = torch.tensor([1.0, 2, 3])
    ten, size = torch.tensor([10.0]), torch.tensor([8])
    four = torch.tensor([4.0])
    cameras = Cameras(c2w, ten, ten, four, four, size, size, ["PINHOLE"], torch.zeros(1, 6))
    pixels = torch.tensor([[4.0, 4.0], [14.0, 4.0], [4.0, 14.0]])
    rays = cameras.rays(torch.zeros(3, dtype=torch.int64), pixels)
    s = math.sqrt(0.5)
    wanted = torch.tensor([[0.0, 0, -1], [s, 0, -s], [0, -s, -s]])
    torch.testing.assert_close(rays.directions, wanted)
    assert rays.origins.tolist() == [[1, 2, 3]] * 3
    assert rays.origins.is_contiguous() and rays.directions.is_contiguous()
    # row-major: the second ray is one pixel to the right of the first
    image = cameras.image_rays(0)
    corner = torch.tensor([[0.5, 0.5], [1.5, 0.5]])
    expected = cameras.rays(torch.zeros(2, dtype=torch.int64), corner).directions
    torch.testing.assert_close(image.directions[:2], expected)
    assert image.directions.shape == (64, 3)


@pytest.mark.parametrize(
    "models",
    [["PINHOLE"] * 3, ["OPENCV"] * 3, ["OPENCV_FISHEYE"] * 3, [*LENSES, *LENSES]],
    ids=["pinhole", "opencv", "fisheye", "mixed"],
)
def test_rays_undo_projection(models: list[str]) -> None:
    cameras = make_cameras(models)
    generator = torch.Generator().manual_seed(2)
    indices = torch.randint(len(cameras), (200,), generator=generator)
    pixels = torch.rand(200, 2, generator=generator) * torch.tensor([40.0, 30.0])
    rays = cameras.rays(indices, pixels)
    norms = rays.directions.double().norm(dim=-1)
    assert (norms - 1).abs().max() < 3e-7  # worst measured: 1.5e-7
    for index in range(len(cameras)):
        mine = indices == index
        points = (rays.origins[mine] + 2.5 * rays.directions[mine]).double()
        projected, depth = cameras.project(points, index)
        assert (depth > 0).all() and (depth <= 2.5 + 1e-6).all()
        assert (projected - pixels[mine]).abs().max() < 5e-5  # pixels; worst measured: 6e-6


def test_project_behind_has_negative_depth() -> None:
    cameras = make_cameras(["PINHOLE"])
    back = cameras.c2w[0, :, 3] + cameras.c2w[0, :, 2]
    assert float(cameras.project(back[None], 0)[1]) == pytest.approx(-1)


def test_image_rays_equal_rays() -> None:
    cameras = make_cameras(["OPENCV", "PINHOLE"])
    j, i = 7, 21
    one = cameras.rays(torch.tensor([0]), torch.tensor([[j + 0.5, i + 0.5]]))
    torch.testing.assert_close(cameras.image_rays(0).directions[i * 40 + j], one.directions[0])


def test_fisheye_beyond_a_right_angle() -> None:
    """A fisheye sees behind itself: the ray has the angle that projection gave."""
    cameras = make_cameras(["OPENCV_FISHEYE"])
    cameras.distortion.zero_()
    theta = 2.0
    axis = cameras.c2w[0, :, :3] @ torch.tensor([math.sin(theta), 0.0, -math.cos(theta)]).double()
    pixels, depth = cameras.project((cameras.c2w[0, :, 3] + axis)[None], 0)
    assert float(depth) < 0
    ray = cameras.rays(torch.tensor([0]), pixels)
    torch.testing.assert_close(ray.directions[0], axis.float(), rtol=0, atol=1e-6)


def test_no_rays_and_no_cameras() -> None:
    cameras = make_cameras(["OPENCV"])
    none = cameras.rays(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 2))
    assert none.directions.shape == none.origins.shape == (0, 3)
    assert len(cameras[:0]) == 0


def test_indexing_and_json() -> None:
    cameras = make_cameras([*LENSES])
    assert cameras[1].model == ["OPENCV"] and cameras[-1].model == ["OPENCV_FISHEYE"]
    picked = cameras[torch.tensor([2, 0])]
    assert picked.model == ["OPENCV_FISHEYE", "PINHOLE"]
    assert torch.equal(picked.c2w, cameras.c2w[[2, 0]])
    again = Cameras.from_dict(json.loads(json.dumps(cameras.to_dict())))
    for name in ("c2w", "fx", "width", "distortion"):
        assert torch.equal(getattr(again, name), getattr(cameras, name))
    assert len(Cameras.from_dict(cameras[:0].to_dict())) == 0


def test_resized() -> None:
    half = make_cameras(["OPENCV"], width=41, height=31).resized(2)
    assert half.width.tolist() == [20] and half.height.tolist() == [15]
    with pytest.raises(NerfkitError, match="leaves no pixels"):
        half.resized(16)
    with pytest.raises(NerfkitError, match="whole number"):
        half.resized(0)


def test_wrong_shape_is_named() -> None:
    cameras = make_cameras(["PINHOLE"] * 2).to_dict() | {"model": ["PINHOLE"]}
    with pytest.raises((ValueError, RuntimeError)):
        Cameras.from_dict(cameras)


COEFFICIENT = st.floats(-1, 1)


@settings(max_examples=60, deadline=None)
@given(c=st.lists(COEFFICIENT, min_size=6, max_size=6))
def test_opencv_round_trip(c: list[float]) -> None:
    """Lenses at least as strong as any phone's; half-angle up to 45 degrees."""
    scales = torch.tensor([0.15, 0.05, 0.01, 0.002, 0.005, 0.005], dtype=torch.float64)
    k = (torch.tensor(c, dtype=torch.float64) * scales)[:, None]
    grid = torch.linspace(-0.7, 0.7, 9, dtype=torch.float64)
    x, y = (v.reshape(-1) for v in torch.meshgrid(grid, grid, indexing="ij"))
    back_x, back_y = undistort_opencv(*distort_opencv(x, y, k), k)
    assert max((back_x - x).abs().max(), (back_y - y).abs().max()) < 1e-13  # worst: 6e-16


@settings(max_examples=60, deadline=None)
@given(c=st.lists(COEFFICIENT, min_size=4, max_size=4))
def test_fisheye_round_trip(c: list[float]) -> None:
    scales = torch.tensor([0.04, 0.01, 0.003, 0.001, 0, 0], dtype=torch.float64)
    k = (torch.tensor([*c, 0, 0], dtype=torch.float64) * scales)[:, None]
    theta = torch.linspace(0, 1.4, 30, dtype=torch.float64)
    back = undistort_fisheye(distort_fisheye(theta, k), k)
    assert (back - theta).abs().max() < 1e-13  # worst: 5e-16


def test_past_the_fold_stays_finite() -> None:
    """Barrel so strong that nothing was imaged at the corner: the plain point comes back."""
    k = torch.tensor([-0.5, 0, 0, 0, 0, 0])[:, None]
    x = torch.tensor([0.1, 2.0])
    got_x, got_y = undistort_opencv(x, x, k)
    assert got_x[1] == got_y[1] == 2
    torch.testing.assert_close(distort_opencv(got_x[:1], got_y[:1], k)[0], x[:1])


def test_far_points_do_not_fold_into_the_image() -> None:
    cameras = make_cameras(["OPENCV"])
    cameras.distortion[0] = torch.tensor([-0.3, 0, 0, 0, 0, 0])
    aside = cameras.c2w[0, :, :3] @ torch.tensor([1.8, 0.0, -1.0]).double()
    pixels, _ = cameras.project((cameras.c2w[0, :, 3] + aside)[None], 0)
    assert float(pixels[0, 0]) > 40


def broken(name: str) -> Cameras:
    cameras = make_cameras(["PINHOLE"] * 2)
    if name == "nan":
        cameras.c2w[1, 0, 3] = float("nan")
    elif name == "inf":
        cameras.c2w[1, 0, 0] = float("inf")
    elif name == "scaled":
        cameras.c2w[1, :, :3] *= 2
    elif name == "sheared":
        cameras.c2w[1, :, 0] += 0.01 * cameras.c2w[1, :, 1]
    elif name == "zero":
        cameras.c2w[1, :, :3] = 0
    elif name == "mirror":
        cameras.c2w[1, :, 0] *= -1
    elif name == "focal":
        cameras.fy[1] = 0
    elif name == "focal-inf":
        cameras.fx[1] = float("inf")
    elif name == "centre":
        cameras.cx[1] = float("nan")
    elif name == "size":
        cameras.width[1] = 0
    elif name == "huge":
        cameras.width[1] = cameras.height[1] = 20_000
    elif name == "model":
        cameras.model[1] = "EQUIRECTANGULAR"
    return cameras


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nan", "pose holds NaN or infinity"),
        ("inf", "pose holds NaN or infinity"),
        ("scaled", "scaled by 2; divide"),
        ("sheared", "not rigid"),
        ("zero", "not rigid"),
        ("mirror", "mirror image"),
        ("focal", "focal lengths must be positive"),
        ("focal-inf", "focal lengths must be positive"),
        ("centre", "principal point"),
        ("size", "image size must be positive"),
        ("huge", "at most 65536 pixels a side and 268435456 in all, got 20000x20000"),
        ("model", "unknown camera model 'EQUIRECTANGULAR'"),
    ],
)
def test_check_names_the_source(name: str, message: str) -> None:
    with pytest.raises(NerfkitError, match=f"^set.json: frame 1: .*{message}"):
        check_cameras(broken(name), ["set.json: frame 0", "set.json: frame 1"])


def test_check_tolerates_rounding() -> None:
    cameras = make_cameras(["PINHOLE"])
    cameras.c2w[0] = torch.from_numpy(np.round(cameras.c2w[0].numpy(), 4))
    check_cameras(cameras, ["a"])
