"""How a process joins the others that torchrun started, and that it does not outlive torchrun.

torchrun ends its ranks when it can. Where it is killed, nobody else does, and a rank would wait for
others that never come.
"""

import ctypes
import datetime
import os
import signal
import sys

import torch
import torch.distributed as dist

from nerfkit.errors import NerfkitError

MINUTES = 30  # of silence from another node, after which it is given up
SECONDS = 20  # to reach torchrun's store, which is there before its ranks are
PR_SET_PDEATHSIG = 1


def join() -> None:
    """Make torch.distributed's default group, by the environment that torchrun sets.

    Raises:
        NerfkitError: the others cannot be reached.
    """
    end_with_parent()
    # without torchrun rank 0 has the store, and the others may be started long before it
    hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    limit = datetime.timedelta(minutes=MINUTES)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    try:
        store, rank, size = next(
            dist.rendezvous(
                "env://", timeout=datetime.timedelta(seconds=SECONDS) if hosted else limit
            )
        )
        store.set_timeout(limit)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=limit)
    except RuntimeError as error:
        place = ":".join(os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT"))
        raise NerfkitError(
            f"torchrun: the other processes cannot be reached at {place}: did torchrun end?"
        ) from error


def end_with_parent() -> None:
    """Have the system send this process SIGTERM, as torchrun would, when its parent ends."""
    if sys.platform != "linux":
        return
    parent = os.getppid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it ended just before
        os.kill(os.getpid(), signal.SIGTERM)
