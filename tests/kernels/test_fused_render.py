"""fused_render: C++ against the reference in double precision, that against differences."""

import math

import pytest
import torch
from closeness import assert_close, assert_gradients_close, gradients
from voxel_scene import SIZE, layout, network, rays_around, shell, vertex_values

from nerfkit.kernels import _native
from nerfkit.kernels.encodings.reference import spherical_harmonics
from nerfkit.kernels.fused_render import Rendered, fit_rays, render_rays
from nerfkit.kernels.fused_render.reference import spread, trace, unpack
from nerfkit.kernels.ray_pieces import Pieces, ray_pieces
from nerfkit.kernels.voxel_features.reference import interpolate

pytestmark = pytest.mark.usefixtures("one_thread")  # gradient arrays are shared without locks
needs_cpp = pytest.mark.skipif(not _native.available(), reason="C++ kernels are not built")
WANTED = ["density", "features", "mlp", "background"]
SAMPLING = {"step": 0.5 * SIZE / 16, "density_scale": 8.0, "density_bias": -2.0}
STOPS = {"early_stop": 0.02, "weight_min": 0.003}
START = 1 / 1024  # what gradient buffers hold before they are added to
HIDDEN = {"one_hidden": (24,), "two_hidden": (32, 8)}
DEPTHS = {"four_levels": (1, 2, 3, 4), "one_level": (4,)}


class Scene:
    """A field and rays; `run` renders with the tensors it is given by name."""

    def __init__(
        self, n_rays=65, depths=(1, 2, 3, 4), hidden=(24,), bands=3, octree=None, rays=None
    ):
        self.octree, self.vertices, self.grid = layout(depths, octree)
        self.widths, self.bands = (16 + bands**2, *hidden, 3), bands
        generator = torch.Generator().manual_seed(1)
        self.origins, self.directions = rays_around(n_rays) if rays is None else rays
        self.jitter = torch.rand(len(self.origins), generator=generator)
        self.tensors = {
            "density": vertex_values(self.vertices, 1) * 3,
            "features": vertex_values(self.vertices, 16, seed=2) * 0.5,
            "mlp": network(self.widths),
            "background": torch.rand(len(self.origins), 3, generator=generator),
        }
        self.sampling = {**SAMPLING, **STOPS}
        self.drop_ties()

    def drop_ties(self):
        """Without rays whose outcome hangs on the last digits of something compared."""
        tensors = {k: v.double() for k, v in self.tensors.items()}
        d = self.directions.double()
        settings = {k: v for k, v in self.sampling.items() if k != "weight_min"}
        settings["early_stop"] = self.sampling["early_stop"] * 0.99
        s = trace(
            *(self.origins.double(), d, self.grid, tensors["density"]),
            jitter=self.jitter.double(),
            **settings,
        )
        near = (s.weights / self.sampling["weight_min"] - 1).abs() < 1e-4
        near |= (s.transmittance / self.sampling["early_stop"] - 1).abs() < 1e-4
        # Voxel faces; a component of zero may keep a whole ray on one, for all backends alike.
        moving = d[s.ray_indices] != 0
        near |= (((s.points - s.points.round()).abs() < 1e-5) & moving).any(1)
        x = interpolate(self.grid, s.points, s.cells, tensors["features"])
        x = torch.cat([x, spherical_harmonics(d, self.bands)[s.ray_indices]], 1)
        for weight, bias in list(zip(*unpack(tensors["mlp"], self.widths), strict=True))[:-1]:
            x = x @ weight.T + bias
            near |= (x.abs() < 3e-6).any(1) & (s.weights > self.sampling["weight_min"])
            x = x.relu()
        tied = torch.zeros(len(d), dtype=torch.bool)
        tied[s.ray_indices[near]] = True
        assert tied.sum() <= max(1, 0.03 * len(d)), f"{int(tied.sum())} of {len(d)} rays have ties"
        keep = ~tied
        self.origins, self.directions = self.origins[keep], self.directions[keep]
        self.jitter = self.jitter[keep]
        self.tensors["background"] = self.tensors["background"][keep]

    def run(self, backend, dtype=torch.float32, **options):
        def op(**tensors):
            named = {k: v.to(dtype) for k, v in tensors.items()}
            return render_rays(
                *(self.origins.to(dtype), self.directions.to(dtype), self.grid),
                *(named["density"], named["features"], named["mlp"], self.widths),
                bands=self.bands,
                jitter=None if self.jitter is None else self.jitter.to(dtype),
                background=named.get("background"),
                backend=backend,
                **{**self.sampling, **options},
            )

        return op

    def both(self, **options):
        return (
            self.run("cpu", **options)(**self.tensors),
            self.run("reference", torch.float64, **options)(**self.tensors),
        )


