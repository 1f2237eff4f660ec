"""Render a camera path, frame by frame, to a video or a folder of frames.

Frames are written as they are made and an interrupted render goes on where it stopped (see
nerfkit.frames); for a video they wait in a hidden folder beside it until it is encoded.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import imageio.v3 as imageio
import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from nerfkit import __version__, video
from nerfkit.errors import NerfkitError
from nerfkit.frames import OUTPUTS, FrameFolder, digest, needed, z_depth
from nerfkit.paths import CameraPath, at_size

if TYPE_CHECKING:
    from nerfkit.run import Run

# Names that look like a file of a kind we do not write.
_OTHER_FILES = {".avi", ".gif", ".jpeg", ".jpg", ".m4v", ".mkv", ".mov", ".png", ".webm"}


def parse_outputs(text: str) -> list[str]:
    """`rgb,depth` -> ["rgb", "depth"]; NerfkitError names what is unknown."""
    names = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    wrong = [name for name in names if name not in OUTPUTS]
    if wrong or not names:
        got = repr(wrong[0]) if wrong else "nothing"
        raise NerfkitError(f"--outputs: want some of {','.join(OUTPUTS)}, got {got}")
    return names


def parse_frames(text: str, count: int) -> range:
    """`A:B` as a Python slice of `count` frames; NerfkitError if malformed or empty."""
    try:
        first, last = (int(part) if part.strip() else None for part in text.split(":"))
    except ValueError:
        raise NerfkitError(f"--frames: want A:B, such as 0:24 or -10:, got {text!r}") from None
    chosen = range(count)[first:last]
    if not chosen:
        raise NerfkitError(f"--frames: {text} chooses none of the path's {count} frames")
    return chosen


def render_path(
    run: "Run",
    path: CameraPath,
    output: Path,
    outputs: Sequence[str] = ("rgb",),
    frames: str = ":",
) -> list[Path]:
    """Render `path` to `output` (OUT.mp4, or a folder for PNG frames).

    Several outputs become OUT.mp4 (rgb) and OUT_depth.mp4 ..., or sub-folders. Depth pictures of
    all frames share one colour range; a folder also gets the raw depth as .npy.

    Args:
        run: the fitted scene.
        path: cameras of one size.
        outputs: some of rgb, depth, opacity, normal.
        frames: which frames of the whole path, as a Python slice "A:B".

    Returns:
        The videos, or the folders, written.

    Raises:
        NerfkitError: `output` is no .mp4 and no folder of ours, `frames` is empty or ffmpeg fails.
        KeyboardInterrupt: with a message saying what was kept.
    """
    is_video = output.suffix.lower() == ".mp4"
    if not is_video and (output.suffix.lower() in _OTHER_FILES or output.is_file()):
        raise NerfkitError(f"-o: want a video OUT.mp4 or a folder for PNG frames, got {output}")
    if is_video and output.is_dir():
        raise NerfkitError(f"-o: {output} is a folder; name the video otherwise")
    chosen = parse_frames(frames, len(path.cameras))
    if is_video:
        video.ffmpeg_executable()  # better no video now than after an hour of rendering
        output.parent.mkdir(parents=True, exist_ok=True)
        store = FrameFolder(output.with_name(f".{output.stem}.frames"), outputs, raw_depth=False)
    else:
        store = FrameFolder(output, outputs, raw_depth=True)
    _render_frames(run, path, store, chosen)
    if not is_video:
        return [store.place(name) for name in outputs]
    written = _encode(store, output, chosen, path)
    store.remove()
    return written


def _recipe(run: "Run", path: CameraPath, outputs: Sequence[str]) -> dict:
    checkpoint = run.folder / "checkpoint.safetensors"
    return {
        "nerfkit": __version__,
        "run": str(run.folder.resolve()),
        "iteration": run.iteration,
        # tells a run fitted anew, to the same iteration, from the old one
        "checkpoint_time": checkpoint.stat().st_mtime_ns if checkpoint.exists() else None,
        "background": run.config.get("background"),
        "path": digest(path.cameras),
        "frames": len(path.cameras),
        "size": [int(path.cameras.width[0]), int(path.cameras.height[0])],
        "outputs": list(outputs),
        "refined": getattr(run, "scale", None),
    }


def _render_frames(run: "Run", path: CameraPath, store: FrameFolder, chosen: range) -> None:
    cameras, wanted = path.cameras, needed(store.outputs)
    width, height = int(cameras.width[0]), int(cameras.height[0])
    recipe = store.prepare(_recipe(run, path, store.outputs))
    if "depth" in store.outputs and "depth_range" not in recipe:
        recipe = {**recipe, "depth_range": list(_depth_range(run, path))}
        store.save_recipe(recipe)
    todo = [i for i in chosen if not store.complete(i, width, height)]
    console = Console(file=sys.stderr, soft_wrap=True)
    if len(todo) < len(chosen):
        console.print(f"{len(chosen) - len(todo)} of {len(chosen)} frames are there already")
    done = len(chosen) - len(todo)
    try:
        with _progress(console) as progress:
            task = progress.add_task(
                f"{path.kind} {width}x{height}", total=len(chosen), completed=done, rate=""
            )
            for index in todo:
                camera = cameras[index]
                store.write(index, camera, run.render(camera, wanted), recipe.get("depth_range"))
                done += 1
                speed = progress.tasks[task].speed
                progress.update(task, advance=1, rate=f"{speed:.2f} frames/s" if speed else "")
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{done} of {len(chosen)} frames are kept in {store.folder}; "
            "the same command goes on from there"
        ) from None


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        speed_estimate_period=120,
    )


def _depth_range(run: "Run", path: CameraPath, probes: int = 6) -> tuple[float, float]:
    """Nearest and farthest z-depth met along the path, from a few small frames of all of it."""
    width, height = int(path.cameras.width[0]), int(path.cameras.height[0])
    shrink = max(1.0, max(width, height) / 96)
    small = at_size(path.cameras, max(1, round(width / shrink)), max(1, round(height / shrink)))
    depths = []
    for index in torch.linspace(0, len(small) - 1, min(probes, len(small))).round().long().tolist():
        rendered = run.render(small[index], ["ray_distance", "opacity"])
        hit = rendered["opacity"].cpu() > 0.5
        depths.append(z_depth(small[index], rendered["ray_distance"])[hit])
    values = torch.cat(depths)
    if len(values) == 0:
        return 0.0, 1.0
    near, far = torch.quantile(values[:: len(values) // 100_000 + 1], torch.tensor([0.01, 0.99]))
    return float(near), float(far)


def _encode(store: FrameFolder, output: Path, chosen: range, path: CameraPath) -> list[Path]:
    written = []
    for name in store.outputs:
        extra = "" if name == "rgb" or len(store.outputs) == 1 else f"_{name}"
        target = output.with_name(f"{output.stem}{extra}{output.suffix}")
        pictures = (imageio.imread(store.picture(name, index)) for index in chosen)
        size = video.write_mp4(target, pictures, path.fps)
        written.append(target)
    asked = (int(path.cameras.width[0]), int(path.cameras.height[0]))
    if size != asked:
        Console(file=sys.stderr, soft_wrap=True).print(
            f"the video is {size[0]}x{size[1]}: H.264 needs even sides, so the last row or "
            f"column of {asked[0]}x{asked[1]} is repeated"
        )
    return written
