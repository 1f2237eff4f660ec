"""How the Triton kernels of the fused renderer are started. Shapes as in the package docstring."""

import contextlib
import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import triton
import triton.language as tl

from nerfkit.kernels.ray_pieces import Pieces
from nerfkit.kernels.voxel_features.grid import RenderGrid

from . import GPU_LAYERS, GPU_UNITS
from .gpu_backward import backward_kernel
from .gpu_forward import forward_kernel
from .gpu_network import OUT

FAR_AWAY = 3e38  # stands for infinity


@dataclass(frozen=True)
class Launch:
    """How a kernel is run.

    Attributes:
        block: rays a program has under way at once.
        inner: points a lane marches before idle lanes are looked for.
        fill: lanes that must wait for the network before it is asked.
        regen: lanes that must be idle before they take new rays.
        warps: of a program.
        programs: a multiprocessor.
        registers: of a thread, at most; 65536 / registers threads share a multiprocessor.
        half: operands of the products are float16; otherwise float32.
    """

    block: int
    inner: int
    fill: int
    regen: int
    warps: int
    programs: int
    registers: int = 255
    half: bool = True


# 16 and 8 warps a multiprocessor, as registers allow without spills in inner loops (tests hold them
# to it); twice the warps a ray halves the tiles' share of a thread. Not tuned on a card.
FORWARD = Launch(block=128, inner=4, fill=64, regen=32, warps=8, programs=2, registers=128)
BACKWARD = Launch(block=64, inner=4, fill=32, regen=16, warps=4, programs=2)
BACKWARD_DEEP = Launch(block=128, inner=4, fill=64, regen=32, warps=8, programs=1)
BACKWARD_RICH = Launch(block=64, inner=4, fill=32, regen=16, warps=8, programs=1)
BACKWARD_RICH_80 = Launch(block=32, inner=4, fill=16, regen=8, warps=4, programs=2)


def launches(
    widths: Sequence[int], rich: bool = False, generation: int = 9
) -> tuple[Launch, Launch]:
    """Of the forward and of the backward kernel, for a network of these widths.

    Args:
        rich: rays are in pieces, or a fit has more than colours.
        generation: of the card, the first number of its compute capability; products of 64 rows
            are right for those from 9 on.
    """
    if len(widths) < 4:
        return FORWARD, BACKWARD
    if rich:
        return FORWARD, BACKWARD_RICH if generation >= 9 else BACKWARD_RICH_80
    return FORWARD, BACKWARD_DEEP


