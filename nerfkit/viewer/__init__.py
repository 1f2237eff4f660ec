"""A run in the browser (viser): pictures that sharpen while nothing moves, and a path editor."""

from __future__ import annotations

import time
from pathlib import Path

from nerfkit.errors import NerfkitError
from nerfkit.optional import require


def view(run: Path, host: str, port: int) -> None:
    """Show a run at http://host:port until interrupted.

    Raises:
        NerfkitError: no run there, viser is missing, or the address cannot be used.
    """
    require("viser", "view")
    from nerfkit.viewer.server import Viewer

    if not 0 < port < 65536:
        raise NerfkitError(f"--port: want 1 to 65535, got {port}")
    viewer = Viewer(run, host, port)
    try:
        print(f"{run}: http://{host}:{viewer.port} (Ctrl-C ends)", flush=True)
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print()
    finally:
        viewer.stop()
