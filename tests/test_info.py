"""What `nerfkit info` gathers."""

import json

import pytest

from nerfkit import info
from nerfkit.kernels import _backend


@pytest.fixture
def one_op_without_kernels(monkeypatch) -> None:
    monkeypatch.setattr(_backend, "ops", lambda: ["no_such_op"])


def test_facts_are_json_and_complete():
    facts = info.gather()
    json.dumps(facts, allow_nan=False)
    assert facts["versions"]["python"] and facts["versions"]["torch"]
    assert facts["hardware"]["threads"] >= 1
    assert set(facts["backends"]["cpu"]) == set(_backend.ops())
    assert facts["device"] == ("cuda:0" if facts["hardware"]["cuda"] else "cpu")


def test_a_backend_that_cannot_run_is_shown_not_raised(one_op_without_kernels, monkeypatch):
    assert info.backends("cpu") == {"no_such_op": "reference"}
    monkeypatch.setenv("NERFKIT_BACKEND", "abacus")
    assert "abacus" in info.backends("cpu")["no_such_op"]
    assert info.gather()["environment"]["NERFKIT_BACKEND"] == "abacus"


def test_a_device_that_is_not_there_is_shown_not_raised(one_op_without_kernels, monkeypatch):
    monkeypatch.setenv("NERFKIT_DEVICE", "cuda:99")
    assert "cuda:99" in info.gather()["device"]


def test_the_table_names_each_op(one_op_without_kernels, capsys):
    info.print_table(info.gather())
    shown = capsys.readouterr().out
    assert (
        "no_such_op on cpu" in shown
        and "slow" in shown
        and "ffmpeg" in shown
        and "fits and renders on" in shown
    )


def test_a_reference_that_was_asked_for_is_not_called_a_missing_kernel(monkeypatch, capsys):
    monkeypatch.setenv("NERFKIT_BACKEND", "reference")
    info.print_table(info.gather())
    shown = capsys.readouterr().out
    assert "composite on cpu" in shown and "reference (slow: NERFKIT_BACKEND asks for it)" in shown
    assert "no kernel for this device" not in shown


def test_missing_packages_are_none():
    assert info.version_of("no-such-package-here") is None
