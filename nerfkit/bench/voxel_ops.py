"""The kernels of NSVF and of baked scenes, at sizes of a fit or a frame."""

from collections.abc import Iterator

import torch
from torch import Tensor

from nerfkit.kernels.baked_render import BakedGrid, Layout, render_baked
from nerfkit.kernels.baked_render.grid import DETAIL, RECORD
from nerfkit.kernels.nsvf_mlp import NsvfMlpConfig, nsvf_mlp, unpack
from nerfkit.octree import Octree
from nerfkit.octree.corners import Corners

from .case import Case
from .subject import RADIUS, Subject

VOXEL_DEPTH = 4  # of NSVF's octree: about a thousand voxels, as its fits begin with
LOWEST, PER_COUNT = -32.0, 1e-3  # raw densities of a baked scene


def nsvf(octree: Octree, n: int) -> Iterator[Case]:
    """Its network on embeddings of the voxels of `octree`, cut off; 64 samples a ray."""
    octree = octree.above(VOXEL_DEPTH)
    corners, config = Corners.of(octree), NsvfMlpConfig()
    generator = torch.Generator().manual_seed(6)
    params = (torch.rand(config.n_params, generator=generator) - 0.5) / 8
    for key, view in unpack(params, config).items():
        if key.endswith("bias"):
            # far from zero: at the kink of a ReLU rounding alone decides which gradient is right
            view += torch.sign(view)
    inputs = {
        "table": torch.randn(len(corners), config.embedding, generator=generator) * 0.1,
        "corners": corners.indices,
        "voxels": torch.randint(len(octree), (n,), generator=generator),
        "places": torch.rand(n, 3, generator=generator),
        "directions": torch.nn.functional.normalize(
            torch.randn(-(-n // 64), 3, generator=generator), dim=1
        ),
        "params": params,
        "ray_indices": torch.arange(n) // 64,
    }
    yield Case(
        *("nsvf_mlp", "nsvf_mlp", f"{n} samples, 64 a ray", n, "samples"),
        {name: tensor.to(octree.device) for name, tensor in inputs.items()},
        lambda b, **x: tuple(nsvf_mlp(**x, config=config, backend=b)),
        wanted=("table", "params"),
        flops=2.0 * n * sum(out * width for out, width in config.layers.values()),
    )


def baked(subject: Subject, both: dict[str, Tensor], n_rays: int) -> Iterator[Case]:
    """A frame of the ball without a network."""
    octree = subject.octree.to(torch.device("cpu"))
    layout, generator = Layout.of(octree), torch.Generator().manual_seed(7)
    n = len(layout.codes)
    corners = Octree(octree.box_min, octree.size, octree.depth, layout.codes).cells()
    points = octree.box_min + corners * octree.voxel
    raw = (RADIUS - points.norm(dim=1)) / octree.voxel * 4
    density = ((raw - LOWEST) / PER_COUNT).clamp(0, 32767).to(torch.int16)
    colors = torch.randint(0, 256, (n, RECORD), generator=generator).to(torch.uint8)
    levels = torch.rand(2, RECORD, generator=generator) * torch.tensor([[0.3], [2e-3]])
    shape = len(layout.details), DETAIL
    details = torch.randint(0, 256, shape, generator=generator).to(torch.uint8)
    detail_levels = torch.rand(2, DETAIL, generator=generator) * torch.tensor([[-0.3], [2e-3]])
    stored = (density, (LOWEST, PER_COUNT), colors, levels, details, detail_levels)
    grid = BakedGrid.of(octree, layout, *stored).to(subject.octree.device)
    settings = {k: v for k, v in subject.sampling.items() if k != "bands"}

    def run(b: str | None, origins: Tensor, directions: Tensor) -> tuple[Tensor, ...]:
        return tuple(render_baked(origins, directions, grid, **settings, backend=b))

    size = f"{n_rays} rays, {octree.resolution}^3"
    yield Case(
        *("baked_render", "render_baked", size, n_rays, "rays", both, run),
        traffic=None,
    )
