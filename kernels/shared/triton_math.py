"""Functions of tiles that more than one Triton kernel calls."""

import triton
import triton.language as tl


@triton.jit
def one_minus_exp(x):
    """1 - exp(-x) for x >= 0; near zero by a series, where the difference would lose its digits."""
    p = 1.0 / 120.0 - x * (1.0 / 720.0 - x * (1.0 / 5040.0))
    p = 1.0 - x * (0.5 - x * (1.0 / 6.0 - x * (1.0 / 24.0 - x * p)))
    return tl.where(x < 0.25, p * x, 1.0 - tl.exp(-x))


@triton.jit
def _append(before_a, last_a, before_b, last_b):
    return before_a + last_a + before_b, last_b


@triton.jit
def exclusive_sum(x, axis: tl.constexpr, reverse: tl.constexpr = False):
    """Sum of the elements before each one (behind it, if reverse), itself never added.

    Inclusive sum minus element would leave the element's rounding error in a sum of small ones.
    """
    before, _ = tl.associative_scan((tl.zeros_like(x), x), axis, _append, reverse)
    return before
