"""`nerfkit render` of the analytic sphere: OUT SECONDS_A_FRAME [--die RANK FRAMES] [--resume].

Every rank writes the numbers of its frames to OUT.rankN.
"""

import os
import signal
import sys
import time
from pathlib import Path

from sphere_run import SphereRun, cameras_around

from nerfkit import cli
from nerfkit.cli import render
from nerfkit.paths import CameraPath
from nerfkit.ranks import joined
from nerfkit.render import render_path

N = 12


class SlowSphere(SphereRun):
    """Each frame takes a while; of one rank, the process dies at a certain one."""

    def __init__(self, folder: Path, seconds: float, dies_at: int | None) -> None:
        super().__init__(folder)
        self.seconds, self.dies_at = seconds, dies_at

    def render(self, camera, outputs):
        if self.frames == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.seconds)
        return super().render(camera, outputs)


def main() -> None:
    output, seconds = Path(sys.argv[1]), float(sys.argv[2])
    dies_at = None
    if "--die" in sys.argv:
        at = sys.argv.index("--die")
        if os.environ["RANK"] == sys.argv[at + 1]:
            dies_at = int(sys.argv[at + 2])
    with joined() as team:
        run = SlowSphere(output.parent, seconds, dies_at)
        path = CameraPath(cameras_around(N), fps=6.0, kind="orbit")
        log = output.with_name(f"{output.name}.rank{team.rank}")
        try:
            written = render_path(run, path, output, team=team, resume="--resume" in sys.argv)
            for each in written:
                print(each)
        finally:
            log.write_text(str(run.frames))


# what `main` makes of errors and Ctrl-C is that of the command line
render.render = lambda: main()
sys.exit(cli.main(["render"]))
