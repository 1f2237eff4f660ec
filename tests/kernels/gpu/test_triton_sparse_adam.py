"""sparse_adam: Triton against the reference."""

import pytest
import torch
from closeness import assert_close
from on_device import DEVICE
from test_sparse_adam import NAMES, OPTIONS, table

from nerfkit.kernels.sparse_adam import adam_step_, sparse_adam_step_

pytest.importorskip("triton")


# Worst measured: relative 8e-8, absolute 2e-6.
@pytest.mark.parametrize("columns", [1, 16, 19])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("rows", "share"), [(0, 1.0), (1, 1.0), (300, 0.0), (300, 0.3)])
def test_step_matches_the_reference(rows, columns, share, shared):
    want = table(rows, columns, share)
    if shared:
        want[3] = want[3][:, :1].contiguous()
    got = [t.clone().to(DEVICE) for t in want]
    lr = torch.linspace(0.01, 0.3, columns) if columns > 1 else 0.05
    untouched = want[4] == 0
    before = [t[untouched].clone() for t in want[:4]]
    sparse_adam_step_(*got, lr=lr, step=3, **OPTIONS, backend="gpu")
    sparse_adam_step_(*want, lr=lr, step=3, **OPTIONS, backend="reference")
    for name, g, w, b in zip(NAMES, got, want, before, strict=False):
        assert_close(name, g, w, rel=1e-6, abs=1e-5)
        assert torch.equal(g.cpu()[untouched], b), f"{name} changed in rows that were not touched"
    assert not got[1].any() and not got[4].any()


def test_dense_step_and_16_bit_tables():
    dense = [t.view(-1)[:200] for t in table(50, 4, 1.0)[:4]]
    for dtype, rel in ((torch.float32, 1e-6), (torch.float16, 1e-3)):
        given = [t.to(dtype) for t in dense]
        got = [t.clone().to(DEVICE) for t in given]
        want = [t.float() for t in given]
        adam_step_(*got, lr=0.1, step=2, **OPTIONS, backend="gpu")
        adam_step_(*want, lr=0.1, step=2, **OPTIONS, backend="reference")
        for name, g, w in zip(NAMES, got, want, strict=True):
            assert_close(name, g, w, rel=rel, abs=1e-2 if rel > 1e-6 else 1e-5)


def test_autograd_notices_the_change():
    tensors = [t.to(DEVICE) for t in table(4, 2, 1.0)[:4]]
    params = tensors[0].requires_grad_()
    loss = params.square().sum()
    adam_step_(params, *tensors[1:], lr=0.1, step=1, **OPTIONS, backend="gpu")
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