def axis_rays():
    """Parallel to axes, both signs of zero, both directions, hitting and missing the cube."""
    rows = []
    for axis in range(3):
        for sign in (1.0, -1.0):
            for zero in (0.0, -0.0):
                d = [zero] * 3
                d[axis] = sign
                for shift in (0.013, 0.337, 1.8):
                    o = [shift - 0.1, shift - 0.2, shift - 0.3]
                    o[axis] = -3.0 * sign
                    rows.append((o, d))
    origins, directions = zip(*rows, strict=True)
    return torch.tensor(origins), torch.tensor(directions)


def away():
    origins, directions = rays_around(9)
    return origins + 10, directions.abs()


# Worst measured, AVX2: relative 9e-7, absolute 6e-6 (depths).
def compare(scene, rel=5e-6, abs=2e-5, **options):
    got, want = scene.both(**options)
    for name, g, w in zip(Rendered._fields, got, want, strict=True):
        assert_close(name, g, w, rel=rel, abs=abs)
    return got


@needs_cpp
@pytest.mark.parametrize("n_rays", [0, 1, 65, 300])
@pytest.mark.parametrize("depths", DEPTHS.values(), ids=DEPTHS)
@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN)
def test_forward_matches_the_reference(n_rays, depths, hidden):
    scene = Scene(n_rays, depths, hidden)
    got = compare(scene)
    if n_rays >= 65:
        assert 0.05 < got.opacities.mean() < 0.95 and got.opacities.max() > 0.9


@needs_cpp
@pytest.mark.parametrize("bands", [1, 2, 4])
def test_forward_with_other_harmonics(bands):
    compare(Scene(bands=bands))


@needs_cpp
@pytest.mark.parametrize("depths", [(0, 1, 2), (2, 3), (0,)])
def test_forward_on_coarse_trees(depths):
    compare(Scene(depths=depths, octree=shell(depths[-1], 0.0, 2.0)))


@needs_cpp
@pytest.mark.parametrize("rays", [axis_rays(), away()], ids=["axis_parallel", "missing"])
def test_forward_of_special_rays(rays):
    got = compare(Scene(rays=rays))
    assert torch.isfinite(got.colors).all()


@needs_cpp
def test_forward_without_jitter_or_background_and_with_limits():
    scene = Scene()
    scene.jitter = torch.full_like(scene.jitter, 0.5)
    scene.drop_ties()
    scene.jitter = None
    del scene.tensors["background"]
    compare(scene)
    compare(scene, near=0.4, far=1.1)


# Worst measured, AVX2: relative 7e-6 (dbackground, an opaque ray alone), absolute 4.8e-6 (dmlp).
@needs_cpp
@pytest.mark.parametrize("depths", DEPTHS.values(), ids=DEPTHS)
@pytest.mark.parametrize("hidden", HIDDEN.values(), ids=HIDDEN)
@pytest.mark.parametrize("n_rays", [0, 1, 65, 300])
def test_gradients_match_the_reference(n_rays, depths, hidden):
    scene = Scene(n_rays, depths, hidden)
    got = gradients(scene.run("cpu"), scene.tensors, WANTED)
    want = gradients(scene.run("reference", torch.float64), scene.tensors, WANTED)
    assert_gradients_close(got, want, rel=3e-5, abs=3e-5)
    if n_rays >= 65:
        assert all(g.abs().max() > 1e-2 for g in want.values())


@needs_cpp
@pytest.mark.parametrize("output", Rendered._fields)
@pytest.mark.parametrize("with_background", [False, True])
def test_gradient_of_each_output_alone(output, with_background):
    scene = Scene()
    if not with_background:
        del scene.tensors["background"]
    wanted = WANTED[:3] if output == "colors" else ["density"]

    def alone(op):
        return lambda **tensors: getattr(op(**tensors), output)

    got = gradients(alone(scene.run("cpu")), scene.tensors, wanted)
    want = gradients(alone(scene.run("reference", torch.float64)), scene.tensors, wanted)
    assert_gradients_close(got, want, rel=2e-5, abs=1e-5)  # 4e-6, 2.3e-6


