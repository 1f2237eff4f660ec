"""sparse_adam: C++ against the reference, both against torch's own optimisers."""

import pytest
import torch
from closeness import assert_close

from nerfkit.kernels import _native
from nerfkit.kernels.sparse_adam import adam_step_, sparse_adam_step_

needs_cpp = pytest.mark.skipif(not _native.available(), reason="C++ kernels are not built")
backends = pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_cpp)])
OPTIONS = {"betas": (0.9, 0.99), "eps": 1e-8}
NAMES = ("params", "grads", "exp_avg", "exp_avg_sq")


def table(rows, columns, share, seed=0):
    """Random state in which `share` of the rows is touched; other rows have no gradient."""
    generator = torch.Generator().manual_seed(seed)

    def draw():
        return torch.randn(rows, columns, generator=generator)

    touched = (torch.rand(rows, generator=generator) < share).to(torch.uint8)
    grads = draw() * touched[:, None]
    return [draw(), grads, draw(), draw().square() + 0.01, touched]


# Worst measured, AVX2: relative 7.2e-8, absolute 2e-6 (params and exp_avg_sq of up to 10).
@needs_cpp
@pytest.mark.parametrize("columns", [1, 2, 8, 16, 19, 32])
@pytest.mark.parametrize(
    ("rows", "share"), [(0, 1.0), (1, 1.0), (7, 0.5), (9000, 0.0), (9000, 0.03), (9000, 0.7)]
)
def test_step_matches_the_reference(rows, columns, share):
    got, want = table(rows, columns, share), table(rows, columns, share)
    lr = torch.linspace(0.01, 0.3, columns)
    untouched = want[4] == 0
    before = [t[untouched].clone() for t in want[:4]]
    sparse_adam_step_(*got, lr=lr, step=3, **OPTIONS, backend="cpu")
    sparse_adam_step_(*want, lr=lr, step=3, **OPTIONS, backend="reference")
    for name, g, w, b in zip(NAMES, got, want, before, strict=False):
        assert_close(name, g, w, rel=1e-6, abs=1e-5)
        assert torch.equal(g[untouched], b), f"{name} changed in rows that were not touched"
    assert not got[1].any() and not got[4].any() and not want[4].any()


# Worst measured, AVX2: relative 9e-8, absolute 2e-6.
@needs_cpp
@pytest.mark.parametrize("columns", [2, 8, 16, 19, 32])
@pytest.mark.parametrize(("rows", "share"), [(0, 1.0), (1, 1.0), (9000, 0.3)])
def test_one_mean_square_a_row(rows, columns, share):
    got, want = table(rows, columns, share), table(rows, columns, share)
    for tensors in (got, want):
        tensors[3] = tensors[3][:, :1].contiguous()
    lr = torch.linspace(0.01, 0.3, columns)
    sparse_adam_step_(*got, lr=lr, step=3, **OPTIONS, backend="cpu")
    sparse_adam_step_(*want, lr=lr, step=3, **OPTIONS, backend="reference")
    for name, g, w in zip(NAMES, got, want, strict=False):
        assert_close(name, g, w, rel=1e-6, abs=1e-5)
    assert not got[1].any() and not got[4].any()


@backends
def test_one_mean_square_a_row_is_adam_where_the_columns_are_alike(backend):
    one = table(30, 1, 0.6)
    many = [t.expand(-1, 8).contiguous() if t.ndim == 2 else t.clone() for t in one]
    many[3] = one[3].clone()
    sparse_adam_step_(*one, lr=0.1, step=4, **OPTIONS, backend=backend)
    sparse_adam_step_(*many, lr=0.1, step=4, **OPTIONS, backend=backend)
    assert_close("params", many[0], one[0].expand(-1, 8), rel=1e-6, abs=2e-6)
    assert_close("exp_avg_sq", many[3], one[3], rel=1e-6, abs=2e-6)


@backends
def test_touching_every_row_is_torch_adam(backend):
    params, _, m, v, touched = table(50, 16, 1.0)
    m.zero_(), v.zero_()
    theirs = params.clone().requires_grad_()
    optimiser = torch.optim.Adam([theirs], lr=0.1, **OPTIONS)
    for step in range(1, 6):
        grads = torch.randn(50, 16, generator=torch.Generator().manual_seed(step))
        theirs.grad = grads.clone()
        optimiser.step()
        touched.fill_(1)
        sparse_adam_step_(
            params, grads, m, v, touched, lr=0.1, step=step, **OPTIONS, backend=backend
        )
    assert_close("params", params, theirs, rel=1e-6, abs=2e-6)


