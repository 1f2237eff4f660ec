"""Numbers about octrees, on shapes where they can be worked out."""

import json
from dataclasses import asdict

import pytest
import torch
from rich.console import Console
from voxel_scene import BOX_MIN, SIZE, shell

from nerfkit.octree import Octree, from_box, save_octree
from nerfkit.octree.statistics import statistics_of, table_of


def test_a_box():
    # 2 x 3 x 1 leaves of edge 1/2.
    cube = (torch.tensor([1.0, 2.0, 3.0]), 4.0)
    octree = from_box(torch.tensor([[2.0, 2.0, 4.5], [3.0, 3.5, 5.0]]), 3, cube=cube)
    s = statistics_of(octree)
    assert (s.leaves, s.depth, s.resolution, s.voxel) == (6, 3, 8, 0.5)
    assert s.box == [[1, 2, 3], [5, 6, 7]]
    assert s.occupied_box == [[2, 2, 4.5], [3, 3.5, 5]]
    assert s.volume == 6 / 8
    assert s.surface_area == 2 * (6 + 2 + 3) / 4
    assert s.nodes_per_level == [1, 1, 2, 6]
    assert s.occupied_per_level == [1, 1 / 8, 2 / 64, 6 / 512]
    assert s.bytes == {"codes": 48, "traversal": 320, "file": 4}


def test_a_full_tree():
    s = statistics_of(Octree.full(BOX_MIN, SIZE, 4))
    assert s.nodes_per_level == [1, 8, 64, 512, 4096] and s.occupied_per_level == [1.0] * 5
    assert s.surface_area == pytest.approx(6 * SIZE**2)
    assert s.volume == pytest.approx(SIZE**3)
    assert s.occupied_box == s.box


def test_two_leaves_that_touch_at_an_edge_share_no_face():
    octree = Octree.from_cells(torch.zeros(3), 4.0, 2, torch.tensor([[0, 0, 0], [1, 1, 0]]))
    assert statistics_of(octree).surface_area == 12


def test_bytes_are_those_of_the_tensors_and_the_file(tmp_path):
    octree = shell(5)
    s = statistics_of(octree)
    assert s.bytes["codes"] == octree.codes.nbytes
    assert s.bytes["traversal"] == octree.children()[0].nbytes
    save_octree(octree, tmp_path / "file")
    assert 0 < (tmp_path / "file").stat().st_size - s.bytes["file"] < 512  # the header


def test_no_leaves():
    s = statistics_of(shell(3).keep(torch.zeros(len(shell(3)), dtype=torch.bool)))
    assert (s.leaves, s.volume, s.surface_area, s.occupied_box) == (0, 0, 0, None)
    assert s.nodes_per_level == [0] * 4
    assert "nothing" in text_of(s)


def text_of(statistics):
    console = Console(width=120, record=True, file=open("/dev/null", "w"))
    console.print(table_of(statistics))
    return console.export_text()


def test_the_table_holds_the_numbers():
    s = statistics_of(shell(4))
    text = text_of(s)
    lines = text.splitlines()
    assert f"{s.leaves:,} leaves" in lines[0] and "16^3" in lines[0]
    assert lines[1].split() == ["level", "resolution", "voxel", "nodes", "occupied"]
    assert lines[6].split()[0] == "4" and lines[6].split()[3] == f"{s.leaves:,}"
    assert f"{s.volume:.6g}" in text and f"{s.surface_area:.6g}" in text
    assert json.loads(json.dumps(asdict(s))) == asdict(s)
