"""Every adversarial loss and every remedy against collapse on the games of `gan.toys`.

python benchmarks/gan_games.py [--json FILE]
"""

import argparse
import time
from pathlib import Path

import torch

from nerfkit import files
from nerfkit.postprocess.gan import toys
from nerfkit.postprocess.gan.game import GameConfig

GAUSSIAN = {
    "minimax, R1 0.1": (GameConfig("minimax", r1=0.1, average=0.99), {}),
    "non-saturating, R1 0.1": (GameConfig("nonsaturating", r1=0.1, average=0.99), {}),
    "least squares, R1 0.1": (GameConfig("least_squares", r1=0.1, average=0.99), {}),
    "hinge, R1 0.1": (GameConfig("hinge", r1=0.1, average=0.99), {}),
    "WGAN, clipped at 0.3": (
        GameConfig("wasserstein", clip=0.3, discriminator_steps=5, average=0.99),
        {"steps": 900},
    ),
    # at 10 the critic cannot turn its slope round: flat in between costs more than it gains
    "WGAN-GP, penalty 0.1": (
        GameConfig("wasserstein", gradient_penalty=0.1, discriminator_steps=5, average=0.99),
        {"steps": 900},
    ),
}
RING = {
    "non-saturating alone": GameConfig("nonsaturating", average=0.99),
    "R1 0.01": GameConfig("nonsaturating", r1=0.01, average=0.99),
    "R1 0.01, replay 2000": GameConfig("nonsaturating", r1=0.01, replay=2000, average=0.99),
    "unrolled 3 steps": GameConfig("nonsaturating", unrolled_steps=3, average=0.99),
    "balanced, accuracy below 0.8": GameConfig("nonsaturating", balance=(0.0, 0.8), average=0.99),
    "WGAN-GP, penalty 1": GameConfig(
        "wasserstein", gradient_penalty=1.0, discriminator_steps=3, average=0.99
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    target = parser.parse_args().json
    torch.set_num_threads(1)
    rows = []
    for name, (config, options) in GAUSSIAN.items():
        start = time.process_time()
        mean, deviation = toys.play_gaussian(config, **options)
        errors = (mean / toys.MEAN - 1, deviation / toys.DEVIATION - 1)
        rows.append({"game": "gaussian", "config": name, "mean": mean, "deviation": deviation})
        rows[-1]["cpu_seconds"] = time.process_time() - start
        print(f"gaussian  {name:30s} mean {errors[0]:+.2%}  deviation {errors[1]:+.2%}", flush=True)
    for name, config in RING.items():
        start = time.process_time()
        modes, near = toys.play_ring(config)
        rows.append({"game": "ring", "config": name, "modes": modes, "near": near})
        rows[-1]["cpu_seconds"] = time.process_time() - start
        print(f"ring      {name:30s} {modes} of {toys.MODES} modes, {near:.0%} near", flush=True)
    if target is not None:
        files.write_json(target, {"torch": torch.__version__, "seed": 0, "rows": rows})


if __name__ == "__main__":
    main()