@backends
def test_skipped_rows_behave_like_torch_sparse_adam(backend):
    params, _, m, v, _ = table(40, 8, 1.0)
    m.zero_(), v.zero_()
    theirs = params.clone().requires_grad_()
    optimiser = torch.optim.SparseAdam([theirs], lr=0.1, betas=(0.9, 0.99), eps=1e-12)
    for step in range(1, 8):
        _, grads, _, _, touched = table(40, 8, 0.3, seed=step)
        index = touched.nonzero().squeeze(1)
        theirs.grad = torch.sparse_coo_tensor(
            index[None], grads[index], grads.shape, check_invariants=True
        )
        optimiser.step()
        sparse_adam_step_(
            params,
            grads,
            m,
            v,
            touched,
            lr=0.1,
            betas=(0.9, 0.99),
            eps=1e-12,
            step=step,
            backend=backend,
        )
    assert_close("params", params, theirs, rel=1e-6, abs=2e-6)


@backends
@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 7, 11)])
def test_dense_step_on_any_shape(shape, backend):
    generator = torch.Generator().manual_seed(0)
    params, grads = (torch.randn(shape, generator=generator) for _ in range(2))
    theirs, m, v = params.clone().requires_grad_(), torch.zeros(shape), torch.zeros(shape)
    theirs.grad = grads.clone()
    torch.optim.Adam([theirs], lr=0.02, **OPTIONS).step()
    params.requires_grad_()
    adam_step_(params, grads, m, v, lr=0.02, step=1, **OPTIONS, backend=backend)
    assert_close("params", params, theirs, rel=1e-6, abs=1e-6)
    assert not grads.any()


@backends
def test_first_step_has_length_lr_whatever_the_gradient(backend):
    """With t = 1 the update is lr * sign(g): scale invariance, down to gradients whose square
    underflows, where it may only get shorter."""
    grads = torch.tensor([[1e6], [-1.0], [1e-3], [-1e-7], [1e-25], [0.0]])
    params, m, v = torch.zeros(6, 1), torch.zeros(6, 1), torch.zeros(6, 1)
    touched = torch.ones(6, dtype=torch.uint8)
    sparse_adam_step_(
        params, grads, m, v, touched, lr=0.5, betas=(0.9, 0.99), eps=1e-15, step=1, backend=backend
    )
    want = torch.tensor([[-0.5], [0.5], [-0.5], [0.5]])
    assert_close("params", params[:4], want, rel=1e-6, abs=1e-6)
    assert params[4:].isfinite().all() and params[4:].abs().max() <= 0.5


@backends
def test_a_stale_graph_is_noticed(backend):
    params, grads, m, v, touched = table(4, 8, 1.0)
    params.requires_grad_()
    loss = (params * params).sum()
    sparse_adam_step_(params, grads, m, v, touched, lr=0.1, step=1, **OPTIONS, backend=backend)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@needs_cpp
def test_any_nonzero_flag_counts():
    got, want = table(64, 8, 0.5), table(64, 8, 0.5)
    got[4] *= 128
    sparse_adam_step_(*got, lr=0.1, step=1, **OPTIONS, backend="cpu")
    sparse_adam_step_(*want, lr=0.1, step=1, **OPTIONS, backend="cpu")
    assert torch.equal(got[0], want[0])


def test_errors_name_the_argument():
    params, grads, m, v, touched = table(4, 8, 1.0)
    step = {"lr": 0.1, "step": 1, **OPTIONS}
    with pytest.raises(ValueError, match=r"grads must be torch\.float32 of shape \(4, 8\)"):
        sparse_adam_step_(params, grads[:3], m, v, touched, **step)
    with pytest.raises(ValueError, match="exp_avg is updated in place and must be contiguous"):
        sparse_adam_step_(params, grads, m.t().contiguous().t(), v, touched, **step)
    with pytest.raises(ValueError, match=r"touched must be uint8 of shape \(4,\)"):
        sparse_adam_step_(params, grads, m, v, touched.bool(), **step)
    with pytest.raises(ValueError, match="step must be at least 1, got 0"):
        adam_step_(params, grads, m, v, **{**step, "step": 0})
    with pytest.raises(ValueError, match=r"lr must have shape \(8,\), got \(4,\)"):
        sparse_adam_step_(params, grads, m, v, touched, **{**step, "lr": torch.ones(4)})
