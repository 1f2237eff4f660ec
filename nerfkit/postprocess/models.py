"""Super-resolution networks by name, and their files.

A network file is one `.safetensors`: the collapsed weights in fp32 or fp16 and, as metadata, the
architecture, the constructor's arguments and how it was trained. `weights/` holds the networks
that come with nerfkit.
"""

import json
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import save
from torch import nn

from nerfkit.errors import NerfkitError
from nerfkit.files import atomic_write
from nerfkit.postprocess.compact import CompactSR
from nerfkit.postprocess.networks import SCALES, ResidualSR

ARCHITECTURES: dict[str, type[nn.Module]] = {"compact": CompactSR, "residual": ResidualSR}
# name -> (architecture, arguments); parameters at x2 after collapsing
PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "compact": ("compact", {"channels": 1, "width": 24, "layers": 7, "hidden": 96}),  # 38 k
    "edsr-small": ("residual", {"width": 32, "blocks": 5}),  # 106 k
    "edsr-baseline": ("residual", {"width": 64, "blocks": 16, "narrow_tail": False}),  # 1.37 M
    "edsr": (
        "residual",
        {"width": 256, "blocks": 32, "res_scale": 0.1, "narrow_tail": False},
    ),  # 40.7 M
}
WEIGHTS = Path(__file__).parent / "weights"


def build(preset: str, scale: int) -> nn.Module:
    """An untrained network.

    Raises:
        NerfkitError: no such preset or scale.
    """
    if preset not in PRESETS:
        raise NerfkitError(f"--model: want one of {', '.join(PRESETS)}, got {preset!r}")
    if scale not in SCALES:
        raise NerfkitError(f"--scale: want one of {', '.join(map(str, SCALES))}, got {scale}")
    architecture, settings = PRESETS[preset]
    return ARCHITECTURES[architecture](scale=scale, **settings)


def architecture_of(network: nn.Module) -> str:
    """The key of `network` in ARCHITECTURES."""
    return next(name for name, kind in ARCHITECTURES.items() if type(network) is kind)


def save_network(path: Path, network: nn.Module, training: dict[str, Any]) -> None:
    """Write `network`, collapsed where it can be, with the facts of its training."""
    network = network.collapse() if isinstance(network, CompactSR) else network
    metadata = {
        "architecture": architecture_of(network),
        "settings": json.dumps(network.settings()),
        "training": json.dumps(training),
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    with atomic_write(path) as f:
        f.write(save(tensors, metadata))


def load_network(path: Path) -> nn.Module:
    """The network in a file that `save_network` wrote, in evaluation mode on the CPU.

    Raises:
        NerfkitError: the file is absent, not safetensors, or not a network of ours.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as f:
            metadata = f.metadata() or {}
            tensors = {name: f.get_tensor(name).float() for name in f.keys()}
    except (OSError, RuntimeError, safetensors.SafetensorError) as error:
        raise NerfkitError(f"{path}: not a network file we can read: {error}") from error
    kind = ARCHITECTURES.get(metadata.get("architecture", ""))
    if kind is None:
        raise NerfkitError(
            f"{path}: holds no super-resolution network (its metadata names no architecture of "
            f"{', '.join(ARCHITECTURES)}); train one by `nerfkit sr train`"
        )
    try:
        settings = json.loads(metadata["settings"])
        _check_sizes(settings, tensors)
        network = kind(**settings)
        network.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
        said = " ".join(str(error).split())
        raise NerfkitError(f"{path}: its weights do not fit its settings: {said}") from error
    return network.eval()


def _check_sizes(settings: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Raise ValueError before a network is built that is larger than the file's weights."""
    width, n = settings["width"], settings.get("layers", settings.get("blocks"))
    stored = sum(tensor.numel() for tensor in tensors.values())
    sizes = (width, n, settings["channels"], settings.get("hidden", 0))
    if not all(isinstance(size, int) and size >= 0 for size in sizes) or width * n < 1:
        raise ValueError(f"sizes {sizes}")
    if 9 * width**2 * n > stored or settings["channels"] > 3 or settings.get("hidden", 0):
        raise ValueError(f"{stored} weights are too few for sizes {sizes}")
    if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values()):
        raise ValueError("NaN or infinity among its weights")


def shipped_network(factor: float) -> nn.Module:
    """The network that comes with nerfkit for the least scale of `factor` or more.

    Raises:
        NerfkitError: there is none.
    """
    have = {int(path.stem[-1]): path for path in WEIGHTS.glob("compact-x?.safetensors")}
    enough = [scale for scale in have if scale >= factor]
    if not enough:
        scales = ", ".join(map(str, sorted(have))) or "none"
        raise NerfkitError(f"no network for {factor:g} times comes with nerfkit; it has {scales}")
    return load_network(have[min(enough)])


def start_from(network: nn.Module, path: Path) -> list[str]:
    """Copy into `network` what a trained one, of any scale, has in common with it.

    Returns:
        Names of the parameters that keep their initial values, such as a tail of another scale.

    Raises:
        NerfkitError: the file cannot be read, or nothing in it fits.
    """
    trained = load_network(path)
    source = dict(trained.named_parameters())
    if isinstance(network, CompactSR) and isinstance(trained, CompactSR) and network.hidden:
        return _start_collapsed(network, source)
    kept = []
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name in source and source[name].shape == parameter.shape:
                parameter.copy_(source[name])
            else:
                kept.append(name)
    if len(kept) == len(list(network.parameters())):
        raise NerfkitError(f"{path}: no parameter has the shape of the network to be trained")
    return kept


def _start_collapsed(network: CompactSR, source: dict[str, nn.Parameter]) -> list[str]:
    """The direct path of each over-parametrised convolution takes what the others leave."""
    kept = []
    with torch.no_grad():
        for name, module in network.named_modules():
            if hasattr(module, "kernel"):
                wanted, bias = source.get(f"{name}.weight"), source.get(f"{name}.bias")
                if wanted is None or wanted.shape != module.direct.weight.shape:
                    kept.append(name)
                    continue
                module.direct.weight.add_(wanted - module.kernel())
                module.direct.bias.copy_(bias)
            elif isinstance(module, nn.PReLU) and f"{name}.weight" in source:
                module.weight.copy_(source[f"{name}.weight"])
    return kept
