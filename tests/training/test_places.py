"""Steps and pictures make every tensor where the field is: on a GPU none may lie on the CPU.

Without a GPU: tensors for which no device is named are made on torch's device `meta`, where they
cannot meet those of the field.
"""

from pathlib import Path

import pytest
import torch
from sphere_run import cameras_around

from nerfkit.device import CPU
from nerfkit.fields.fast import FastField, FieldShape
from nerfkit.fields.frame import render_frame
from nerfkit.fields.ndc import Ndc
from nerfkit.fields.nerf import NerfField, NerfShape
from nerfkit.fields.nsvf import NsvfField, NsvfShape
from nerfkit.kernels.fastnerf_mlp import FastNerfMlpConfig
from nerfkit.kernels.nerf_mlp import NerfMlpConfig
from nerfkit.kernels.nsvf_mlp import NsvfMlpConfig, unpack
from nerfkit.octree import Octree
from nerfkit.training import FitConfig
from nerfkit.training.fast import FastLearner
from nerfkit.training.nerf import NerfLearner
from nerfkit.training.nsvf import NsvfLearner
from nerfkit.training.optimiser import Optimiser
from nerfkit.training.pixels import Batch

CAMERAS = cameras_around(3, width=4, height=3)
SMALL = NerfMlpConfig(2, 16, 8, 1, 2, 1)
NDC = Ndc((1.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0, 1.0, 0), 1.0, 1.0, 0.5)


class SomePixels:
    """What `Pixels` offers a step: eight rays at a cube in the middle."""

    device, has_alpha = CPU, True

    def draw(self, n_rays, generator, team):
        origins = torch.randn(8, 3, generator=generator, device=CPU) * 0.1
        origins[:, 2] += 3
        down = torch.tensor([[0.0, 0.0, -1.0]], device=CPU).expand(8, 3).contiguous()
        colors = torch.rand(8, 3, generator=generator, device=CPU)
        return Batch(origins, down, colors, torch.ones_like(colors[:, :1]), n_all=len(origins))


def options(preset, **more):
    return FitConfig(data=Path("."), output=Path("."), preset=preset, steps=9, rays=8, **more)


def octree():
    return Octree.full(-torch.ones(3), 2.0, 2)


def fast(generator):
    shape = FieldShape((8,), 2, 4.0, -1.0, 1.0, 0.1)
    optimiser = Optimiser(FastField.create(shape, octree(), [1, 2], generator))
    return FastLearner(options("fast", samples=64, finest=32), CAMERAS, optimiser, 2, 8.0)


def nerf(generator, network=SMALL, ndc=None):
    shape = NerfShape(network, 0.1, 4, 4, 1 / 8, ndc)
    return NerfLearner(options("nerf"), NerfField.create(shape, octree(), generator))


def forward_facing(generator):
    return nerf(generator, ndc=NDC)


def fastnerf(generator):
    return nerf(generator, FastNerfMlpConfig(2, 16, 1, 1, 8, 2, 2, 1))


def nsvf(generator):
    network = NsvfMlpConfig(4, 16, 8, 1, 1, 2, 1)
    made = NsvfField.create(NsvfShape(network, 0.1, 0.1, 4.0), octree(), generator)
    unpack(made.network, network)["sigma.bias"].fill_(2.0)
    return NsvfLearner(options("nsvf"), made, 0.1)


@pytest.mark.parametrize("make", [fast, nerf, forward_facing, fastnerf, nsvf])
def test_no_tensor_is_elsewhere(make, monkeypatch):
    monkeypatch.setenv("NERFKIT_BACKEND", "reference")
    generator = torch.Generator().manual_seed(0)
    learner, camera, background = make(generator), CAMERAS[0], torch.ones(3)
    render_frame(learner.field, camera, background, ["rgb"])  # pixels of a size are kept
    with torch.device("meta"):
        stepped = learner.step(0.5, 4, SomePixels(), generator)
        seen = render_frame(learner.field, camera, background, ["rgb", "ray_distance"])
    assert stepped.n_samples > 0 and stepped.loss > 0
    assert all(image.device == CPU for image in seen.values())
    assert learner.field.device == CPU and learner.field.to(CPU) is learner.field
