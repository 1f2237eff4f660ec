"""Start nerfkit, or another module, as several processes of one thread."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",
    "NERFKIT_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}
SECONDS = 900  # a busy machine


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def torchrun(*arguments: object, ranks: int = 2, options: tuple[str, ...] = ()) -> list[str]:
    """The command that starts `arguments` (as -m MODULE ...) as ranks of this machine."""
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--master-addr=127.0.0.1"),
        *(f"--master-port={free_port()}", f"--nproc-per-node={ranks}", *options),
        *map(str, arguments),
    ]


def start(command: list[str]) -> subprocess.Popen:
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    try:
        out, err = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    return process.returncode, out, err


def launch(command: list[str]) -> tuple[int, str, str]:
    """Start and finish."""
    return finish(start(command))


def as_nodes(*arguments: object, nodes: int = 2) -> list[tuple[int, str, str]]:
    """Processes that share no memory, each as if on a machine of its own."""
    command = torchrun(*arguments, ranks=1, options=(f"--nnodes={nodes}",))
    at = command.index(f"--nnodes={nodes}")
    started = [start([*command[:at], f"--node-rank={i}", *command[at:]]) for i in range(nodes)]
    return [finish(process) for process in started]


def pid_of_rank(process: subprocess.Popen, rank: int) -> int | None:
    """Of a rank on this machine, while it runs."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
            environment = (stat.parent / "environ").read_bytes()
        except OSError:
            continue
        if parent == process.pid and f"\0LOCAL_RANK={rank}\0".encode() in b"\0" + environment:
            return int(stat.parent.name)
    return None


def kill_rank(process: subprocess.Popen, rank: int, number: int = signal.SIGKILL) -> None:
    pid = pid_of_rank(process, rank)
    assert pid is not None, f"rank {rank} does not run"
    os.kill(pid, number)
