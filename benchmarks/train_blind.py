"""Train the blind network of `nerfkit.postprocess.blur` for one scale; run again to go on.

python benchmarks/train_blind.py IMAGES... --scale 2 --steps 20000 --output FOLDER
"""

import argparse
from pathlib import Path

import torch

from nerfkit.postprocess.blur.train import TrainConfig, train
from nerfkit.postprocess.pictures import image_files

PATCHES = {
    2: {"patch": 32, "batch": 8},
    3: {"patch": 28, "batch": 10},
    4: {"patch": 24, "batch": 12},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", nargs="+", type=Path, help="sharp images or folders of them")
    parser.add_argument("--scale", type=int, choices=sorted(PATCHES), required=True)
    parser.add_argument("--steps", type=int, required=True, help="in all, earlier runs included")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # repeatable
    config = TrainConfig(arguments.scale, **PATCHES[arguments.scale])
    train(config, image_files(arguments.images), arguments.output, arguments.steps)


if __name__ == "__main__":
    main()
