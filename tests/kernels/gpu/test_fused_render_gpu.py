"""fused_render in Triton against the reference in double precision, on a GPU or interpreted.

Two precisions: operands of products in float32, which must agree to rounding, and in float16 as
shipped, whose error is that of 11-bit operands.
"""

import os
from dataclasses import replace

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is first imported
pytest.importorskip("triton", reason="Triton is not installed")

from closeness import assert_close, assert_gradients_close
from voxel_scene import SIZE, layout, network, rays_around, shell, vertex_values

from nerfkit.kernels.fused_render import Rendered, gpu, reference
from nerfkit.kernels.ray_pieces import Pieces

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
NAMES = ("density", "features", "mlp", "background")
START = 1 / 1024  # what gradient buffers hold before they are added to
SAMPLING = {
    **{"step": SIZE / 8, "density_scale": 8.0, "density_bias": -2.0, "near": 0.05, "far": 1e9},
    **{"early_stop": 0.02, "weight_min": 0.003},
}
# Few lanes, so that they take new rays and wait for one another as often as they can.
SMALL = gpu.Launch(block=16, inner=2, fill=8, regen=4, warps=4, programs=1, half=False)


class Scene:
    """A field and rays by name; `run` renders them, `fit` makes gradients of a squared error."""

    def __init__(self, n_rays, depths, hidden, bands, rays=None):
        octree, vertices, self.grid = layout(depths, shell(depths[-1], 0.2, 1.3))
        self.widths, self.bands = (16 + bands**2, *hidden, 3), bands
        self.origins, self.directions = rays_around(n_rays) if rays is None else rays
        generator = torch.Generator().manual_seed(1)
        n = len(self.origins)
        self.jitter = torch.rand(n, generator=generator)
        self.targets = torch.rand(n, 3, generator=generator)
        self.tensors = {
            "density": vertex_values(vertices, 1) * 3,
            "features": vertex_values(vertices, 16, seed=2) * 0.5,
            "mlp": network(self.widths),
            "background": torch.rand(n, 3, generator=generator),
        }
        self.octree = octree
        self.pieces = None

    def arguments(self, tensors, dtype, device):
        grid = replace(
            self.grid, words=self.grid.words.to(device), tables=self.grid.tables.to(device)
        )
        rays = (x.to(device, dtype) for x in (self.origins, self.directions))
        field = (tensors[name] for name in NAMES[:3])
        jitter = None if self.jitter is None else self.jitter.to(device, dtype)
        settings = {**SAMPLING, "jitter": jitter, "background": tensors.get("background")}
        if self.pieces is not None:
            rows, first = self.pieces.rows.to(device, dtype), self.pieces.first.to(device)
            settings["pieces"] = Pieces(rows, first)
        return list(rays), [grid, *field, self.widths], {**settings, "bands": self.bands}

    def render(self, launch, upstream):
        """Pixels, and the gradients of their sum with `upstream`; by the reference for None."""
        dtype, device = (torch.float64, "cpu") if launch is None else (torch.float32, DEVICE)
        leaves = {
            k: v.to(device, dtype).requires_grad_(upstream is not None)
            for k, v in self.tensors.items()
        }
        rays, field, settings = self.arguments(leaves, dtype, device)
        if launch is None:
            pixels = reference.render_rays(*rays, *field, **settings)
        else:
            pixels = gpu.render_rays(*rays, *field, launches=(launch, launch), **settings)
        if upstream is None:
            return pixels, {}
        sums = [(p * u.to(p)).sum() for p, u in zip(pixels, upstream, strict=True)]
        return pixels, dict(
            zip(leaves, torch.autograd.grad(sum(sums), leaves.values()), strict=True)
        )

    def fit(self, launch, depths=None, with_rays=False, **terms):
        """Buffers by name, and what `fit_rays` returned; `terms` are further ones of the loss."""
        dtype, device = (torch.float64, "cpu") if launch is None else (torch.float32, DEVICE)
        tensors = {k: v.to(device, dtype) for k, v in self.tensors.items()}
        rays, field, settings = self.arguments(tensors, dtype, device)
        buffers = {f"grad_{k}": torch.full_like(tensors[k], START) for k in NAMES[:3]}
        buffers["features_touched"] = torch.zeros_like(tensors["density"], dtype=torch.uint8)
        buffers["max_weights"] = torch.zeros_like(tensors["density"])
        if with_rays:
            n_rows = len(rays[0]) if self.pieces is None else len(self.pieces.rows)
            buffers["grad_rays"] = torch.full((n_rows, 6), START, dtype=dtype, device=device)
        terms["depths"] = None if depths is None else depths.to(device, dtype)
        targets = self.targets.to(device, dtype)
        extra = {} if launch is None else {"launches": (launch, launch)}
        run = reference if launch is None else gpu
        fitted = run.fit_rays(
            *(*rays, targets, *field),
            scale=1 / len(targets),
            **{**buffers, **settings, **extra, **terms},
        )
        return buffers, fitted


def random_like(pixels, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(p.shape, generator=generator) for p in pixels]


