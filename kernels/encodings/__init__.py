"""Fixed encodings of network inputs: spherical harmonics of directions, sines of coordinates.

Symbols: N rows, C coordinates a row, n frequencies, K = degree^2 harmonics.
"""

import torch

from nerfkit.kernels import _backend

MAX_DEGREE = 4
MAX_FREQUENCIES = 16


def spherical_harmonics(
    directions: torch.Tensor, degree: int, *, backend: str | None = None
) -> torch.Tensor:
    """Real spherical harmonics of unit directions, with the gradient.

    Constants and order are those of instant-ngp (2201.05989) and PlenOctrees (2103.14024): band
    after band, in each m = -l..l, with the Condon-Shortley phase. With d = (x, y, z), |d| = 1:

        0: 0.28209479
        1..3: -0.48860251 y, 0.48860251 z, -0.48860251 x
        4..8: 1.09254843 xy, -1.09254843 yz, 0.94617470 z^2 - 0.31539157, -1.09254843 xz,
              0.54627422 (x^2 - y^2)
        9..15: 0.59004359 y (y^2 - 3 x^2), 2.89061144 xyz, 0.45704580 y (1 - 5 z^2),
               0.37317633 z (5 z^2 - 3), 0.45704580 x (1 - 5 z^2), 1.44530572 z (x^2 - y^2),
               0.59004359 x (3 y^2 - x^2)

    Args:
        directions: [N, 3], unit length (not checked). The gradient is that of these polynomials;
            its radial part depends on how they extend off the sphere and has no meaning.
        degree: number of bands, 1 to 4.

    Returns:
        [N, degree^2].

    Raises:
        ValueError: wrong shape or degree.
    """
    if directions.ndim != 2 or directions.shape[1] != 3:
        raise ValueError(f"directions must have shape (n, 3), got {tuple(directions.shape)}")
    if not 1 <= degree <= MAX_DEGREE:
        raise ValueError(f"degree must be 1 to {MAX_DEGREE}, got {degree}")
    chosen = _backend.choose("encodings", directions, backend)
    if chosen == "cpu":
        from .cpu import spherical_harmonics as run
    elif chosen == "gpu":
        from .gpu import spherical_harmonics as run
    else:
        from .reference import spherical_harmonics as run
    return run(directions, degree)


def frequency_encoding(
    x: torch.Tensor, n_frequencies: int, *, include_input: bool = True, backend: str | None = None
) -> torch.Tensor:
    """Sines and cosines of 2^k x, k = 0..n-1 (2003.08934 eq. 4), with the gradient.

    As in NeRF's code the argument is 2^k x without the pi of the paper's equation. Columns, each
    entry C wide: x (if include_input), sin(x), cos(x), sin(2x), cos(2x), sin(4x), ...

    Args:
        x: [N, C], |x| up to 10^6; the C++ kernel's error is below 3e-7 on that range.
        n_frequencies: n, 0 to 16.

    Returns:
        [N, C (2 n + include_input)].

    Raises:
        ValueError: wrong shape or number of frequencies.
    """
    if x.ndim != 2:
        raise ValueError(f"x must have shape (n, channels), got {tuple(x.shape)}")
    if not 0 <= n_frequencies <= MAX_FREQUENCIES:
        raise ValueError(f"n_frequencies must be 0 to {MAX_FREQUENCIES}, got {n_frequencies}")
    chosen = _backend.choose("encodings", x, backend)
    if chosen == "cpu":
        from .cpu import frequency_encoding as run
    elif chosen == "gpu":
        from .gpu import frequency_encoding as run
    else:
        from .reference import frequency_encoding as run
    return run(x, n_frequencies, include_input=include_input)
