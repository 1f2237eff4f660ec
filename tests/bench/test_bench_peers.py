"""Peers: the same rays for all, NeRF in plain torch that learns, absent ones listed as absent."""

import json
import re

import pytest
import torch

from benchmarks.peers import PEERS, __main__, nerfacc_grid, nerfacto, peer, torch_nerf
from benchmarks.peers.nerfkit_fast import NerfkitFast
from benchmarks.peers.task import Task
from benchmarks.peers.torch_nerf import Network, TorchNerf
from nerfkit.scenes import build

CPU = torch.device("cpu")
SMALL = TorchNerf(width=16, rays=64, coarse=8, fine=8)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return build("machine", tmp_path_factory.mktemp("peers"), size=(16, 16), n_train=4, n_test=1)


def test_all_draw_the_same_rays_and_see_the_whole_scene(data):
    task = Task.load(data, 1, 1, CPU)
    first, again = (task.draw(32, task.start()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    colours = first[2]
    assert colours.min() >= 0 and colours.max() <= 1
    assert 0 <= task.near < task.far
    rays, places = task.test_rays(0)
    assert places.sort().values.tolist() == list(range(256))
    assert rays.directions.norm(dim=1).allclose(torch.ones(256))


def test_rows_of_present_and_absent_peers(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(__main__, "PEERS", (NerfkitFast(), SMALL, *PEERS[2:]))
    monkeypatch.setattr(__main__.Ceilings, "at", lambda self, count: {})
    for adapter in (nerfacto, nerfacc_grid):
        monkeypatch.setattr(adapter, "not_installed", lambda module: f"{module} is not installed")
    path = tmp_path / "peers.json"
    __main__.main([str(data), "--seconds", "1.5", "--downscale", "1", "--json", str(path)])
    rows = {row["name"]: row for row in json.loads(path.read_text())["peers"]}
    assert rows["nerfstudio nerfacto"] == {
        "name": "nerfstudio nerfacto",
        "absent": "nerfstudio is not installed",
    }
    assert rows["nerfacc"]["absent"] == "nerfacc is not installed"
    for name in ("nerfkit fit", "NeRF, torch eager"):
        assert rows[name]["absent"] is None
        assert rows[name]["fit_seconds"] > 0 and 0 < rows[name]["psnr"] < 60
    assert rows["NeRF, torch eager"]["steps"] > 0
    shown = re.sub(r"[│\s]", "", capsys.readouterr().out)  # a narrow table breaks lines
    assert "absent:nerfstudioisnotinstalled" in shown


def test_nerfacc_needs_a_gpu(monkeypatch):
    assert peer.not_installed("torch") is None
    assert peer.not_installed("no_such_module") == "no_such_module is not installed"
    monkeypatch.setattr(nerfacc_grid, "not_installed", lambda module: None)
    assert "CUDA" in nerfacc_grid.NerfaccGrid().absent(CPU)


def test_nerf_learns_one_batch(data):
    task = Task.load(data, 1, 1, CPU)
    origins, directions, wanted = task.draw(64, task.start())
    networks = torch.nn.ModuleList(Network(task.box, 16) for _ in range(2))
    optimiser = torch.optim.Adam(networks.parameters(), lr=5e-3)
    errors = []
    for _ in range(60):
        seen = SMALL.colours(networks, origins, directions, task, jitter=False)
        loss = sum((colours - wanted).square().mean() for colours in seen)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        errors.append(loss.item())
    assert errors[-1] < 0.7 * errors[0]


def test_an_opaque_sample_hides_what_lies_behind():
    def network(points, directions):
        red = torch.tensor([1.0, 0.0, 0.0]).expand_as(points)
        blue = torch.tensor([0.0, 0.0, 1.0]).expand_as(points)
        return torch.full(points.shape[:-1], 1e3), torch.where(points[..., 2:] < 1.5, red, blue)

    t = torch.tensor([[1.0, 2.0]])
    toward = torch.tensor([[0.0, 0.0, 1.0]])
    colours, weights = torch_nerf.shade(network, torch.zeros(1, 3), toward, t, 3.0)
    assert colours.allclose(torch.tensor([[1.0, 0.0, 0.0]]), atol=1e-6)
    assert weights.allclose(torch.tensor([[1.0, 0.0]]), atol=1e-6)


def test_samples_fall_where_the_weight_is():
    edges = torch.tensor([[0.0, 1.0, 2.0]])
    found = torch_nerf.invert(edges, torch.tensor([[0.0, 1.0]]), torch.tensor([[0.25, 0.5]]))
    # measured 1.5e-5: every interval has a little weight
    assert found.allclose(torch.tensor([[1.25, 1.5]]), atol=1e-4)
