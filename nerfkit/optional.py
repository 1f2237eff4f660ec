"""Packages that only some commands need."""

import importlib
from types import ModuleType

from nerfkit.errors import NerfkitError


def require(module: str, extra: str) -> ModuleType:
    """Import `module`; NerfkitError naming the extra of nerfkit that brings it, if it is absent."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:  # it is there, and lacks something itself
            raise
        raise NerfkitError(
            f"{module} is not installed; pip install 'nerfkit[{extra}]' brings it"
        ) from error
