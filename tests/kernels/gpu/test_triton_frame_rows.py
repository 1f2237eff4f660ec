"""frame_rows: Triton against the reference."""

import pytest
import torch
from on_device import DEVICE

pytest.importorskip("triton")

from nerfkit.kernels.frame_rows import gpu, reference


@pytest.mark.parametrize("n", [0, 1, 301])
def test_turned(n):
    directions = torch.nn.functional.normalize(torch.randn(2 * n, 3), dim=1)[::2]
    rotation = torch.linalg.qr(torch.randn(3, 3))[0].T
    found = gpu.turned(directions.to(DEVICE), rotation.to(DEVICE)).cpu()
    want = reference.turned(directions, rotation)
    torch.testing.assert_close(found, want, atol=5e-7, rtol=0)  # measured 1.2e-7


@pytest.mark.parametrize("columns", [None, 0, 1, 3, 5])
def test_rows_get_their_place(columns):
    shape, n = () if columns is None else (columns,), 301
    rows, values = torch.randperm(n + 5)[:n], torch.rand(*(n, *shape)).flip(0)
    image = torch.full((n + 5, *shape), -1.0, device=DEVICE)
    gpu.put_rows_(image, rows.to(DEVICE), values.to(DEVICE))
    gpu.put_rows_(image, rows[:0].to(DEVICE), values[:0].to(DEVICE))
    assert torch.equal(image.cpu()[rows], values)
    assert (image == -1).sum() == 5 * (1 if columns is None else columns)
