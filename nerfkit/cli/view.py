"""`nerfkit view`: a run in the browser."""

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


def view(
    run: Annotated[Positional[Path], arg(metavar="RUN")],
    host: Annotated[str, arg(metavar="ADDRESS")] = "127.0.0.1",
    port: Annotated[int, arg(metavar="N")] = 7007,
) -> None:
    """Show a run in the browser, also while it is being fitted.

    Args:
        run: folder written by `nerfkit fit`, or a baked file.
        host: address to serve at; 0.0.0.0 lets the whole network look, and write camera paths
            into the run.
        port: of the server; the next free one if it is taken.
    """
    from nerfkit.viewer import view as serve

    serve(run, host, port)
