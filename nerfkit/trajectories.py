"""The geometry of camera paths, in numpy: orbit, spiral, and a smooth way through given cameras.

c2w is [N, 3, 4] float64, camera to world, OpenGL axes (+X right, +Y up, looks along -Z).
"""

import math

import numpy as np
from scipy.interpolate import CubicHermiteSpline
from scipy.spatial.transform import Rotation

from nerfkit.errors import NerfkitError


def suitable(c2w: np.ndarray) -> str:
    """orbit if the cameras surround the scene, spiral if all look one way, else interpolate."""
    forward = -c2w[:, :, 2]
    mean = forward.mean(0)
    if np.linalg.norm(mean) > 1e-6:
        angles = np.arccos(np.clip(forward @ (mean / np.linalg.norm(mean)), -1, 1))
        if np.percentile(angles, 90) < math.radians(30):
            return "spiral"
    offsets = c2w[:, :, 3] - focus_point(c2w)
    looks_in = (offsets * forward).sum(1) < 0
    right, front, _ = _ground_axes(_up(c2w))
    azimuths = np.sort(np.arctan2(offsets @ front, offsets @ right))
    gaps = np.diff(azimuths, append=azimuths[0] + 2 * np.pi)
    # a third of the circle unseen is as much as an orbit can bear
    return "orbit" if looks_in.mean() > 0.8 and gaps.max() < 2 * np.pi / 3 else "interpolate"


def focus_point(c2w: np.ndarray) -> np.ndarray:
    """The point [3] closest, in the least-squares sense, to all optical axes of c2w [N, 3, 4]."""
    origins, forward = c2w[:, :, 3], -c2w[:, :, 2]
    across = np.eye(3) - forward[:, :, None] * forward[:, None, :]  # projects off each axis
    total = across.sum(0)
    wanted = (across @ origins[:, :, None]).sum(0)[:, 0]
    # Parallel axes leave the depth open; the slight pull settles it near the cameras.
    pull = 1e-6 * len(c2w)
    return np.linalg.solve(total + pull * np.eye(3), wanted + pull * origins.mean(0))


def orbit(c2w: np.ndarray, count: int) -> np.ndarray:
    """A closed circle about the focus at the cameras' mean elevation and distance.

    Starts at the azimuth of the first camera; counter-clockwise seen from above.
    Returns [count, 3, 4].
    """
    focus = focus_point(c2w)
    offsets = c2w[:, :, 3] - focus
    distances = np.linalg.norm(offsets, axis=1)
    if distances.max() < 1e-9:
        raise NerfkitError("--path orbit: all cameras stand in one point; use --path interpolate")
    right, front, up = _ground_axes(_up(c2w))
    sines = offsets @ up / np.maximum(distances, 1e-12)
    elevation = np.clip(np.arcsin(np.clip(sines, -1, 1)).mean(), -1.45, 1.45)
    start = math.atan2(offsets[0] @ front, offsets[0] @ right)
    azimuths = start + 2 * np.pi * np.arange(count) / count
    ring = np.cos(azimuths)[:, None] * right + np.sin(azimuths)[:, None] * front
    away = math.cos(elevation) * ring + math.sin(elevation) * up
    return look_at(focus + distances.mean() * away, focus, up)


def spiral(c2w: np.ndarray, scene_box: np.ndarray, count: int, turns: int = 2) -> np.ndarray:
    """A closed spiral about the mean camera, for forward-facing sets (as LLFF renders them).

    The camera wanders as far as the training cameras did (90th percentile on each axis) and keeps
    looking at a point in the scene. Cameras that look in all directions have no mean worth the
    name; then it wanders about the first one, by a tenth of its distance. Returns [count, 3, 4].
    """
    backward = c2w[:, :, 2].mean(0)
    if np.linalg.norm(backward) > 0.7:
        position = c2w[:, :, 3].mean(0)
        mean = look_at(position[None], position - backward, c2w[:, :, 1].mean(0))[0]
        depth = _focus_depth(c2w, mean, scene_box)
        reach = np.percentile(np.abs((c2w[:, :, 3] - position) @ mean[:, :3]), 90, axis=0)
    else:
        mean = c2w[0]
        depth = _focus_depth(c2w, mean, scene_box)
        reach = np.full(3, 0.1 * depth)
    theta = 2 * np.pi * turns * np.arange(count) / count
    local = np.stack([np.cos(theta), -np.sin(theta), -np.sin(theta / turns)], 1) * reach
    target = mean[:, 3] - mean[:, 2] * depth
    return look_at(mean[:, 3] + local @ mean[:, :3].T, target, mean[:, 1])


