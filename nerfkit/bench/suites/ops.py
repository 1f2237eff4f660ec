"""Every kernel on every backend, forward and backward, from a few rays to a saturated machine."""

from collections.abc import Iterator

from nerfkit.bench import ops
from nerfkit.bench.context import Context
from nerfkit.bench.figure import Figure


def figures(context: Context) -> Iterator[Figure]:
    seen: set[tuple[str, str]] = set()
    for n_rays in context.effort.rays:
        for case in ops.cases(n_rays, context.effort.depth, context.place):
            if (case.name, case.size) not in seen:  # some do not depend on the rays
                seen.add((case.name, case.size))
                yield from context.measure(case)
