"""Triton kernels of wide networks, a layer a launch; `dense.py` says what is launched.

Activations of n samples are rows of one 16-bit tensor, `kept`; a layer reads some of its columns
and writes others. Gradients of the activations have a tensor of the same columns. Products are
16-bit (TF32 in three parts for float32, which tests use), sums float32.
"""

import triton
import triton.language as tl

from nerfkit.kernels.shared.triton_math import frequency_value


@triton.jit
def _rows(ROWS: tl.constexpr):
    return tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)


@triton.jit
def encode_kernel(
    values,  # [., DIM]
    indices,  # the row of each sample in `values`; None: its own
    n,
    kept,
    columns,
    at,
    DIM: tl.constexpr,
    REAL: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The frequency encoding, REAL columns of it and then zeros, to columns `at` on."""
    local = _rows(ROWS)[:, None]
    exists = local < n
    rows = local
    if indices is not None:
        rows = tl.load(indices + local, mask=exists, other=0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    mask = exists & (column < REAL)
    x = tl.load(values + rows * DIM + column % DIM, mask=mask, other=0.0)
    value = tl.where(mask, frequency_value(x, column // DIM - 1), 0.0)
    tl.store(kept + local * columns + at + column, value, mask=exists)


@triton.jit
def _product(x, columns, rows, exists, at, wide, weights, stride, across, out, acc, IN):
    """acc plus columns at .. at + wide of x times weights, whose rows lie `stride` apart."""
    step = tl.arange(0, IN)
    for i in range(0, wide, IN):
        at_x = x + rows[:, None] * columns + (at + i + step)[None, :]
        left = tl.load(at_x, mask=exists[:, None], other=0.0)
        right = tl.load(weights + (i + step)[:, None] * stride + out[None, :] * across)
        acc = tl.dot(left, right, acc=acc, input_precision="tf32x3")
    return acc


@triton.jit
def layer_kernel(
    kept,
    columns,
    n,
    weights,  # of the layer: [wide_0 + wide_1, wide]
    biases,  # [wide] float32
    at_0,
    wide_0,
    at_1,
    wide_1,
    at,
    wide,
    result,  # [n, REAL] float32, written in place of the columns where not None
    RELU: tl.constexpr,
    REAL: tl.constexpr,
    ROWS: tl.constexpr,
    OUT: tl.constexpr,
    IN: tl.constexpr,
):
    """Columns at .. at + wide = relu(weights^T [columns at_0 .., columns at_1 ..] + biases)."""
    rows = _rows(ROWS)
    exists = rows < n
    out = tl.program_id(1) * OUT + tl.arange(0, OUT)
    acc = tl.zeros([ROWS, OUT], tl.float32) + tl.load(biases + out)[None, :]
    acc = _product(kept, columns, rows, exists, at_0, wide_0, weights, wide, 1, out, acc, IN)
    weights += wide_0 * wide
    acc = _product(kept, columns, rows, exists, at_1, wide_1, weights, wide, 1, out, acc, IN)
    if RELU:
        acc = tl.maximum(acc, 0.0)
    if result is None:
        place = kept + rows[:, None] * columns + (at + out)[None, :]
        tl.store(place, acc.to(kept.dtype.element_ty), mask=exists[:, None])
    else:
        mask = exists[:, None] & (out < REAL)[None, :]
        tl.store(result + rows[:, None] * REAL + out[None, :], acc, mask=mask)


@triton.jit
def upstream_kernel(
    values,  # [n, REAL] float32
    n,
    grads,
    columns,
    at,
    scale_of,  # [1]
    REAL: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Gradients of a result, times scale, widened with zeros."""
    rows = _rows(ROWS)[:, None]
    column = tl.arange(0, PADDED)[None, :]
    exists = rows < n
    value = tl.load(values + rows * REAL + column, mask=exists & (column < REAL), other=0.0)
    value = (value * tl.load(scale_of)).to(grads.dtype.element_ty)
    tl.store(grads + rows * columns + at + column, value, mask=exists)


@triton.jit
def back_kernel(
    grads,
    kept,
    columns,
    n,
    weights_0,  # of a layer that reads the columns: from their first row on
    from_0,  # its own columns
    wide_0,
    weights_1,  # of another one
    from_1,
    wide_1,
    at,
    RELU: tl.constexpr,
    ROWS: tl.constexpr,
    OUT: tl.constexpr,
    IN: tl.constexpr,
):
    """Gradients of columns `at` on, before their ReLU, from those of the layers that read them."""
    rows = _rows(ROWS)
    exists = rows < n
    out = tl.program_id(1) * OUT + tl.arange(0, OUT)
    d = tl.zeros([ROWS, OUT], tl.float32)
    d = _product(grads, columns, rows, exists, from_0, wide_0, weights_0, 1, wide_0, out, d, IN)
    d = _product(grads, columns, rows, exists, from_1, wide_1, weights_1, 1, wide_1, out, d, IN)
    place = rows[:, None] * columns + (at + out)[None, :]
    if RELU:
        # a factor: booleans cannot change the layout by way of shared memory (3.9 fails)
        on = tl.load(kept + place, mask=exists[:, None], other=0.0)
        d = d * tl.where(on > 0, 1.0, 0.0)
    tl.store(grads + place, d.to(grads.dtype.element_ty), mask=exists[:, None])


@triton.jit
def weights_kernel(
    kept,
    columns,
    grads,
    grad_columns,
    n,
    products,  # [J, 6], see `dense_layout.Network.products`
    scale_of,
    partial,  # [splits, packed], added to: each element by one program
    n_packed,
    TRIPS: tl.constexpr,  # tiles of samples of a split
    ROWS: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
):
    """dW = activations^T gradients, over the samples of one split."""
    job = products + tl.program_id(0) * 6
    split, splits = tl.program_id(1), tl.num_programs(1)
    i = tl.multiple_of(tl.load(job), 16) + tl.arange(0, BLOCK_IN)
    o = tl.multiple_of(tl.load(job + 1), 16) + tl.arange(0, BLOCK_OUT)
    dw = tl.zeros([BLOCK_IN, BLOCK_OUT], tl.float32)
    db = tl.zeros([BLOCK_OUT], tl.float32)
    for trip in range(TRIPS):
        rows = (split + trip * splits).to(tl.int64) * ROWS + tl.arange(0, ROWS)
        exists = rows < n
        at = kept + rows[:, None] * columns + i[None, :]
        x = tl.load(at, mask=exists[:, None], other=0.0)
        at = grads + rows[:, None] * grad_columns + o[None, :]
        d = tl.load(at, mask=exists[:, None], other=0.0)
        dw = tl.dot(tl.trans(x), d, acc=dw, input_precision="tf32x3")
        db += tl.sum(d.to(tl.float32), 0)
    place, stride = tl.load(job + 2), tl.load(job + 3)
    wide, bias = tl.load(job + 4), tl.load(job + 5)
    scale = 1.0 / tl.load(scale_of)
    partial += split.to(tl.int64) * n_packed
    o = tl.arange(0, BLOCK_OUT)
    at = partial + place + tl.arange(0, BLOCK_IN)[:, None] * stride + o[None, :]
    mask = (o < wide)[None, :]
    tl.store(at, tl.load(at, mask=mask, other=0.0) + dw * scale, mask=mask)
    at = partial + bias + o
    mask = o < tl.where(bias >= 0, wide, 0)
    tl.store(at, tl.load(at, mask=mask, other=0.0) + db * scale, mask=mask)