def _focus_depth(c2w: np.ndarray, mean: np.ndarray, scene_box: np.ndarray) -> float:
    """How far in front of the mean camera the spiral looks."""
    forward = -mean[:, 2]
    sines = np.linalg.norm(np.cross(-c2w[:, :, 2], forward), axis=1)
    depth = float((focus_point(c2w) - mean[:, 3]) @ forward)
    if depth > 0 and np.sqrt(np.mean(sines**2)) > math.radians(2):
        return depth
    # Nearly parallel axes meet nowhere useful: take the scene, nearer its front than its back.
    corners = np.stack(np.meshgrid(*scene_box.T, indexing="ij"), -1).reshape(-1, 3)
    depths = (corners - mean[:, 3]) @ forward
    far = max(float(depths.max()), 1e-6)
    near = max(float(depths.min()), 0.1 * far)
    return 1 / (0.6 / near + 0.4 / far)


def interpolate(c2w: np.ndarray, count: int) -> np.ndarray:
    """A smooth path through the training cameras at even speed. Returns [count, 3, 4].

    File order is kept where it is a walk (video frames); otherwise the cameras are put into a short
    tour. Where there are more cameras than the frames could follow smoothly, evenly spread ones are
    used: at least eight frames lie between two.
    """
    keys = c2w[np.linspace(0, len(c2w) - 1, min(len(c2w), 300)).round().astype(int)]
    extent = _extent(keys)
    gaps = _pose_distances(keys, extent)
    tour = _short_tour(gaps)
    in_order = np.arange(len(keys))
    if _length(gaps, in_order) < 1.5 * _length(gaps, tour):
        tour = in_order
    most = max(2, count // 8)
    keys = keys[tour][np.linspace(0, len(tour) - 1, min(len(tour), most)).round().astype(int)]
    keys = keys[np.concatenate([[True], _steps(keys, extent) > 1e-6 * extent])]
    if len(keys) < 2:
        return np.repeat(keys[:1], count, axis=0)
    times = np.concatenate([[0], np.cumsum(_steps(keys, extent))])
    # Fine samples of the curve give its length, so that frames fall evenly along it.
    fine_times = np.linspace(0, times[-1], 20 * len(keys))
    fine = _through(keys, times, fine_times)
    walked = np.concatenate([[0], np.cumsum(_steps(fine, extent))])
    even = np.interp(np.linspace(0, walked[-1], count), walked, fine_times)
    return _through(keys, times, even)


def resample(c2w: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Poses at fractional frame numbers `positions` [M] of the path c2w: [M, 3, 4]."""
    if len(c2w) == 1:
        return np.repeat(c2w, len(positions), axis=0)
    return _through(c2w, np.arange(len(c2w), dtype=np.float64), positions)


def look_at(positions: np.ndarray, target: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Cameras at `positions` [N, 3] looking at `target` [3] with `up` [3] upwards: [N, 3, 4]."""
    backward = _unit(positions - target)
    right = _unit(np.cross(up, backward))
    return np.stack([right, np.cross(backward, right), backward, positions], axis=2)


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.maximum(lengths, 1e-12)


def _up(c2w: np.ndarray) -> np.ndarray:
    """World +Z where the cameras agree with it within 30 degrees, else their own mean up."""
    mean = _unit(c2w[:, :, 1].mean(0))
    return np.array([0.0, 0.0, 1.0]) if mean[2] > math.cos(math.radians(30)) else mean


def _ground_axes(up: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A right-handed frame (right, front, up) for `up`; world X, Y, Z if up is +Z."""
    beside = np.array([1.0, 0.0, 0.0]) if abs(up[0]) < 0.9 else np.array([0.0, 0.0, 1.0])
    front = _unit(np.cross(up, beside))
    return np.cross(front, up), front, up


def _extent(c2w: np.ndarray) -> float:
    """The longest side of the box of the positions, or 1 where they are all in one point."""
    return float(np.ptp(c2w[:, :, 3], axis=0).max()) or 1.0


def _angles(rotations: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Angle in radians between rotations [..., 3, 3], pair by pair."""
    trace = np.einsum("...ij,...ij->...", rotations, others)
    return np.arccos(np.clip((trace - 1) / 2, -1, 1))


def _steps(c2w: np.ndarray, extent: float) -> np.ndarray:
    """Lengths [N - 1] of the steps along a path: distance plus half the extent a radian."""
    moved = np.linalg.norm(np.diff(c2w[:, :, 3], axis=0), axis=1)
    return moved + 0.5 * extent * _angles(c2w[1:, :, :3], c2w[:-1, :, :3])


def _pose_distances(c2w: np.ndarray, extent: float) -> np.ndarray:
    """The same measure between all pairs: [N, N]."""
    moved = np.linalg.norm(c2w[:, None, :, 3] - c2w[None, :, :, 3], axis=2)
    return moved + 0.5 * extent * _angles(c2w[:, None, :, :3], c2w[None, :, :, :3])


def _length(distances: np.ndarray, tour: np.ndarray) -> float:
    return float(distances[tour[:-1], tour[1:]].sum())


def _short_tour(distances: np.ndarray) -> np.ndarray:
    """An open tour through all points: nearest neighbour from the first, then 2-opt."""
    count = len(distances)
    tour, left = [0], set(range(1, count))
    while left:
        nearest = min(left, key=lambda j: distances[tour[-1], j])
        tour.append(nearest)
        left.remove(nearest)
    tour = np.array(tour)
    for _ in range(20):  # sweeps; it settles in a handful
        improved = False
        for i in range(count - 2):
            # reversing tour[i+1 .. j] replaces edges (i, i+1), (j, j+1); the last j has no j+1
            j = np.arange(i + 2, count)
            old = distances[tour[i], tour[i + 1]] + np.append(
                distances[tour[j[:-1]], tour[j[:-1] + 1]], 0.0
            )
            new = distances[tour[i], tour[j]] + np.append(
                distances[tour[i + 1], tour[j[:-1] + 1]], 0.0
            )
            best = int((new - old).argmin())
            if (new - old)[best] < -1e-12:
                tour[i + 1 : j[best] + 1] = tour[i + 1 : j[best] + 1][::-1]
                improved = True
        if not improved:
            break
    return tour


def _through(c2w: np.ndarray, times: np.ndarray, at: np.ndarray) -> np.ndarray:
    """A once-differentiable curve through the poses c2w at `times` [N >= 2], evaluated `at` [M].

    Catmull-Rom on the positions and on the unit quaternions (signs aligned, renormalised), which is
    slerp with its corners rounded.
    """
    quaternions = Rotation.from_matrix(c2w[:, :, :3]).as_quat()
    for i in range(1, len(quaternions)):
        if quaternions[i] @ quaternions[i - 1] < 0:
            quaternions[i] *= -1
    values = np.concatenate([c2w[:, :, 3], quaternions], axis=1)
    slopes = np.gradient(values, times, axis=0)
    curve = CubicHermiteSpline(times, values, slopes)(at)
    rotations = Rotation.from_quat(curve[:, 3:]).as_matrix()
    return np.concatenate([rotations, curve[:, :3, None]], axis=2)
