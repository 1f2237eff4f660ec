"""Fits by several processes: as good as by one, one log, stopped and resumed together."""

import json
import signal
import time

import pytest
from launching import as_nodes, finish, kill_rank, launch, start, torchrun
from test_fit import psnr_of

from nerfkit.run import Run

OPTIONS = ("--finest", 64, "--samples", 40_000)


def command(data, folder, *options, ranks=2):
    return torchrun("-m", "nerfkit", "fit", data, "-o", folder, *options, ranks=ranks)


def test_two_ranks_are_as_good_as_one(fitted, sphere_data, tmp_path):
    folder = tmp_path / "run"
    code, _, err = launch(command(sphere_data, folder, "--steps", 150, *OPTIONS))
    assert code == 0, err
    assert err.count("150 steps in") == 1  # one log
    assert len(list((folder / "logs").glob("events*"))) == 1
    # measured 0.00X dB
    assert abs(psnr_of(folder) - psnr_of(fitted)) < 0.05
    assert json.loads((folder / "metrics.json").read_text())["steps"] == 150


@pytest.mark.slow
def test_two_nodes_are_as_good_as_one(fitted, sphere_data, tmp_path):
    folder = tmp_path / "run"
    arguments = ("-m", "nerfkit", "fit", sphere_data, "-o", folder, "--steps", 150, *OPTIONS)
    results = as_nodes(*arguments)
    assert [code for code, _, _ in results] == [0, 0], results
    assert abs(psnr_of(folder) - psnr_of(fitted)) < 0.05


def test_stopped_together_and_resumed_by_one(sphere_data, tmp_path, make_fit):
    folder = tmp_path / "run"
    process = start(command(sphere_data, folder, "--steps", 5000, *OPTIONS))
    while not (folder / "logs").exists():  # the first report: steps are being taken
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, _, err = finish(process)
    assert err.count("--resume goes on from there") == 1, err
    step = Run.load(folder).iteration
    assert 0 < step < 5000
    make_fit(folder, steps=step + 3, resume=True)
    assert Run.load(folder).iteration == step + 3
    code, _, err = launch(command(sphere_data, folder, "--resume", "--steps", step + 5))
    assert code == 0, err
    assert Run.load(folder).iteration == step + 5


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["nerf", "fastnerf", "nsvf"])
def test_other_presets(sphere_data, tmp_path, preset):
    psnrs = []
    for ranks in (1, 2):
        folder = tmp_path / str(ranks)
        options = ("--steps", 60, "--preset", preset, "--width", 32)
        code, _, err = launch(command(sphere_data, folder, *options, ranks=ranks))
        assert code == 0, err
        psnrs.append(psnr_of(folder))
    assert abs(psnrs[0] - psnrs[1]) < 1.0  # other random places of samples


def test_a_mistake_is_told_once(tmp_path):
    code, _, err = launch(command(tmp_path / "none", tmp_path / "run", "--steps", 5))
    assert code != 0
    assert err.count("nerfkit: error:") == 1, err


def test_a_dead_rank_ends_the_others_with_the_checkpoint_whole(sphere_data, tmp_path, make_fit):
    folder = make_fit(tmp_path / "run", steps=5)
    process = start(command(sphere_data, folder, "--resume", "--steps", 100_000))
    logged = len(list((folder / "logs").glob("events*")))
    while len(list((folder / "logs").glob("events*"))) == logged:
        assert process.poll() is None
        time.sleep(0.1)
    kill_rank(process, 1)
    code, _, err = finish(process)
    assert code != 0 and "has ended" in err, err
    assert Run.load(folder).iteration >= 5
