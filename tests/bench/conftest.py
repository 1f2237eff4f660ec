"""One small run of every suite, for the tests of its figures, files and pictures."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest

from nerfkit.bench import QUICK, ceilings, report


class Ran(NamedTuple):
    result: dict
    path: Path  # of the JSON file


def rates(scale: float = 1.0) -> ceilings.Rates:
    """Ceilings of a made-up machine, known to 2 %."""
    medians = {"sgemm": 50e9, "bf16": 100e9, "memcpy": 10e9, "gather": 20e6}
    return {
        name: ceilings.Rate(scale * m, 0.99 * scale * m, 1.01 * scale * m, ceilings.UNITS[name])
        for name, m in medians.items()
    }


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    path = tmp_path_factory.mktemp("bench") / "all.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ceilings, "measure", lambda place, budget: rates())
        report.bench("all", path, effort=QUICK)
    return Ran(json.loads(path.read_text()), path)
