"""VGG-19 features for perceptual losses, where the user has the weights; nothing is downloaded.

Weights are torchvision's `vgg19-dcbb9e9d.pth`, looked for in torch's hub folder. Features are
taken before the rectifier, at the last convolution of each of the five stages, weighted .1 .1 1 1
1 (ESRGAN, arXiv 1809.00219; weights of arXiv 2107.10833).
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nerfkit.errors import NerfkitError

FILE = "vgg19-dcbb9e9d.pth"
STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))  # channels, convolutions
WEIGHTS = (0.1, 0.1, 1.0, 1.0, 1.0)
_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)


class VggFeatures(nn.Module):
    """Images [N, 3, H, W] in 0..1 -> features of the five stages, of untrained weights.

    `from_file` gives the trained ones.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList()
        channels = 3
        for width, depth in STAGES:
            for _ in range(depth):
                self.convolutions.append(nn.Conv2d(channels, width, 3, padding=1))
                channels = width
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION)[:, None, None], persistent=False)
        self.requires_grad_(False).eval()

    @classmethod
    def from_file(cls, path: Path | None = None) -> "VggFeatures":
        """Read torchvision's file.

        Raises:
            NerfkitError: it is not there or is another network's.
        """
        path = path or Path(torch.hub.get_dir()) / "checkpoints" / FILE
        if not path.exists():
            raise NerfkitError(
                f"{path}: no VGG weights there (nerfkit does not download them); put torchvision's "
                f"{FILE} there, or use the discriminator's features, which need no weights"
            )
        network = cls()
        try:
            stored = torch.load(path, map_location="cpu", weights_only=True)
            names = sorted(
                {int(k.split(".")[1]) for k in stored if k.startswith("features.")},
            )
            for layer, name in zip(network.convolutions, names, strict=True):
                layer.load_state_dict(
                    {k: stored[f"features.{name}.{k}"] for k in ("weight", "bias")}
                )
        except Exception as error:
            raise NerfkitError(f"{path}: not torchvision's VGG-19 weights: {error}") from error
        return network

    def forward(self, image: Tensor) -> list[Tensor]:
        x = (image - self.mean) / self.deviation
        features, layers = [], iter(self.convolutions)
        for stage, (_, depth) in enumerate(STAGES):
            if stage:
                x = F.max_pool2d(x, 2)
            for _ in range(depth):
                before = next(layers)(x)
                x = F.relu(before)
            features.append(before)
        return features

    def distance(self, image: Tensor, truth: Tensor) -> Tensor:
        """Weighted mean absolute difference of the features; no gradient to `truth`."""
        with torch.no_grad():
            wanted = self(truth)
        pairs = zip(WEIGHTS, self(image), wanted, strict=True)
        return sum(w * (a - b).abs().mean() for w, a, b in pairs)
