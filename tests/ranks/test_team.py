"""What ranks share, sum and decide: by shared memory on one machine, by gloo between nodes."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from launching import ENVIRONMENT, as_nodes, launch, torchrun

from nerfkit.ranks import ALONE, Claims
from nerfkit.ranks.exchange import rows_are_less

WORKER = Path(__file__).with_name("team_worker.py")


def expected_table(n_touched: int, nodes: int) -> list[list[float]]:
    values, touched = torch.zeros(1000), torch.zeros(1000, dtype=torch.uint8)
    for node in range(nodes):
        rows = torch.arange(n_touched) * (node + 2)
        values[rows] += node + 1
        touched[rows] = 1
    return [values.tolist(), touched.tolist()]


@pytest.mark.parametrize("nodes", [1, 2])
def test_two_ranks(nodes):
    if nodes == 1:
        code, out, err = launch(torchrun(WORKER))
    else:
        results = as_nodes(WORKER)
        assert [code for code, _, _ in results] == [0, 0], results
        code, out, err = results[0]
    assert code == 0, err
    seen = json.loads(out)
    assert (seen["size"], seen["nodes"], seen["local"]) == (2, nodes, 2 // nodes)
    assert seen["total"] == [3, 1] and seen["sum"] == [3.0 * i for i in range(10)]
    assert seen["decided"] == {"of": 0} and seen["refused"] == "no"
    assert seen["one refused"] == "rank 1: not here"
    assert seen["rows"] == ([1, 2] if nodes == 1 else [1, 0])
    assert seen["shares"] == [[0, 3], [3, 7]]
    assert seen["few"] == expected_table(30, nodes)
    assert seen["many"] == expected_table(300, nodes)
    assert seen["max"] == [1, 0] and seen["own"]


def test_alone_nothing_changes():
    tensor = torch.rand(3)
    assert ALONE.sum_(tensor) is tensor and ALONE.total(1, 2) == [1, 2]
    assert ALONE.share(7) == slice(0, 7) and ALONE.rows(7, 4) == slice(0, 7)
    assert ALONE.from_leader(lambda: 3) == 3


def test_what_is_sent():
    # 2 nodes: rows of 17 numbers each way beside a whole table of 16
    assert rows_are_less(1000, 16, 900, 2) and not rows_are_less(1000, 16, 950, 2)
    assert not rows_are_less(1000, 16, 500, 8)


def test_claims_end_with_their_holder(tmp_path):
    path = tmp_path / "claims"
    hold = (
        "import sys; from pathlib import Path; from nerfkit.ranks import Claims\n"
        f"claims = Claims(Path({str(path)!r})); print(claims.take(3), flush=True)\n"
        "sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "True\n"
    with Claims(path) as claims:
        assert not claims.take(3) and claims.take(4)
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
        assert claims.take(3)
