"""Named closeness asserts: one number for the whole tensor, one for its worst element.

Relative RMS error is ||got - want|| / ||want|| (Frobenius norms): it sees a small bias everywhere,
which a loose elementwise tolerance hides. The largest absolute error sees a single wrong element,
which an average hides. Both must hold.
"""

from collections.abc import Callable, Mapping, Sequence

import torch

WORST_SHOWN = 5


def assert_close(
    name: str, got: torch.Tensor, want: torch.Tensor, rel: float, abs: float
) -> tuple[float, float]:
    """Check shape, finiteness, relative RMS error <= `rel` and largest error <= `abs`.

    Where `want` is all zeros there is no relative error and `abs` alone decides.

    Returns:
        (relative RMS error, largest absolute error), to set tolerances by.

    Raises:
        AssertionError: names the tensor, both errors and the worst coordinates.
    """
    if got.shape != want.shape:
        raise AssertionError(f"{name}: shape {tuple(got.shape)}, wanted {tuple(want.shape)}")
    got64, want64 = got.detach().double().cpu(), want.detach().double().cpu()
    for whose, tensor in (("the result", got64), ("the expected value", want64)):
        bad = (~torch.isfinite(tensor)).nonzero()
        if len(bad):
            raise AssertionError(
                f"{name}: {len(bad)} of {tensor.numel()} elements of {whose} are not finite, "
                f"first at {bad[0].tolist()}"
            )
    if got.numel() == 0:
        return 0.0, 0.0
    error = (got64 - want64).abs()
    worst = error.max().item()
    scale = want64.norm().item()
    relative = error.norm().item() / scale if scale > 0 else 0.0
    if relative <= rel and worst <= abs:
        return relative, worst
    lines = [
        f"{name}: relative RMS error {relative:.3g} (allowed {rel:.3g}), "
        f"largest error {worst:.3g} (allowed {abs:.3g}); worst elements:"
    ]
    for flat in error.flatten().topk(min(WORST_SHOWN, error.numel())).indices.tolist():
        where = [int(i) for i in torch.unravel_index(torch.tensor(flat), error.shape)]
        g, w = got64.flatten()[flat].item(), want64.flatten()[flat].item()
        lines.append(f"  {where}: got {g:.9g}, wanted {w:.9g}")
    raise AssertionError("\n".join(lines))


def gradients(
    op: Callable[..., torch.Tensor | Sequence[torch.Tensor]],
    inputs: Mapping[str, torch.Tensor],
    wanted: Sequence[str],
    seed: int = 0,
) -> dict[str, torch.Tensor]:
    """Gradients of sum(random * output) over all outputs of `op(**inputs)`, by input name.

    The random upstream gradients depend on `seed` and the outputs' shapes alone, so two
    implementations called with one seed are comparable. Inputs that no output depends on get zeros.
    """
    leaves = {k: v.detach().requires_grad_(k in wanted) for k, v in inputs.items()}
    outputs = op(**leaves)
    outputs = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
    generator = torch.Generator().manual_seed(seed)
    upstream = [torch.randn(o.shape, generator=generator).to(o) for o in outputs]
    connected = [(o, g) for o, g in zip(outputs, upstream, strict=True) if o.requires_grad]
    if not connected:
        return {k: torch.zeros_like(leaves[k]) for k in wanted}
    found = torch.autograd.grad(
        [o for o, _ in connected],
        [leaves[k] for k in wanted],
        [g for _, g in connected],
        materialize_grads=True,
    )
    return dict(zip(wanted, found, strict=True))


def assert_gradients_close(
    got: Mapping[str, torch.Tensor], want: Mapping[str, torch.Tensor], rel: float, abs: float
) -> None:
    """`assert_close` of every gradient, each reported as d<name>."""
    assert got.keys() == want.keys(), f"gradients of {list(got)}, wanted {list(want)}"
    for name, expected in want.items():
        assert_close(f"d{name}", got[name], expected, rel, abs)
