"""Processes of their own that hold a gallery, and a Milvus server on loopback."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
_HOLD = """
import sys
from cada_jax.gallery.gallery import Gallery
with Gallery.open(sys.argv[1], read_only=sys.argv[2] == "reads"):
    print("held", flush=True)
    sys.stdin.read()
"""


def heed_interrupts() -> None:
    """For `preexec_fn`: what a shell runs in the background ignores Ctrl-C, as do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def holder(db, mode: str):
    """A process that has a gallery open ("reads" or "writes"); it is killed at the end."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(db), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@contextlib.contextmanager
def milvus_server(folder: pathlib.Path):
    """milvus-lite behind a port, which stands for a Milvus server: yields its URI."""
    pytest.importorskip("milvus_lite")
    port = free_port()
    command = [sys.executable, "-c", "from milvus_lite.cmdline import main; main()", "server"]
    command += ["--data-dir", folder, "--host", "127.0.0.1", "--port", str(port)]
    with open(folder / "server.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        _wait(process, port)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen, port: int) -> None:
    from pymilvus import MilvusClient

    while process.poll() is None:
        try:
            MilvusClient(f"http://127.0.0.1:{port}", timeout=1).close()
            return
        except Exception:  # noqa: S112 - not yet
            continue
    raise RuntimeError("the server ended")