SHAPES = {
    "three_levels_one_hidden": (21, (1, 2, 3), (24,), 3),
    "one_level_two_hidden": (17, (3,), (32, 8), 4),
    "no_hidden": (5, (0, 2), (), 1),
}


def assert_pixels_and_gradients_match(scene):
    """With the reference; the tolerances stand beside what the callers measured."""
    want, _ = scene.render(None, None)
    upstream = random_like(want)
    want, want_grads = scene.render(None, upstream)
    got, got_grads = scene.render(SMALL, upstream)
    for name, g, w in zip(Rendered._fields, got, want, strict=True):
        assert_close(name, g.cpu(), w, rel=1e-5, abs=2e-5)
    got_grads = {k: v.cpu() for k, v in got_grads.items()}
    assert_gradients_close(got_grads, want_grads, rel=1e-4, abs=2e-4)
    assert all(g.abs().max() > 1e-3 for g in want_grads.values())


# Worst measured, interpreted: pixels 6.4e-7 and 3.4e-6, gradients 3.1e-6 and 8.2e-7.
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_pixels_and_gradients_match_the_reference(shape):
    assert_pixels_and_gradients_match(Scene(*shape))


@pytest.mark.parametrize("half", [False, True], ids=["float32", "float16"])
def test_fit_matches_the_reference(half):
    scene = Scene(*SHAPES["three_levels_one_hidden"])
    want, want_fitted = scene.fit(None)
    got, got_fitted = scene.fit(replace(SMALL, half=half))
    got = {k: v.cpu() for k, v in got.items()}
    assert torch.equal(got.pop("features_touched"), want.pop("features_touched"))
    assert_close("max_weights", got.pop("max_weights"), want.pop("max_weights"), 1e-5, 1e-5)
    rel = 3e-3 if half else 1e-5  # 4.7e-4 (dmlp), 4.8e-7
    assert_gradients_close(got, want, rel=rel, abs=rel)
    assert_close("squared", got_fitted[0].cpu(), want_fitted[0], rel=rel, abs=rel)
    assert tuple(int(n) for n in got_fitted[1:3]) == want_fitted[1:3]
    assert_close("colors", got_fitted.colors.cpu(), want_fitted.colors, rel=rel, abs=rel)


def test_half_features_and_operands_render_to_half_precision():
    scene = Scene(9, (2, 3), (24,), 2)
    want, _ = scene.render(None, None)
    scene.tensors["features"] = scene.tensors["features"].half()
    leaves = {k: v.to(DEVICE) for k, v in scene.tensors.items()}
    rays, field, settings = scene.arguments(leaves, torch.float32, DEVICE)
    launch = replace(SMALL, half=True)
    got = gpu.render_rays(*rays, *field, launches=(launch, launch), **settings)
    assert_close("colors", got.colors.cpu(), want.colors, rel=2e-3, abs=3e-3)
    assert_close("opacities", got.opacities.cpu(), want.opacities, rel=1e-6, abs=2e-6)


def test_odd_rays():
    """None at all; parallel to the axes, missing, standing still, not a number."""
    scene = Scene(0, (3,), (24,), 1)
    got, _ = scene.render(SMALL, None)
    assert got.colors.shape == (0, 3)
    nan = float("nan")
    middle = [-0.15, 0.15, -0.05]
    rows = [
        ([-3.0, *middle[1:]], [1.0, 0.0, -0.0]),
        ([middle[0], 3.0, middle[2]], [0.0, -1.0, 0.0]),
        ([3.0, 3.0, 3.0], [0.6, 0.8, 0.0]),
        (middle, [0.0, 0.0, 0.0]),
        (middle, [nan, 0.0, 1.0]),
    ]
    rays = tuple(torch.tensor(x) for x in zip(*rows, strict=True))
    scene = Scene(0, (3,), (24,), 1, rays=rays)
    scene.jitter, scene.tensors["background"] = None, torch.tensor([0.2, 0.5, 0.9])
    got, _ = scene.render(SMALL, None)
    scene.origins, scene.directions = scene.origins[:3], scene.directions[:3]
    want, _ = scene.render(None, None)
    assert_close("colors", got.colors[:3].cpu(), want.colors, rel=1e-5, abs=2e-5)
    assert torch.equal(got.colors[2].cpu(), scene.tensors["background"])
    assert torch.isfinite(got.colors).all()


def test_errors_name_the_argument():
    scene = Scene(2, (2,), (24, 24, 24), 1)
    with pytest.raises(ValueError, match="at most 2 hidden layers of at most 128 units"):
        scene.render(SMALL, None)
    scene = Scene(2, (2,), (24,), 1)
    scene.tensors["density"] = scene.tensors["density"].half()
    leaves = {k: v.to(DEVICE) for k, v in scene.tensors.items()}
    rays, field, settings = scene.arguments(leaves, torch.float32, DEVICE)
    with pytest.raises(ValueError, match="`density` must be float32 on backend 'gpu'"):
        gpu.render_rays(*rays, *field, **settings)