@needs_cpp
@pytest.mark.parametrize("wanted", [[name] for name in WANTED])
def test_only_the_gradients_asked_for(wanted):
    scene = Scene(20)
    all_of_them = gradients(scene.run("cpu"), scene.tensors, WANTED)
    alone = gradients(scene.run("cpu"), scene.tensors, wanted)
    assert torch.equal(alone[wanted[0]], all_of_them[wanted[0]])


@needs_cpp
def test_shared_background():
    scene = Scene()
    scene.tensors["background"] = torch.tensor([0.2, 0.5, 0.9])
    compare(scene)
    got = gradients(scene.run("cpu"), scene.tensors, ["background"])
    want = gradients(scene.run("reference", torch.float64), scene.tensors, ["background"])
    assert_gradients_close(got, want, rel=1e-6, abs=1e-5)  # 7e-8, 1e-6


def test_reference_gradcheck():
    scene = Scene(5, depths=(1, 2), hidden=(4,), bands=1, octree=shell(2, 0.0, 1.2))
    scene.sampling["step"] = SIZE / 8
    scene.drop_ties()
    leaves = [v.double().requires_grad_() for v in scene.tensors.values()]

    def op(density, features, mlp, background):
        tensors = dict(zip(WANTED, (density, features, mlp, background), strict=True))
        return tuple(scene.run("reference", torch.float64)(**tensors))

    assert torch.autograd.gradcheck(op, leaves, fast_mode=True)


@needs_cpp
def test_non_contiguous_inputs():
    scene = Scene()
    want = scene.run("cpu")(**scene.tensors)
    scene.tensors = {k: torch.stack([v, v + 1], -1)[..., 0] for k, v in scene.tensors.items()}
    scene.origins = scene.origins.t().contiguous().t()
    scene.directions = scene.directions.t().contiguous().t()
    scene.jitter = torch.stack([scene.jitter] * 2, 1)[:, 0]
    assert not scene.tensors["features"].is_contiguous() and not scene.origins.is_contiguous()
    got = scene.run("cpu")(**scene.tensors)
    assert all(torch.equal(g, w) for g, w in zip(got, want, strict=True))


@pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_cpp)])
def test_nothing_occupied_is_all_background(backend):
    octree = shell(4)
    scene = Scene(octree=octree.keep(torch.zeros(len(octree), dtype=torch.bool)))
    assert len(scene.vertices) == 64
    got = scene.run(backend)(**scene.tensors)
    assert torch.equal(got.colors, scene.tensors["background"])
    assert not got.opacities.any() and not got.depths.any()
    grads = gradients(scene.run(backend), scene.tensors, WANTED)
    assert not any(grads[name].any() for name in WANTED[:3])


@pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_cpp)])
def test_a_solid_cube_has_a_closed_form(backend):
    """Constant density: opacity and depth follow from the lattice; opacities stay in [0, 1]."""
    octree = shell(3, -1.0, 9.0)
    scene = Scene(200, depths=(3,), octree=octree)
    scene.tensors["density"].fill_(1.3)
    options = {"early_stop": 0.0, "near": 0.1, "far": 0.9}
    got = scene.run(backend, **options)(**scene.tensors)
    assert got.opacities.min() >= 0 and got.opacities.max() <= 1 + 1e-6
    sigma = SAMPLING["density_scale"] * math.log1p(math.exp(1.3 + SAMPLING["density_bias"]))
    low, high = octree.box_min.double(), octree.box_min.double() + SIZE
    step = SAMPLING["step"]
    k = torch.arange(60)
    t = (k + scene.jitter.double()[:, None]) * step
    points = scene.origins.double()[:, None] + t[..., None] * scene.directions.double()[:, None]
    inside = ((points >= low) & (points < high)).all(2) & (t >= 0.1) & (t < 0.9)
    passed = torch.exp(-sigma * step * (inside.cumsum(1) - 1).clamp_min(0))
    weights = torch.where(inside, passed * -math.expm1(-sigma * step), 0)
    assert_close("opacities", got.opacities, weights.sum(1), rel=1e-6, abs=2e-6)  # 1.2e-7, 1.8e-7
    assert_close("depths", got.depths, (weights * t).sum(1), rel=1e-6, abs=2e-6)  # 1.3e-7, 1e-7


def cut_in_three(scene, dtype=torch.float32) -> Pieces:
    """The scene's rays, straight, in pieces up to t = 0.7, 1.9 and 9."""
    ends, n = torch.tensor([0.0, 0.7, 1.9, 9.0], dtype=dtype), len(scene.origins)
    o, d = scene.origins.to(dtype)[:, None], scene.directions.to(dtype)[:, None]
    starts = ends[:-1, None].expand(n, 3, 1)
    ones = torch.ones_like(starts)
    columns = o + starts * d, d.expand(n, 3, 3), ends.diff()[:, None].expand(n, 3, 1)
    rows = torch.cat([*columns, ones, 0 * ones, starts, ones], 2).view(-1, 11)
    return Pieces(rows, 3 * torch.arange(n + 1))


@pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_cpp)])
def test_pieces_of_straight_rays_change_nothing(backend):
    dtype = torch.float32 if backend == "cpu" else torch.float64
    scene = Scene(300)
    whole = scene.run(backend, dtype)(**scene.tensors)
    parts = scene.run(backend, dtype, pieces=cut_in_three(scene, dtype))(**scene.tensors)
    for name, a, b in zip(Rendered._fields, whole, parts, strict=True):
        difference = (a - b).abs().view(len(a), -1).amax(1)
        # a sample on a cut or on a face may change sides
        assert float((difference > 1e-4).float().mean()) < 0.02, name


@needs_cpp
def test_bent_rays_and_the_spread_of_weights_match_the_reference():
    scene = Scene(100)
    scene.sampling["step"] = SIZE / 8
    center, half = (-0.15, 0.15, -0.05), 0.4
    bent = ray_pieces(
        scene.origins.double(), scene.directions.double(), center, half, backend="reference"
    )
    rows = bent.rows.clone()
    rows[:, :3] = rows[:, :3] * SIZE / 4 + torch.tensor([-0.15, 0.15, -0.05])  # into the cube
    rows[:, 6] *= SIZE / 4
    rows[:, [8, 10]] /= SIZE / 4
    for distortion in (0.0, 0.3):
        got, got_fitted, _ = fit(
            *(scene, "cpu"), pieces=Pieces(rows.float(), bent.first), distortion=distortion
        )
        want, want_fitted, _ = fit(
            *(scene, "reference", torch.float64),
            pieces=Pieces(rows, bent.first),
            distortion=distortion,
        )
        same = (got_fitted.colors - want_fitted.colors).abs().amax(1) < 1e-4
        assert same.float().mean() > 0.95
        for name in ("grad_density", "grad_features"):
            error = (got[name] - want[name]).norm() / want[name].norm()
            assert error < 0.02, name
    assert len(bent.rows) > 1.5 * len(scene.origins)


def test_spread_is_that_of_all_pairs():
    scene = Scene(30)
    rays = (x.double() for x in (scene.origins, scene.directions))
    settings = {k: v for k, v in scene.sampling.items() if k != "weight_min"}
    found = trace(*rays, scene.grid, scene.tensors["density"].double(), **settings)
    w, s, owners = found.weights, found.s, found.ray_indices
    same = owners[:, None] == owners
    pairs = torch.where(same, w[:, None] * w * (s[:, None] - s).abs(), 0).sum()
    want = pairs + SAMPLING["step"] / 3 * w.square().sum()
    assert_close("spread", spread(found, SAMPLING["step"]), want, rel=1e-12, abs=1e-12)  # 3e-15
    assert pairs > 0.5


@pytest.mark.parametrize("bent", [False, True])
@needs_cpp
def test_depths_and_the_gradient_of_rays_match_the_reference(bent):
    scene = Scene(200)
    depths = torch.rand(len(scene.origins), generator=torch.Generator().manual_seed(3)) * 2 - 0.5
    depths[depths < 0.1] = 0
    found = {}
    for backend, dtype in (("cpu", torch.float32), ("reference", torch.float64)):
        pieces = cut_in_three(scene, dtype) if bent else None
        grad_rays = torch.zeros((3 if bent else 1) * len(scene.origins), 6, dtype=dtype)
        options = {"depths": depths.to(dtype), "depth_weight": 0.3, "grad_rays": grad_rays}
        buffers, _, _ = fit(scene, backend, dtype, pieces=pieces, **options)
        found[backend] = {**buffers, "grad_rays": grad_rays}
    for name in ("grad_density", "grad_features", "grad_rays"):
        got, want = found["cpu"][name], found["reference"][name]
        assert want.abs().max() > 1e-4
        difference = (got - want).abs().view(len(got), -1).amax(1)
        limit = 1e-3 * float(want.abs().max())  # but for samples that change sides of a cut
        assert float((difference > limit).float().mean()) < (0.02 if bent else 1e-9), name


