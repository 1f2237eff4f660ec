"""Exports of a ball: its surface, the colours cameras see, and every format read back."""

import math
import types
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from sphere_run import cameras_around

from nerfkit import cli
from nerfkit.errors import NerfkitError
from nerfkit.export import export, kind_for
from nerfkit.export.surface import Corners, corners_of, extract
from nerfkit.fields.fast import FastField, FieldShape
from nerfkit.fields.nsvf import NsvfField, NsvfShape
from nerfkit.fields.vertices import Vertices
from nerfkit.kernels.fused_render import Rendered
from nerfkit.kernels.nsvf_mlp import NsvfMlpConfig
from nerfkit.octree import Octree

DEPTH = 6  # two blocks of cells along each axis, so that seams are tested
LOW, SIZE = torch.tensor([-1.5, -1.4, -1.6]), 3.0
VOXEL = SIZE / 2**DEPTH


class Ball(FastField):
    """A unit ball's shell of density; rays meet the ball itself, coloured by its normal."""

    def render(self, origins, directions, background):
        along = (origins * directions).sum(-1)
        inside = along**2 - (origins**2).sum(-1) + 1
        hit = (inside > 0) & (along < 0)
        depth = torch.where(hit, -along - inside.clamp_min(0).sqrt(), 0.0)
        colour = (origins + directions * depth[:, None]) * 0.5 + 0.5
        return Rendered(torch.where(hit[:, None], colour, background), depth, hit.float())


def ball(hollow: float = 0.8) -> Ball:
    """Dense between the radii `hollow` and 1, empty inside: what a fit makes of a solid ball."""
    full = Octree.full(LOW, SIZE, DEPTH)
    radius = full.centers().norm(dim=1)
    octree = full.keep((radius < 1.15) & (radius > hollow - 0.15))
    vertices = Vertices.of(octree, [DEPTH])
    shape = FieldShape((16,), 2, 1.0, 0.0, 1.0, 0.0)
    features, network = torch.zeros(len(vertices), 16), torch.zeros(shape.n_network)
    field = Ball(shape, octree, vertices, torch.zeros(len(vertices)), features, network)
    coords = corners_of(field).coords
    distance = (LOW + coords * VOXEL).norm(dim=1)
    inside = torch.minimum(1 - distance, distance - hollow) / VOXEL
    wanted = math.log(2) / VOXEL * torch.exp((2 * inside).clamp(-8, 4))  # half opaque at 1
    field.density[vertices.index(0, coords)] = wanted + torch.log(-torch.expm1(-wanted))
    field.sum_levels()
    return field


@pytest.fixture(scope="module")
def run():
    return types.SimpleNamespace(field=ball(), train_cameras=cameras_around(12, 64, 48))


def test_the_surface_is_closed_faces_outwards_and_lies_where_it_should(run):
    mesh = extract(corners_of(run.field))
    found = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    assert found.is_watertight and found.is_winding_consistent
    assert len(found.split(only_watertight=False)) == 1  # no inner wall: the hollow is filled
    assert found.volume == pytest.approx(4 / 3 * math.pi, rel=0.01)  # measured 0.22 %
    radius = np.linalg.norm(mesh.vertices, axis=1)
    assert np.abs(radius - 1).max() < 0.5 * VOXEL
    assert ((mesh.normals * mesh.vertices).sum(1) > 0.8).all()


def test_specks_are_left_out():
    octree = Octree.full(LOW, SIZE, 5)
    everything = Corners(octree, octree.cells(), torch.zeros(len(octree)))
    densities = everything.densities
    cells = everything.coords
    densities[((cells >= 4) & (cells < 20)).all(1)] = 100.0
    alone = extract(everything)
    densities[octree.find(torch.tensor([[28, 28, 28]]))] = 100.0  # a corner of 1 / 31 of the cube
    assert len(extract(everything).faces) == len(alone.faces) + 8
    densities[octree.find(torch.tensor([[28, 28, 28]]))] = 0.0
    assert len(extract(everything).faces) == len(alone.faces)


