"""`nerfkit fit`: the arguments are the fields of `nerfkit.training.FitConfig`."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from nerfkit import training
from nerfkit.ranks import joined


@dataclasses.dataclass
class Arguments(training.FitConfig):
    """FitConfig with DATA as a bare argument and the short form -o."""

    data: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DATA")]
    """Folder of posed images, or its transforms.json."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="RUN")]
    """Folder to write the run to."""


def fit(arguments: Annotated[Arguments, tyro.conf.arg(name="")]) -> None:
    started = training.process_start()
    with joined() as team:
        training.fit(arguments, started, team)
