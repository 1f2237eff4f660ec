"""Render a camera path, frame by frame, to a video or a folder of frames.

Frames are written as they are made and an interrupted render goes on where it stopped (see
nerfkit.frames); for a video they wait in a hidden folder beside it until it is encoded.

Several processes of one command share the frames by claims (nerfkit.ranks.claims), without a word
between them: when one dies, the others find its claims free and render its frames too.
"""

import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
from nerfkit.ranks import ALONE, Claims, Team

if TYPE_CHECKING:
    from nerfkit.run import Run

# Bytes of the file of claims; those of the frames follow.
SETUP, FINISH, FRAMES = 0, 1, 2
LOOK_AGAIN = 0.2  # seconds, at frames that others have claimed

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
    team: Team = ALONE,
    resume: bool = False,
) -> list[Path]:
    """Render `path` to `output` (OUT.mp4, or a folder for PNG frames).

    Several outputs become OUT.mp4 (rgb) and OUT_depth.mp4 ..., or sub-folders. Depth pictures of
    all frames share one colour range; a folder also gets the raw depth as .npy.

    Args:
        run: the fitted scene.
        path: cameras of one size.
        outputs: some of rgb, depth, opacity, normal.
        frames: which frames of the whole path, as a Python slice "A:B".
        team: the ranks that render it together; each calls this.
        resume: go on with frames that are there; without, frames made otherwise are replaced.

    Returns:
        The videos, or the folders, written; nothing where another rank was the last.

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
    if resume and not store.has_recipe():
        raise NerfkitError(f"{store.folder}: holds no frames to resume; render without --resume")
    store.folder.mkdir(parents=True, exist_ok=True)
    with Claims(store.claims) as claims, _outliving(team):
        try:
            team.meet()  # else one could be done, and tidy up, before another has begun
            _render_frames(run, path, store, chosen, claims, team, resume)
            claims.take(FINISH, wait=True)
            if not store.claims.exists():  # another rank has
                return []
            written = [store.place(name) for name in outputs]
            if is_video:
                written = _encode(store, output, chosen, path)
                claims.take(SETUP, wait=True)
                claims.remove()  # first: tells who looks for a frame why it is gone
                store.remove()
        except NerfkitError:
            if not store.has_recipe():
                claims.remove()  # a folder that is not ours stays as it was
            raise
        claims.remove()
        store.tidy()
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


def _render_frames(
    run: "Run",
    path: CameraPath,
    store: FrameFolder,
    chosen: range,
    claims: Claims,
    team: Team,
    resume: bool,
) -> None:
    """Render what nobody else does, until all frames are there."""
    cameras, wanted = path.cameras, needed(store.outputs)
    width, height = int(cameras.width[0]), int(cameras.height[0])
    claims.take(SETUP, wait=True)
    if not store.claims.exists():  # the others were done before this rank began
        return
    recipe = store.prepare(_recipe(run, path, store.outputs), resume)
    if "depth" in store.outputs and "depth_range" not in recipe:
        recipe = {**recipe, "depth_range": list(_depth_range(run, path))}
        store.save_recipe(recipe)
    claims.drop(SETUP)
    todo = [i for i in chosen if not store.complete(i, width, height)]
    console = Console(file=sys.stderr, soft_wrap=True, quiet=not team.leads)
    if len(todo) < len(chosen):
        console.print(f"{len(chosen) - len(todo)} of {len(chosen)} frames are there already")
    start = team.share(len(todo)).start  # ranks begin far from each other
    todo = todo[start:] + todo[:start]
    try:
        with _progress(console) as progress:
            task = progress.add_task(f"{path.kind} {width}x{height}", total=len(chosen), rate="")
            while todo:
                claimed_by_others = []
                for place, index in enumerate(todo):
                    if not claims.take(FRAMES + index):
                        claimed_by_others.append(index)
                        continue
                    if not store.complete(index, width, height):
                        if not store.claims.exists():  # another rank has made the video
                            return
                        camera = cameras[index]
                        rendered = run.render(camera, wanted)
                        store.write(index, camera, rendered, recipe.get("depth_range"))
                    claims.drop(FRAMES + index)
                    left = len(todo) - place - 1 + len(claimed_by_others)
                    speed = progress.tasks[task].speed
                    progress.update(
                        task,
                        completed=len(chosen) - left,
                        rate=f"{speed:.2f} frames/s" if speed else "",
                    )
                todo = [i for i in claimed_by_others if not store.complete(i, width, height)]
                if todo:
                    time.sleep(LOOK_AGAIN)
    except KeyboardInterrupt:
        missing = [i for i in chosen if not store.complete(i, width, height)]
        raise KeyboardInterrupt(
            f"{len(chosen) - len(missing)} of {len(chosen)} frames are kept in {store.folder}, "
            f"missing: {_spans(missing)}; the same command goes on from there"
        ) from None


def _spans(numbers: Sequence[int]) -> str:
    """`3, 7-9` for 3, 7, 8, 9."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans) or "none"


@contextmanager
def _outliving(team: Team) -> Iterator[None]:
    """SIGTERM stops like Ctrl-C, but not where a rank has died: torchrun sends it for that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: object) -> None:
        if not team.lost_one():
            raise KeyboardInterrupt
        if team.speaks():
            print("nerfkit: a process has ended; the others render its frames", file=sys.stderr)

    usual = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, usual)


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
