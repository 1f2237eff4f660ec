"""Adam, in place, for tables of which a step touches few rows, and for small dense tensors.

Symbols: N rows, C columns; g gradient, m and v its running mean and mean square (exp_avg and
exp_avg_sq), b1 and b2 the betas, t the global step, 1 at the first update.

    m <- b1 m + (1 - b1) g
    v <- b2 v + (1 - b2) g^2
    p <- p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

This is 1412.6980 algorithm 1 and torch.optim.Adam, with eps outside the square root. In rows that
a step does not touch nothing changes, moments included ("lazy" Adam, as torch.optim.SparseAdam):
the bias correction uses the global t for every row, not the number of its own updates. SparseAdam
adds its eps to sqrt(v) before the correction, so its eps is ours times sqrt(1 - b2^t).

Where exp_avg_sq has one column for C of the others, v is the running mean of g^2 averaged over the
row: one scale for the values of a vertex, for a quarter less memory (1804.04235 factors v alike).
"""

import torch

from nerfkit.kernels import _backend


def sparse_adam_step_(
    params: torch.Tensor,
    grads: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    touched: torch.Tensor,
    *,
    lr: float | torch.Tensor,
    betas: tuple[float, float],
    eps: float,
    step: int,
    backend: str | None = None,
) -> None:
    """Update the rows with touched != 0 in place, then zero their grads and their touched flag.

    Args:
        params, grads, exp_avg, exp_avg_sq: [N, C] contiguous, exp_avg_sq [N, C] or [N, 1]. Rows not
            touched are neither read nor written, so their grads must already be zero.
        touched: [N] uint8, contiguous.
        lr: learning rate, or one a column, [C].
        betas, eps: as above, betas in [0, 1), eps > 0.
        step: global step t, at least 1.

    Raises:
        ValueError: a shape, dtype, layout or number is out of range.
    """
    if params.ndim != 2:
        raise ValueError(f"params must have shape (n_rows, n_columns), got {tuple(params.shape)}")
    _check(params, grads, exp_avg, exp_avg_sq, betas, eps, step, shared=True)
    if touched.shape != params.shape[:1] or touched.dtype != torch.uint8:
        raise ValueError(
            f"touched must be uint8 of shape ({len(params)},), got {touched.dtype} of "
            f"{tuple(touched.shape)}"
        )
    if not touched.is_contiguous():
        raise ValueError("touched is updated in place and must be contiguous")
    if isinstance(lr, torch.Tensor) and lr.shape not in [(), params.shape[1:]]:
        raise ValueError(f"lr must have shape ({params.shape[1]},), got {tuple(lr.shape)}")
    _step(params, grads, exp_avg, exp_avg_sq, touched, lr, betas, eps, step, backend)


def adam_step_(
    params: torch.Tensor,
    grads: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    step: int,
    backend: str | None = None,
) -> None:
    """Update every element in place, then zero grads: plain Adam for tensors of any shape.

    Args:
        params, grads, exp_avg, exp_avg_sq: one shape, contiguous.
        lr, betas, eps, step: as in `sparse_adam_step_`.

    Raises:
        ValueError: a shape, dtype, layout or number is out of range.
    """
    _check(params, grads, exp_avg, exp_avg_sq, betas, eps, step)
    columns = [t.detach().view(-1, 1) for t in (params, grads, exp_avg, exp_avg_sq)]
    _step(*columns, None, lr, betas, eps, step, backend)


def _check(
    params: torch.Tensor,
    grads: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    betas: tuple[float, float],
    eps: float,
    step: int,
    shared: bool = False,
) -> None:
    tensors = {"params": params, "grads": grads, "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}
    for name, tensor in tensors.items():
        one_a_row = shared and name == "exp_avg_sq" and tensor.shape == (len(params), 1)
        if tensor.dtype != params.dtype or not (one_a_row or tensor.shape == params.shape):
            raise ValueError(
                f"{name} must be {params.dtype} of shape {tuple(params.shape)} like params, got "
                f"{tensor.dtype} of {tuple(tensor.shape)}"
            )
        if not tensor.is_contiguous():
            raise ValueError(f"{name} is updated in place and must be contiguous")
    if not all(0 <= beta < 1 for beta in betas):
        raise ValueError(f"betas must be in [0, 1), got {betas}")
    if eps <= 0:
        raise ValueError(f"eps must be positive, got {eps}")
    if step < 1:
        raise ValueError(f"step must be at least 1, got {step}")


def _step(
    params: torch.Tensor,
    grads: torch.Tensor,
    exp_avg: torch.Tensor,
    exp_avg_sq: torch.Tensor,
    touched: torch.Tensor | None,
    lr: float | torch.Tensor,
    betas: tuple[float, float],
    eps: float,
    step: int,
    backend: str | None,
) -> None:
    chosen = _backend.choose("sparse_adam", params, backend)
    if chosen == "cpu":
        from .cpu import adam_step_ as run
    elif chosen == "gpu":
        from .gpu import adam_step_ as run
    else:
        from .reference import adam_step_ as run
    run(params, grads, exp_avg, exp_avg_sq, touched, lr=lr, betas=betas, eps=eps, step=step)
