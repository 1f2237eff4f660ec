"""Super-resolution of an image, a folder of images or a video: what `nerfkit sr apply` does."""

import dataclasses
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from torch import Tensor, nn

from nerfkit.data.images import image_size
from nerfkit.errors import NerfkitError
from nerfkit.metrics import psnr
from nerfkit.postprocess import clips
from nerfkit.postprocess.models import load_network, shipped_network
from nerfkit.postprocess.networks import SCALES
from nerfkit.postprocess.pictures import SUFFIXES, Picture, read_picture, write_picture
from nerfkit.postprocess.resize import imresize
from nerfkit.postprocess.upscale import Upscaler

EXTENSIONS = ("auto", "jpg", "png")


@dataclasses.dataclass
class ApplyConfig:
    """What to enlarge and how; the names are Real-ESRGAN's where they mean the same."""

    input: Path
    """Image, folder of images, or video."""
    output: Path
    """File for a file, folder for a folder; a folder for a file gets its name."""
    outscale: float = 2.0
    """Factor of the size, above 1 and at most 4; between the networks' 2, 3 and 4 the larger
    one's picture is reduced."""
    model_path: Path | None = None
    """Network file of `nerfkit sr train`. Default: the small one that comes with nerfkit."""
    tile: int | None = None
    """Side of the tiles in input pixels, 0 for none. All give the same picture. Default: what is
    fastest here."""
    suffix: str = ""
    """Added to the name of each file, after an underscore."""
    ext: str = "auto"
    """Of images: auto (as the input; png for alpha that jpg cannot hold), jpg or png."""
    alpha_upsampler: str = "network"
    """network or bicubic."""
    fp32: bool = False
    """Compute in 32 bits on a GPU too."""
    fps: float | None = None
    """Frame rate of a video. Default: as the input."""


class Enlarger:
    """A network and the last step to a factor that is not its own."""

    def __init__(self, config: ApplyConfig) -> None:
        factor = config.outscale
        if not 1 < factor <= max(SCALES):
            raise NerfkitError(
                f"--outscale: want above 1 and at most {max(SCALES)}, got {factor:g}"
            )
        self.network = _network(config.model_path, factor)
        self.upscaler = Upscaler(
            self.network, config.tile, fp32=config.fp32, alpha=config.alpha_upsampler
        )
        self.factor = factor

    def __call__(self, values: Tensor) -> Tensor:
        """float [H, W, C] in 0..1 -> the same at round(side * factor)."""
        out = self.upscaler(values)
        if self.factor == self.upscaler.scale:
            return out
        size = tuple(round(side * self.factor) for side in values.shape[:2])
        return torch.from_numpy(imresize(out.numpy(), size=size)).clamp_(0, 1)

    def frame(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [H, W, C] -> uint8."""
        if self.factor == self.upscaler.scale:
            return self.upscaler.frame(pixels)
        out = self(torch.from_numpy(pixels) / 255)
        return (out * 255 + 0.5).to(torch.uint8).numpy()


def _network(path: Path | None, factor: float) -> nn.Module:
    if path is None:
        return shipped_network(factor)
    network = load_network(path)
    if network.scale < factor:
        raise NerfkitError(
            f"{path}: enlarges {network.scale} times, --outscale wants {factor:g}; "
            "give another network or a smaller factor"
        )
    return network


def apply(config: ApplyConfig) -> Iterator[Path]:
    """Enlarge what `config` names; yields the path of each file written.

    Raises:
        NerfkitError: nothing to read at the input, something there cannot be decoded, a wrong
            factor, tile or extension, an output that would replace its input.
    """
    if config.ext not in EXTENSIONS:
        raise NerfkitError(f"--ext: want one of {', '.join(EXTENSIONS)}, got {config.ext!r}")
    enlarger = Enlarger(config)
    source = config.input
    if not source.exists():
        raise NerfkitError(f"{source}: there is no such file or folder")
    if source.is_dir():
        yield from _folder(config, enlarger)
    elif source.suffix.lower() in clips.SUFFIXES:
        yield _video(config, enlarger)
    else:
        yield _image(source, _target(config, source, is_video=False), enlarger, config)


def _folder(config: ApplyConfig, enlarger: Enlarger) -> Iterator[Path]:
    files = sorted(p for p in config.input.iterdir() if p.suffix.lower() in SUFFIXES)
    if not files:
        raise NerfkitError(f"{config.input}: holds no image ({', '.join(SUFFIXES)})")
    if config.output.is_file():
        raise NerfkitError(f"{config.output}: is a file; a folder of images needs a folder")
    for path in files:  # complain of a broken one before hours of work
        image_size(path)
    config.output.mkdir(parents=True, exist_ok=True)
    targets = [_target(config, path, is_video=False) for path in files]
    if len(set(targets)) < len(targets):
        raise NerfkitError(
            f"{config.input}: holds files that differ only in their extension; leave out --ext"
        )
    for path, target in zip(files, targets, strict=True):
        yield _image(path, target, enlarger, config)


def _target(config: ApplyConfig, source: Path, is_video: bool) -> Path:
    """Where the enlarged `source` goes."""
    output = config.output
    if not config.input.is_dir() and output.suffix and not output.is_dir():
        output.parent.mkdir(parents=True, exist_ok=True)
        target = output
    else:
        output.mkdir(parents=True, exist_ok=True)
        ending = source.suffix if config.ext == "auto" else f".{config.ext}"
        name = source.stem + (f"_{config.suffix}" if config.suffix else "")
        target = output / (name + (".mp4" if is_video else ending))
    if target.resolve() == source.resolve():
        raise NerfkitError(f"{target}: would replace its input; give another -o or a --suffix")
    return target


def _image(source: Path, target: Path, enlarger: Enlarger, config: ApplyConfig) -> Path:
    began = time.perf_counter()
    picture = read_picture(source)
    values = enlarger(picture.values)
    if config.ext == "auto" and values.shape[2] in (2, 4) and target.suffix.lower() == ".jpg":
        target = target.with_suffix(".png")
    write_picture(target, Picture(values, picture.bits, picture.profile))
    height, width = values.shape[:2]
    again = torch.from_numpy(imresize(values.numpy(), size=tuple(picture.values.shape[:2])))
    _say(
        f"{target}: {width}x{height}, {time.perf_counter() - began:.2f} s; reduced again it "
        f"agrees with the input to {psnr(again, picture.values):.1f} dB"
    )
    return target


def _video(config: ApplyConfig, enlarger: Enlarger) -> Path:
    target = _target(config, config.input, is_video=True)
    if target.suffix.lower() not in (".mp4", ".m4v", ".mov"):
        raise NerfkitError(f"{target}: want a name that ends in .mp4 for a video")
    console = Console(file=sys.stderr, soft_wrap=True)
    columns = (BarColumn(30), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("frames")
        began = time.perf_counter()

        def progress(done: int, expected: int) -> None:
            bar.update(task, completed=done, total=max(expected, done))

        count = clips.convert(config.input, target, enlarger.frame, config.fps, progress)
    seconds = time.perf_counter() - began
    _say(f"{target}: {count} frames, {seconds / count:.2f} s a frame")
    return target


def _say(text: str) -> None:
    print(text, file=sys.stderr)
