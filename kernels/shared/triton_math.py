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


@triton.jit
def _sine(angle):
    """sin of uint32 angles, 2^32 to the turn, absolute error below 2e-7."""
    nearest = (angle + (1 << 29)) >> 30  # quadrant 0..3
    r = (angle - (nearest << 30)).to(tl.int32, bitcast=True).to(tl.float32)
    r *= 1.57079632679489661923 / (1 << 30)
    z = r * r
    s = r + r * z * (-1.6666654611e-1 + z * (8.3321608736e-3 - z * 1.9515295891e-4))
    tail = 4.1666645683e-2 + z * (-1.3887316255e-3 + z * 2.4433157118e-5)
    c = 1.0 - 0.5 * z + z * z * tail
    value = tl.where((nearest & 1) != 0, c, s)
    return tl.where((nearest & 2) != 0, -value, value)


@triton.jit
def frequency_value(x, kind):
    """Of the frequency encoding of x: x for kind -1, sin(2^k x) for 2 k, cos(2^k x) for 2 k + 1.

    Angles are integers, so the wrap-around of the integer is the periodicity of the sine, and a
    doubling is a shift: no large argument has to be reduced (../encodings/frequency.h).
    """
    quarters = x.to(tl.float64) * tl.full([], 0.63661977236758134308 * (1 << 40), tl.float64)
    fixed = tl.floor(quarters + 0.5).to(tl.int64)
    shift = (tl.maximum(kind, 0) >> 1).to(tl.int64)
    angle = ((fixed << shift) >> 10).to(tl.int32).to(tl.uint32, bitcast=True)
    angle += ((kind & 1) << 30).to(tl.uint32, bitcast=True)  # cos(a) = sin(a + a quarter turn)
    return tl.where(kind < 0, x, _sine(angle))
