"""`nerfkit eval`: a table for the reader, a JSON file for the machine."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


def evaluate(
    run: Annotated[Positional[Path], arg(metavar="RUN")],
    split: str = "test",
    json: Annotated[Path | None, arg(metavar="FILE")] = None,
    images: Annotated[Path | None, arg(metavar="DIR")] = None,
    align: bool = False,
    exposed: bool = False,
    sr: Annotated[int | None, arg(metavar="2|3|4")] = None,
) -> None:
    """Measure a fitted scene.

    Args:
        run: folder written by `nerfkit fit`, or file written by `nerfkit bake`.
        split: which views to measure.
        json: write all numbers, with how they were measured, to this file.
        images: save the rendered views as PNG in this folder.
        align: first move each camera to where its photograph fits best, as for scenes fitted with
            --refine-poses; preset fast alone.
        exposed: show each view as bright as the photographs taken next to it (those fitted to), not
            as all of them in the mean.
        sr: render so many times smaller and refine (needs `nerfkit sr train RUN`).
    """
    from nerfkit import files
    from nerfkit.evaluate import evaluate as measure
    from nerfkit.evaluate import print_table
    from nerfkit.run import Run

    loaded = Run.load(run)
    if sr is not None:
        from nerfkit.postprocess.scene.refined import RefinedRun

        loaded = RefinedRun(loaded, sr)
    result = measure(loaded, split=split, images=images, align=align, exposed=exposed)
    result |= {"refined": sr}
    print_table(result)
    if json is not None:
        files.write_json(json, result)
