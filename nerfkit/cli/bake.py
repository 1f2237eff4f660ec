"""`nerfkit bake`: a fitted scene as one compact file that renders without a network."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


def bake(
    run: Annotated[Positional[Path], arg(metavar="RUN")],
    output: Annotated[Path | None, arg(aliases=["-o"], metavar="FILE")] = None,
) -> None:
    """Bake a fitted scene.

    The file can be given to the other commands in place of a run.

    Args:
        run: folder written by `nerfkit fit`.
        output: file to write. Default: RUN/baked.safetensors.
    """
    import sys
    import time

    from rich.console import Console
    from rich.progress import Progress

    from nerfkit.baking import bake as bake_field
    from nerfkit.baking import save_baked
    from nerfkit.device import CPU
    from nerfkit.errors import NerfkitError
    from nerfkit.run import Run

    if run.is_file():
        raise NerfkitError(f"{run}: is a file; want the folder of a run, as nerfkit fit writes it")
    start = time.perf_counter()
    loaded = Run.load(run, CPU)  # least squares of the corners are solved there
    output = run / "baked.safetensors" if output is None else output
    if output.is_dir():
        raise NerfkitError(f"-o {output}: is a folder; want a file")
    output.parent.mkdir(parents=True, exist_ok=True)
    with Progress(console=Console(file=sys.stderr), transient=True) as progress:
        tasks = {}

        def show(what: str, done: float) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=1.0)
            progress.update(tasks[what], completed=done)

        field = bake_field(loaded.field, loaded.train_cameras, loaded.background, show)
    size = save_baked(field, loaded.facts(), output)
    print(
        f"{output}: {size / 1e6:.1f} MB, {len(field.octree):,} voxels with "
        f"{len(field.density):,} corners, in {time.perf_counter() - start:.0f} s"
    )
