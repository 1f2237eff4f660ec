"""The Triton kernels of nerf_mlp; `gpu.py` launches them.

Products are 16-bit, sums float32. A program has ROWS samples; a layer's units are two tiles
[ROWS, HALF], which stay on the chip from layer to layer. Columns of the activations ("kept") and of
their gradients are those of `gpu_layout.Layout`.
"""

import triton
import triton.language as tl

from nerfkit.kernels.shared.triton_math import frequency_value


@triton.jit
def _keep(kept, rows, exists, columns, at, value, N: tl.constexpr):
    column = at + tl.arange(0, N)[None, :]
    tl.store(kept + rows * columns + column, value, mask=exists)


@triton.jit
def encode_kernel(
    values,  # [., 3]
    indices,  # the row of each sample in `values`; None: its own
    first,
    n,
    kept,
    columns,
    at,
    REAL: tl.constexpr,
    PADDED: tl.constexpr,
    ROWS: tl.constexpr,
):
    """The frequency encoding, widened with zeros, to columns `at` on of the activations.

    By itself, as the registers of the other kernels are full; it is a 40th of what they read.
    """
    local = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    rows = first + local
    exists = rows < n
    if indices is not None:
        rows = tl.load(indices + rows, mask=exists, other=0)
    column = tl.arange(0, PADDED)[None, :]
    mask = exists & (column < REAL)
    x = tl.load(values + rows * 3 + column % 3, mask=mask, other=0.0)
    value = tl.where(mask, frequency_value(x, column // 3 - 1), 0.0)
    _keep(kept, local, exists, columns, at, value, PADDED)


@triton.jit
def _kept(kept, rows, exists, columns, at, N: tl.constexpr):
    """Columns at .. at + N of the activations."""
    column = at + tl.arange(0, N)[None, :]
    return tl.load(kept + rows * columns + column, mask=exists, other=0.0)


@triton.jit
def _block(weights, row, column, N, R: tl.constexpr, C: tl.constexpr):
    """Weights [R inputs, C outputs] of a layer of N outputs."""
    i = row + tl.arange(0, R)[:, None]
    o = column + tl.arange(0, C)[None, :]
    return tl.load(weights + i * N + o)


@triton.jit
def _across(weights, row, column, N, R: tl.constexpr, C: tl.constexpr):
    """The same transposed, [C outputs, R inputs]."""
    o = column + tl.arange(0, C)[:, None]
    i = row + tl.arange(0, R)[None, :]
    return tl.load(weights + i * N + o)


@triton.jit
def _times(x0, x1, weights, column, N, y, HALF: tl.constexpr, C: tl.constexpr):
    """y plus both halves of the units times their weights."""
    y = tl.dot(x0, _block(weights, 0, column, N, HALF, C), acc=y)
    return tl.dot(x1, _block(weights, HALF, column, N, HALF, C), acc=y)


@triton.jit
def _bias(biases, column, ROWS: tl.constexpr, C: tl.constexpr):
    """What a product starts from."""
    return tl.zeros([ROWS, C], tl.float32) + tl.load(biases + column + tl.arange(0, C))[None, :]


@triton.jit
def forward_kernel(
    weights,  # packed, 16-bit
    biases,  # packed, float32
    first,  # sample of this launch
    n,  # the end of its samples
    rgb,  # written where not None
    sigma,
    kept,  # activations [n - first, columns], of which the encodings are there
    columns,
    at_direction,  # of the encoded direction
    KEEP: tl.constexpr,  # whether to write the others
    DEPTH: tl.constexpr,
    SKIP: tl.constexpr,
    POSITION: tl.constexpr,
    DIRECTION: tl.constexpr,
    HALF: tl.constexpr,
    VIEW: tl.constexpr,
    OUTPUTS: tl.constexpr,
    ROWS: tl.constexpr,
):
    WIDTH: tl.constexpr = 2 * HALF
    dtype: tl.constexpr = weights.dtype.element_ty
    local = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    rows = first + local
    exists = rows < n
    position = _kept(kept, local, exists, columns, 0, POSITION)
    h0, h1 = _bias(biases, 0, ROWS, HALF), _bias(biases, HALF, ROWS, HALF)
    h0 = tl.dot(position, _block(weights, 0, 0, WIDTH, POSITION, HALF), acc=h0)
    h1 = tl.dot(position, _block(weights, 0, HALF, WIDTH, POSITION, HALF), acc=h1)
    h0, h1 = tl.maximum(h0, 0.0).to(dtype), tl.maximum(h1, 0.0).to(dtype)
    if KEEP:
        _keep(kept, local, exists, columns, POSITION, h0, HALF)
        _keep(kept, local, exists, columns, POSITION + HALF, h1, HALF)
    weights += POSITION * WIDTH
    biases += WIDTH
    for layer in range(1, DEPTH):
        y0, y1 = _bias(biases, 0, ROWS, HALF), _bias(biases, HALF, ROWS, HALF)
        if layer == SKIP:
            position = _kept(kept, local, exists, columns, 0, POSITION)
            y0 = tl.dot(position, _block(weights, 0, 0, WIDTH, POSITION, HALF), acc=y0)
            y1 = tl.dot(position, _block(weights, 0, HALF, WIDTH, POSITION, HALF), acc=y1)
            weights += POSITION * WIDTH
        y0 = _times(h0, h1, weights, 0, WIDTH, y0, HALF, HALF)
        y1 = _times(h0, h1, weights, HALF, WIDTH, y1, HALF, HALF)
        h0 = tl.maximum(y0, 0.0).to(dtype)
        h1 = tl.maximum(y1, 0.0).to(dtype)
        if KEEP:
            _keep(kept, local, exists, columns, POSITION + layer * WIDTH, h0, HALF)
            _keep(kept, local, exists, columns, POSITION + layer * WIDTH + HALF, h1, HALF)
        weights += WIDTH * WIDTH
        biases += WIDTH
    output = tl.arange(0, OUTPUTS)[None, :]
    if sigma is not None:
        raw = _bias(biases, 0, ROWS, OUTPUTS)
        raw = _times(h0, h1, weights, 0, OUTPUTS, raw, HALF, OUTPUTS)
        tl.store(sigma + rows + output, raw, mask=exists & (output < 1))
    weights += WIDTH * OUTPUTS
    biases += OUTPUTS
    f0, f1 = _bias(biases, 0, ROWS, HALF), _bias(biases, HALF, ROWS, HALF)
    f0 = _times(h0, h1, weights, 0, WIDTH, f0, HALF, HALF)
    f1 = _times(h0, h1, weights, HALF, WIDTH, f1, HALF, HALF)
    f0, f1 = f0.to(dtype), f1.to(dtype)
    weights += WIDTH * WIDTH
    biases += WIDTH
    direction = _kept(kept, local, exists, columns, at_direction, DIRECTION)
    v = _times(f0, f1, weights, 0, VIEW, _bias(biases, 0, ROWS, VIEW), HALF, VIEW)
    v = tl.dot(direction, _block(weights, WIDTH, 0, VIEW, DIRECTION, VIEW), acc=v)
    v = tl.maximum(v, 0.0).to(dtype)
    weights += (WIDTH + DIRECTION) * VIEW
    biases += VIEW
    if rgb is not None:
        raw = _bias(biases, 0, ROWS, OUTPUTS)
        raw = tl.dot(v, _block(weights, 0, 0, OUTPUTS, VIEW, OUTPUTS), acc=raw)
        tl.store(rgb + rows * 3 + output, raw, mask=exists & (output < 3))
    if KEEP:
        at = POSITION + DEPTH * WIDTH
        _keep(kept, local, exists, columns, at, f0, HALF)
        _keep(kept, local, exists, columns, at + HALF, f1, HALF)
        _keep(kept, local, exists, columns, at + WIDTH + DIRECTION, v, VIEW)


@triton.jit
def _was_on(d, kept, rows, exists, columns, at, N: tl.constexpr):
    """Gradients pass a ReLU where its result was positive.

    A factor, not a choice: booleans cannot change the layout by way of shared memory (3.9 fails).
    """
    return d * tl.where(_kept(kept, rows, exists, columns, at, N) > 0, 1.0, 0.0)


@triton.jit
def _back(d0, d1, weights, row, N, x, HALF: tl.constexpr):
    """x plus the gradients of a layer's inputs row .. row + HALF from those of its outputs."""
    x = tl.dot(d0, _across(weights, row, 0, N, HALF, HALF), acc=x)
    return tl.dot(d1, _across(weights, row, HALF, N, HALF, HALF), acc=x)


@triton.jit
def backward_kernel(
    weights,
    first,
    n,
    d_rgb,
    d_sigma,
    scale_of,  # [1]
    kept,  # activations
    columns,
    grads,  # of the activations before their ReLU, times scale; written
    grad_columns,
    at_sigma,  # of the packed weights of the layers
    at_rgb,
    DEPTH: tl.constexpr,
    SKIP: tl.constexpr,
    POSITION: tl.constexpr,
    DIRECTION: tl.constexpr,
    HALF: tl.constexpr,
    VIEW: tl.constexpr,
    OUTPUTS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    ROWS: tl.constexpr,
):
    WIDTH: tl.constexpr = 2 * HALF
    dtype: tl.constexpr = weights.dtype.element_ty
    local = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    rows = first + local
    exists = rows < n
    scale = tl.load(scale_of)
    output = tl.arange(0, OUTPUTS)[None, :]
    red = tl.load(d_rgb + rows * 3 + output, mask=exists & (output < 3), other=0.0) * scale
    density = tl.load(d_sigma + rows + output, mask=exists & (output < 1), other=0.0) * scale
    red, density = red.to(dtype), density.to(dtype)
    end = (DEPTH + 1) * WIDTH + VIEW
    _keep(grads, local, exists, grad_columns, end, red, OUTPUTS)
    _keep(grads, local, exists, grad_columns, end + BLOCK_OUT, density, OUTPUTS)

    v = tl.dot(red, _across(weights + at_rgb, 0, 0, OUTPUTS, VIEW, OUTPUTS))
    at = POSITION + DEPTH * WIDTH
    v = _was_on(v, kept, local, exists, columns, at + WIDTH + DIRECTION, VIEW).to(dtype)
    _keep(grads, local, exists, grad_columns, (DEPTH + 1) * WIDTH, v, VIEW)
    at_view = weights + at_rgb - (WIDTH + DIRECTION) * VIEW
    f0 = tl.dot(v, _across(at_view, 0, 0, VIEW, HALF, VIEW)).to(dtype)
    f1 = tl.dot(v, _across(at_view, HALF, 0, VIEW, HALF, VIEW)).to(dtype)
    _keep(grads, local, exists, grad_columns, DEPTH * WIDTH, f0, HALF)
    _keep(grads, local, exists, grad_columns, DEPTH * WIDTH + HALF, f1, HALF)

    at_layer = weights + at_sigma
    d0 = tl.dot(density, _across(at_layer, 0, 0, OUTPUTS, HALF, OUTPUTS))
    d1 = tl.dot(density, _across(at_layer, HALF, 0, OUTPUTS, HALF, OUTPUTS))
    at_feature = at_layer + WIDTH * OUTPUTS
    d0 = _back(f0, f1, at_feature, 0, WIDTH, d0, HALF)
    d1 = _back(f0, f1, at_feature, HALF, WIDTH, d1, HALF)
    for back in range(0, DEPTH):
        layer = DEPTH - 1 - back
        at = POSITION + layer * WIDTH
        d0 = _was_on(d0, kept, local, exists, columns, at, HALF)
        d1 = _was_on(d1, kept, local, exists, columns, at + HALF, HALF)
        g0, g1 = d0.to(dtype), d1.to(dtype)
        _keep(grads, local, exists, grad_columns, layer * WIDTH, g0, HALF)
        _keep(grads, local, exists, grad_columns, layer * WIDTH + HALF, g1, HALF)
        if layer > 0:
            at_layer -= WIDTH * WIDTH
            nothing = tl.zeros([ROWS, HALF], tl.float32)
            d0 = _back(g0, g1, at_layer, 0, WIDTH, nothing, HALF)
            d1 = _back(g0, g1, at_layer, HALF, WIDTH, nothing, HALF)
            if layer == SKIP:
                at_layer -= POSITION * WIDTH
