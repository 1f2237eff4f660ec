"""What there is to know about an octree in numbers, and a table of it for a reader.

Lengths in world units. Level 0 is the root, level `depth` the leaves.
"""

import sys
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table

from nerfkit.octree.storage import child_masks
from nerfkit.octree.tree import Octree

BYTES_PER_CODE = 8
BYTES_PER_NODE = 32  # eight int32 children, as octree_traverse reads them


@dataclass(frozen=True)
class Statistics:
    """An octree in numbers, all plain and ready for JSON.

    Attributes:
        leaves: occupied leaf voxels.
        depth, resolution: of the leaves; voxels along an edge of the cube.
        box: lowest and highest corner of the cube.
        voxel: edge of a leaf.
        nodes_per_level: occupied nodes at levels 0 to depth.
        occupied_per_level: those as a fraction of all 8^level.
        occupied_box: lowest and highest corner of the box round the leaves; None without leaves.
        surface_area: of the leaves together: faces that no two of them share.
        volume: of the leaves together.
        bytes: in memory, in memory for traversal in addition, and in a file.
    """

    leaves: int
    depth: int
    resolution: int
    box: list[list[float]]
    voxel: float
    nodes_per_level: list[int]
    occupied_per_level: list[float]
    occupied_box: list[list[float]] | None
    surface_area: float
    volume: float
    bytes: dict[str, int]


def statistics_of(octree: Octree) -> Statistics:
    """Count what is in an octree."""
    levels = [octree.codes]
    for _ in range(octree.depth):
        levels.append(torch.unique_consecutive(levels[-1] >> 3))
    nodes = [len(level) for level in reversed(levels)]
    cells, low = octree.cells(), octree.box_min.double()
    occupied_box = None
    if len(octree):
        corners = torch.stack([cells.amin(0), cells.amax(0) + 1])
        occupied_box = (low + corners.double() * octree.voxel).tolist()
    shared = sum(
        int((octree.find(cells + step) >= 0).sum()) for step in torch.eye(3, dtype=torch.int64)
    )
    return Statistics(
        leaves=len(octree),
        depth=octree.depth,
        resolution=octree.resolution,
        box=[low.tolist(), (low + octree.size).tolist()],
        voxel=octree.voxel,
        nodes_per_level=nodes,
        occupied_per_level=[n / 8**level for level, n in enumerate(nodes)],
        occupied_box=occupied_box,
        surface_area=(6 * len(octree) - 2 * shared) * octree.voxel**2,
        volume=len(octree) * octree.voxel**3,
        bytes={
            "codes": BYTES_PER_CODE * len(octree),
            "traversal": BYTES_PER_NODE * sum(nodes),
            "file": len(child_masks(octree)),
        },
    )


def table_of(statistics: Statistics) -> Table:
    """Levels as rows; what holds for the whole tree above and below."""
    s = statistics
    per_leaf = f", {s.bytes['file'] / s.leaves:.2f} a leaf" if s.leaves else ""
    occupied = "nothing" if s.occupied_box is None else _box(s.occupied_box)
    table = Table(
        title=f"{s.leaves:,} leaves of edge {s.voxel:.4g} in {s.resolution}^3",
        caption="\n".join(
            [
                f"cube      {_box(s.box)}",
                f"occupied  {occupied}",
                f"surface   {s.surface_area:.6g}   volume {s.volume:.6g}",
                f"bytes     {s.bytes['codes']:,} codes, {s.bytes['traversal']:,} for traversal, "
                f"{s.bytes['file']:,} in a file{per_leaf}",
            ]
        ),
        title_justify="left",
        caption_justify="left",
        title_style="bold",
        caption_style="",
        box=None,
        pad_edge=False,
    )
    for name in ("level", "resolution", "voxel", "nodes", "occupied"):
        table.add_column(name, justify="right")
    for level, (nodes, share) in enumerate(
        zip(s.nodes_per_level, s.occupied_per_level, strict=True)
    ):
        voxel = s.voxel * 2 ** (s.depth - level)
        table.add_row(str(level), f"{2**level}^3", f"{voxel:.4g}", f"{nodes:,}", f"{share:.3%}")
    return table


def print_table(statistics: Statistics) -> None:
    """Print the table on standard output."""
    Console(file=sys.stdout, soft_wrap=True).print(table_of(statistics))


def _box(box: list[list[float]]) -> str:
    low, high = ("(" + ", ".join(f"{x:.4g}" for x in corner) + ")" for corner in box)
    return f"{low} to {high}"
