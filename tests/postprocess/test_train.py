"""Training a super-resolution network: it learns, repeats exactly, and can be interrupted."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from nerfkit import cli
from nerfkit.cli.sr import Train
from nerfkit.errors import NerfkitError
from nerfkit.postprocess import models
from nerfkit.postprocess.degrade import Degradation
from nerfkit.postprocess.pairs import Patches, load_pairs
from nerfkit.postprocess.pictures import image_files
from nerfkit.postprocess.train import TrainConfig, train, trainer_for, validate

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path):
    """Three images of sharp-edged stripes and discs, which bicubic interpolation blurs."""
    y, x = np.mgrid[:40, :44]
    for i in range(3):
        stripes = np.sin(x * (0.5 + 0.1 * i) + y * 0.3) > 0
        disc = np.hypot(x - 20, y - 20) < 12
        image = np.stack([stripes, stripes ^ disc, disc], -1) * np.uint8(200) + np.uint8(20)
        (tmp_path / "data").mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / "data" / f"{i}.png")
    return tmp_path / "data"


@pytest.fixture
def tiny(monkeypatch):
    settings = {"channels": 1, "width": 8, "layers": 1, "hidden": 16}
    monkeypatch.setitem(models.PRESETS, "compact", ("compact", settings))


def config(folder, **changes):
    settings = {"batch": 4, "patch": 12, "reductions": (1.0,), "steps": 300, "rate": 1e-2}
    return TrainConfig((folder,), folder.parent / "out", **settings | changes)


def trainer(folder, **changes):
    settings = config(folder, **changes)
    pairs = load_pairs(image_files((folder,)), Degradation(2), (1.0,), 24)
    return trainer_for(settings)(settings, pairs, CPU)


def test_beats_bicubic_on_its_images(folder, tiny):
    path = train(config(folder))
    pairs = load_pairs(image_files((folder,)), Degradation(2), (1.0,), 24)
    bicubic = validate(models.build("compact", 2), pairs)
    score = validate(models.load_network(path), pairs)
    assert score > bicubic + 1  # measured: + 2.16
    history = json.loads((path.parent / "metrics.json").read_text())
    assert history[-1]["step"] == 300


@pytest.mark.parametrize("adversarial", [0.0, 0.01])
def test_stopping_and_resuming_changes_nothing(folder, tiny, tmp_path, adversarial):
    straight = trainer(folder, adversarial=adversarial)
    losses = [straight.train_step() for _ in range(6)]
    first = trainer(folder, adversarial=adversarial)
    again = [first.train_step() for _ in range(3)]
    first.save(tmp_path / "c.safetensors")
    # everything but the patches comes from the file
    second = trainer(folder, seed=9, adversarial=adversarial)
    second.patches.seed = 0
    second.load(tmp_path / "c.safetensors")
    again += [second.train_step() for _ in range(3)]
    assert again == losses
    for name, value in straight.average.items():
        assert torch.equal(second.average[name], value)


def test_adversarial_training_moves_both_players(folder, tiny):
    one, other = (trainer(folder, adversarial=weight) for weight in (0.01, 10.0))
    before = {k: v.clone() for k, v in one.discriminator.named_parameters()}
    for _ in range(3):
        one.train_step(), other.train_step()
    after = dict(one.discriminator.named_parameters())
    assert all(not torch.equal(before[k], after[k]) for k in before)
    assert any(not torch.equal(v, other.parameters[k]) for k, v in one.parameters.items())


def test_patches_are_aligned_and_depend_on_the_step_alone(folder):
    pairs = load_pairs(image_files((folder,)), Degradation(2), (1.0, 0.8), 24)
    patches = Patches(pairs, 10, 5, 3, seed=1)
    low, high = patches(7)
    assert low.shape == (5, 3, 10, 10) and high.shape == (5, 3, 20, 20)
    assert torch.equal(Patches(pairs, 10, 5, 3, seed=1)(7)[0], low)
    assert not torch.equal(patches(8)[0], low)
    means = torch.nn.functional.avg_pool2d(high, 2)
    assert (means - low).abs().mean() < 0.1  # a mirrored or shifted pair has 0.3


def test_wrong_arguments_are_one_clear_line(folder, tiny, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    complaints = [
        (tmp_path / "empty", [], "empty: holds no image"),
        (tmp_path / "absent", [], "absent: no such file or folder"),
        (folder, ["-s", "7"], "--scale: want one of 2, 3, 4, got 7"),
        (folder, ["--model", "vast"], "--model: want one of"),
        (folder, ["--patch", "99"], "no image has sides of 198 pixels"),
        (folder, ["--start", str(tmp_path / "no")], "--start: there is no file"),
        (folder, ["--patch", "8", "--resume"], "no checkpoint of this training"),
    ]
    for data, flags, complaint in complaints:
        command = ["sr", "train", "--data", str(data), "-o", str(tmp_path / "o"), *flags]
        assert cli.main(command) == 2
        error = capsys.readouterr().err
        assert complaint in error and error.count("\n") == 1
    with pytest.raises(NerfkitError, match="give one of them"):
        train(config(folder, minutes=1.0))


def test_command_offers_every_setting():
    offered = {field.name for field in dataclasses.fields(Train)}
    assert {field.name for field in dataclasses.fields(TrainConfig)} <= offered


def test_command_wants_a_run_or_images(tmp_path, capsys):
    assert cli.main(["sr", "train"]) == 2
    assert "give a RUN, or --data" in capsys.readouterr().err
    assert cli.main(["sr", "train", str(tmp_path), "--noise", "1", "2"]) == 2
    assert "--noise: is an option for training on images alone" in capsys.readouterr().err
    assert cli.main(["sr", "train", "--data", "d", "-o", "o", "--temporal", "1"]) == 2
    assert "--temporal: is an option for training on a RUN alone" in capsys.readouterr().err
    assert cli.main(["sr", "train", str(tmp_path), "--data", str(tmp_path)]) == 2
    assert "RUN and --data" in capsys.readouterr().err
