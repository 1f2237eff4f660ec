"""`nerfkit sr`: train super-resolution networks, apply them to images and videos."""

import dataclasses
from pathlib import Path
from typing import Annotated

from tyro.conf import arg, subcommand

from nerfkit.postprocess.apply import ApplyConfig, apply
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
class Train(TrainConfig):
    """Train a network on folders of images."""

    data: Annotated[tuple[Path, ...], arg(metavar="DIR ...")]
    """Folders of images."""
    output: Annotated[Path, arg(aliases=["-o"], metavar="OUT")]
    """Folder to write to."""
    scale: Annotated[int, arg(aliases=["-s"], metavar="2|3|4")] = 2
    """Factor of the size."""


def sr(
    command: Annotated[
        Annotated[Apply, subcommand("apply")] | Annotated[Train, subcommand("train")],
        arg(name=""),
    ],
) -> None:
    if isinstance(command, Train):
        print(train(command))
        return
    for path in apply(command):
        print(path)
