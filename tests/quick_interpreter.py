"""Triton's interpreter without its largest cost: patching `triton.language` at every nested call.

A kernel's launch patches it already; a call of one jitted function by another does so again, for
milliseconds each. Modules that see only `triton.language.core` still need their own, once.
"""

import triton.language as tl
from triton.runtime import interpreter

_patched: set[int] = set()


def _call(self, *args, **kwargs):
    names = self.fn.__globals__
    if id(names) not in _patched:
        _patched.add(id(names))
        if not any(value is tl for value in names.values()):
            interpreter._patch_lang(self.fn)
    return self.rewrite()(*args, **kwargs)


def make_quick() -> None:
    """For this process, if it interprets."""
    interpreter.InterpretedFunction.__call__ = _call
