"""Damaged, foreign and half-written checkpoints."""

import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from nerfkit.errors import NerfkitError
from nerfkit.run import Run
from nerfkit.training import checkpoint
from nerfkit.training.checkpoint import CHECKPOINT


@pytest.fixture
def copy(fitted, tmp_path):
    return shutil.copytree(fitted, tmp_path / "copy")


def change(folder, edit, **metadata) -> None:
    """Write the checkpoint anew with other tensors or metadata."""
    path = folder / CHECKPOINT
    with safe_open(path, "pt") as file:
        kept = file.metadata()
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, {**kept, **metadata})


def refused(folder, complaint: str) -> None:
    with pytest.raises(NerfkitError, match=complaint) as caught:
        Run.load(folder)
    assert "\n" not in str(caught.value) and "checkpoint.safetensors" in str(caught.value)


def test_no_run(tmp_path):
    refused(tmp_path, "holds no run")


@pytest.mark.parametrize("size", [0, 5, 1000, -100])
def test_truncated(copy, size):
    data = (copy / CHECKPOINT).read_bytes()
    (copy / CHECKPOINT).write_bytes(data[:size])
    refused(copy, "damaged")


def test_not_finite(copy):
    change(copy, lambda t: t["density"][3:4].fill_(float("nan")))
    refused(copy, "density holds NaN")


def test_another_projects_file(copy):
    save_file({"weight": torch.zeros(3)}, copy / CHECKPOINT)
    refused(copy, "not a checkpoint this version can read")


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda t: t.pop("network"), "no tensor 'network'"),
        (lambda t: t.update(network=t["network"][:-1].clone()), "network is"),
        (lambda t: t.update(features=t["features"][:-64].clone()), "features is"),
        (lambda t: t.update(density=t["density"].double()), "density is"),
        (lambda t: t.update(octree_codes=t["octree_codes"].flip(0)), "out of order"),
        (lambda t: t.update(octree_codes=t["octree_codes"] + (1 << 40)), "out of range"),
        (lambda t: t.update(octree_codes=t["octree_codes"][:0].clone()), "octree_codes is"),
        (lambda t: t.update(depths=t["depths"] + 20), "depths"),
        (lambda t: t["octree_size"].zero_(), "size 0"),
    ],
)
def test_wrong_tensors(copy, edit, complaint):
    change(copy, edit)
    refused(copy, complaint)


def test_wrong_metadata(copy):
    change(copy, lambda t: None, shape="{}")
    refused(copy, "metadata")


def test_a_damaged_config_is_one_line(copy):
    (copy / "config.json").write_text("{}")
    with pytest.raises(NerfkitError, match=r"config\.json"):
        Run.load(copy)


def test_resume_without_the_optimisers_file(copy, make_fit):
    for path in copy.glob("optimiser-*"):
        path.unlink()
    with pytest.raises(NerfkitError, match="optimiser-00000150"):
        make_fit(copy, steps=200, resume=True)


def test_dying_between_the_two_files_leaves_the_old_pair(copy, make_fit, monkeypatch):
    write = checkpoint._write

    def dies(path, tensors, metadata):
        if path.name == CHECKPOINT:
            raise SystemExit  # nothing after this runs, as with kill -9
        write(path, tensors, metadata)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(checkpoint, "_write", dies)
        make_fit(copy, steps=153, resume=True)
    assert len(list(copy.glob("optimiser-*"))) == 2
    make_fit(copy, steps=155, resume=True)
    assert Run.load(copy).iteration == 155
    assert len(list(copy.glob("optimiser-*"))) == 1
