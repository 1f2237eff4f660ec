"""The controls beside the picture: what is shown, the crop box, and the path editor."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nerfkit.errors import NerfkitError
from nerfkit.export.surface import world_octree
from nerfkit.viewer import overlays
from nerfkit.viewer.drawing import MODES, c2w_of, wxyz_of
from nerfkit.viewer.keyframes import Keyframe, Keyframes

if TYPE_CHECKING:
    import viser

    from nerfkit.viewer.server import Viewer

CAMERA_PATH = "camera_path.json"
MOST_ROWS = 1080
NOTHING = "(none)"
PATH_COLOUR = (200, 40, 60)


class Panel:
    """Controls shared by all windows.

    Attributes:
        path: the path editor.
        rows: the slider of `most_rows`.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer, self._server = viewer, viewer.server
        gui, run = viewer.server.gui, viewer.run
        self._state = gui.add_markdown("")
        with gui.add_folder("Picture"):
            self._mode = gui.add_dropdown("Shows", tuple(MODES), initial_value="colour")
            self.rows = gui.add_slider("Rows at most", 120, 2160, 60, MOST_ROWS)
            self._cameras_shown = gui.add_checkbox("Training cameras", False)
            self._voxels_shown = gui.add_checkbox("Voxels", False)
            self._voxel_depth = gui.add_slider("Voxel depth", 1, 8, 1, 5)
        self._cameras = overlays.add_cameras(viewer.server, run.train_cameras, viewer.extent)
        for handle in (self._mode, self.rows):
            handle.on_update(lambda _: viewer.redraw())
        for handle in (self._cameras_shown, self._voxels_shown, self._voxel_depth):
            handle.on_update(lambda _: self._show_lines())
        self._add_crop()
        self.path = PathEditor(self, viewer)
        if world_octree(run.field) is None:
            self._voxels_shown.disabled = self._crop_on.disabled = True
        self.tell_run()

    @property
    def mode(self) -> str:
        """A key of MODES."""
        return self._mode.value

    @property
    def most_rows(self) -> int:
        """Height that pictures do not exceed, pixels."""
        return int(self.rows.value)

    @property
    def has_lines(self) -> bool:
        """Whether anything lies in the scene that surfaces can hide."""
        shown = self._cameras_shown, self._voxels_shown, self._crop_on
        return any(handle.value for handle in shown) or self.path.is_drawn

    @property
    def crop(self) -> np.ndarray | None:
        """The crop box [2, 3], if it is on."""
        return self._box() if self._crop_on.value else None

    @property
    def state(self) -> str:
        """What is said about the run and the last full picture."""
        return self._state.content

    def show(self, mode: str) -> None:
        """Choose one of MODES."""
        self._mode.value = mode

    def tell_run(self) -> None:
        """Say how far the run is."""
        run = self._viewer.run
        self._state.content = f"**{run.folder.name}**, step {run.iteration:,}"

    def tell_size(self, columns: int, rows: int, seconds: float) -> None:
        """Say how large the last full picture is."""
        self._state.content = (
            f"**{self._viewer.run.folder.name}**, step {self._viewer.run.iteration:,}  \n"
            f"{columns}x{rows} in {seconds:.2f} s"
        )

    def follow_run(self) -> None:
        """The run was read again: what hangs on its field is made anew."""
        self.tell_run()
        self._show_lines()

    def _add_crop(self) -> None:
        low, high = (corner.numpy().astype(float) for corner in self._viewer.run.scene_box)
        with self._server.gui.add_folder("Crop", expand_by_default=False):
            self._crop_on = self._server.gui.add_checkbox("Crop to the box", False)
            self._ranges = []
            for axis, name in enumerate("xyz"):
                first, last = float(low[axis]), float(high[axis])
                room = 0.5 * (last - first)
                self._ranges.append(
                    self._server.gui.add_multi_slider(
                        name, first - room, last + room, (last - first) / 200, (first, last)
                    )
                )
        for handle in (self._crop_on, *self._ranges):
            handle.on_update(lambda _: self._crop_changed())

    def _box(self) -> np.ndarray:
        return np.array([handle.value for handle in self._ranges], np.float64).T

    def _crop_changed(self) -> None:
        if self._crop_on.value:
            overlays.add_box(self._server, self._box())
        else:
            self._server.scene.remove_by_name("/crop")
        self._viewer.refresh_field()

    def _show_lines(self) -> None:
        self._cameras.visible = self._cameras_shown.value
        if self._voxels_shown.value:
            overlays.add_voxels(self._server, self._viewer.field, int(self._voxel_depth.value))
        else:
            self._server.scene.remove_by_name("/voxels")
        self._viewer.redraw()


