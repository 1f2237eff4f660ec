"""The networks that come with nerfkit, on the standard benchmark."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from nerfkit.metrics import psnr
from nerfkit.postprocess.colour import luma
from nerfkit.postprocess.degrade import Degradation
from nerfkit.postprocess.models import WEIGHTS, load_network
from nerfkit.postprocess.pairs import make_pair
from nerfkit.postprocess.pictures import image_files, read_rgb
from nerfkit.postprocess.upscale import Upscaler

SET5 = Path(os.environ.get("NERFKIT_DATA", Path(__file__).parents[3] / "shared/data")) / "sr/Set5"
# dB of luma; a later training may only do better
LEAST = {2: 37.2, 3: 33.35, 4: 31.05}


@pytest.mark.parametrize("path", sorted(WEIGHTS.glob("*.safetensors")), ids=lambda p: p.stem)
def test_set5(path):
    if not SET5.exists():
        pytest.skip(f"no {SET5}; set NERFKIT_DATA")
    network = load_network(path)
    scale, enlarge = network.scale, Upscaler(network).frame

    def rounded_luma(pixels):
        inside = torch.from_numpy(pixels[scale:-scale, scale:-scale] / 255)
        return (luma(inside) * 255).round() / 255

    scores = []
    for file in image_files([SET5]):
        pair = make_pair(read_rgb(file), Degradation(scale), [0])
        scores.append(psnr(rounded_luma(enlarge(pair.low)), rounded_luma(pair.high)))
    assert np.mean(scores) >= LEAST[scale]
    assert sum(p.numel() for p in network.parameters()) <= 130_000
    assert path.stat().st_size < 2e6
