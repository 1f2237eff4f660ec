"""Fits to poses that were disturbed, with and without refinement, beside a fit to the right ones.

python benchmarks/poses.py DATA OUT [--minutes 5] [--downscale 2] [--degrees 1] [--percent 1]

DATA: a Blender set. Each training camera is turned by the angle about a random axis and moved by a
part of its distance from the origin in a random direction; test cameras stay as they are, and all
three runs are measured with `align`, for a scene may come out turned as a whole.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from nerfkit.evaluate import evaluate
from nerfkit.run import Run
from nerfkit.training import FitConfig, fit


def disturb(data: Path, out: Path, degrees: float, percent: float) -> None:
    """A copy of the set with other training poses."""
    shutil.copytree(data, out, dirs_exist_ok=True)  # links would lead out of the set
    generator = np.random.default_rng(0)
    for path in data.glob("transforms_*.json"):
        meta = json.loads(path.read_text())
        for frame in meta["frames"] if path.stem == "transforms_train" else ():
            c2w = np.array(frame["transform_matrix"])
            axis, way = (v / np.linalg.norm(v) for v in generator.normal(size=(2, 3)))
            turn = Rotation.from_rotvec(np.radians(degrees) * axis).as_matrix()
            c2w[:3, :3] = turn @ c2w[:3, :3]
            c2w[:3, 3] += percent / 100 * np.linalg.norm(c2w[:3, 3]) * way
            frame["transform_matrix"] = c2w.tolist()
        (out / path.name).write_text(json.dumps(meta))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--downscale", type=int, default=2)
    parser.add_argument("--degrees", type=float, default=1.0)
    parser.add_argument("--percent", type=float, default=1.0)
    given = parser.parse_args()
    wrong = given.out / "data"
    disturb(given.data, wrong, given.degrees, given.percent)
    settings = {"minutes": given.minutes, "downscale": given.downscale}
    for name, data, refine in (
        ("exact", given.data, False),
        ("disturbed", wrong, False),
        ("refined", wrong, True),
    ):
        config = FitConfig(data=data, output=given.out / name, refine_poses=refine, **settings)
        run = Run.load(fit(config))
        result = evaluate(run, align=True)
        print(f"{name}: {result['psnr']:.2f} dB, SSIM {result['ssim']:.4f}", flush=True)


if __name__ == "__main__":
    main()
