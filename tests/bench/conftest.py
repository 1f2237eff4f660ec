"""One small run of every suite, for the tests of its figures, files and pictures."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest
from made_up_machine import rates

from nerfkit.bench import QUICK, ceilings, report


class Ran(NamedTuple):
    result: dict
    path: Path  # of the JSON file


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    path = tmp_path_factory.mktemp("bench") / "all.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ceilings, "measure", lambda place, budget: rates())
        report.bench("all", path, effort=QUICK)
    return Ran(json.loads(path.read_text()), path)
