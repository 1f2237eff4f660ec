"""Ranks whose torchrun has ended, or never answers, end too."""

import signal
import socket
import subprocess
import sys

import pytest
from launching import ENVIRONMENT, SECONDS, free_port

from nerfkit.errors import NerfkitError
from nerfkit.ranks import joining

RANK = "from nerfkit.ranks import joined\nwith joined(): pass"
PARENT = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {RANK!r}])"


def test_a_rank_that_still_waits_for_others_ends_with_its_parent():
    with socket.create_server(("127.0.0.1", 0)) as store:  # one that says nothing
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.getsockname()[1])}
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT],
            env=ENVIRONMENT | place | {"RANK": "1", "WORLD_SIZE": "2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        store.settimeout(SECONDS)
        connection, _ = store.accept()  # the rank has come as far as to ask
        parent.send_signal(signal.SIGKILL)
        with connection:
            # the rank has the pipes, too: they end with it, at once where the machine is idle
            parent.communicate(timeout=100)
    assert parent.returncode == -signal.SIGKILL


def test_torchrun_ended_before_the_rank_asked(monkeypatch):
    monkeypatch.setattr(joining, "SECONDS", 1)
    monkeypatch.setattr(joining, "end_with_parent", lambda: None)
    port = str(free_port())
    for name, value in {
        **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": "0", "WORLD_SIZE": "2"},
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NerfkitError, match=f"127.0.0.1:{port}: did torchrun end"):
        joining.join()
