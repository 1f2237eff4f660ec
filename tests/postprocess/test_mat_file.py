"""MATLAB files: what scipy writes is read as scipy reads it; what is damaged is refused."""

import io

import numpy as np
import pytest
import scipy.io

from nerfkit.postprocess.blur.mat_file import read_matrix

KERNEL = np.arange(15, dtype=np.float64).reshape(3, 5)


def written(compressed: bool = False, **variables: object) -> bytes:
    file = io.BytesIO()
    scipy.io.savemat(file, variables, do_compression=compressed)
    return file.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["f8", "f4", "u1", "i2", "u4", "i8"])
def test_reads_what_scipy_writes(dtype, compressed):
    others = {"name": "text", "k": np.ones((2, 2)), "fields": {"a": 1}}
    content = written(compressed, **others, Kernel=KERNEL.astype(dtype), more=np.zeros((0, 3)))
    np.testing.assert_array_equal(read_matrix(content, "Kernel"), KERNEL)
    assert read_matrix(content, "more").shape == (0, 3)
    with pytest.raises(KeyError):
        read_matrix(content, "kernel")


def test_reads_the_other_order_of_bytes():
    parts = (6, 8, 6, 0), (5, 8, 1, 2), (1, 1, ord("k") << 24, 0), (2, 2, 0x07090000, 0)
    matrix = np.array(parts, ">u4").tobytes()
    content = b" " * 124 + b"\x01\x00MI" + np.array((14, len(matrix)), ">u4").tobytes() + matrix
    assert read_matrix(content, "k").tolist() == [[7, 9]]


@pytest.mark.parametrize("value", ["text", {"a": 1}, KERNEL * 1j, np.array([[1, "a"]], object)])
def test_refuses_what_is_no_matrix_of_real_numbers(value):
    with pytest.raises(ValueError, match="not a matrix of real numbers"):
        read_matrix(written(Kernel=value), "Kernel")


@pytest.mark.parametrize("compressed", [False, True])
def test_damage_is_refused_or_read(compressed):
    whole = written(compressed, Kernel=KERNEL)
    refused = 0
    for at in range(len(whole)):
        for byte in (0x00, 0x01, 0x7F, 0xFF):
            for content in (whole[:at], whole[:at] + bytes([byte]) + whole[at + 1 :]):
                try:
                    assert read_matrix(content, "Kernel").size == KERNEL.size
                except (KeyError, ValueError):
                    refused += 1
    assert refused > 4 * len(whole)  # of 8: measured 4.6 and 5.6
