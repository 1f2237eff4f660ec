"""`nerfkit sr`: train super-resolution networks, apply them to images and videos."""

import dataclasses
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg, subcommand

from nerfkit.errors import NerfkitError
from nerfkit.postprocess.apply import ApplyConfig, apply
from nerfkit.postprocess.scene.train import RefinerConfig, train_refiner
from nerfkit.postprocess.train import TrainConfig, train


@dataclasses.dataclass
class Apply(ApplyConfig):
    """Enlarge an image, a folder of images or a video."""

    input: Annotated[Path, arg(aliases=["-i"], metavar="IN")]
    """Image, folder of images, or video."""
    output: Annotated[Path, arg(aliases=["-o"], metavar="OUT")]
    """File for a file, folder for a folder; a folder for a file gets its name."""
    outscale: Annotated[float, arg(aliases=["-s", "--scale"], metavar="2|3|4")] = 2.0
    """Factor of the size, above 1 and at most 4."""
    tile: Annotated[int | None, arg(aliases=["-t"], metavar="N")] = None
    """Side of the tiles in input pixels, 0 for none; all give the same picture. Default: what is
    fastest here."""


@dataclasses.dataclass
class Train:
    """Train a network on folders of images, or a refiner for the renders of a run."""

    run: Annotated[Positional[Path | None], arg(metavar="RUN")] = None
    """Folder written by `nerfkit fit`, or file written by `nerfkit bake`: train its refiner."""
    scale: Annotated[int | None, arg(aliases=["-s"], metavar="2|3|4")] = None
    """Factor of the size (default 4 for a run, 2 for images)."""
    minutes: float | None = None
    """Length of the training (default 5 for a run)."""
    temporal: float = 0.0
    """Of a run: weight of a loss against flicker."""
    output: Annotated[Path | None, arg(aliases=["-o"], metavar="OUT")] = None
    """Of images: folder to write to."""
    data: Annotated[tuple[Path, ...], arg(metavar="DIR ...")] = ()
    """Folders of images."""
    model: str = "compact"
    """Of images: compact, edsr-small, edsr-baseline or edsr."""
    steps: int | None = None
    """Of images: length of the training in place of `minutes` (default 60000)."""
    start: Path | None = None
    """Of images: network file to begin with; one of another scale gives all but the tail."""
    batch: int | None = None
    """Patches a step (default 6 for a run, 16 for images)."""
    patch: int = 32
    """Side of a patch before enlarging, in pixels."""
    rate: float | None = None
    """Largest learning rate (default 2e-3 for a run, 1e-3 for images)."""
    reductions: tuple[float, ...] = (1.0, 0.8, 0.6)
    """Of images: sizes at which every image is used."""
    blur: tuple[float, float] | None = None
    """Of images: range of the standard deviation of a Gaussian blur before the reduction."""
    kernel: Path | None = None
    """Of images: kernel to blur with instead, such as `nerfkit blur-kernel` writes."""
    noise: tuple[float, float] | None = None
    """Of images: range of the standard deviation of noise after it, in grey levels."""
    jpeg: tuple[int, int] | None = None
    """Of images: range of the quality of a compression last."""
    adversarial: float = 0.0
    """Of images: weight of an adversarial loss beside pixels and features, such as 0.005; begin
    with a network trained on pixels (`--start`)."""
    seed: int = 0
    """Of weights, patches and degradations."""
    resume: bool = False
    """Of images: go on from the checkpoint in the output folder."""
    save_every: float = 300.0
    """Of images: seconds between checkpoints."""


def _train(options: Train) -> None:
    given = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}
    given = {name: value for name, value in given.items() if value is not None}
    wanted = RefinerConfig if options.run is not None else TrainConfig
    names = {f.name for f in dataclasses.fields(wanted)}
    if options.run is not None and options.data:
        raise NerfkitError("RUN and --data: give one of them")
    for option in dataclasses.fields(options):
        used = option.name in names or option.name == "run"
        if not used and getattr(options, option.name) != option.default:
            what = "images alone" if options.run is not None else "a RUN alone"
            flag = option.name.replace("_", "-")
            raise NerfkitError(f"--{flag}: is an option for training on {what}; leave it out")
    if options.run is not None:
        written = train_refiner(
            options.run, RefinerConfig(**{k: v for k, v in given.items() if k in names})
        )
    elif not options.data or options.output is None:
        raise NerfkitError("sr train: give a RUN, or --data DIR ... and --output OUT")
    else:
        written = train(TrainConfig(**{k: v for k, v in given.items() if k in names}))
    if written is not None:
        print(written)


def sr(
    command: Annotated[
        Annotated[Apply, subcommand("apply")] | Annotated[Train, subcommand("train")],
        arg(name=""),
    ],
) -> None:
    if isinstance(command, Train):
        _train(command)
        return
    for path in apply(command):
        print(path)
