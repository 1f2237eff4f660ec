"""Lens distortion and its inverse, vectorised.

Symbols: (x, y) = point on the normalised image plane in OpenCV axes (x right, y down, depth 1);
(xd, yd) = the same point distorted, i.e. pixel = (fx xd + cx, fy yd + cy); theta = angle from the
optical axis in radians; k = distortion [6, ...] in the order (k1, k2, k3, k4, p1, p2), each
coefficient broadcasting against the points (coefficients first: contiguous rows are quicker).
Any floating dtype. Models: https://docs.opencv.org, modules calib3d (with k4 for r^8, as
nerfstudio has it) and fisheye.
"""

import torch
from torch import Tensor

MAX_ITERATIONS = 12


def _radial(r2: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Radial factor d(r^2) and its derivative by r^2."""
    k1, k2, k3, k4 = k[:4]
    factor = 1 + r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4)))
    slope = k1 + r2 * (2 * k2 + r2 * (3 * k3 + r2 * (4 * k4)))
    return factor, slope


def _opencv(x: Tensor, y: Tensor, k: Tensor) -> tuple[Tensor, ...]:
    """Distorted point and the (symmetric) Jacobian entries xx, xy, yy."""
    p1, p2 = k[4], k[5]
    xx, yy, xy = x * x, y * y, x * y
    r2 = xx + yy
    factor, slope = _radial(r2, k)
    slope = 2 * slope
    px, py = p1 * x + p2 * y, p1 * y + p2 * x
    xd = x * factor + 2 * p1 * xy + p2 * (r2 + 2 * xx)
    yd = y * factor + 2 * p2 * xy + p1 * (r2 + 2 * yy)
    j_xx = factor + slope * xx + 2 * py + 4 * p2 * x
    j_xy = slope * xy + 2 * px
    j_yy = factor + slope * yy + 2 * py + 4 * p1 * y
    return xd, yd, j_xx, j_xy, j_yy


def distort_opencv(x: Tensor, y: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Distort plane points; points past the fold of the radial curve are left where they are.

    Past the fold (d(r d)/dr <= 0) the polynomial means nothing and would bring points from far
    outside the view back into the image.
    """
    xd, yd, *_ = _opencv(x, y, k)
    r2 = x * x + y * y
    factor, slope = _radial(r2, k)
    valid = factor + 2 * r2 * slope > 0
    return torch.where(valid, xd, x), torch.where(valid, yd, y)


def undistort_opencv(xd: Tensor, yd: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse of `distort_opencv` by Newton's method on both coordinates.

    Where the model has no inverse (past the fold) the distorted point itself is returned.
    """
    # quadratic convergence: after a step below sqrt(eps) the error left is about eps
    tolerance = 0.3 * torch.finfo(xd.dtype).eps ** 0.5
    factor = _radial(xd * xd + yd * yd, k)[0].clamp_min(0.5)
    x, y = xd / factor, yd / factor
    for _ in range(MAX_ITERATIONS):
        fx, fy, j_xx, j_xy, j_yy = _opencv(x, y, k)
        fx, fy = fx - xd, fy - yd
        inverse = 1 / (j_xx * j_yy - j_xy * j_xy)
        step_x = (j_yy * fx - j_xy * fy) * inverse
        step_y = (j_xx * fy - j_xy * fx) * inverse
        x, y = x - step_x, y - step_y
        if x.numel() == 0 or _largest(step_x, step_y) < tolerance:
            return x, y
    back_x, back_y = distort_opencv(x, y, k)
    solved = (back_x - xd).abs() + (back_y - yd).abs() < 1e-3  # False for NaN
    return torch.where(solved, x, xd), torch.where(solved, y, yd)


def distort_fisheye(theta: Tensor, k: Tensor) -> Tensor:
    """Distance from the principal point (focal lengths) of a ray at `theta` off the axis.

    Past the fold of the curve it is theta itself, as in `distort_opencv`.
    """
    t2 = theta * theta
    factor, slope = _radial(t2, k)
    return theta * torch.where(factor + 2 * t2 * slope > 0, factor, torch.ones_like(factor))


def undistort_fisheye(radius: Tensor, k: Tensor) -> Tensor:
    """Inverse of `distort_fisheye` by Newton's method; theta = radius where there is none."""
    tolerance = 0.3 * torch.finfo(radius.dtype).eps ** 0.5
    theta = radius
    for _ in range(MAX_ITERATIONS):
        t2 = theta * theta
        factor, slope = _radial(t2, k)
        step = (theta * factor - radius) / (factor + 2 * t2 * slope)
        theta = theta - step
        if theta.numel() == 0 or _largest(step) < tolerance:
            break
    else:
        solved = (distort_fisheye(theta, k) - radius).abs() < 1e-3
        theta = torch.where(solved, theta, radius)
    return theta.clamp(0, torch.pi)


def _largest(*values: Tensor) -> float:
    return max(float(v.abs().max()) for v in values)
