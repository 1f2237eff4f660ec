"""Octrees in files: what comes back, how small they are, and what is no octree."""

import re
import resource

import pytest
import torch
from safetensors.torch import save_file
from voxel_scene import BOX_MIN, SIZE, shell

from nerfkit.errors import NerfkitError
from nerfkit.octree import Octree, from_points, load_octree, save_octree
from nerfkit.octree.storage import child_masks, codes_of


def octrees():
    none = torch.zeros(0, 3, dtype=torch.int64)
    yield "shell", shell(5)
    yield "full", Octree.full(BOX_MIN, SIZE, 3)
    yield "root alone", Octree.full(BOX_MIN, SIZE, 0)
    yield "no leaves", Octree.from_cells(BOX_MIN, SIZE, 4, none)
    yield "not even a root", Octree.from_cells(BOX_MIN, SIZE, 0, none)
    points = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    yield "deep", from_points(points, 20)


@pytest.mark.parametrize(("name", "octree"), list(octrees()))
def test_what_is_saved_is_loaded(name, octree, tmp_path):
    save_octree(octree, tmp_path / "file")
    loaded = load_octree(str(tmp_path / "file"))
    assert torch.equal(loaded.codes, octree.codes) and loaded.codes.dtype == torch.int64
    assert torch.equal(loaded.box_min, octree.box_min) and loaded.box_min.dtype == torch.float32
    assert (loaded.size, loaded.depth) == (octree.size, octree.depth)
    children, first_leaf = loaded.children()
    wanted, _ = octree.children()
    assert torch.equal(children, wanted) and first_leaf == len(children) - len(octree)


def test_masks_are_read_by_hand():
    """Two leaves of depth 2 in children 0 and 7 of the root: cells (1, 0, 0) and (2, 3, 2)."""
    octree = Octree.from_cells(BOX_MIN, SIZE, 2, torch.tensor([[1, 0, 0], [2, 3, 2]]))
    assert child_masks(octree).tolist() == [0b10000001, 0b00000010, 0b00000100]
    for masks, depth, leaves in (
        ([1], 1, 2),
        ([3], 1, 1),
        ([1], 2, 1),
        ([1, 1, 1], 2, 1),
        ([0], 1, 0),
        ([], 1, 1),
        ([1], 1, -3),
    ):
        with pytest.raises(ValueError):
            codes_of(torch.tensor(masks, dtype=torch.uint8), depth, leaves)


def test_a_surface_takes_a_quarter_byte_a_leaf(tmp_path):
    octree = shell(6, 0.85, 0.9)
    save_octree(octree, tmp_path / "file")
    assert (tmp_path / "file").stat().st_size < 0.35 * len(octree)  # 0.295 seen, header included


def complaint_of(path):
    with pytest.raises(NerfkitError) as raised:
        load_octree(path)
    text = str(raised.value)
    assert text.startswith(str(path)) and "\n" not in text
    return text


def test_foreign_files(tmp_path):
    assert "no such file" in complaint_of(tmp_path / "nowhere")
    assert "no such file" in complaint_of(tmp_path)
    path = tmp_path / "file"
    for content in (b"", b"PNG", b"x" * 100_000):
        path.write_bytes(content)
        assert "damaged or no safetensors file" in complaint_of(path)
    save_file({"x": torch.zeros(3)}, path)
    assert "holds no octree this version can read" in complaint_of(path)
    save_file({"x": torch.zeros(3)}, path, {"format": "nerfkit octree 1"})
    assert "damaged" in complaint_of(path)
    save_file({"child_masks": torch.zeros(3)}, path, {"format": "nerfkit octree 1"})
    assert "damaged" in complaint_of(path)


def test_any_damage_is_noticed(tmp_path):
    path, octree = tmp_path / "file", shell(4)
    save_octree(octree, path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 29):
        path.write_bytes(whole[:length])
        complaint_of(path)
    generator = torch.Generator().manual_seed(0)
    for place in torch.randperm(len(whole), generator=generator)[:300].tolist():
        bit = 1 << int(torch.randint(8, (1,), generator=generator))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
        complaint_of(path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"depth": "21"},
        {"depth": "-1"},
        {"depth": "many"},
        {"leaves": "-1"},
        {"size": "-0x1p+0"},
        {"size": "inf"},
        {"box_min": "[0, 0]"},
        {"box_min": "[0, 0, NaN]"},
        {"box_min": "{}"},
    ],
    ids=str,
)
def test_metadata_that_makes_no_sense(wrong, tmp_path):
    from nerfkit.octree import storage

    octree = shell(3)
    metadata = {
        "format": storage.FORMAT,
        "depth": "3",
        "leaves": str(len(octree)),
        "size": octree.size.hex(),
        "box_min": str(octree.box_min.tolist()),
    } | wrong
    masks = child_masks(octree)
    metadata["checksum"] = storage._checksum(metadata, masks)
    save_file({"child_masks": masks}, tmp_path / "file", metadata)
    assert "damaged" in complaint_of(tmp_path / "file")


def test_what_cannot_be_written_leaves_the_old_file(tmp_path):
    with pytest.raises(NerfkitError, match=re.escape(str(tmp_path / "no/file"))):
        save_octree(shell(3), tmp_path / "no/file")
    path = tmp_path / "file"
    save_octree(shell(3), path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # a full disk, nearly
    try:
        with pytest.raises(NerfkitError, match="cannot be written"):
            save_octree(shell(7), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
