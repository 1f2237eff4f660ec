"""Verdicts: what noise explains is no regression, what it does not is one."""

import json
from dataclasses import replace

import pytest

from nerfkit import cli
from nerfkit.bench import compare
from nerfkit.bench.compare import Result
from nerfkit.bench.figure import Figure

HERE = {"processor": "x", "machine": "x86_64", "cores": 2, "cuda": []}


def figure(value: float, spread: float = 0.02, **changes) -> Figure:
    low, high = value * (1 - spread), value * (1 + spread)
    what = {"suite": "ops", "name": "a", "size": "1", "backend": "cpu", "direction": "forward"}
    values = {"threads": 2, "unit": "s", "value": value, "low": low, "high": high, "repeats": 9}
    pace = {"of": "sgemm", "median": 1.0, "low": 0.99, "high": 1.01}
    return Figure(**{**what, **values, "pace": pace, **changes})


def result(*figures: Figure, machine: float = 1.0, hardware: dict = HERE) -> Result:
    """Of a machine so many times as fast."""
    ends = ("median", "low", "high")
    paced = [
        replace(f, pace={**f.pace, **{e: f.pace[e] / machine for e in ends}}) if f.pace else f
        for f in figures
    ]
    return Result.of(hardware, paced)


def verdict(before: Result, after: Result) -> str:
    (found,) = compare.compare(before, after)
    return found.verdict


@pytest.mark.parametrize(
    ("value", "wanted"), [(1.0, "same"), (1.08, "same"), (1.3, "worse"), (0.7, "better")]
)
def test_beyond_the_quartiles_and_the_margin(value, wanted):
    assert verdict(result(figure(1.0)), result(figure(value))) == wanted


def test_within_the_noise_nothing_is_proven():
    assert verdict(result(figure(1.0, 0.3)), result(figure(1.3, 0.3))) == "unclear"


def test_a_busy_machine_slows_the_pieces_of_the_ceiling_too():
    quiet = result(figure(1.0))
    assert verdict(quiet, result(figure(1.2), machine=1 / 1.2)) == "same"
    # the pieces alone were slow: the figure has not become better
    assert verdict(quiet, result(figure(1.0), machine=1 / 1.2)) == "same"
    assert verdict(quiet, result(figure(1.6), machine=1 / 1.2)) == "worse"
    # too busy for a verdict, the other way round as well
    assert verdict(quiet, result(figure(5.0), machine=1 / 1.5)) == "unclear"
    assert verdict(result(figure(5.0), machine=1 / 1.5), quiet) == "unclear"


def test_other_hardware_is_compared_by_its_pace_alone():
    other = {**HERE, "processor": "y"}
    fast = result(figure(0.5), machine=2.0, hardware=other)
    assert verdict(result(figure(1.0)), fast) == "same"
    assert verdict(result(figure(1.0)), result(figure(0.75), machine=2, hardware=other)) == "worse"
    unbound = result(figure(0.5, pace=None), hardware=other)
    assert verdict(result(figure(1.0, pace=None)), unbound) == "unclear"


def test_quality_is_better_when_it_is_more():
    def fit(value):
        return result(figure(value, 0.001, unit="dB", pace=None))

    assert verdict(fit(30.0), fit(29.0)) == "worse"
    assert verdict(fit(30.0), fit(31.0)) == "better"
    assert verdict(fit(30.0), fit(29.8)) == "same"


def test_what_is_wrong_new_or_gone():
    wrong = replace(figure(1.0), wrong=True, value=None, low=None, high=None)
    assert verdict(result(figure(1.0)), result(wrong)) == "wrong"
    assert verdict(result(wrong), result(figure(1.0))) == "added"
    assert verdict(result(), result(figure(1.0))) == "added"
    assert verdict(result(figure(1.0)), result()) == "gone"


def test_the_exit_code_says_whether_something_is_worse(ran, tmp_path, capsys):
    verdicts = tmp_path / "verdicts.json"
    same = ["bench", "--compare", str(ran.path), str(ran.path)]
    assert cli.main([*same, "--json", str(verdicts)]) == 0
    written = json.loads(verdicts.read_text())
    assert set(written["counts"]) == {"same"} and written["regressed"] is False
    paceless = json.loads(ran.path.read_text())
    timed = paceless["suites"]["ops"]["figures"]
    for found in timed:
        found["pace"] = None  # how busy this machine was is not what is tested
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    before.write_text(json.dumps(paceless))
    for found in timed:
        found.update({key: 1000 * found[key] for key in ("value", "low", "high")})
    after.write_text(json.dumps(paceless))
    capsys.readouterr()
    assert cli.main(["bench", "--compare", str(before), str(after)]) == 1
    assert f"{len(timed)} worse" in capsys.readouterr().out


def test_a_file_that_is_no_result_is_named(tmp_path, capsys):
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"rows": []}))
    assert cli.main(["bench", "--compare", str(path), str(path)]) == 2
    assert "old.json: not a result of this version" in capsys.readouterr().err
