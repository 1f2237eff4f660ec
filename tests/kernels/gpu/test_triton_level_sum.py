"""level_sum: Triton against the reference."""

import pytest
import torch
from closeness import assert_close, assert_gradients_close, gradients
from on_device import DEVICE, on_device
from test_level_sum import empty_octree
from voxel_scene import layout, vertex_values

from nerfkit.kernels.level_sum import level_sum, level_sum_

pytest.importorskip("triton")

# Levels and channels; sixteen channels of many bricks take the interpreter long.
CASES = {"two": ((2, 3), 1), "from_the_root": ((0, 1, 2), 16), "one": ((3,), 16)}


def run(vertices, backend):
    return lambda values: level_sum(values, vertices, backend=backend)


# Worst measured: relative 6e-8, absolute 2e-6.
@pytest.mark.parametrize(("depths", "channels"), CASES.values(), ids=CASES)
def test_forward_and_gradient_match_the_reference(depths, channels):
    _, vertices, _ = layout(depths)
    inputs = {"values": vertex_values(vertices, channels)}
    exact = {"values": inputs["values"].double()}
    there = vertices.to(DEVICE)
    got = run(there, "gpu")(**on_device(inputs))
    assert_close("sums", got, run(vertices, "reference")(**exact), rel=3e-7, abs=1e-6)
    got = gradients(run(there, "gpu"), on_device(inputs), ["values"])
    want = gradients(run(vertices, "reference"), exact, ["values"])
    assert_gradients_close(got, want, rel=3e-7, abs=2e-5)


def test_in_place_and_of_nothing():
    for _, vertices, _ in (layout((1, 2)), layout((1, 2, 3), empty_octree())):
        values = vertex_values(vertices, 1)
        for transposed in (False, True):
            got, want = values.clone().to(DEVICE), values.clone()
            level_sum_(got, vertices.to(DEVICE), transposed=transposed, backend="gpu")
            level_sum_(want, vertices, transposed=transposed, backend="reference")
            assert_close("values", got, want, rel=1e-6, abs=1e-5)
    with pytest.raises(ValueError, match="values must be float32"):
        level_sum(values.double().to(DEVICE), vertices.to(DEVICE), backend="gpu")
    assert torch.equal(got[:64].cpu(), torch.zeros(64))
