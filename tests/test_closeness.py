"""The asserts that judge the kernels must themselves be able to fail."""

import pytest
import torch
from closeness import assert_close, assert_gradients_close, gradients

WANT = torch.linspace(1.0, 2.0, 12).reshape(3, 4)


def changed(row: int, column: int, value: float) -> torch.Tensor:
    got = WANT.clone()
    got[row, column] = value
    return got


def test_equal_tensors_pass_and_report_zero_error():
    assert assert_close("x", WANT.clone(), WANT, rel=0.0, abs=0.0) == (0.0, 0.0)


def test_one_wrong_element_is_named():
    with pytest.raises(AssertionError, match=r"x: .*\n  \[2, 1\]: got 9, wanted 1\.818"):
        assert_close("x", changed(2, 1, 9.0), WANT, rel=10.0, abs=1e-3)


def test_a_bias_within_the_absolute_tolerance_fails_the_relative_one():
    with pytest.raises(AssertionError, match=r"relative RMS error 0\.01"):
        assert_close("x", WANT * 1.01, WANT, rel=1e-3, abs=1.0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_non_finite_fails_on_either_side(bad: float):
    with pytest.raises(AssertionError, match=r"1 of 12 elements of the result.*\[0, 3\]"):
        assert_close("x", changed(0, 3, bad), WANT, rel=1e9, abs=1e9)
    with pytest.raises(AssertionError, match="of the expected value"):
        assert_close("x", WANT, changed(0, 3, bad), rel=1e9, abs=1e9)


def test_shapes_must_match_even_when_they_broadcast():
    with pytest.raises(AssertionError, match=r"shape \(1, 4\), wanted \(3, 4\)"):
        assert_close("x", WANT[:1], WANT, rel=1e9, abs=1e9)


def test_zeros_are_judged_by_the_absolute_tolerance():
    zeros = torch.zeros(5)
    assert_close("x", zeros + 1e-8, zeros, rel=1e-6, abs=1e-7)
    with pytest.raises(AssertionError):
        assert_close("x", zeros + 1e-6, zeros, rel=1e-6, abs=1e-7)


def test_empty_tensors_pass():
    assert_close("x", torch.zeros(0, 3), torch.zeros(0, 3), rel=0.0, abs=0.0)


def test_a_wrong_gradient_is_reported_by_name():
    inputs = {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0])}
    right = gradients(lambda a, b: a * b, inputs, ["a", "b"])
    wrong = gradients(lambda a, b: a * b + 0.5 * b, inputs, ["a", "b"])
    assert_gradients_close(right, right, rel=0.0, abs=0.0)
    with pytest.raises(AssertionError, match="db: "):
        assert_gradients_close(wrong, right, rel=1e-3, abs=1e-3)


def test_poison_reaches_every_way_to_allocate(poison_empty: None):
    x = torch.zeros(2)
    for allocated in (torch.empty(3), torch.empty_like(x), x.new_empty(4)):
        assert allocated.isnan().all()
    assert torch.empty(3, dtype=torch.int64).shape == (3,)
