"""frame_rows: C++ against the reference, odd shapes, wrong arguments."""

import pytest
import torch

from nerfkit.kernels.frame_rows import put_rows_, turned


@pytest.mark.parametrize("n", [0, 1, 3, 20_001])
def test_turned(n):
    directions = torch.nn.functional.normalize(torch.randn(2 * n, 3), dim=1)[::2]
    rotation = torch.linalg.qr(torch.randn(3, 3))[0]
    found, truth = (turned(directions, rotation, backend=b) for b in ("cpu", "reference"))
    torch.testing.assert_close(found, truth, atol=5e-7, rtol=0)  # measured 1.2e-7


@pytest.mark.parametrize("columns", [None, 1, 2, 3, 4])
@pytest.mark.parametrize("n", [0, 1, 9_001])
def test_rows_get_their_place(n, columns):
    shape = () if columns is None else (columns,)
    rows = torch.randperm(n + 5)[:n]
    values = torch.rand(*(n, *shape)).flip(0)
    images = [torch.full((n + 5, *shape), -1.0) for _ in range(2)]
    for image, backend in zip(images, ("cpu", "reference"), strict=True):
        put_rows_(image, rows, values, backend=backend)
    assert torch.equal(*images) and torch.equal(images[0][rows], values)
    assert (images[0] == -1).sum() == 5 * (columns or 1)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="`directions`"):
        turned(torch.rand(3), torch.eye(3))
    with pytest.raises(ValueError, match="`rotation`"):
        turned(torch.rand(2, 3), torch.eye(4))
    with pytest.raises(ValueError, match="must fit"):
        put_rows_(torch.rand(4, 3), torch.arange(2), torch.rand(3, 3))
    with pytest.raises(ValueError, match="int64"):
        put_rows_(torch.rand(4), torch.arange(2).int(), torch.rand(2))
    with pytest.raises(ValueError, match="contiguous"):
        put_rows_(torch.rand(3, 4).T, torch.arange(2), torch.rand(2, 3))
    with pytest.raises(ValueError, match="float32"):
        put_rows_(torch.rand(4).double(), torch.arange(2), torch.rand(2), backend="cpu")
