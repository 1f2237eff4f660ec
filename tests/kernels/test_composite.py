"""composite: C++ against the reference, the reference against finite differences and the papers."""

import pytest
import torch
from closeness import assert_close, assert_gradients_close, gradients

from nerfkit.kernels import _native
from nerfkit.kernels.composite import Composite, composite

needs_cpp = pytest.mark.skipif(not _native.available(), reason="C++ kernels are not built")

COUNTS = {
    "ragged": [7, 0, 1, 63, 33, 2],
    "single": [1],
    "one_long_ray": [5000],
    "all_empty": [0, 0],
    "no_rays": [],
    "many_short": [(5 * i) % 23 for i in range(700)],
}


def scene(counts, seed=0, gap=3, dtype=torch.float32, mean_optical=0.15):
    """Random samples; `gap` samples at the start and the end belong to no ray."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.tensor(counts, dtype=torch.int64)
    starts = gap + counts.cumsum(0) - counts
    total = int(counts.sum()) + 2 * gap
    delta = torch.rand(total, generator=generator, dtype=dtype) * 0.02 + 0.001
    edges = delta.cumsum(0)
    for start, count in zip(starts, counts, strict=True):
        edges[start : start + count] += 2 - edges[start : start + 1]  # each ray begins near 2
    inputs = {
        "sigmas": -torch.rand(total, generator=generator, dtype=dtype).log() * mean_optical / 0.011,
        "rgbs": torch.rand(total, 3, generator=generator, dtype=dtype),
        "t_starts": edges - delta,
        "t_ends": edges,
        "background": torch.rand(len(counts), 3, generator=generator, dtype=dtype),
    }
    return inputs, torch.stack([starts, counts], 1)


def run(packed_info, **options):
    return lambda **inputs: composite(packed_info=packed_info, **inputs, **options)


# Worst measured, AVX2: relative 8.9e-7 (distortions), absolute 6e-7 (depths).
@needs_cpp
@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize("early_stop", [0.0, 0.05])
@pytest.mark.parametrize("gap", [0, 3])
def test_forward_matches_the_reference(counts, early_stop, gap):
    inputs, packed_info = scene(counts, gap=gap)
    got, want = (
        run(packed_info, early_stop=early_stop, backend=b)(**inputs) for b in ("cpu", "reference")
    )
    for name, g, w in zip(Composite._fields, got, want, strict=True):
        assert_close(name, g, w, rel=3e-6, abs=5e-6)


# Worst measured, AVX2: relative 3e-7, absolute 2.9e-6 (the sum over rays of dbackground).
@needs_cpp
@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize("early_stop", [0.0, 0.05])
@pytest.mark.parametrize("gap", [0, 3])
@pytest.mark.parametrize("shared_background", [False, True])
def test_gradients_match_the_reference(counts, early_stop, gap, shared_background):
    inputs, packed_info = scene(counts, gap=gap)
    if shared_background:
        inputs["background"] = torch.tensor([0.2, 0.5, 0.9])
    wanted = ["sigmas", "rgbs", "background"]
    got, want = (
        gradients(run(packed_info, early_stop=early_stop, backend=b), inputs, wanted)
        for b in ("cpu", "reference")
    )
    assert_gradients_close(got, want, rel=3e-6, abs=2e-5)


# Worst measured, AVX2: relative 1.4e-6 (dsigmas of the distortion), absolute 3e-8.
@needs_cpp
@pytest.mark.parametrize("output", Composite._fields)
@pytest.mark.parametrize("with_background", [False, True])
def test_gradient_of_each_output_alone(output, with_background):
    inputs, packed_info = scene(COUNTS["ragged"])
    if not with_background:
        del inputs["background"]
    wanted = ["sigmas", "rgbs"] if output == "colors" else ["sigmas"]
    got, want = (
        gradients(
            lambda b=b, **x: getattr(run(packed_info, backend=b)(**x), output), inputs, wanted
        )
        for b in ("cpu", "reference")
    )
    assert_gradients_close(got, want, rel=1e-5, abs=1e-6)


@needs_cpp
def test_backward_leaves_saved_tensors_alone_and_repeats_bitwise():
    inputs, packed_info = scene(COUNTS["ragged"])
    before = {k: v.clone() for k, v in inputs.items()}
    first, second = (
        gradients(run(packed_info, backend="cpu"), inputs, ["sigmas", "rgbs"]) for _ in range(2)
    )
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert all(torch.equal(before[k], inputs[k]) for k in inputs)


@pytest.mark.parametrize("early_stop", [0.0, 0.3])
def test_reference_gradcheck(early_stop):
    inputs, packed_info = scene([4, 0, 6, 1], dtype=torch.float64, mean_optical=0.3)
    leaves = [v.requires_grad_() for v in inputs.values()]

    def op(sigmas, rgbs, t_starts, t_ends, background):
        return composite(
            *(sigmas, rgbs, t_starts, t_ends, packed_info),
            background=background,
            early_stop=early_stop,
            backend="reference",
        )

    assert torch.autograd.gradcheck(op, leaves)


@needs_cpp
def test_non_contiguous_inputs():
    inputs, packed_info = scene(COUNTS["ragged"])
    strided = {k: torch.stack([v, v + 1], -1)[..., 0] for k, v in inputs.items()}
    assert not strided["rgbs"].is_contiguous()
    apart = packed_info.t().contiguous().t()
    for g, w in zip(
        run(apart, backend="cpu")(**strided), run(packed_info, backend="cpu")(**inputs), strict=True
    ):
        assert torch.equal(g, w)


@needs_cpp
def test_rays_in_any_order():
    inputs, packed_info = scene(COUNTS["ragged"])
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    straight = run(packed_info, backend="cpu")(**inputs)
    inputs["background"] = inputs["background"][order]
    shuffled = run(packed_info[order], backend="cpu")(**inputs)
    assert torch.equal(shuffled.weights, straight.weights)
    assert torch.equal(shuffled.colors, straight.colors[order])


@pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_cpp)])
def test_a_wall_hides_what_is_behind_it(backend):
    """Constant density has a closed form, and the weights are the steps of 1 - T."""
    n, sigma, near, far = 400, 2.5, 1.0, 3.0
    edges = torch.linspace(near, far, n + 1)
    out = composite(
        torch.full((n,), sigma),
        torch.full((n, 3), 0.5),
        edges[:-1],
        edges[1:],
        torch.tensor([[0, n]]),
        background=torch.ones(3),
        backend=backend,
    )
    opacity = 1 - torch.exp(torch.tensor(-sigma * (far - near)))
    assert_close("opacities", out.opacities, opacity[None], rel=1e-5, abs=1e-5)  # 1.3e-6
    assert_close(
        "colors", out.colors, (1 - 0.5 * opacity).expand(1, 3), rel=1e-5, abs=1e-5
    )  # 1.2e-6
    assert out.weights.diff().max() <= 0


@pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_cpp)])
def test_distortion_is_the_double_sum_of_the_paper(backend):
    inputs, packed_info = scene([40], gap=0)
    out = run(packed_info, backend=backend)(**inputs)
    w, m = out.weights.double(), ((inputs["t_starts"] + inputs["t_ends"]) / 2).double()
    pairs = (w[:, None] * w * (m[:, None] - m).abs()).sum()
    own = (w * w * (inputs["t_ends"] - inputs["t_starts"])).sum() / 3
    assert_close("distortions", out.distortions, (pairs + own)[None], rel=5e-6, abs=1e-6)  # 4e-7


@pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_cpp)])
def test_thin_media_keep_their_digits(backend):
    """Optical thickness 1e-7 must not round to opacity 0 (worst measured: 6e-8 relative)."""
    inputs, packed_info = scene([50], gap=0, mean_optical=1e-7)
    exact = run(packed_info, backend="reference")(**{k: v.double() for k, v in inputs.items()})
    out = run(packed_info, backend=backend)(**inputs)
    assert_close("weights", out.weights, exact.weights, rel=1e-6, abs=1e-12)


@needs_cpp
def test_errors_name_the_argument():
    inputs, packed_info = scene([2, 3])
    with pytest.raises(ValueError, match="t_starts and t_ends must not require gradients"):
        run(packed_info, backend="cpu")(**{**inputs, "t_ends": inputs["t_ends"].requires_grad_()})
    inputs["t_ends"].requires_grad_(False)
    with pytest.raises(ValueError, match=r"rgbs must have shape \(11, 3\)"):
        run(packed_info)(**{**inputs, "rgbs": inputs["rgbs"][:-1]})
    with pytest.raises(ValueError, match="within the 11 samples"):
        run(packed_info + 5)(**inputs)
    with pytest.raises(ValueError, match="rays overlap"):
        run(torch.tensor([[0, 11], [0, 11]]))(**inputs)
    with pytest.raises(ValueError, match="sigmas must be float32"):
        run(packed_info, backend="cpu")(**{**inputs, "sigmas": inputs["sigmas"].double()})
