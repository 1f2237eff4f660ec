"""Pictures for one browser window: a small one at once, larger ones while nothing changes."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from nerfkit.viewer.drawing import Pace, c2w_of, draw, pinhole

if TYPE_CHECKING:
    import viser

    from nerfkit.viewer.server import Viewer

DRAFT_SECONDS = 0.05  # that a picture may take while the camera moves
CLOSE_SECONDS = 5.0  # that a picture half-way is waited for
SMALLEST = 48  # pixels, height of a picture
JPEG = {"draft": 60, "final": 92}


class Client:
    """One browser window and the thread that draws for it.

    Attributes:
        pictures: sent so far.
        first_picture: seconds from connecting to when the first one was sent.
    """

    def __init__(self, viewer: Viewer, handle: viser.ClientHandle) -> None:
        self._viewer, self._handle = viewer, handle
        self._changed = threading.Event()
        self._closed = False
        self.pictures, self.first_picture = 0, 0.0
        self._connected = time.perf_counter()
        self._thread = threading.Thread(target=self._run, daemon=True)
        handle.camera.on_update(lambda _: self.redraw())
        self.redraw()
        self._thread.start()

    def redraw(self) -> None:
        """Something that is seen has changed."""
        self._changed.set()

    def close(self) -> None:
        """The window is gone, or will be: nothing is sent after this."""
        self._closed = True
        self._changed.set()
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        pace = Pace()
        while True:
            self._changed.wait()
            self._changed.clear()
            if self._closed:
                return
            camera = self._handle.camera
            full = max(SMALLEST, min(camera.image_height or 600, self._viewer.panel.most_rows))
            rows = (pace.pixels * DRAFT_SECONDS / max(camera.aspect, 0.1)) ** 0.5
            rows = int(min(full, max(SMALLEST, rows)))
            # a draft is always finished: while the camera moves there is nothing else to see
            while self._show(rows, full, pace) and rows < full and not self._closed:
                rows = min(full, 2 * rows)

    def _show(self, rows: int, full: int, pace: Pace) -> bool:
        """Draw and send a picture of this height; False if something changed meanwhile."""
        camera, panel = self._handle.camera, self._viewer.panel
        columns = max(1, round(rows * camera.aspect))
        pose = c2w_of(camera.wxyz, camera.position)
        draft = rows < full
        small = rows * columns <= 2 * pace.pixels * DRAFT_SECONDS  # quicker to finish than to drop
        began = time.perf_counter()
        first = self.pictures == 0
        with self._viewer.rendering:
            drawn = draw(
                self._viewer.field,
                pinhole(pose, camera.fov, columns, rows),
                self._viewer.run.background,
                panel.mode,
                pace,
                with_depth=panel.has_lines,
                given_up=lambda: self._closed or (not (small or first) and self._changed.is_set()),
            )
        if drawn is None or self._closed:
            return False
        self._handle.scene.set_background_image(
            drawn.pixels,
            format="jpeg",
            jpeg_quality=JPEG["draft" if draft else "final"],
            depth=drawn.depth,
        )
        self._handle.flush()
        if first:
            self.first_picture = time.perf_counter() - self._connected
        self.pictures += 1
        if not draft:
            panel.tell_size(columns, rows, time.perf_counter() - began)
        return not self._changed.is_set()
