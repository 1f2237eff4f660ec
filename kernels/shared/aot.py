"""What a Triton kernel compiles to, without a GPU: registers, stack, shared memory, instructions.

Nothing here knows nerfkit. Each op's `gpu.py` has a list AOT of `Configuration`s, one for every way
that it launches a kernel with in practice, with the limits that must hold. Kernels cannot be
compiled in a process that interprets them: TRITON_INTERPRET must not be set.
"""

from __future__ import annotations

import collections
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple


class Configuration(NamedTuple):
    """One compiled form of a kernel.

    Attributes:
        name: for the reader.
        kernel: the @triton.jit function.
        signature: types of the arguments that are no constants, in order: "*fp32 i32 fp32 ...".
            Pointers are taken to be divisible by 16, as what torch allocates is; integers marked
            "i32:16" too. "None" is an optional pointer that is not given.
        constants: the constexpr arguments by name.
        num_warps, num_stages: as launched.
        max_registers: of a thread. 65536 / (registers x threads) programs share a processor.
        max_shared: bytes of a program.
        max_stack: bytes of a thread; more than 0 means spills, or arrays indexed at run time.
        max_inner_spills: loads and stores of the stack in loops that hold no other loop.
        wanted: what must occur in the machine code, as regular expressions on instruction names.
        archs: compute capabilities that it is launched on; none: all.
        maxnreg: registers of a thread that the compiler is held to, as launched.
    """

    name: str
    kernel: Any
    signature: str
    constants: dict[str, Any]
    num_warps: int = 4
    num_stages: int = 3
    max_registers: int = 255
    max_shared: int = 100 * 1024
    max_stack: int = 0
    max_inner_spills: int = 0
    wanted: tuple[str, ...] = ()
    archs: tuple[int, ...] = ()
    maxnreg: int | None = None


class Report(NamedTuple):
    """What came out."""

    registers: int
    stack: int
    shared: int
    instructions: dict[str, int]  # by name with modifiers, such as LDG.E.128
    inner_spills: int = 0

    def count(self, pattern: str) -> int:
        """How many instructions have a name that `pattern` matches from the start."""
        return sum(n for name, n in self.instructions.items() if re.match(pattern, name))

    def failures(self, wanted: Configuration) -> list[str]:
        """Every limit of the configuration that does not hold, in words."""
        limits = {
            "registers": wanted.max_registers,
            "shared": wanted.max_shared,
            "stack": wanted.max_stack,
            "inner_spills": wanted.max_inner_spills,
        }
        found = [
            f"{name} {getattr(self, name)}, at most {limit} allowed"
            for name, limit in limits.items()
            if getattr(self, name) > limit
        ]
        missing = [p for p in wanted.wanted if not self.count(p)]
        return found + [f"no instruction {p}" for p in missing]


def compile_for(configuration: Configuration, capability: int) -> Report:
    """Compile for compute capability 80, 90, 100 ... and read the machine code.

    Raises:
        RuntimeError: the compiler or the disassembler failed.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature, attributes, constants = {}, {}, dict(configuration.constants)
    types = iter(configuration.signature.split())
    for index, name in enumerate(configuration.kernel.arg_names):
        kind = "constexpr" if name in constants else next(types)
        if kind == "None":
            kind, constants[name] = "constexpr", None
        kind, _, divisor = kind.partition(":")
        signature[name] = kind
        if kind.startswith("*") or divisor:
            attributes[(index,)] = [["tt.divisibility", 16]]
    if next(types, None) is not None:
        raise RuntimeError(f"{configuration.name}: the signature has too many types")
    compiled = triton.compile(
        ASTSource(configuration.kernel, signature, constants, attributes),
        target=GPUTarget("cuda", capability, 32),
        options={
            "num_warps": configuration.num_warps,
            "num_stages": configuration.num_stages,
            "maxnreg": configuration.maxnreg,
        },
    )
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.TemporaryDirectory() as folder:
        cubin = os.path.join(folder, "kernel.cubin")
        Path(cubin).write_bytes(compiled.asm["cubin"])
        usage = _run(tools / "cuobjdump", "-res-usage", cubin)
        code = _run(tools / "nvdisasm", cubin)
    numbers = {k: int(re.search(rf"{k}:(\d+)", usage).group(1)) for k in ("REG", "STACK")}
    names = re.findall(r"/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", code)
    return Report(
        numbers["REG"],
        numbers["STACK"],
        compiled.metadata.shared,
        dict(collections.Counter(names)),
        _inner_spills(code),
    )


def _inner_spills(code: str) -> int:
    labels, jumps, spills, place = {}, [], [], 0
    for line in code.splitlines():
        if label := re.match(r"(\.L_x_\d+):", line):
            labels[label.group(1)] = place
        elif found := re.match(r"\s+/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)(.*)", line):
            place += 1
            target = re.search(r"\.L_x_\d+", found.group(2))
            if found.group(1).startswith("BRA") and target:
                jumps.append((target.group(), place))
            elif found.group(1).startswith(("LDL", "STL")):
                spills.append(place)
    loops = [(labels[to], at) for to, at in jumps if to in labels and labels[to] < at]
    inner = [a for a in loops if not any(a[0] <= b[0] and b[1] <= a[1] and a != b for b in loops)]
    return sum(any(first < at <= last for first, last in inner) for at in spills)


def _run(tool: Path, *arguments: str) -> str:
    done = subprocess.run([tool, *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{tool.name}: {done.stderr.strip()}")
    return done.stdout
