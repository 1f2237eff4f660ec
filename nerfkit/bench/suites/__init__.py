"""What `nerfkit bench --suite` can measure: each suite is a function from a context to figures."""

from collections.abc import Callable, Iterator

from nerfkit.bench.context import Context
from nerfkit.bench.figure import Figure

from . import fit, memory, ops, render, scaling, sr

SUITES: dict[str, Callable[[Context], Iterator[Figure]]] = {
    "ops": ops.figures,
    "fit": fit.figures,
    "render": render.figures,
    "sr": sr.figures,
    "memory": memory.figures,
    "scaling": scaling.figures,
}
