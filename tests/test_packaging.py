"""What is installed: the wheel's files, a build for which one instruction set fails, no kernels."""

import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nerfkit.info import version_of
from nerfkit.kernels import _native

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = _native.library()[0]  # found before any test changes where to look
needs_cpp = pytest.mark.skipif(LIBRARY is None, reason="C++ kernels are not built")
IS_X86 = platform.machine().lower() in ("x86_64", "amd64")
BUILT_HERE = shutil.ignore_patterns(
    "*.so", "*.pyd", "__pycache__", "*.egg-info", "build", "dist", ".*", "venv", "runs", "demo"
)
# One sample of optical depth ln 2: half the ray's light, from the distance 1.5.
USE_TWO_OPS = """
import json, sys, warnings
import torch
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import nerfkit
    from nerfkit.kernels import _backend, _native, composite, ray_box
    one = torch.ones(1)
    for _ in range(2):
        pixel = composite.composite(
            torch.log(2 * one), torch.ones(1, 3), one, 2 * one, torch.tensor([[0, 1]])
        )
        near, far = ray_box.ray_box(
            torch.tensor([[-3.0, 0, 0]]), torch.tensor([[1.0, 0, 0]]), -torch.ones(3), torch.ones(3)
        )
import nerfkit.scenes, pkgutil
print(json.dumps({
    "file": nerfkit.__file__,
    "level": _native.library()[1],
    "built": _native.available(),
    "ops": _backend.ops(),
    "scenes": sorted(m.name for m in pkgutil.iter_modules(nerfkit.scenes.__path__)),
    "numbers": [pixel.opacities.item(), pixel.depths.item(), near.item(), far.item()],
    "warnings": [str(w.message) for w in caught if "nerfkit" in str(w.message)],
}))
"""


def use_two_ops(folder: Path, script: str = USE_TWO_OPS) -> dict:
    """What USE_TWO_OPS prints with `folder` on the path, from outside any checkout."""

    environment = {k: v for k, v in os.environ.items() if not k.startswith("NERFKIT_")}
    environment |= {"PYTHONPATH": str(folder), "NERFKIT_THREADS": "1", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder.parent,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    facts = json.loads(result.stdout)
    assert Path(facts["file"]).is_relative_to(folder)
    # worst error measured: 0 (reference), 6e-8 (C++ for v2)
    assert facts["numbers"] == pytest.approx([0.5, 0.75, 2.0, 4.0], abs=1e-6)
    return facts


def folders_with_init(root: str) -> list[str]:
    return sorted(p.parent.name for p in ROOT.glob(f"{root}/*/__init__.py"))


def ops() -> list[str]:
    return [name for name in folders_with_init("kernels") if name != "shared"]


def test_without_the_libraries_one_warning_and_the_right_result(tmp_path):
    checkout = tmp_path / "checkout"
    for folder in ("nerfkit", "kernels", "scenes"):
        shutil.copytree(ROOT / folder, checkout / folder, ignore=BUILT_HERE)
    shutil.copy(ROOT / "setup.py", checkout)
    facts = use_two_ops(checkout)
    assert not facts["built"] and facts["ops"] == ops()
    (warning,) = facts["warnings"]
    assert "slow torch reference" in warning and "not built" in warning


@needs_cpp
def test_a_library_that_does_not_load_is_passed_over(tmp_path, monkeypatch):
    (tmp_path / "kernels").mkdir()
    monkeypatch.setattr(_native, "__file__", str(tmp_path / "kernels" / "_native.py"))
    monkeypatch.setattr(_native, "_candidates", lambda: ["bad", "good"])
    find = _native.library.__wrapped__  # without the cache
    assert find()[0] is None and "not built" in find()[1]
    (tmp_path / "_native_bad.so").write_bytes(b"not a library")
    assert find()[0] is None and "_native_bad.so does not load" in find()[1]
    shutil.copy(LIBRARY._name, tmp_path / "_native_good.so")
    assert find()[1] == "good"


@needs_cpp
def test_a_function_missing_from_the_library_is_explained():
    with pytest.raises(RuntimeError, match="older than the source"):
        _native.call("nk_no_such_function")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel of this tree, by a quick compiler that knows x86-64-v2 but not v3."""
    if version_of("pip") is None or int((version_of("setuptools") or "0").split(".")[0]) < 77:
        pytest.skip("pip and setuptools>=77 are not installed")
    folder = tmp_path_factory.mktemp("wheel")
    checkout = folder / "checkout"
    shutil.copytree(ROOT, checkout, ignore=BUILT_HERE)
    (checkout / "nerfkit" / "data" / "probe.json").write_text("{}")  # package data goes along
    environment = dict(os.environ)
    if IS_X86:
        environment["NERFKIT_BUILD_LEVELS"] = "v2,v3"
        compiler = shutil.which(os.environ.get("CXX", "g++"))
        if compiler is not None and os.name == "posix":
            old = folder / "old-compiler"
            old.write_text(
                '#!/bin/sh\ncase "$*" in *-march=x86-64-v3*) exit 1;; esac\n'
                f'exec "{compiler}" "$@" -O0\n'
            )
            old.chmod(0o755)
            environment |= {"CC": str(old), "CXX": str(old)}
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    built = subprocess.run(
        [*command, "-w", str(folder), str(checkout)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("nerfkit-*.whl")
    return path


@pytest.mark.slow
def test_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    folders = {name.split("/")[0] for name in names}
    assert {f for f in folders if not f.endswith(".dist-info")} == {"nerfkit"}
    modules = {str(p.relative_to(ROOT)) for p in ROOT.glob("nerfkit/**/*.py")}
    for root in ("kernels", "scenes"):
        modules |= {f"nerfkit/{p.relative_to(ROOT)}" for p in ROOT.glob(f"{root}/*/*.py")}
    assert {name for name in names if name.endswith(".py")} == modules
    assert "nerfkit/data/probe.json" in names
    assert not [name for name in names if name.endswith((".cpp", ".h", ".md", ".o"))]
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_constraints_pin_every_requirement(wheel):
    archive = zipfile.ZipFile(wheel)
    (metadata,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
    lines = archive.read(metadata).decode().splitlines()
    required = [line.split()[1] for line in lines if line.startswith("Requires-Dist:")]
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {line.split("==")[0] for line in pins if "==" in line}
    assert required and {name.split(">")[0].split(";")[0] for name in required} <= pinned


@pytest.mark.slow
def test_wheel_runs_beside_another_package_named_kernels(wheel, tmp_path):
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    for folder in ("kernels", "kernels/layer"):
        (site / folder).mkdir()
        (site / folder / "__init__.py").write_text("OWNER = 'another project'\n")
    facts = use_two_ops(site, f"import kernels\nassert kernels.OWNER\n{USE_TWO_OPS}")
    assert facts["ops"] == ops()
    assert facts["scenes"] == folders_with_init("scenes")
    libraries = sorted(p.name.split(".")[0] for p in site.glob("nerfkit/_native*"))
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        assert libraries == [] and len(facts["warnings"]) == 1
    elif IS_X86 and os.name == "posix":
        assert libraries == ["_native_v2"] and facts["level"] == "v2" and not facts["warnings"]


def test_readme_links_every_kernel():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [op for op in ops() if f"(kernels/{op})" not in text] == []