@functools.lru_cache(maxsize=64)
def level_table(resolutions: tuple[int, ...], device: torch.device) -> tuple[torch.Tensor, int]:
    """[n_levels, 3] int32: log2 of the edge in finest voxels, bricks an axis, place in `tables`."""
    rows, start = [], 0
    for resolution in resolutions:
        n = resolution // 4 + 1
        rows.append((int(math.log2(resolutions[-1] // resolution)), n, start))
        start += n**3
    return torch.tensor(rows, dtype=torch.int32, device=device), rows[-1][2]


@functools.lru_cache(maxsize=8)
def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1  # the interpreter runs programs one after the other
    return torch.cuda.get_device_properties(device).multi_processor_count


@functools.lru_cache(maxsize=8)
def generation(device: torch.device) -> int:
    """As `launches` takes it."""
    return torch.cuda.get_device_capability(device)[0] if device.type == "cuda" else 9


def network_shape(widths: Sequence[int], bands: int) -> dict[str, int]:
    """The compile-time constants of the colour network.

    Raises:
        ValueError: more or wider layers than the kernels take.
    """
    hidden = tuple(widths[1:-1])
    if len(hidden) > GPU_LAYERS or max(hidden, default=0) > GPU_UNITS:
        raise ValueError(
            f"backend 'gpu' takes at most {GPU_LAYERS} hidden layers of at most {GPU_UNITS} units, "
            f"got widths {tuple(widths)}"
        )
    units = [*hidden, 3, 3][:2]
    padded = [max(16, triton.next_power_of_2(n)) for n in units]
    return {
        "BANDS": bands,
        "D": 16 if bands < 4 else 32,  # the harmonics and a 1
        "N_HIDDEN": len(hidden),
        "H1": units[0],
        "P1": padded[0],
        "H2": units[1],
        "P2": padded[1],
    }


@functools.lru_cache(maxsize=64)
def _places(widths: tuple[int, ...], bands: int, device: torch.device) -> torch.Tensor:
    """For every number of `pack` its place in the flat parameters; one past their end for zeros."""
    shape = network_shape(widths, bands)
    h, p, n_in, nb = shape["H1"], shape["P1"], widths[0], bands**2
    zero = sum((i + 1) * o for i, o in itertools.pairwise(widths))
    unit = torch.arange(p)
    feature, j = torch.arange(n_in - nb)[:, None], torch.arange(shape["D"])[:, None]
    seen = torch.where(j == nb, h * n_in + unit, unit * n_in + n_in - nb + j)
    tiles = [
        torch.where(unit < h, unit * n_in + feature, zero),
        torch.where((unit < h) & (j <= nb), seen, zero),
    ]
    at, rows = h * (n_in + 1), p
    for i, (k, n) in enumerate(itertools.pairwise(widths[1:])):
        columns = shape["P2"] if i == 0 and len(widths) == 4 else OUT.value
        row, column = torch.arange(rows)[:, None], torch.arange(columns)
        tiles.append(torch.where((row < k) & (column < n), at + column * k + row, zero))
        at, rows = at + n * (k + 1), columns
    return torch.cat([t.reshape(-1) for t in tiles]).to(device)


def pack(mlp: torch.Tensor, widths: Sequence[int], bands: int, dtype: torch.dtype) -> torch.Tensor:
    """The weights as the kernels read them, row by row, with zeros up to powers of two.

    First layer [16, P1] for features and [D, P1] for harmonics, the biases' row behind them; then
    [P1, 16], or [P1, P2] and [P2, 16].
    """
    places = _places(tuple(widths), bands, mlp.device)
    return torch.cat([mlp, mlp.new_zeros(1)]).to(dtype)[places]


class Scene:
    """Arguments that the kernels share, by name, checked and made contiguous."""

    def __init__(
        self,
        origins: torch.Tensor,
        directions: torch.Tensor,
        grid: RenderGrid,
        density: torch.Tensor,
        features: torch.Tensor,
        mlp: torch.Tensor,
        widths: Sequence[int],
        *,
        step: float,
        density_scale: float,
        density_bias: float,
        bands: int,
        jitter: torch.Tensor | None,
        background: torch.Tensor | None,
        near: float,
        far: float,
        early_stop: float,
        weight_min: float,
        pieces: Pieces | None = None,
    ) -> None:
        device = origins.device
        tensors = {
            "origins": origins,
            "directions": directions,
            "jitter": jitter,
            "backgrounds": background,
            "density": density,
            "features": features,
            "mlp": mlp,
            "pieces": None if pieces is None else pieces.rows,
        }
        for name, tensor in tensors.items():
            if tensor is None:
                continue
            halves = (torch.float16, torch.bfloat16) if name == "features" else ()
            if tensor.dtype not in (torch.float32, *halves):
                wanted = "float32, float16 or bfloat16" if halves else "float32"
                raise ValueError(f"`{name}` must be {wanted} on backend 'gpu', got {tensor.dtype}")
            if tensor.device != device:
                raise ValueError(f"`{name}` must be on {device} like origins, got {tensor.device}")
            tensors[name] = tensor.contiguous()
        for name in ("origins", "directions", "jitter", "pieces"):
            given = tensors[name]
            if given is not None and given.requires_grad and torch.is_grad_enabled():
                raise ValueError(
                    f"`{name}` must not require gradients on backend 'gpu': detach it or use "
                    "backend='reference'"
                )
        self.tensors, self.widths, self.bands = tensors, tuple(widths), bands
        self.n_rays, self.device = origins.shape[0], device
        self.n_pieces = None if pieces is None else len(pieces.rows)
        levels, finest_offset = level_table(tuple(grid.resolutions.tolist()), device)
        absent = tensors["origins"]  # a pointer that is not read
        self.arguments: dict[str, Any] = {
            "origins": tensors["origins"],
            "directions": tensors["directions"],
            "jitter": absent if jitter is None else tensors["jitter"],
            "back_stride": 3 if background is not None and background.dim() == 2 else 0,
            "n_rays": self.n_rays,
            "pieces": absent if pieces is None else tensors["pieces"],
            "first_piece": absent if pieces is None else pieces.first.contiguous(),
            "words": grid.words.view(torch.int32),
            "tables": grid.tables,
            "levels": levels,
            "n_levels": levels.shape[0],
            "finest_offset": finest_offset,
            "resolution": grid.resolution,
            "box_x": grid.box_min[0],
            "box_y": grid.box_min[1],
            "box_z": grid.box_min[2],
            "voxel": grid.voxel,
            "step": step,
            "near": near,
            "far": min(far, FAR_AWAY),
            "optical_stop": -math.log(early_stop) if early_stop > 0 else FAR_AWAY,
            "weight_min": weight_min,
            "density_scale": density_scale,
            "density_bias": density_bias,
            "HAS_JITTER": jitter is not None,
            "HAS_BACK": background is not None,
            "PIECES": pieces is not None,
            **network_shape(widths, bands),
        }

    def field(self) -> dict[str, torch.Tensor]:
        """Those that autograd watches."""
        names = ("backgrounds", "density", "features", "mlp")
        absent = self.tensors["origins"]
        given = {name: self.tensors[name] for name in names}
        return {name: absent if t is None else t for name, t in given.items()}

    def run(self, kernel: Any, launch: Launch, **arguments: Any) -> None:
        """Launch a persistent kernel: as many programs as there is room or rays for."""
        most = launch.programs * _processors(self.device)
        grid = (max(1, min(most, triton.cdiv(self.n_rays, launch.block))),)
        dtype = torch.float16 if launch.half else torch.float32
        arguments["packed"] = pack(arguments["mlp"], self.widths, self.bands, dtype)
        on_cuda = self.device.type == "cuda"
        with torch.cuda.device(self.device) if on_cuda else contextlib.nullcontext():
            kernel[grid](
                **self.arguments,
                **arguments,
                DTYPE=tl.float16 if launch.half else tl.float32,
                BLOCK=launch.block,
                INNER=launch.inner,
                FILL=launch.fill,
                REGEN=launch.regen,
                num_warps=launch.warps,
                maxnreg=launch.registers,
            )

    def forward(
        self,
        field: dict[str, torch.Tensor],
        save: bool,
        launch: Launch,
        *,
        world: bool = True,
        moments: bool = False,
    ) -> "Pixels":
        """Render with the tensors of `field`.

        Args:
            save: what the backward needs.
            world: depths are sums of w t, otherwise of w s.
            moments: the latter are wanted.
        """
        n, device = self.n_rays, self.device
        bent = self.n_pieces is not None
        apart = bent and world and moments
        pixels = Pixels(
            colors=torch.empty(n, 3, device=device),
            depths=torch.empty(n, device=device),
            opacities=torch.empty(n, device=device),
            last=torch.empty(n if save else 1, dtype=torch.int32, device=device),
            optical=torch.empty(n if save else 1, device=device),
            last_row=torch.empty(n if save and bent else 1, dtype=torch.int32, device=device),
            places=torch.empty(self.n_pieces if save and bent else 1, 2, device=device),
            moments=torch.empty(n if apart else 1, device=device),
            counts=torch.zeros(2, dtype=torch.int64, device=device),
        )
        if n:
            counter = torch.zeros(1, dtype=torch.int32, device=device)
            settings = {"SAVE": save, "WORLD": bent and world, "MOMENTS": apart}
            self.run(forward_kernel, launch, **field, **vars(pixels), counter=counter, **settings)
        return pixels if apart else replace(pixels, moments=pixels.depths)

    def backward(
        self,
        pixels: "Pixels",
        grads: Sequence[torch.Tensor],
        launch: Launch,
        touched: torch.Tensor,
        *,
        peak: torch.Tensor,
        targets: torch.Tensor | None = None,
        scale: float = 0.0,
        squared: torch.Tensor | None = None,
        max_weights: torch.Tensor | None = None,
        spread: float = 0.0,
        depth_targets: torch.Tensor | None = None,
        depth_weight: float = 0.0,
        grad_rays: torch.Tensor | None = None,
        **given: torch.Tensor,
    ) -> None:
        """Add to `grads`, of density, features and network: those of `targets`, or of `given`."""
        fit, absent = targets is not None, pixels.colors
        self.run(
            backward_kernel,
            launch,
            **self.field(),
            **{name: given.get(name, absent) for name in ("g_colors", "g_depths", "g_opacities")},
            colors=pixels.colors,
            last=pixels.last,
            optical=pixels.optical,
            last_row=pixels.last_row,
            places=pixels.places,
            depths=pixels.depths,
            opacities=pixels.opacities,
            moments=pixels.moments,
            depth_targets=absent if depth_targets is None else depth_targets,
            depth_weight=depth_weight,
            spread=spread,
            grad_rays=absent if grad_rays is None else grad_rays,
            targets=targets if fit else absent,
            scale=scale,
            peak=peak,
            squared=squared if fit else absent,
            grad_density=grads[0],
            grad_features=grads[1],
            grad_mlp=grads[2],
            touched=touched,
            max_weights=absent if max_weights is None else max_weights,
            counter=torch.zeros(1, dtype=torch.int32, device=self.device),
            FIT=fit,
            HAS_MAX=max_weights is not None,
            SPREAD=spread != 0.0,
            DEPTH=depth_targets is not None,
            RAYS=grad_rays is not None,
        )


@dataclass(frozen=True)
class Pixels:
    """What the forward kernel writes; what comes after the opacities is for the backward.

    t is in the world, s in the octree's space, where rays in pieces have another length.
    """

    colors: torch.Tensor  # [R, 3]
    depths: torch.Tensor  # [R], sum of w t, or of w s where that alone is wanted
    opacities: torch.Tensor  # [R]
    last: torch.Tensor  # [R] int32, k of the last sample, -1 without one
    optical: torch.Tensor  # [R], optical depth before it
    last_row: torch.Tensor  # [R] int32, the piece it is on
    places: torch.Tensor  # [P, 2] of pieces that were marched: length before it, lattice's shift
    moments: torch.Tensor  # [R], sum of w s
    counts: torch.Tensor  # [2] int64: samples, and those with a colour
