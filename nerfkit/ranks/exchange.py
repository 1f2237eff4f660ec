"""Sums over nodes of a table of which a step touches few rows.

Symbols: V rows of C values of 4 bytes, N nodes of which each touches T rows. What a node sends:

    dense, a ring all-reduce:       2 (N - 1) / N  V  4 C          bytes
    touched rows, an all-gather:      (N - 1)      T (4 C + 4)     bytes (row numbers are int32)

The smaller one is taken anew at each call, by the largest T of all nodes, so that all agree.
"""

import torch
import torch.distributed as dist
from torch import Tensor


def rows_are_less(n_rows: int, columns: int, n_touched: int, nodes: int) -> bool:
    """Whether exchanging touched rows sends less than a dense sum."""
    dense = 2 / nodes * n_rows * 4 * columns
    return n_touched * (4 * columns + 4) < dense


def sum_rows_(values: Tensor, touched: Tensor, group: dist.ProcessGroup) -> None:
    """Sum `values` [V, C] float32 over the group in place; rows not touched hold zeros.

    Sums are in the order of the group's ranks: every one gets the same bits.

    Args:
        touched: [V] uint8, on return 1 where any of the group touched.
    """
    nodes = dist.get_world_size(group)
    rows = touched.nonzero()[:, 0].to(torch.int32)
    counts = [rows.new_zeros(1) for _ in range(nodes)]
    dist.all_gather(counts, rows.new_tensor([len(rows)]), group=group)
    most = int(torch.cat(counts).max())
    if most == 0:
        return
    table = values.view(len(values), -1)
    if not rows_are_less(*table.shape, most, nodes):
        dist.all_reduce(table, group=group)
        dist.all_reduce(touched, dist.ReduceOp.MAX, group=group)
        return
    # one message: a column of row numbers, bit by bit, beside the values
    own = table.new_zeros(most, table.shape[1] + 1)
    own[: len(rows), 0] = rows.view(torch.float32)
    own[: len(rows), 1:] = table[rows.long()]
    parts = [torch.empty_like(own) for _ in range(nodes)]
    dist.all_gather(parts, own, group=group)
    table[rows.long()] = 0
    for count, part in zip(counts, parts, strict=True):
        part = part[: int(count)]
        where = part[:, 0].contiguous().view(torch.int32).long()
        table.index_add_(0, where, part[:, 1:])
        touched[where] = 1
