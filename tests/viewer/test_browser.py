"""The viewer in headless Chromium: first picture, controls, path editor, a run that goes on."""

import os
import shutil
import time

import imageio.v3 as imageio
import pytest
from sphere_run import SphereRun, write_blender

from nerfkit.paths import read_camera_path
from nerfkit.training import FitConfig, fit

pytest.importorskip("viser", reason="viser is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
FIRST_PICTURE = 4.0  # seconds from connecting; measured 1.2 with a fiftieth of the processor


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    data = tmp_path_factory.mktemp("sphere")
    write_blender(data, SphereRun(data, data), count=12, width=48, height=36)
    return fit(FitConfig(data=data, output=data / "run", steps=40, finest=32, samples=10_000))


@pytest.fixture
def viewer(folder):
    from nerfkit.viewer.server import Viewer

    viewer = Viewer(folder, "127.0.0.1", 7107)
    viewer.panel.rows.value = 120
    yield viewer
    viewer.stop()


@pytest.fixture
def page(viewer):
    """A window that has connected; what its console complains of is in `page.complaints`."""
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--enable-unsafe-swiftshader", "--use-angle=swiftshader"],
        )
        page = browser.new_page(viewport={"width": 640, "height": 400})
        page.set_default_timeout(200_000)
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on(
            "console",
            lambda message: message.type == "error" and page.complaints.append(message.text),
        )
        page.goto(f"http://127.0.0.1:{viewer.port}", wait_until="commit")
        until(lambda: viewer.clients)
        yield page
        browser.close()


def until(condition, seconds=200.0):
    """Wait for something; returns how long it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "waited in vain"
        time.sleep(0.01)
    return time.monotonic() - began


@needs_browser
def test_the_whole_viewer(viewer, page, folder, tmp_path):
    client = next(iter(viewer.clients.values()))
    until(lambda: client.pictures)
    assert client.first_picture < FIRST_PICTURE
    until(lambda: " in " in viewer.panel.state)  # the full picture has come
    page.wait_for_timeout(500)
    shot = imageio.imread(page.screenshot(path=tmp_path / "shot.png"))
    assert shot[:, : shot.shape[1] // 2].std() > 5  # a ball on white, not an empty page

    for mode in ("depth", "opacity", "normal", "colour"):
        seen = client.pictures
        viewer.panel.show(mode)
        until(lambda seen=seen: client.pictures > seen)

    page.get_by_role("button", name="Add this view").click()
    until(lambda: viewer.panel.path.count == 1)
    seen = client.pictures
    page.mouse.move(200, 200)
    page.mouse.down()
    page.mouse.move(260, 220, steps=4)
    page.mouse.up()
    until(lambda: client.pictures > seen)
    page.get_by_role("button", name="Add this view").click()
    until(lambda: viewer.panel.path.count == 2)
    page.get_by_role("button", name="Save", exact=True).click()
    until(lambda: (folder / "camera_path.json").exists())
    assert len(read_camera_path(folder / "camera_path.json").cameras) == 120

    run, seen = viewer.run, client.pictures
    os.utime(folder / "checkpoint.safetensors")  # as if a fit had gone on
    until(lambda: viewer.run is not run and client.pictures > seen)
    assert page.complaints == []
