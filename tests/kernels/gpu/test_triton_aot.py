"""What the Triton kernels compile to, without a GPU, and the helper that finds out."""

import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

from nerfkit.kernels import _backend
from nerfkit.kernels.shared.aot import Configuration, Report

# a network that cuDNN runs there
NOT_TRITON = {"compact_sr"}
OPS = sorted(set(_backend.ops()) - NOT_TRITON)
SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "inspect_kernels.py"


def begin(found, *arguments):
    """Start the script, outside the interpreter; its rows will be in the file `found`."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, SCRIPT, *arguments, "--json", found]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment, **streams)


@pytest.mark.slow
def test_every_configuration_keeps_its_budget(tmp_path):
    """Registers, shared memory, spills, tensor cores and wide loads, as each op declares."""
    archs = ("80", "90")
    running = [begin(tmp_path / arch, "--arch", arch) for arch in archs]
    shown = [process.communicate()[0] for process in running]
    for process, table in zip(running, shown, strict=True):
        assert process.returncode == 0, table
    rows = [row for arch in archs for row in json.loads((tmp_path / arch).read_text())]
    assert {row["op"] for row in rows} == set(OPS)
    for row in rows:
        names = row["instructions"]
        assert row["registers"] >= 8 and any(name.startswith("LDG") for name in names), row
        if row["op"] in ("fused_render", "baked_render"):
            assert row["inner_spills"] == 0, row
            reads = not row["kernel"].endswith("scatter")  # that one adds to its tables
            wide = any(name.startswith("LDG.E") and ".128" in name for name in names)
            assert wide or not reads, row
    flagship = [row for row in rows if row["op"] == "fused_render"]
    assert len(flagship) == 36
    assert all(any("MMA" in name for name in row["instructions"]) for row in flagship)
    assert "fused_render" in shown[0]


def test_a_broken_budget_is_named():
    report = Report(100, 8, 0, {"LDG.E.128": 3, "FFMA": 5}, 2)
    wanted = Configuration("k", None, "", {}, max_registers=96, wanted=(r"HGMMA", r"LDG\.E\S*128"))
    assert report.count("LDG") == 3 and report.count("FADD") == 0
    assert report.failures(wanted) == [
        "registers 100, at most 96 allowed",
        "stack 8, at most 0 allowed",
        "inner_spills 2, at most 0 allowed",
        "no instruction HGMMA",
    ]
    assert (
        report.failures(
            wanted._replace(max_registers=100, max_stack=8, max_inner_spills=2, wanted=())
        )
        == []
    )


@pytest.mark.parametrize("op", OPS)
def test_every_op_takes_what_the_others_take(op):
    """Functions of the C++ version, arguments of the reference, and what is launched."""
    modules = {
        name: importlib.import_module(f"nerfkit.kernels.{op}.{name}")
        for name in ("reference", "cpu", "gpu")
    }
    assert modules["gpu"].AOT
    own = f"nerfkit.kernels.{op}.cpu"
    handed_on = getattr(modules["cpu"], "__all__", ())  # where the reference is the C++ version
    functions = [
        name
        for name, value in vars(modules["cpu"]).items()
        if inspect.isfunction(value)
        and (value.__module__ == own or name in handed_on)
        and not name.startswith("_")
    ]
    assert functions
    for name in functions:
        wanted, found = (
            inspect.signature(getattr(modules[where], name)).parameters
            for where in ("reference", "gpu")
        )
        if any(p.kind is p.VAR_POSITIONAL for p in found.values()):
            continue  # handed on as they are
        named = [p for p in wanted if wanted[p].kind is not inspect.Parameter.VAR_KEYWORD]
        assert [p for p in found if p in named] == named, name
