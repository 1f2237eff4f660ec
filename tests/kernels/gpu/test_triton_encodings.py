"""encodings: Triton against the reference."""

import pytest
import torch
from closeness import assert_close, assert_gradients_close, gradients
from on_device import DEVICE, on_device
from test_encodings import random_directions, random_points

from nerfkit.kernels.encodings import frequency_encoding, spherical_harmonics

pytest.importorskip("triton")


@pytest.mark.parametrize("n", [0, 1, 131])
@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_harmonics_match_the_reference(n, degree):
    inputs = {"directions": random_directions(n)}

    def run(backend):
        return lambda directions: spherical_harmonics(directions, degree, backend=backend)

    got, want = run("gpu")(**on_device(inputs)), run("reference")(**inputs)
    assert_close("out", got, want, rel=1e-6, abs=2e-6)  # 5e-8, 1.2e-7
    got = gradients(run("gpu"), on_device(inputs), ["directions"])
    want = gradients(run("reference"), inputs, ["directions"])
    assert_gradients_close(got, want, rel=1e-6, abs=1e-5)  # 1e-7, 2e-6


@pytest.mark.parametrize(("n", "channels"), [(0, 3), (1, 1), (37, 3), (5, 2), (4, 0)])
@pytest.mark.parametrize("n_frequencies", [0, 4, 10])
@pytest.mark.parametrize("include_input", [True, False])
def test_frequencies_match_the_reference(n, channels, n_frequencies, include_input):
    inputs = {"x": random_points(n, channels)}

    def run(backend):
        return lambda x: frequency_encoding(
            x, n_frequencies, include_input=include_input, backend=backend
        )

    got, want = run("gpu")(**on_device(inputs)), run("reference")(**inputs)
    assert_close("out", got, want, rel=1e-6, abs=1e-6)  # 5e-8, 1.2e-7
    got = gradients(run("gpu"), on_device(inputs), ["x"])
    want = gradients(run("reference"), inputs, ["x"])
    assert_gradients_close(got, want, rel=2e-6, abs=2e-3)  # 2e-7, 5e-4: the factor 2^9


def test_large_arguments_keep_their_phase():
    x = torch.tensor([[1e6], [-123456.789], [65536.0]])
    got = frequency_encoding(x.to(DEVICE), 4, include_input=False, backend="gpu")
    want = frequency_encoding(x.double(), 4, include_input=False, backend="reference")
    assert_close("out", got, want, rel=1e-6, abs=1e-6)


def test_other_types_are_an_error():
    with pytest.raises(ValueError, match="x must be float32 for backend 'gpu'"):
        frequency_encoding(torch.zeros(2, 3, device=DEVICE).double(), 2, backend="gpu")
