"""voxel_features: Triton against the reference."""

import pytest
import torch
from closeness import assert_close, assert_gradients_close, gradients
from on_device import DEVICE, on_device
from test_voxel_features import DEPTHS, points_around, run
from voxel_scene import layout, vertex_values

from nerfkit.kernels.voxel_features import voxel_features

pytest.importorskip("triton")


@pytest.mark.parametrize("n", [0, 1, 70])
@pytest.mark.parametrize("depths", DEPTHS.values(), ids=DEPTHS)
@pytest.mark.parametrize("channels", [1, 16])
def test_forward_and_gradients_match_the_reference(n, depths, channels):
    _, vertices, grid = layout(depths)
    inputs = {"points": points_around(n, grid), "values": vertex_values(vertices, channels)}
    exact = {k: v.double() for k, v in inputs.items()}
    got = run(grid.to(DEVICE), "gpu")(**on_device(inputs))
    want = run(grid, "reference")(**exact)
    assert_close("values", got, want, rel=5e-6, abs=2e-5)  # 8e-7, 2e-6
    got = gradients(run(grid.to(DEVICE), "gpu"), on_device(inputs), ["points", "values"])
    want = gradients(run(grid, "reference"), exact, ["points", "values"])
    assert_gradients_close(got, want, rel=1e-5, abs=1e-3)  # 1e-6, 1e-4


def test_16_bit_values_are_summed_in_32():
    """Only the values are rounded, not what is made of them."""
    _, vertices, grid = layout()
    inputs = {"points": points_around(70, grid), "values": vertex_values(vertices, 16).half()}
    exact = {k: v.double() for k, v in inputs.items()}
    got = run(grid.to(DEVICE), "gpu")(**on_device(inputs))
    assert got.dtype == torch.float32
    assert_close("values", got, run(grid, "reference")(**exact), rel=5e-6, abs=2e-5)
    got = gradients(run(grid.to(DEVICE), "gpu"), on_device(inputs), ["values"])["values"]
    want = gradients(run(grid, "reference"), exact, ["values"])["values"]
    assert got.dtype == torch.float16
    assert_close("dvalues", got, want, rel=5e-4, abs=5e-3)  # half a unit in the last place


def test_points_far_away_and_points_that_are_no_numbers_are_outside():
    _, vertices, grid = layout()
    far = torch.tensor([[1e30, 0, 0], [0, -1e30, 0], [0, 0, 3e9], [float("nan"), 0, 0]])
    values = vertex_values(vertices, 1).to(DEVICE)
    assert not voxel_features(far.to(DEVICE), grid.to(DEVICE), values, backend="gpu").any()


def test_errors_name_the_argument():
    _, vertices, grid = layout()
    points, values = torch.zeros(4, 3, device=DEVICE), vertex_values(vertices, 1).to(DEVICE)
    with pytest.raises(ValueError, match="points must be float32"):
        voxel_features(points.double(), grid.to(DEVICE), values, backend="gpu")
    with pytest.raises(ValueError, match="`values` must be float32, float16 or bfloat16"):
        voxel_features(points, grid.to(DEVICE), values.double(), backend="gpu")
