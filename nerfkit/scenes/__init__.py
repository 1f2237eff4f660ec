"""Built-in scenes, one folder a recipe; a bridge to the top-level `scenes/` like `nerfkit.kernels`."""

from pathlib import Path

_source_tree = Path(__file__).resolve().parents[2] / "scenes"
if _source_tree.is_dir():
    __path__.append(str(_source_tree))