class PathEditor:
    """Keyframes: add the present view, look, delete, play, save."""

    def __init__(self, panel: Panel, viewer: Viewer) -> None:
        self._panel, self._viewer, self._server = panel, viewer, viewer.server
        self._keys = Keyframes()
        self._playing = False
        folder = viewer.run.folder
        self._folder = folder if folder.is_dir() else folder.parent
        gui = viewer.server.gui
        cameras = viewer.run.train_cameras
        with gui.add_folder("Camera path"):
            self._add = gui.add_button("Add this view")
            self._chosen = gui.add_dropdown("Keyframe", (NOTHING,))
            self._go = gui.add_button("Go there")
            self._replace = gui.add_button("Replace by this view")
            self._delete = gui.add_button("Delete it")
            self._clear = gui.add_button("Delete all")
            self._seconds = gui.add_number("Seconds", 5.0, min=0.1, max=600.0, step=0.5)
            self._fps = gui.add_number("Frames a second", 24, min=1, max=120, step=1)
            self._loop = gui.add_checkbox("Back to the start", True)
            self._play = gui.add_button("Play")
            self._width = gui.add_number("Width", int(cameras.width[0]), min=16, max=8192, step=2)
            self._height = gui.add_number(
                "Height", int(cameras.height[0]), min=16, max=8192, step=2
            )
            self._name = gui.add_text("File", CAMERA_PATH)
            self._save = gui.add_button("Save")
            self._load = gui.add_button("Load")
        self._add.on_click(lambda event: self._put(event, len(self._keys.keys)))
        self._replace.on_click(lambda event: self._put(event, self._index(), replace=True))
        self._delete.on_click(lambda _: self._drop())
        self._clear.on_click(lambda _: self._set([]))
        self._go.on_click(self._go_there)
        self._play.on_click(self._play_path)
        self._save.on_click(self._save_path)
        self._load.on_click(self._load_path)
        self._loop.on_update(lambda _: self._set(self._keys.keys))

    @property
    def count(self) -> int:
        """Number of keyframes."""
        return len(self._keys.keys)

    @property
    def is_drawn(self) -> bool:
        """Whether the path lies in the scene."""
        return self.count > 1

    def _index(self) -> int | None:
        value = self._chosen.value
        return None if value == NOTHING else int(value) - 1

    def _set(self, keys: list[Keyframe]) -> None:
        self._keys = Keyframes(list(keys))
        names = tuple(str(i + 1) for i in range(len(keys))) or (NOTHING,)
        self._chosen.options = names
        self._chosen.value = names[-1]
        if self.is_drawn:
            poses, _ = self._keys.path(20 * len(keys), self._loop.value)
            points = poses[:, :, 3].astype(np.float32)
            if self._loop.value:
                points = np.concatenate([points, points[:1]])
            self._server.scene.add_line_segments(
                "/path",
                np.stack([points[:-1], points[1:]], 1),
                PATH_COLOUR,
                thickness=2.0,
                thickness_units="screen",
            )
        else:
            self._server.scene.remove_by_name("/path")
        self._viewer.redraw()

    def _put(self, event: viser.GuiEvent, index: int | None, replace: bool = False) -> None:
        if event.client is None or index is None:
            return
        camera = event.client.camera
        key = Keyframe(c2w_of(camera.wxyz, camera.position), camera.fov, camera.aspect)
        keys = list(self._keys.keys)
        keys[index : index + replace] = [key]
        self._set(keys)

    def _drop(self) -> None:
        index = self._index()
        if index is not None:
            self._set(self._keys.keys[:index] + self._keys.keys[index + 1 :])

    def _go_there(self, event: viser.GuiEvent) -> None:
        index = self._index()
        if index is not None and event.client is not None:
            key = self._keys.keys[index]
            _move(event.client, key.c2w, key.fov)

    def _play_path(self, event: viser.GuiEvent) -> None:
        """Move the window that asked along the path, as fast as the file would."""
        client = event.client
        if client is None or self._playing or not self.is_drawn:
            return
        seconds = float(self._seconds.value)
        self._playing = True
        try:
            poses, fov = self._keys.path(max(2, round(25 * seconds)), self._loop.value)
            began = time.monotonic()
            while (gone := time.monotonic() - began) < seconds:
                index = int(gone / seconds * len(poses))
                _move(client, poses[index], float(fov[index]))
                time.sleep(0.04)
        finally:
            self._playing = False

    def _file(self) -> Path:
        name = self._name.value.strip() or CAMERA_PATH
        if Path(name).name != name:  # whoever reaches the page writes into this folder alone
            raise NerfkitError(f"want the name of a file in {self._folder}, got {name!r}")
        return self._folder / (name if name.endswith(".json") else f"{name}.json")

    def _save_path(self, event: viser.GuiEvent) -> None:
        def save() -> str:
            path, size = self._file(), (int(self._width.value), int(self._height.value))
            seconds, fps = float(self._seconds.value), float(self._fps.value)
            self._keys.save(path, seconds, fps, self._loop.value, size, self._panel.crop)
            return f"nerfkit render {self._folder} --path {path} -o OUT.mp4"

        _tell(event, "Saved", save)

    def _load_path(self, event: viser.GuiEvent) -> None:
        def load() -> str:
            self._set(Keyframes.load(self._file()).keys)
            return f"{len(self._keys.keys)} keyframes"

        _tell(event, "Loaded", load)


def _move(client: viser.ClientHandle, c2w: np.ndarray, fov: float) -> None:
    with client.atomic():
        client.camera.wxyz = wxyz_of(c2w)
        client.camera.position = c2w[:, 3]
        client.camera.fov = fov


def _tell(event: viser.GuiEvent, title: str, action) -> None:
    """Do something and show in the window what came of it."""
    try:
        body, color = action(), "green"
    except NerfkitError as error:
        title, body, color = "That did not work", str(error), "red"
    if event.client is not None:
        event.client.add_notification(title, body, color=color, auto_close_seconds=8.0)
