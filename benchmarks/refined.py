"""A run rendered small and refined beside the same run rendered at full size.

    python benchmarks/refined.py RUN [--sr 4] [--views 25] [--json FILE]

RUN has a refiner (`nerfkit sr train RUN`). Test views are rendered both ways in turns.
"""

import argparse
import sys
from pathlib import Path

from side_by_side import print_table, side_by_side

from nerfkit.errors import NerfkitError
from nerfkit.files import write_json
from nerfkit.postprocess.scene.refined import RefinedRun
from nerfkit.run import Run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--sr", type=int, default=4, help="so many times smaller")
    parser.add_argument("--views", type=int, default=25, help="test views, evenly spaced")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    run = Run.load(options.run)
    runs = {"run": run, "refined": RefinedRun(run, options.sr)}
    result = {"scale": options.sr, **side_by_side(runs, options.views)}
    print_table(result)
    if options.json:
        write_json(options.json, result)


if __name__ == "__main__":
    try:
        main()
    except NerfkitError as error:
        sys.exit(str(error))
