"""nerf_samples: Triton against the reference."""

import dataclasses

import pytest
import torch
from closeness import assert_close
from on_device import DEVICE
from test_nerf_samples import marched, random, rays

from nerfkit.fields.nerf import NerfField, NerfShape
from nerfkit.kernels.nerf_mlp import NerfMlpConfig
from nerfkit.kernels.nerf_samples import (
    coarse_samples,
    columns,
    ended,
    next_samples,
    uniform,
    union_samples,
)
from nerfkit.octree import Octree

pytest.importorskip("triton")

SIZES = {"usual": (37, 12, 9), "odd": (5, 7, 3), "one": (1, 1, 1), "wide": (3, 70, 130)}


def moved(given):
    """Rays, or what they pass on, on the device of the tests."""
    spans = (x.to(DEVICE) for x in vars(given.spans).values())
    tensors = {k: v.to(DEVICE) for k, v in given._asdict().items() if torch.is_tensor(v)}
    return given._replace(
        **tensors,
        spans=dataclasses.replace(given.spans, **dict(zip(vars(given.spans), spans, strict=True))),
    )


def there(values):
    return type(values)(*(x.to(DEVICE) for x in values))


def same(name, got, want, tolerance):
    """Integers exactly, numbers by `tolerance`: relative RMS and absolute."""
    for field, g, w in zip(want._fields, got, want, strict=True):
        if w.is_floating_point():
            assert_close(f"{name} {field}", g, w, *tolerance)
        else:
            assert torch.equal(g.cpu(), w), f"{name} {field}"


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("ndc", [False, True])
def test_matches_the_reference(size, ndc):
    n_rays, n, n_drawn = size
    given = rays(n_rays + 1, ndc)
    device = moved(given)
    for spacing, where in ((0.0, random(n_rays + 1, n)), (0.2, random(n, n_rays + 1).t())):
        got = coarse_samples(*(device, n), spacing=spacing, where=where.to(DEVICE), backend="gpu")
        want = coarse_samples(given, n, spacing=spacing, where=where, backend="reference")
        # Worst measured, interpreted: absolute 6e-8; a card fuses products and sums.
        same("coarse", got, want, (3e-7, 5e-6))

    coarse = there(want)
    rounds = sorted({min(n, 3), min(n, 8), n})
    found = marched(device, coarse, rounds, 1.0, backend="gpu")
    wanted = marched(given, want, rounds, 1.0, backend="reference")
    for (march, _), (expected, _) in zip(found, wanted, strict=True):
        # Worst measured, interpreted: none.
        same("march", march, expected, (3e-7, 3e-6))
    same(
        "ended",
        ended(device, coarse, march, backend="gpu"),
        ended(given, want, expected),
        (1e-6, 1e-6),
    )

    drawn = (random(n_rays + 1, n_drawn) * want.edges[:, -1:]).sort(1).values
    drawn[::2, 0] = want.s[::2, 0]  # ties
    drawn = drawn.sort(1).values.t().contiguous().t()
    got = union_samples(device, coarse, there(expected), drawn.to(DEVICE), backend="gpu")
    want = union_samples(given, want, expected, drawn, backend="reference")
    # Worst measured, interpreted: none.
    same("union", got, want, (1e-6, 1e-5))


def test_no_rays_and_no_drawn_samples():
    for n_rays in (0, 4):
        given = moved(rays(n_rays))
        coarse = coarse_samples(given, 7, spacing=0.3, backend="gpu")
        march = next_samples(given, coarse, None, None, 7, dark=1.0, backend="gpu")
        drawn = torch.zeros(n_rays, 0, device=DEVICE)
        samples = union_samples(given, coarse, march, drawn, backend="gpu")
        assert len(samples.points) == len(march.points) == int(coarse.counts.sum())
        assert torch.equal(samples.packed_info[:, 1].int(), coarse.counts)
        nothing = next_samples(given, coarse, None, None, 7, dark=0.0, backend="gpu")
        assert len(nothing.points) == 0 and not nothing.seen.any()
        drawn = torch.zeros(n_rays, 2, device=DEVICE)
        samples = union_samples(given, coarse, nothing, drawn, backend="gpu")
        assert len(samples.points) == 0 and not samples.packed_info.any()
        assert not ended(given, coarse, nothing, backend="gpu").steps.any()


def test_a_gpu_is_not_asked_how_long_rays_are():
    given = moved(rays(10))
    assert columns(given, 12, 0.3, backend="gpu") == 12
    got = uniform(given, 4, torch.Generator(DEVICE).manual_seed(2), backend="gpu")
    want = torch.rand(10, 4, generator=torch.Generator(DEVICE).manual_seed(2), device=DEVICE)
    assert torch.equal(got, want)


def test_too_many_samples_and_doubles_are_errors():
    given = moved(rays(2))
    with pytest.raises(ValueError, match="at most 4096 samples of a ray, got 5000"):
        coarse_samples(given, 5000, spacing=0.1, backend="gpu")
    with pytest.raises(ValueError, match="origins must be float32"):
        coarse_samples(
            given._replace(origins=given.origins.double()), 5, spacing=0.1, backend="gpu"
        )


def test_a_field_sees_the_same(monkeypatch):
    """Every kernel of a NerfField, with spans as long as they can be, so that N is the same."""
    network = NerfMlpConfig(depth=2, width=16, view_width=8, skip=1, position_frequencies=2)
    tree = Octree.full(torch.tensor([-2.0, -1.0, -3.0]), 4.0, 2)
    shape = NerfShape(network, near=0.0, most_coarse=12, n_fine=10, spacing=1e-6)
    field = NerfField.create(shape, tree, torch.Generator().manual_seed(2))
    field.coarse += 0.1
    given = rays(24)
    background = random(24, 3)
    seen = []
    for backend, device in (("cpu", "cpu"), ("gpu", DEVICE)):
        monkeypatch.setenv("NERFKIT_BACKEND", backend)
        each = field.to(torch.device(device))
        networks = [each.coarse.requires_grad_(), each.fine.requires_grad_()]
        lines = (x.contiguous().to(device) for x in (given.origins, given.directions, background))
        traced = each.trace(*lines, 0.1)
        loss = traced.coarse.colors.square().sum() + traced.fine.colors.square().sum()
        seen.append((traced, torch.autograd.grad(loss, networks)))
    (want, want_gradients), (got, gradients) = seen
    assert abs(got.n_samples - want.n_samples) <= 2
    for name in ("coarse", "fine"):
        for values in ("colors", "depths", "opacities"):
            # Networks in half precision; worst measured 7.5e-4 relative, 2.1e-3 absolute.
            assert_close(
                f"{name} {values}",
                *(getattr(getattr(x, name), values) for x in (got, want)),
                2e-3,
                2e-2,
            )
    for name, g, w in zip(("coarse", "fine"), gradients, want_gradients, strict=True):
        # Worst measured 1.1e-2 relative, 0.22 absolute.
        assert_close(f"d{name}", g, w, 3e-2, 0.6)
