"""Damaged files of every kind: a NerfkitError of one line, no more; see benchmarks/fuzz.py."""

import json
import subprocess
import sys

from launching import ENVIRONMENT, ROOT, SECONDS


def test_no_damaged_file_does_harm(tmp_path):
    found = tmp_path / "found.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "fuzz.py"), "--inputs", "200"]
    process = subprocess.run(
        [*command, "--json", str(found)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-1000:]
    result = json.loads(found.read_text())
    assert len(result["loaders"]) == 18
    # most damage is damage: were none refused, nothing would have been read
    assert all(each["refused"] > 20 for each in result["loaders"].values()), result["loaders"]
