"""Spherical harmonics and frequency encoding in plain torch."""

import torch


def spherical_harmonics(directions: torch.Tensor, degree: int) -> torch.Tensor:
    """See `nerfkit.kernels.encodings.spherical_harmonics`."""
    x, y, z = directions.unbind(1)
    xx, yy, zz = x * x, y * y, z * z
    bands = [
        [torch.full_like(x, 0.28209479177387814)],
        [-0.48860251190291987 * y, 0.48860251190291987 * z, -0.48860251190291987 * x],
        [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.94617469575756008 * zz - 0.31539156525251999,
            -1.0925484305920792 * x * z,
            0.54627421529603959 * (xx - yy),
        ],
        [
            0.59004358992664352 * y * (yy - 3 * xx),
            2.8906114426405538 * x * y * z,
            0.45704579946446572 * y * (1 - 5 * zz),
            0.3731763325901154 * z * (5 * zz - 3),
            0.45704579946446572 * x * (1 - 5 * zz),
            1.4453057213202769 * z * (xx - yy),
            0.59004358992664352 * x * (3 * yy - xx),
        ],
    ]
    return torch.stack([value for band in bands[:degree] for value in band], 1)


def frequency_encoding(
    x: torch.Tensor, n_frequencies: int, *, include_input: bool = True
) -> torch.Tensor:
    """See `nerfkit.kernels.encodings.frequency_encoding`."""
    columns = [x] if include_input else [x[:, :0]]
    for k in range(n_frequencies):
        columns += [torch.sin(2**k * x), torch.cos(2**k * x)]
    return torch.cat(columns, 1)
