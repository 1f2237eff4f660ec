"""Build nerfkit: the Python packages and one shared library of C++ kernels per instruction set.

The libraries have a plain C interface and are loaded with ctypes, so they depend neither on the
Python nor on the torch version. They are optional: with no compiler the install goes through and
the torch reference runs instead (`nerfkit info` says which is active).
"""

import copy
import os
import platform
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
# GCC and clang vector types; fast-math is for compiling only: linking with it would make the
# loader flush denormals to zero in the whole process.
COMPILE = ["-O3", "-std=c++17", "-ffast-math", "-fvisibility=hidden", "-Wall", "-g0"]
DATA = ["*.json", "*.safetensors", "*.html"]  # files of a package that are not Python
X86_LEVELS = {
    "v2": ["-march=x86-64-v2"],
    "v3": ["-march=x86-64-v3"],
    "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
}


class LevelBuild(build_ext):
    """Build the instruction-set levels side by side, each with object files of its own.

    A level that does not compile, or is not asked for, is left out and costs the others nothing.
    Its library of an earlier build goes too: older C++ must not meet newer Python code.
    """

    def finalize_options(self) -> None:
        super().finalize_options()
        # More levels than cores is fine: they differ in length, and the machine balances them.
        self.parallel = self.parallel or len(self.extensions) or None

    def build_extensions(self) -> None:
        wanted = {Path(self.get_ext_fullpath(ext.name)) for ext in self.extensions}
        for library in set(self.libraries_in(self.build_lib)) - wanted:
            library.unlink()
        super().build_extensions()

    def build_extension(self, ext: Extension) -> None:
        # All levels compile the same sources: in one folder they would overwrite, and then link,
        # each other's object files.
        level = copy.copy(self)
        level.build_temp = os.path.join(self.build_temp, ext.name)
        try:
            build_ext.build_extension(level, ext)
        except Exception:
            Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)
            raise

    def copy_extensions_to_source(self) -> None:
        # Removed first, not overwritten: a process that has one loaded keeps its own.
        for library in self.libraries_in("."):
            library.unlink()
        super().copy_extensions_to_source()

    def libraries_in(self, folder: str) -> list[Path]:
        return list(Path(folder).glob(self.get_ext_filename("nerfkit._native_*")))


def native_extensions() -> list[Extension]:
    sources = sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("kernels/*/*.cpp"))
    headers = sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("kernels/*/*.h"))
    depends = [*headers, "setup.py"]  # which holds the flags
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    levels = X86_LEVELS if is_x86 else {"base": []}
    only = os.environ.get("NERFKIT_BUILD_LEVELS")  # e.g. "v3": quicker builds while developing
    if only:
        levels = {level: levels[level] for level in only.split(",")}
    return [
        Extension(
            f"nerfkit._native_{level}",
            sources,
            depends=depends,
            include_dirs=["kernels"],
            extra_compile_args=COMPILE + flags,
            extra_link_args=["-pthread"],
            language="c++",
            optional=True,
        )
        for level, flags in levels.items()
    ]


def packages() -> tuple[list[str], dict[str, str]]:
    """`kernels/` and `scenes/` install inside nerfkit: top-level `kernels` belongs to others."""
    names = find_packages(include=["nerfkit", "nerfkit.*"])
    folders = {"nerfkit": "nerfkit"}
    for root in ("kernels", "scenes"):
        for init in sorted(ROOT.glob(f"{root}/*/__init__.py")):
            name = f"nerfkit.{root}.{init.parent.name}"
            names.append(name)
            folders[name] = f"{root}/{init.parent.name}"
    return names, folders


names, folders = packages()
setup(
    name="nerfkit",
    version="0.1.0",
    description="Neural rendering engine: fast on a CPU, Triton on a GPU",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=names,
    package_dir=folders,
    package_data={name: DATA for name in names},
    ext_modules=native_extensions(),
    cmdclass={"build_ext": LevelBuild},
    install_requires=[
        "torch>=2.4",
        "numpy>=1.26",
        "pillow>=10",
        "imageio>=2.34",
        "imageio-ffmpeg>=0.5",
        "trimesh>=4.4",
        "embreex>=2.17.7; platform_machine == 'x86_64' or platform_machine == 'AMD64'",
        "scipy>=1.11",
        "scikit-image>=0.22",
        "tifffile>=2023.2",
        "safetensors>=0.4.3",
        "tensorboard>=2.16",
        "tyro>=0.9",
        "rich>=13.7",
    ],
    extras_require={
        "prepare": ["pycolmap>=4.2"],
        "view": ["viser>=1.1"],
        "gpu": ["triton>=3.6; platform_system == 'Linux'"],  # torch for CUDA brings it along
        "plot": ["matplotlib>=3.8"],
        "dev": [
            "matplotlib>=3.8",
            "pytest>=8",
            "hypothesis>=6.100",
            "pytest-benchmark>=4",
            "pytest-xdist>=3.5",
            "ruff>=0.6",
            "setuptools>=77",
        ],
    },
    entry_points={"console_scripts": ["nerfkit=nerfkit.cli:main"]},
    zip_safe=False,
)
