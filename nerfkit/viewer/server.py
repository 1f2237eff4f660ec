"""The viewer: a run, kept up to date, and the windows that look at it."""

from __future__ import annotations

import contextlib
import io
import math
import socket
import threading
import warnings
from pathlib import Path

import viser

from nerfkit.errors import NerfkitError
from nerfkit.fields.field import Field
from nerfkit.run import Run
from nerfkit.training.checkpoint import CHECKPOINT
from nerfkit.trajectories import focus_point
from nerfkit.viewer import overlays
from nerfkit.viewer.clients import Client
from nerfkit.viewer.drawing import Pace, draw, pinhole
from nerfkit.viewer.panel import Panel

LOOK_SECONDS = 2.0  # between looks whether the checkpoint is a new one


class Viewer:
    """Serves a run to browsers until `stop`.

    Attributes:
        run, field: what is shown; the field may be a cropped one.
        rendering: held while a picture is drawn.
        port: where it is served; another than asked for if that was taken.
        clients: windows by number.
    """

    def __init__(self, path: Path, host: str, port: int) -> None:
        self.path = path
        self._stamp = self._time()
        self.run = Run.load(path)
        self.field: Field = self.run.field
        self.rendering = threading.Lock()
        self.clients: dict[int, Client] = {}
        cameras = self.run.train_cameras
        self.extent = float((self.run.scene_box[1] - self.run.scene_box[0]).norm())
        pose, height = cameras.c2w[0].numpy(), int(cameras.height[0])
        fov = 2 * math.atan(0.5 * height / float(cameras.fy[0]))
        # caches and threads are ready before anyone looks
        draw(self.field, pinhole(pose, fov, 64, 48), self.run.background, "colour", Pace())
        self.server = _serve(host, port)
        self.port = self.server.get_port()
        self.server.scene.set_up_direction("+z")
        start = self.server.initial_camera
        start.position, start.look_at = pose[:, 3], focus_point(cameras.c2w.numpy())
        start.fov = fov
        self.panel = Panel(self)
        self._stopped = threading.Event()
        self.server.on_client_connect(self._connect)
        self.server.on_client_disconnect(self._disconnect)
        self._watch = threading.Thread(target=self._follow, daemon=True)
        self._watch.start()

    def redraw(self) -> None:
        """All windows show something else now."""
        for client in list(self.clients.values()):
            client.redraw()

    def refresh_field(self) -> None:
        """Take the run's field, cropped as the panel says."""
        box, field = self.panel.crop, self.run.field
        shown = field if box is None else overlays.cropped(field, box) or field
        with self.rendering:
            self.field = shown
        self.redraw()

    def stop(self) -> None:
        """Close the windows and the server."""
        self._stopped.set()
        for client in list(self.clients.values()):
            client.close()
        with contextlib.redirect_stdout(io.StringIO()):
            self.server.stop()

    def _connect(self, handle: viser.ClientHandle) -> None:
        self.clients[handle.client_id] = Client(self, handle)

    def _disconnect(self, handle: viser.ClientHandle) -> None:
        client = self.clients.pop(handle.client_id, None)
        if client is not None:
            client.close()

    def _time(self) -> int | None:
        file = self.path / CHECKPOINT if self.path.is_dir() else self.path
        try:
            return file.stat().st_mtime_ns
        except OSError:
            return None

    def _follow(self) -> None:
        """Read the run again whenever a fit has written a checkpoint."""
        while not self._stopped.wait(LOOK_SECONDS):
            stamp = self._time()
            if stamp is None or stamp == self._stamp:
                continue
            try:
                run = Run.load(self.path)
            except NerfkitError:  # a fit that begins anew: its first checkpoint will come
                continue
            self._stamp, self.run = stamp, run
            self.refresh_field()
            self.panel.follow_run()


def _serve(host: str, port: int) -> viser.ViserServer:
    """viser at host and the first free port from `port`; NerfkitError for a host that is not."""
    try:
        family = socket.getaddrinfo(host, port)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
    except OSError as error:
        raise NerfkitError(f"--host {host}: not an address of this machine ({error})") from error
    # what is under way when a window closes
    warnings.filterwarnings("ignore", "Queued a .* on a closed connection", UserWarning)
    with contextlib.redirect_stdout(io.StringIO()):  # its banner: the address is told once
        return viser.ViserServer(host=host, port=port, label="nerfkit", verbose=False)
