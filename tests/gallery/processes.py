"""Processes of their own that hold a gallery, and a Milvus server on loopback."""

import contextlib
import os
import pathlib
import shutil
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
    program = shutil.which("milvus-lite", path=os.path.dirname(sys.executable))
    if program is None:
        pytest.skip("milvus-lite is not installed: pip install -e '.[search]'")
    port = free_port()
    command = [program, "server", "--data-dir", folder, "--host", "127.0.0.1", "--port", str(port)]
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
