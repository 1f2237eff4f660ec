"""`nerfkit demo`: a built-in scene, from nothing to a fitted field, scores and a video."""

import time
from pathlib import Path

import torch
from rich.console import Console

from nerfkit.contact_sheet import contact_sheet
from nerfkit.data import load_dataset
from nerfkit.errors import NerfkitError
from nerfkit.evaluate import composite, evaluate, print_table
from nerfkit.files import write_json
from nerfkit.paths import make_path
from nerfkit.render import render_path
from nerfkit.run import Run
from nerfkit.scenes import build, names
from nerfkit.training import FitConfig, fit

ROWS = 4  # of the contact sheet
FPS = 24


def demo(
    output: Path = Path("demo"),
    scene: str = "machine",
    minutes: float = 1.5,
    seconds: float = 3.0,
    seed: int = 0,
) -> None:
    """Build a scene, fit it, and write everything to a folder.

    Args:
        output: folder of the result: data/, run/, metrics.json, flythrough.mp4, contact_sheet.png.
        scene: name of a built-in scene.
        minutes: wall time of the fit.
        seconds: length of the video.
        seed: of all random numbers.
    """
    if scene not in names():
        raise NerfkitError(f"--scene {scene}: want one of {', '.join(names())}")
    if (output / "run").exists():
        raise NerfkitError(
            f"{output / 'run'}: holds a run already; give another folder to --output"
        )
    console = Console()
    began = time.monotonic()
    with console.status(f"tracing the images of '{scene}'") as status:
        data = build(
            scene,
            output / "data",
            seed=seed,
            progress=lambda done, total: status.update(
                f"tracing the images of '{scene}': {done} of {total}"
            ),
        )
    console.print(f"images of '{scene}': {data} ({time.monotonic() - began:.0f} s)")
    config = FitConfig(data=data, output=output / "run", minutes=minutes, seed=seed)
    run = Run.load(fit(config))
    result = evaluate(run)
    write_json(output / "metrics.json", result)
    print_table(result)
    video = make_path("orbit", run.train_cameras, run.scene_box, seconds, FPS, None)
    render_path(run, video, output / "flythrough.mp4")
    _sheet(run, data, output / "contact_sheet.png")
    console.print(
        f"held-out PSNR {result['psnr']:.2f} dB; {output / 'flythrough.mp4'}, "
        f"{output / 'contact_sheet.png'}; {time.monotonic() - began:.0f} s in all"
    )


def _sheet(run: Run, data: Path, path: Path) -> None:
    dataset = load_dataset(data, splits=("test",))
    views = dataset.splits["test"]
    chosen = views[torch.linspace(0, len(views) - 1, min(ROWS, len(views))).round().long()]
    rows = []
    for view in chosen.tolist():
        shown = run.render(dataset.cameras[view], ["rgb", "opacity", "ray_distance"])
        shown = {name: image.cpu() for name, image in shown.items()}
        truth = composite(dataset.images[view], run.background)
        rows.append(
            (
                truth.numpy(),
                shown["rgb"].clamp(0, 1).numpy(),
                shown["opacity"].numpy(),
                shown["ray_distance"].numpy(),
            )
        )
    contact_sheet(rows, path)
