"""Poses of cameras that move while an image is read out: a rolling shutter, as in instant-ngp.

Symbols: N cameras, M rays. start, end [N, 3, 4]: c2w (OpenGL camera axes) at the times 0 and 1 of
an exposure. At time t, also beyond these two,

    centre(t) = (1 - t) centre_start + t centre_end,     R(t) = R_start exp(t [w]x),
    [w]x = log(R_start^T R_end), the shorter way round (slerp)

The ray at x right and y down in the image plane at depth 1, as distorted as the pixels are, has

    t = timing_0 + timing_1 x + timing_2 y

which an image made smaller, or cut to a part of it, has too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

STEPS = 6  # of the secant method for the time at which a point is seen
MARGIN = 0.05  # of the readout, before and after it
MOTION = 0.5  # when in [0, 1] of its own exposure time a pixel is seen: the mean


class Axes(NamedTuple):
    """The columns of c2w, [3, M] each: long rows are quicker than long columns."""

    right: Tensor
    up: Tensor
    backward: Tensor
    centre: Tensor


@dataclass(eq=False)
class Shutter:
    """How N cameras move and when they see what: start, end [N, 3, 4] and timing [N, 3], float64.

    Make a new one rather than change one: tables are computed once.
    """

    start: Tensor
    end: Tensor
    timing: Tensor
    _tables: dict[tuple[torch.device, torch.dtype], Tensor] = field(
        default_factory=dict, init=False, repr=False
    )

    def __post_init__(self) -> None:
        n = len(self.timing)
        for name, shape in (("start", (n, 3, 4)), ("end", (n, 3, 4)), ("timing", (n, 3))):
            value = torch.as_tensor(getattr(self, name)).to(torch.float64)
            if tuple(value.shape) != shape:
                raise ValueError(f"`{name}` must have shape {shape}, got {tuple(value.shape)}")
            setattr(self, name, value)

    @classmethod
    def of(
        cls, start: Any, end: Any, rolling_shutter: Any, *, fx, fy, cx, cy, width, height
    ) -> Shutter:
        """From what instant-ngp's transforms.json says.

        Args:
            start, end: [N, 3, 4].
            rolling_shutter: [N, 4] a, b, c, d. The ray through x / width = u, y / height = v is
                that at time a + b u + c v + d m; m is random there and 1/2 here.
            fx, fy, cx, cy, width, height: [N], pixels.
        """
        lens = (torch.as_tensor(v, dtype=torch.float64) for v in (fx, fy, cx, cy, width, height))
        fx, fy, cx, cy, width, height = (value.reshape(-1) for value in lens)
        a, b, c, d = torch.as_tensor(rolling_shutter, dtype=torch.float64).unbind(1)
        at_centre = a + b * cx / width + c * cy / height + d * MOTION
        timing = torch.stack([at_centre, b * fx / width, c * fy / height], 1)
        return cls(torch.as_tensor(start), torch.as_tensor(end), timing)

    @classmethod
    def still(cls, c2w: Any) -> Shutter:
        """Of cameras c2w [N, 3, 4] that do not move."""
        c2w = torch.as_tensor(c2w)
        return cls(c2w, c2w, torch.zeros(len(c2w), 3))

    @classmethod
    def cat(cls, parts: Sequence[Shutter]) -> Shutter:
        """Those of several lots of cameras, one after the other."""
        names = ("start", "end", "timing")
        return cls(*(torch.cat([getattr(part, name) for part in parts]) for name in names))

    def __len__(self) -> int:
        return len(self.timing)

    def __getitem__(self, chosen: Tensor) -> Shutter:
        """Of the cameras `chosen`, int64."""
        return Shutter(self.start[chosen], self.end[chosen], self.timing[chosen])

    def times(self, indices: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """[M] of rays at x, y [M] in the image plane of cameras `indices`, [M] or [1]."""
        timing = self._table(x.device, x.dtype)[:3].index_select(1, indices)
        return torch.addcmul(torch.addcmul(timing[0], timing[1], x), timing[2], y)

    def axes(self, indices: Tensor, times: Tensor) -> Axes:
        """Poses at `times` [M] of cameras `indices`, [M] or [1]; of the dtype of `times`."""
        rows = self._table(times.device, times.dtype).index_select(1, indices)
        sine, versine = _sine_versine(rows[9] * times)
        columns = torch.addcmul(rows[10:19], rows[19:28], sine)
        columns = torch.addcmul(columns, rows[28:37], versine)
        centre = torch.addcmul(rows[3:6], rows[6:9], times)
        return Axes(columns[0:3], columns[3:6], columns[6:9], centre)

    def middle(self) -> Tensor:
        """c2w [N, 3, 4] when the principal point is seen."""
        axes = self.axes(torch.arange(len(self)), self.timing[:, 0])
        return torch.stack(axes).permute(2, 1, 0).contiguous()

    def local(self, index: int, points: Tensor, times: Tensor) -> Tensor:
        """World points [M, 3] in the axes of camera `index` at `times` [M]."""
        row = self._table(times.device, times.dtype)[:, index, None]
        away = points.T - torch.addcmul(row[3:6], row[6:9], times)
        sine, versine = _sine_versine(row[9] * times)
        # of R and its two products before they are added up: the many times have one camera
        part = row[10:].view(9, 3) @ away
        return (part[0:3] + part[3:6] * sine + part[6:9] * versine).T

    def times_seeing(
        self,
        index: int,
        points: Tensor,
        time_of: Callable[[Tensor], Tensor],
        readout: tuple[float, float],
    ) -> Tensor:
        """When camera `index` sees points [M, 3]: at the time of the pixel that they have then.

        Args:
            time_of: of the pixels of points in camera axes, [M, 3] to [M].
            readout: first and last time of the image. A point that is not in it gets one nearby.
        """
        first, last = readout
        margin = MARGIN * (last - first)
        first, last = first - margin, last + margin

        def lateness(times: Tensor) -> Tensor:
            late = time_of(self.local(index, points, times)) - times
            return late.nan_to_num(0.0).clamp(first - last, last - first)

        before = torch.full_like(points[:, 0], (first + last) / 2)
        late = lateness(before)
        now = (before + late).clamp(first, last)
        for _ in range(STEPS):
            later = lateness(now)
            # -1 for points that stay in their place in the image
            slope = ((later - late) / (now - before)).nan_to_num(-1.0).clamp(-5.0, -0.2)
            before, late, now = now, later, (now - later / slope).clamp(first, last)
        return now

    def moved(self, turns: Tensor, shifts: Tensor) -> Shutter:
        """Each camera turned by [N, 3, 3], where it is at any time, and then shifted by [N, 3]."""

        def corrected(c2w: Tensor) -> Tensor:
            return torch.cat([turns @ c2w[:, :, :3], c2w[:, :, 3:] + shifts[:, :, None]], 2)

        return Shutter(corrected(self.start), corrected(self.end), self.timing)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists for JSON; float64 survives exactly."""
        return {name: getattr(self, name).tolist() for name in ("start", "end", "timing")}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Shutter:
        """Inverse of `to_dict`."""
        start, end, timing = (
            torch.tensor(data[name], dtype=torch.float64) for name in ("start", "end", "timing")
        )
        return cls(start.reshape(-1, 3, 4), end.reshape(-1, 3, 4), timing.reshape(-1, 3))

    def _table(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """[37, N]: timing; centre_start and the way to centre_end; the angle of w; and, column by
        column, R, R [n]x and R [n]x^2, R being R_start and n = w / angle.
        """
        if (device, dtype) not in self._tables:
            from scipy.spatial.transform import Rotation  # takes 0.1 s to import

            start, way = self.start[:, :, :3], self.end[:, :, 3] - self.start[:, :, 3]
            between = start.transpose(1, 2) @ self.end[:, :, :3]
            turn = torch.zeros(len(self), 3, dtype=torch.float64)
            # rounding must not turn cameras that do not
            turning = (self.start[:, :, :3] != self.end[:, :, :3]).flatten(1).any(1)
            if turning.any():
                rotations = Rotation.from_matrix(between[turning].numpy())
                turn[turning] = torch.from_numpy(rotations.as_rotvec())
            angle = turn.norm(dim=1, keepdim=True)
            x, y, z = (turn / angle.clamp_min(1e-300)).unbind(1)
            none = torch.zeros_like(x)
            cross = torch.stack([none, -z, y, z, none, -x, -y, x, none], 1).view(-1, 3, 3)
            matrices = (start, start @ cross, start @ cross @ cross)
            columns = [matrix.transpose(1, 2).flatten(1) for matrix in matrices]
            table = torch.cat([self.timing, self.start[:, :, 3], way, angle, *columns], 1)
            self._tables[device, dtype] = table.to(device, dtype).T.contiguous()
        return self._tables[device, dtype]


def _sine_versine(angle: Tensor) -> tuple[Tensor, Tensor]:
    """sin and 1 - cos, the latter without its loss of digits."""
    return angle.sin(), 2 * (0.5 * angle).sin().square()
