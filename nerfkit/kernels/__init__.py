"""Kernels, one folder an op: public function, torch reference, C++ and (where built) Triton.

In a source checkout the ops live in the top-level `kernels/` folder, which has no `__init__` of its
own because the import name `kernels` belongs to another project; this bridge makes them importable
as `nerfkit.kernels.<op>`. In a wheel they are installed right here.
"""

from pathlib import Path

_source_tree = Path(__file__).resolve().parents[2] / "kernels"
if _source_tree.is_dir():
    __path__.append(str(_source_tree))
