"""Triton's interpreter without its two largest costs.

It patches `triton.language` at every call of one jitted function by another, which takes
milliseconds, though the launch has done so already; modules that see only `triton.language.core`
need a patch of their own, once. And for every sum of integers it works out in 64 bits whether that
of 32 overflows, for an assertion that it then does not make.

That of Triton 3.6 also makes the bounds of a range from arrays [1], which numpy no longer does.
"""

from dataclasses import replace

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


_patch_tensor = interpreter._patch_lang_tensor


def _patch_lang_tensor(tensor, *scope):
    _patch_tensor(tensor, *scope)
    tensor.__index__ = lambda self: int(self.handle.data.item())


def make_quick() -> None:
    """For this process, if it interprets."""
    interpreter.InterpretedFunction.__call__ = _call
    interpreter._patch_lang_tensor = _patch_lang_tensor
    options = interpreter.interpreter_builder.options
    interpreter.interpreter_builder.options = replace(options, sanitize_overflow=False)
