"""Exposures are found, whatever all views have in common."""

import pytest
import torch
from sphere_run import cameras_around

from nerfkit.errors import NerfkitError
from nerfkit.training.exposure import Exposure


def photographs(n_views: int = 5, n: int = 6000):
    generator = torch.Generator().manual_seed(0)
    gains = 1 + 0.15 * torch.randn(n_views, 3, generator=generator)
    gains = gains / gains.log().mean(0).exp()
    offsets = 0.03 * torch.randn(n_views, 3, generator=generator)
    offsets = offsets - offsets.mean(0)
    views = torch.randint(n_views, (n,), generator=generator)
    scene = torch.rand(n, 3, generator=generator)
    return gains, offsets, views, scene, gains[views] * scene + offsets[views]


def test_exposures_are_found():
    gains, _, views, scene, seen = photographs()
    exposure = Exposure(len(gains))
    assert torch.equal(exposure.of_scene(views, seen), seen)
    for part in range(0, len(views), 1000):
        rows = slice(part, part + 1000)
        exposure.learn(views[rows], seen[rows], scene[rows])
    assert (exposure.gains - gains).abs().max() < 0.05  # measured 0.026
    error = exposure.of_scene(views, seen) - scene
    before = seen - scene
    assert error.square().mean() < 0.1 * before.square().mean()  # measured 0.0026


def test_the_mean_view_is_the_scene():
    gains, _, views, scene, seen = photographs()
    exposure = Exposure(len(gains))
    exposure.learn(views, 0.7 * seen + 0.1, scene)  # all of them darker and greyer
    assert exposure.gains.log().mean(0).abs().max() < 1e-5
    assert exposure.offsets.mean(0).abs().max() < 0.01


def test_a_new_photograph_is_exposed_like_those_next_to_it():
    cameras = cameras_around(24)
    exposure = Exposure(24)
    exposure.gains[:] = torch.where(torch.arange(24) < 12, 0.9, 1.1)[:, None]
    for index, wanted in ((5, 0.9), (18, 1.1)):
        gain, offset = exposure.predicted(cameras, cameras[index])
        assert torch.allclose(gain, torch.full((3,), wanted)) and not offset.any()


def test_a_resumed_fit_knows_them():
    gains, _, views, scene, seen = photographs()
    exposure, again = Exposure(len(gains)), Exposure(len(gains))
    exposure.learn(views, seen, scene)
    again.recall(exposure.memory())
    assert torch.allclose(again.of_scene(views, seen), exposure.of_scene(views, seen))
    with pytest.raises(NerfkitError, match="photographs"):
        Exposure(2).recall(exposure.memory())
