"""What `nerfkit prepare` says in the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from nerfkit.prepare.pictures import Picture

if TYPE_CHECKING:
    from nerfkit.prepare.reconstruct import Model

NAMED = 20


def report(console: Console, source: Path, pictures: list[Picture], found: Model) -> None:
    """How many of the pictures were placed, how well, and which were not."""
    console.print(
        f"{len(found.names)} of {len(pictures)} pictures of {source} placed; "
        f"{len(found.points):,} points, mean error {found.error:.2f} pixels"
    )
    placed = set(found.names)
    lost = [picture.name for picture in pictures if picture.name not in placed]
    if not lost:
        return
    more = f" and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
    console.print(f"not placed: {', '.join(lost[:NAMED])}{more}")
    if found.unconnected:
        console.print(
            f"{found.unconnected} of them fit together but not with the rest; "
            "pictures from in between would join them"
        )
