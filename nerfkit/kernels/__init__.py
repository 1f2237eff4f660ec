"""Kernels, one folder an op: public function, torch reference, C++ and (where built) Triton.

In a source checkout the ops live in the top-level `kernels/` folder, which has no `__init__` of its
own because the import name `kernels` belongs to another project; this bridge makes them importable
as `nerfkit.kernels.<op>`. In a wheel they are installed right here.
"""

from pathlib import Path

_checkout = Path(__file__).resolve().parents[2]
# Installed, the folder above is site-packages, where `kernels` would be another project's.
if (_checkout / "setup.py").is_file():
    __path__.append(str(_checkout / "kernels"))
