"""A run that renders small and refines: what `nerfkit render --sr` and `nerfkit eval --sr` use.

A refiner's file holds its weights and the small distance maps of the photographs' views, so that
nothing needs to be rendered before the first frame; the photographs are read from the data set.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from nerfkit.cameras import Cameras
from nerfkit.errors import NerfkitError
from nerfkit.files import atomic_write
from nerfkit.postprocess.scene.flicker import Flicker
from nerfkit.postprocess.scene.geometry import small_camera, window
from nerfkit.postprocess.scene.network import SceneRefiner
from nerfkit.postprocess.scene.sources import Sources
from nerfkit.run import Run


def refiner_path(run: Path, scale: int) -> Path:
    """Where the refiner of a run, or of a baked file, lies."""
    name = f"refiner-x{scale}.safetensors"
    return run / name if run.is_dir() else run.with_name(f"{run.stem}.{name}")


def save_refiner(
    path: Path, network: SceneRefiner, distances: Tensor, facts: dict[str, Any]
) -> None:
    """Write a refiner; `distances` [N, h, w] of its sources are kept in half precision."""
    tensors = {f"network.{k}": v.contiguous() for k, v in network.state_dict().items()}
    tensors["distances"] = distances.half()
    metadata = {"settings": json.dumps(network.settings()), "facts": json.dumps(facts)}
    with atomic_write(path) as f:
        f.write(save(tensors, metadata))


def load_refiner(path: Path) -> tuple[SceneRefiner, Tensor]:
    """The network and the distances [N, h, w] of a refiner's file.

    Raises:
        NerfkitError: absent or something else.
    """
    if not path.exists():
        raise NerfkitError(f"{path}: there is no refiner; train one with `nerfkit sr train RUN`")
    try:
        with safe_open(path, "pt") as file:
            network = SceneRefiner(**json.loads(file.metadata()["settings"]))
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        distances = tensors.pop("distances").float()
        network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items()})
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise NerfkitError(f"{path}: not a refiner: {error}; train it again") from error
    network = network.to(memory_format=torch.channels_last)
    return network.eval().requires_grad_(False), distances


class RefinedRun(Run):
    """A run whose colours are rendered `scale` times smaller and refined.

    Other outputs are enlarged as they are, to the nearest pixel.

    Attributes:
        scale: of the refiner.
        flicker: of the frames rendered so far, in their order; none unless asked for.
    """

    def __init__(self, run: Run, scale: int, watch_flicker: bool = False) -> None:
        from nerfkit.postprocess.scene.train import load_photos

        super().__init__(run.folder, run.config, run.train_cameras, run.field, run.iteration)
        self.network, distances = load_refiner(refiner_path(run.folder, scale))
        cameras, photos = load_photos(run)
        if len(photos) != len(distances):
            raise NerfkitError(
                f"{refiner_path(run.folder, scale)}: trained on {len(distances)} views, the data "
                f"set has {len(photos)}; train it again"
            )
        self.scale = scale
        self.sources = Sources(photos, small_camera(cameras, scale), distances, scale)
        self.flicker = Flicker() if watch_flicker else None

    @torch.inference_mode()
    def render(self, camera: Cameras, outputs: Sequence[str]) -> dict[str, Tensor]:
        """Images of one camera, as `Run.render` gives them."""
        height, width = int(camera.height[0]), int(camera.width[0])
        small = small_camera(camera, self.scale)
        rendered = super().render(
            small, list(dict.fromkeys([*outputs, "rgb", "opacity", "ray_distance"]))
        )
        images: dict[str, Tensor] = {}
        for name in outputs:
            if name == "rgb":
                frame = self.refine(small, rendered)
            else:
                frame = _nearest(rendered[name], self.scale)
            images[name] = frame[:height, :width]
        return images

    def refine(self, small: Cameras, rendered: dict[str, Tensor]) -> Tensor:
        """The refined colours [scale h, scale w, 3] of a small frame, in 0..1."""
        network, scale = self.network, self.scale
        distance = rendered["ray_distance"].float().cpu()
        render = rendered["rgb"].float().cpu().clamp(0, 1).permute(2, 0, 1)[None]
        opacity = rendered["opacity"].float().cpu()[None, None]
        enlarged = network.enlarged(render)
        out = F.pixel_shuffle(enlarged, scale)
        # where there is nothing, there is nothing to refine
        rows, columns = (_extent(distance > 0, dim, network.radius) for dim in (1, 0))
        if rows.stop > rows.start:
            match = self.sources.match(
                window(small, rows, columns), distance[rows, columns], network.sources
            )
            part = (..., rows, columns)
            seen = self.sources.details(match, enlarged[0][part])
            fine = (..., *(slice(s.start * scale, s.stop * scale) for s in (rows, columns)))
            out[fine] = network(render[part], opacity[part], seen[None], enlarged[part])
        refined = out[0].permute(1, 2, 0).clamp(0, 1)
        if self.flicker is not None:
            self.flicker.observe(small, distance, render[0].permute(1, 2, 0), refined)
        return refined


def _extent(where: Tensor, dim: int, border: int) -> slice:
    """From the first to the last true along the other dimension of [h, w], and `border` more."""
    lines = where.any(dim)
    found = torch.nonzero(lines)
    if not len(found):
        return slice(0, 0)
    return slice(max(int(found[0]) - border, 0), min(int(found[-1]) + 1 + border, len(lines)))


def _nearest(image: Tensor, scale: int) -> Tensor:
    """[h, w, ...] with every pixel repeated."""
    return image.repeat_interleave(scale, 0).repeat_interleave(scale, 1)
