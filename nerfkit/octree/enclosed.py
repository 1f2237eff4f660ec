"""Which empty cells are shut off from the border of a grid by occupied ones.

Works on gaps, the runs of empty cells between two occupied ones of a column along z, so that what
it costs grows with the surface and not with the grid. Cells touch through faces, not edges.
"""

import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor


def enclosed_cells(cells: Tensor, n: int) -> Tensor:
    """Empty cells of an [n, n, n] grid from which no way leads to its border.

    Args:
        cells: occupied ones, [N, 3] int64 in [0, n), distinct, in any order.

    Returns:
        [M, 3] int64, sorted.
    """
    # A cell as one number, z fastest; columns have room for a cell below and one above.
    tall = n + 2
    column, z = cells[:, 0] * n + cells[:, 1], cells[:, 2]
    keys = (column * tall + z).sort().values
    column, z = keys // tall, keys % tall
    gap = (column[1:] == column[:-1]) & (z[1:] > z[:-1] + 1)
    starts, ends = keys[:-1][gap] + 1, keys[1:][gap]  # of each gap; sorted, disjoint
    occupied = torch.unique_consecutive(column)
    first = torch.full((n * n,), n, dtype=torch.int64)  # of a column: its lowest cell
    last = torch.full((n * n,), -1, dtype=torch.int64)
    first.scatter_reduce_(0, column, z, "amin")
    last.scatter_reduce_(0, column, z, "amax")
    gap_column = starts // tall
    open_gaps = torch.zeros(len(starts), dtype=torch.bool)
    pairs = []
    for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        x, y = gap_column // n + dx, gap_column % n + dy
        at_border = (x < 0) | (x >= n) | (y < 0) | (y >= n)
        beside = (x * n + y).clamp(0, n * n - 1)
        z_0, z_1 = starts - gap_column * tall, ends - gap_column * tall
        # The neighbouring column is open below its lowest and above its highest cell.
        open_gaps |= at_border | (z_0 < first[beside]) | (z_1 - 1 > last[beside])
        begin = torch.searchsorted(ends, beside * tall + z_0, right=True)
        end = torch.searchsorted(starts, beside * tall + z_1)
        count = torch.where(at_border, 0, (end - begin).clamp_min(0))
        mine = torch.arange(len(starts)).repeat_interleave(count)
        theirs = torch.arange(len(mine)) - (count.cumsum(0) - count)[mine] + begin[mine]
        pairs.append(torch.stack([mine, theirs]))
    if len(starts) == 0 or len(occupied) == 0:
        return cells.new_zeros(0, 3)
    links = torch.cat(pairs, dim=1).numpy()
    graph = coo_array((links[0] >= 0, (links[0], links[1])), shape=(len(starts),) * 2)
    labels = torch.from_numpy(connected_components(graph, directed=False)[1]).long()
    shut = torch.ones(len(starts), dtype=torch.bool)
    shut[labels[open_gaps]] = False
    inside = shut[labels]
    starts, length = starts[inside], (ends - starts)[inside]
    keys = torch.arange(int(length.sum())) - (length.cumsum(0) - length).repeat_interleave(length)
    keys += starts.repeat_interleave(length)
    return torch.stack([keys // tall // n, keys // tall % n, keys % tall], dim=1)
