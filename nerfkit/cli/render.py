"""`nerfkit render`: choose a camera path, render it to a video or a folder of frames."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from nerfkit.errors import NerfkitError


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(p.isdigit() and int(p) > 0 for p in parts):
        raise NerfkitError(f"--size: want WIDTHxHEIGHT, such as 800x600, got {text!r}")
    return int(parts[0]), int(parts[1])


def render(
    run: Annotated[Positional[Path], arg(metavar="RUN")],
    output: Annotated[Path, arg(aliases=["-o"], metavar="OUT.mp4|DIR")],
    path: Annotated[str | None, arg(metavar="orbit|spiral|interpolate|FILE.json")] = None,
    seconds: Annotated[float | None, arg(metavar="S")] = None,
    fps: Annotated[float | None, arg(metavar="F")] = None,
    size: Annotated[str | None, arg(metavar="WxH")] = None,
    frames: Annotated[str, arg(metavar="A:B")] = ":",
    outputs: Annotated[str, arg(metavar="rgb,depth,opacity,normal")] = "rgb",
    sr: Annotated[int | None, arg(metavar="2|3|4")] = None,
    resume: bool = False,
) -> None:
    """Render a camera path.

    Args:
        run: folder written by `nerfkit fit`, or file written by `nerfkit bake`.
        output: a video OUT.mp4, or a folder for PNG frames (with depth also metric .npy).
        path: orbit, spiral, interpolate (through the training cameras) or a nerfstudio
            camera_path.json. Default: orbit if the training cameras surround the scene, spiral if
            they all look one way, interpolate otherwise.
        seconds: length of the whole path. Default: 5, or what the file says.
        fps: frames a second. Default: 24, or what the file says.
        size: width and height in pixels; the vertical field of view is kept. Default: that of the
            training views, or what the file says.
        frames: render only these frames of the path (a Python slice: `10:20`, `:30`, `-24:`).
        outputs: what to render, separated by commas.
        sr: render so many times smaller and refine (needs `nerfkit sr train RUN`).
        resume: go on with the frames that are there, and never delete any. (Without, too, the
            command goes on with frames that it would make alike.)
    """
    from nerfkit.paths import make_path
    from nerfkit.ranks import joined
    from nerfkit.render import parse_outputs, render_path
    from nerfkit.run import Run

    with joined() as team:
        wanted = parse_outputs(outputs)
        pixels = _size(size)
        loaded = Run.load(run)
        if sr is not None:
            from nerfkit.postprocess.scene.refined import RefinedRun

            loaded = RefinedRun(loaded, sr, watch_flicker=True)
        camera_path = make_path(
            path, loaded.train_cameras, loaded.scene_box, seconds=seconds, fps=fps, size=pixels
        )
        for written in render_path(
            loaded, camera_path, output, wanted, frames, team=team, resume=resume
        ):
            print(written)
    if sr is not None and loaded.flicker.pairs:
        print(loaded.flicker)
