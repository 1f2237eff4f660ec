"""composite: Triton against the reference."""

import pytest
import torch
from closeness import assert_close, assert_gradients_close, gradients
from on_device import DEVICE, on_device
from test_composite import COUNTS, run, scene

from nerfkit.kernels.composite import Composite

pytest.importorskip("triton")

SCENES = {k: COUNTS[k] for k in ("ragged", "single", "all_empty", "no_rays")}
SCENES["two_programs"] = [(5 * i) % 23 for i in range(17)]


def on(packed_info, backend, **options):
    return run(packed_info.to(DEVICE), backend=backend, **options)


# Worst measured: relative 2e-7, absolute 5e-7 (depths).
@pytest.mark.parametrize("counts", SCENES.values(), ids=SCENES)
@pytest.mark.parametrize("early_stop", [0.0, 0.05])
@pytest.mark.parametrize("with_background", [False, True])
def test_forward_matches_the_reference(counts, early_stop, with_background):
    inputs, packed_info = scene(counts)
    if not with_background:
        del inputs["background"]
    got = on(packed_info, "gpu", early_stop=early_stop)(**on_device(inputs))
    want = run(packed_info, early_stop=early_stop, backend="reference")(**inputs)
    for name, g, w in zip(Composite._fields, got, want, strict=True):
        assert_close(name, g, w, rel=3e-6, abs=5e-6)


@pytest.mark.parametrize("counts", SCENES.values(), ids=SCENES)
@pytest.mark.parametrize("early_stop", [0.0, 0.05])
@pytest.mark.parametrize("shared_background", [False, True])
def test_gradients_match_the_reference(counts, early_stop, shared_background):
    inputs, packed_info = scene(counts)
    if shared_background:
        inputs["background"] = torch.tensor([0.2, 0.5, 0.9])
    wanted = ["sigmas", "rgbs", "background"]
    got = gradients(on(packed_info, "gpu", early_stop=early_stop), on_device(inputs), wanted)
    reference = run(packed_info, early_stop=early_stop, backend="reference")
    assert_gradients_close(got, gradients(reference, inputs, wanted), rel=3e-6, abs=2e-5)


@pytest.mark.parametrize("output", Composite._fields)
def test_gradient_of_each_output_alone(output):
    inputs, packed_info = scene(COUNTS["ragged"])
    del inputs["background"]
    wanted = ["sigmas", "rgbs"] if output == "colors" else ["sigmas"]

    def one(op):
        return lambda **x: getattr(op(**x), output)

    got = gradients(one(on(packed_info, "gpu")), on_device(inputs), wanted)
    want = gradients(one(run(packed_info, backend="reference")), inputs, wanted)
    assert_gradients_close(got, want, rel=1e-5, abs=1e-6)


def test_thin_media_keep_their_digits_and_nothing_saved_is_changed():
    inputs, packed_info = scene([50], gap=0, mean_optical=1e-7)
    exact = run(packed_info, backend="reference")(**{k: v.double() for k, v in inputs.items()})
    given = on_device(inputs)
    first, second = (gradients(on(packed_info, "gpu"), given, ["sigmas", "rgbs"]) for _ in range(2))
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert all(torch.equal(given[k].cpu(), inputs[k]) for k in inputs)
    out = on(packed_info, "gpu")(**given)
    assert_close("weights", out.weights, exact.weights, rel=1e-6, abs=1e-12)


def test_a_wall_leaves_its_front_exact():
    """The gradient in front of an opaque sample has no rounding noise of the wall's own size."""
    inputs, packed_info = scene([40], gap=0)
    inputs["sigmas"][20] = 1e6
    exact = {k: v.double() for k, v in inputs.items()}
    got = gradients(on(packed_info, "gpu"), on_device(inputs), ["sigmas"])
    want = gradients(run(packed_info, backend="reference"), exact, ["sigmas"])
    assert_gradients_close(got, want, rel=3e-6, abs=2e-6)


def test_errors_name_the_argument():
    inputs, packed_info = scene([2, 3])
    inputs = on_device(inputs)
    with pytest.raises(ValueError, match="sigmas must be float32 for backend 'gpu'"):
        on(packed_info, "gpu")(**{**inputs, "sigmas": inputs["sigmas"].double()})
    with pytest.raises(ValueError, match="t_starts and t_ends must not require gradients"):
        on(packed_info, "gpu")(**{**inputs, "t_ends": inputs["t_ends"].requires_grad_()})
