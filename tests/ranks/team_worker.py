"""What the ranks of test_team.py do; prints a JSON object of what they saw, the leader's alone."""

import json
import sys

import torch

from nerfkit.errors import NerfkitError
from nerfkit.ranks import Team, joined


def table(team: Team, n_touched: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Zeros but for `n_touched` rows a node: node k touches every (k + 2)nd row."""
    values, touched = team.zeros(1000, 3), team.zeros(1000, dtype=torch.uint8)
    node = team.rank // team.local_size
    if team.leads_node:
        rows = torch.arange(n_touched) * (node + 2)
        values[rows], touched[rows] = float(node + 1), 1
    team.barrier()
    return values, touched


def complaint_of(call) -> str:
    try:
        call()
    except NerfkitError as error:
        return str(error)
    return ""


def refuse(text: str, who: bool = True):
    if who:
        raise NerfkitError(text)


def main() -> None:
    with joined() as team:
        seen = {"size": team.size, "local": team.local_size, "nodes": team.nodes}
        seen["total"] = team.total(team.rank + 1, 0.5)
        many = torch.arange(10.0) * (team.rank + 1)
        for _ in range(50):  # turns of the slots
            last = team.sum_(many.clone())
        seen["sum"] = last.tolist()
        seen["decided"] = team.from_leader(lambda: {"of": team.rank})
        seen["refused"] = complaint_of(lambda: team.from_leader(lambda: refuse("no")))
        seen["one refused"] = complaint_of(
            lambda: team.attempt(lambda: refuse("not here", who=team.rank == 1))
        )
        shared = team.zeros(team.size, 1 << 20)
        shared[team.local_rank] = team.rank + 1
        team.barrier()
        seen["rows"] = shared[:, -1].tolist()
        shares = [torch.zeros(2, dtype=torch.int64) for _ in range(team.size)]
        shares[team.rank][0], shares[team.rank][1] = team.share(7).start, team.share(7).stop
        seen["shares"] = team.sum_(torch.stack(shares)).tolist()
        for name, n_touched in (("few", 30), ("many", 300)):
            values, touched = table(team, n_touched)
            team.sum_tables_(values, touched)
            seen[name] = [values[:, 0].tolist(), touched.tolist()]
        seen["max"] = team.max_nodes_(torch.tensor([1.0, -team.rank])).tolist()
        alike = torch.rand(3, generator=torch.Generator().manual_seed(0))
        shared_generator = torch.Generator().manual_seed(0)
        own = torch.rand(3, generator=team.own_generator(shared_generator))
        seen["own"] = team.sum_(own - alike).abs().max().item() > 1e-3
        team.meet()
        if team.leads:
            json.dump(seen, sys.stdout)


main()
