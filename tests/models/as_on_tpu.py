"""The network as it is written for TPUs, on this machine: its kernels are interpreted."""

import contextlib
import functools
from types import SimpleNamespace
from unittest import mock

from cada_jax.distributed import mesh
from cada_jax.models import attention, fused_attention


@contextlib.contextmanager
def as_on_tpu():
    """Within it, what is traced takes the network's TPU form; yields a list of kernel calls."""
    calls = []

    @functools.wraps(fused_attention.fused_attention)
    def interpreted(*args):
        calls.append(args[0].shape)
        return fused_attention.fused_attention(*args, interpret=True)

    device = SimpleNamespace(platform="tpu", device_kind="TPU v5 lite")
    with (
        mock.patch.object(mesh, "current_device", lambda: device),
        mock.patch.object(attention, "fused_attention", interpreted),
    ):
        yield calls
