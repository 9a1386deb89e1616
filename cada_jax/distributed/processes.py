"""Several processes as one program: how they find each other, agree, and end together.

Every process runs the same command on its own devices. `connect` joins them before anything
touches a device; from then on JAX counts the devices of all of them. A process that dies is
missed within HEARTBEAT_SECONDS, and the others are then ended: no one waits in a collective for it.
"""

import contextlib
import hashlib
import importlib.metadata
import os
import pathlib
import sys
import time
from collections.abc import Iterator
from typing import NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils
from ml_collections import ConfigDict

from cada_jax import config as config_lib
from cada_jax.common.errors import LostProcessError, UsageError

HEARTBEAT_SECONDS = 30
CONNECT_SECONDS = 300
PACKAGE = pathlib.Path(__file__).parents[1]
LIBRARIES = ("flax", "jax", "jaxlib", "numpy", "optax", "orbax-checkpoint")
# What the runtimes say when the other end of a connection is gone: the coordination service, gloo
# (CPU), NCCL (GPU), the TPU runtime.
LOST = ("connection", "peer", "heartbeat", "coordination", "gloo", "nccl", "unavailable", "preempt")


def connect(coordinator: str | None, processes: int | None, index: int | None) -> None:
    """Joins the processes of one run. To be called before anything that touches a device.

    Args:
      coordinator: HOST:PORT of process 0; None to take it, as the other two, from the environment:
        Cloud TPU, Slurm, Open MPI and Kubernetes are recognised.
      index: which one this is, from 0.

    Raises:
      UsageError: only some are given, or the processes do not find each other.
    """
    given = {"--coordinator": coordinator, "--num_processes": processes, "--process_id": index}
    lacking = [name for name, value in given.items() if value is None]
    if 0 < len(lacking) < len(given):
        raise UsageError(
            f"{' and '.join(lacking)} missing: to join processes give all of {', '.join(given)}, "
            "or only --distributed where the cluster's environment tells them."
        )
    if (
        coordinator is not None
        and processes is not None
        and index is not None
        and (":" not in coordinator or not 0 <= index < processes)
    ):
        raise UsageError(
            f"--coordinator={coordinator} --num_processes={processes} --process_id={index}: "
            "expected HOST:PORT of process 0, and a process_id from 0 to num_processes - 1."
        )
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            index,
            initialization_timeout=CONNECT_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (RuntimeError, ValueError, TypeError) as e:
        where = coordinator or "the address that the environment gives"
        raise UsageError(
            f"The processes of this run did not find each other at {where}: {e}\n"
            "Start the same command on every host within "
            f"{CONNECT_SECONDS} s, with a port of process 0 that the others can reach."
        ) from e


def joined() -> bool:
    """Whether this process is one of several, or was started as one."""
    return jax.distributed.is_initialized()


def code_digest() -> str:
    """SHA-256 of the package's source and the versions of the libraries its numbers depend on."""
    sha = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        sha.update(f"{path.relative_to(PACKAGE).as_posix()}\n".encode() + path.read_bytes())
    for library in LIBRARIES:
        sha.update(f"{library} {importlib.metadata.version(library)}\n".encode())
    return sha.hexdigest()


def everyones(text: str) -> list[str]:
    """The text that each process gives, on every process, in their order."""
    if jax.process_count() == 1:
        return [text]
    own = np.frombuffer(text.encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.array([len(own)], np.int32)).reshape(-1)
    padded = np.zeros(max(lengths), np.uint8)
    padded[: len(own)] = own
    rows = multihost_utils.process_allgather(padded).reshape(len(lengths), -1)
    return [row[:n].tobytes().decode() for row, n in zip(rows, lengths, strict=True)]


def check_same_program(config: ConfigDict) -> None:
    """Raises UsageError, on every process, if they have different configurations or code."""
    if jax.process_count() == 1:
        return
    codes = everyones(code_digest())
    differing = [str(i) for i, code in enumerate(codes) if code != codes[0]]
    if differing:
        raise UsageError(
            f"Processes {', '.join(differing)} run other code than process 0: the sources of "
            f"cada_jax or the versions of {', '.join(LIBRARIES)} differ. Install the same on all."
        )
    texts = everyones(config_lib.to_json(config))
    lines = []
    for i, text in enumerate(texts):
        for key, (first, other) in config_lib.differing_values(texts[0], text).items():
            lines.append(f"  config.{key}: {first!r} on process 0, {other!r} on process {i}")
    if lines:
        raise UsageError(
            "The processes were started with different configurations:\n"
            + "\n".join(lines)
            + "\nGive every process the same --config and the same overrides."
        )


def check_shared(root: pathlib.Path, witness: str) -> None:
    """Raises UsageError, on every process, if `root` is not one folder that all of them see.

    Args:
      root: the run's folder.
      witness: the file in it that process 0 wrote just now, with words of its own.
    """
    if jax.process_count() == 1:
        return
    sync("workdir")
    file = root / witness
    seen = everyones(file.read_text(encoding="utf-8") if file.exists() else "nothing")
    blind = [str(i) for i, text in enumerate(seen) if text != seen[0]]
    if blind:
        raise UsageError(
            f"--workdir={root}: processes {', '.join(blind)} do not see what process 0 wrote "
            "there. All hosts write their part of every checkpoint, so the folder must be on a "
            "file system that they share (NFS, Filestore, Lustre, a mounted bucket)."
        )


def sync(name: str) -> None:
    """Waits until every process is here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


@contextlib.contextmanager
def first_alone(name: str) -> Iterator[None]:
    """Process 0 runs the `with` block first, then the others: what it prepares, they find."""
    if jax.process_index() > 0:
        sync(name)
    yield
    if jax.process_index() == 0:
        sync(name)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Turns what the runtime raises when another process is gone into LostProcessError."""
    try:
        yield
    except jax.errors.JaxRuntimeError as e:
        text = str(e)
        if jax.process_count() == 1 or not any(word in text.lower() for word in LOST):
            raise
        raise LostProcessError(
            f"Process {jax.process_index()} of {jax.process_count()} lost another one: "
            f"{text.splitlines()[0][:300]}\nWhat was saved is kept. See that process's last "
            "lines, then start the same command again on every host."
        ) from e


def leave(code: int) -> NoReturn:
    """Ends this process at once, when it cannot go on but others may not know.

    A normal exit would wait for the others, who wait in a collective for this one.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if joined() and jax.process_index() == 0:
        # Process 0 serves the others their notices; if they stop for the same reason, it lets
        # them say so first.
        time.sleep(3)
    os._exit(code)
