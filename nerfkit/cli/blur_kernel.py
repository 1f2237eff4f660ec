"""`nerfkit blur-kernel`: by what kernel images, or the renders of a run, are blurred."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg


def is_run(source: tuple[Path, ...]) -> bool:
    """Whether the one thing given is a folder that `nerfkit fit` wrote."""
    return len(source) == 1 and (source[0] / "config.json").is_file()


def blur_kernel(
    source: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN_OR_IMAGES")],
    output: Annotated[Path, arg(aliases=["-o"], metavar="FILE.npy|.mat|.png")] = Path("kernel.npy"),
    scale: Annotated[int | None, arg(aliases=["-s"], metavar="1|2|3|4")] = None,
    sharp: Annotated[Path | None, arg(metavar="DIR_OR_IMAGE")] = None,
    family: Literal["round", "gaussian", "motion", "disk", "free", "edges"] | None = None,
    network: Annotated[Path | None, arg(metavar="FILE")] = None,
    views: Annotated[int, arg(metavar="N")] = 8,
    json: Annotated[Path | None, arg(metavar="FILE")] = None,
) -> None:
    """Estimate the blur of a run's renders, or of images.

    Args:
        source: folder written by `nerfkit fit`; or images, or folders of them, of one kernel.
        output: the kernel: NumPy, MATLAB (variable Kernel) or a 16-bit picture.
        scale: how many times smaller the images are than the sharp ones. Default: 1 for a run
            (its blur at its own size) and with --sharp, 2 for images alone.
        sharp: the sharp counterparts, in the same order; without them the estimate is blind.
        family: what the kernel may be. Default: the likeliest. Blind estimates also know round
            (Gaussians) and edges (a Gaussian by alternation, not by spectra), but not free.
        network: let this trained network estimate (written by benchmarks/train_blind.py).
        views: of a run, use at most so many training views.
        json: write the kernel and all numbers to this file.
    """
    import sys

    from rich.console import Console

    from nerfkit import files
    from nerfkit.errors import NerfkitError
    from nerfkit.postprocess.blur import estimate
    from nerfkit.postprocess.blur.kernel_files import check_suffix, save_kernel
    from nerfkit.postprocess.pictures import image_files

    check_suffix(output)
    if scale is not None and scale not in (1, 2, 3, 4):
        raise NerfkitError(f"--scale: want 1, 2, 3 or 4, got {scale}")
    if views < 1:
        raise NerfkitError(f"--views: want at least 1, got {views}")
    blind = sharp is None and not is_run(source)
    if family in (("free",) if blind else ("round", "edges")):
        known = "round, gaussian, motion, disk, edges" if blind else "gaussian, motion, disk, free"
        raise NerfkitError(
            f"--family: {'blind' if blind else 'not blind'}, want one of {known}; got {family}"
        )
    if not source:
        raise NerfkitError("RUN_OR_IMAGES: give a run's folder, images or folders of images")
    if is_run(source):
        from nerfkit.run import Run

        if sharp is not None or network is not None:
            raise NerfkitError("--sharp and --network are for images; a run has its photographs")
        report = estimate.kernel_of_run(Run.load(source[0]), scale or 1, views, family)
    elif sharp is not None:
        paths, counterparts = image_files(source), image_files([sharp])
        report = estimate.kernel_of_pairs(counterparts, paths, scale or 1, family)
    else:
        report = estimate.kernel_of_images(image_files(source), scale or 2, family, network)
    save_kernel(output, report.kernel)
    if json is not None:
        files.write_json(json, report.to_dict())
    numbers = ", ".join(f"{name} {value:.4g}" for name, value in report.parameters.items())
    images = f"{report.views} image" + ("s" if report.views > 1 else "")
    console = Console(file=sys.stdout, highlight=False)
    console.print(
        f"{report.shape} kernel by {report.method}, {images}, x{report.scale}: "
        f"width {report.width:.3f} pixels" + (f" ({numbers})" if numbers else "")
    )
    console.print(f"residual {255 * report.residual_rms:.3f} of 255; written to {output}")