def test_voxels_with_a_network_say_their_densities():
    network = NsvfMlpConfig(embedding=8, width=16, density_width=16, embedding_frequencies=2)
    shape = NsvfShape(network, near=0.0, step=0.05, density_scale=20.0)
    octree = Octree.from_cells(LOW, SIZE, 3, torch.tensor([[1, 2, 3], [5, 5, 5]]))
    field = NsvfField.create(shape, octree, torch.Generator().manual_seed(0))
    corners = corners_of(field)
    assert corners.octree.resolution == 256 and len(corners.octree) == 2 * 32**3
    some = corners.coords[:: len(corners.coords) // 100]
    found = corners.densities[:: len(corners.coords) // 100]
    points = LOW + some * corners.octree.voxel
    middle = octree.centers()[octree.centers().sub(LOW).norm(dim=1).argmin()]
    first = (points - middle).norm(dim=1) < octree.voxel
    inside = middle + (points - middle) * (1 - 1e-4)
    assert first.sum() > 20
    assert torch.allclose(found[first], field.densities(inside[first]), rtol=0.01)


def test_nothing_opaque_is_said():
    octree = Octree.full(LOW, SIZE, 3)
    with pytest.raises(NerfkitError, match="holds no surface"):
        extract(Corners(octree, octree.cells(), torch.zeros(len(octree))))


@pytest.mark.filterwarnings("error")
def test_meshes_open_in_trimesh_with_the_colours_cameras_see(run, tmp_path):
    for name in ("ball.ply", "ball.glb"):
        assert "triangles" in export(run, tmp_path / name)
        mesh = trimesh.load(tmp_path / name, force="mesh", process=False)
        assert mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0
        world = np.asarray(mesh.vertices)
        if name.endswith("ply"):
            colours = mesh.visual.vertex_colors[:, :3] / 255
        else:  # turned to +Y up, in linear light
            world = world @ np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]).T
            (inner,) = trimesh.load(tmp_path / name, process=False).geometry.values()
            assert np.allclose(inner.vertices, world, atol=1e-6)
            colours = inner.visual.vertex_attributes["color"][:, :3]
            colours = 1.055 * np.maximum(colours, 0.0031308) ** (1 / 2.4) - 0.055
        seen = world[:, 2] > 0  # all cameras stand above
        assert np.abs(colours - (world * 0.5 + 0.5))[seen].max() < 0.08


def test_point_cloud(run, tmp_path):
    export(run, tmp_path / "points.ply", "points", 1000)
    cloud = trimesh.load(tmp_path / "points.ply")
    assert len(cloud.vertices) == 1000
    assert np.abs(np.linalg.norm(cloud.vertices, axis=1) - 1).max() < 1e-5
    assert np.abs(cloud.colors[:, :3] / 255 - (cloud.vertices * 0.5 + 0.5)).max() < 0.01


def test_voxels_and_octree(run, tmp_path):
    export(run, tmp_path / "voxels.ply", "voxels")
    octree = run.field.octree
    data = trimesh.load(tmp_path / "voxels.ply")
    assert np.array_equal(data.vertices.astype(np.float32), octree.centers().numpy())
    header = (tmp_path / "voxels.ply").read_bytes()[:300].decode(errors="replace")
    assert f"comment voxel_size {octree.voxel!r}" in header and "property int quality" in header
    export(run, tmp_path / "octree.npz")
    stored = np.load(tmp_path / "octree.npz")
    assert np.array_equal(stored["codes"], octree.codes.numpy())
    assert np.array_equal(stored["cells"], octree.cells().numpy())
    assert stored["depth"] == DEPTH and stored["size"] == SIZE
    centre = stored["box_min"] + (stored["cells"] + 0.5) * stored["size"] / 2 ** stored["depth"]
    radius = np.linalg.norm(centre, axis=1)
    dense = stored["density"] > math.log(2) / VOXEL
    assert dense[(radius > 0.85) & (radius < 0.95)].all() and not dense[radius > 1.06].any()


def test_what_is_written_by_default():
    found = [kind_for(Path(name)) for name in ("a.glb", "a.PLY", "a.npz")]
    assert found == ["mesh", "mesh", "octree"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["-o", "out.obj"], "-o: want FILE.glb, FILE.ply or FILE.npz, got 'out.obj'"),
        (["-o", "out.glb", "--kind", "points"], "-o: points want FILE.ply, got 'out.glb'"),
        (["-o", "out.ply", "--kind", "cloud"], "--kind: want one of mesh, points, voxels, octree"),
        (["-o", "out.ply"], "nowhere: holds no run"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", "nowhere", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"nerfkit: error: {complaint}") and error.count("\n") == 1