def fit(scene, backend, dtype=torch.float32, max_weights=True, **options):
    """fit_rays into fresh buffers; the buffers by name, and what it returned."""
    t = {k: v.to(dtype) for k, v in scene.tensors.items()}
    targets = torch.rand(len(scene.origins), 3, generator=torch.Generator().manual_seed(5))
    buffers = {f"grad_{k}": torch.full_like(t[k], START) for k in WANTED[:3]}
    buffers["features_touched"] = torch.zeros(len(t["density"]), dtype=torch.uint8)
    buffers["max_weights"] = torch.zeros_like(t["density"]) if max_weights else None
    fitted = fit_rays(
        *(scene.origins.to(dtype), scene.directions.to(dtype), targets.to(dtype), scene.grid),
        *(t["density"], t["features"], t["mlp"], scene.widths),
        scale=1 / (3 * len(targets)) if len(targets) else 1.0,
        bands=scene.bands,
        jitter=scene.jitter.to(dtype),
        background=t["background"],
        backend=backend,
        **buffers,
        **scene.sampling,
        **options,
    )
    return buffers, fitted, targets


@needs_cpp
@pytest.mark.parametrize("n_rays", [0, 1, 65, 300])
@pytest.mark.parametrize("depths", DEPTHS.values(), ids=DEPTHS)
def test_fit_matches_the_reference(n_rays, depths):
    scene = Scene(n_rays, depths)
    got, got_fitted, _ = fit(scene, "cpu")
    want, want_fitted, _ = fit(scene, "reference", torch.float64)
    assert torch.equal(got.pop("features_touched"), want.pop("features_touched"))
    assert_gradients_close(got, want, rel=1e-5, abs=1e-5)  # 3.1e-6, 3.3e-6
    assert_close("squared_errors", got_fitted[0], want_fitted[0], rel=1e-5, abs=1e-5)
    assert got_fitted[1:3] == want_fitted[1:3]
    assert_close("colors", got_fitted.colors, want_fitted.colors, rel=1e-5, abs=1e-5)
    if n_rays >= 65:
        assert got_fitted.n_samples > got_fitted.n_shaded > n_rays


@pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_cpp)])
def test_fit_is_render_and_mean_squared_error(backend):
    scene = Scene()
    buffers, fitted, targets = fit(scene, backend, max_weights=False)
    leaves = {k: v.clone().requires_grad_() for k, v in scene.tensors.items()}
    colors = scene.run(backend)(**leaves).colors
    loss = torch.nn.functional.mse_loss(colors, targets)
    loss.backward()
    for name in WANTED[:3]:
        assert_close(
            f"d{name}", buffers[f"grad_{name}"] - START, leaves[name].grad, rel=1e-4, abs=2e-6
        )
    assert_close("loss", fitted.squared_errors.mean() / 3, loss, rel=1e-6, abs=1e-6)


@needs_cpp
def test_one_thread_repeats_bitwise_and_leaves_inputs_alone():
    scene = Scene(300)
    before = {k: v.clone() for k, v in scene.tensors.items()}
    first, second = (gradients(scene.run("cpu"), scene.tensors, WANTED) for _ in range(2))
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert all(torch.equal(before[k], scene.tensors[k]) for k in before)
    assert all(
        torch.equal(a, b)
        for a, b in zip(*(scene.run("cpu")(**scene.tensors) for _ in range(2)), strict=True)
    )


@needs_cpp
def test_errors_name_the_argument():
    scene = Scene(4)
    with pytest.raises(ValueError, match=r"`features` must have shape \(\d+, 16\), got"):
        scene.run("cpu")(**{**scene.tensors, "features": scene.tensors["features"][:, :15]})
    with pytest.raises(ValueError, match=r"`mlp` must have shape"):
        scene.run("cpu")(**{**scene.tensors, "mlp": scene.tensors["mlp"][1:]})
    with pytest.raises(ValueError, match=r"`background` must have shape \(4, 3\) or \(3,\)"):
        scene.run("cpu")(**{**scene.tensors, "background": torch.zeros(5, 3)})
    with pytest.raises(ValueError, match="`origins` must be float32"):
        scene.run("cpu", torch.float64)(**scene.tensors)
    with pytest.raises(ValueError, match="`step` must be positive"):
        scene.run("cpu", step=0.0)(**scene.tensors)
    scene.directions.requires_grad_()
    with pytest.raises(ValueError, match="`directions` must not require gradients"):
        scene.run("cpu")(**scene.tensors)
    scene.directions.requires_grad_(False)
    scene.bands = 5
    with pytest.raises(ValueError, match="`bands` must be 1 to 4"):
        scene.run("cpu")(**scene.tensors)
