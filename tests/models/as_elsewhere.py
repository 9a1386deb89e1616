"""The network as it is written for TPUs and GPUs, on this machine: its kernels are interpreted."""

import contextlib
import functools
from unittest import mock

from cada_jax.models import ops
from cada_jax.models.ops import gpu, tpu, tpu_attention


@contextlib.contextmanager
def as_on_tpu():
    """Within it, what is traced takes a TPU's operations; yields a list of kernel calls."""
    calls = []

    @functools.wraps(tpu_attention.fused_attention)
    def interpreted(*args):
        calls.append(args[0].shape)
        return tpu_attention.fused_attention(*args, interpret=True)

    with (
        mock.patch.object(ops, "ops_for", lambda mesh: tpu.OPS),
        mock.patch.object(tpu, "fused_attention", interpreted),
    ):
        yield calls


@contextlib.contextmanager
def as_on_gpu():
    """The same of an NVIDIA GPU, in float32 too; yields the kernels' names."""
    calls = []

    def interpreted(function):
        @functools.wraps(function)
        def call(*args, **options):
            calls.append(function.__name__)
            return function(*args, **options, interpret=True)

        return call

    names = "fused_attention", "residual_norm", "biased_gelu"
    with contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.object(ops, "ops_for", lambda mesh: gpu.KERNELS))
        patches.enter_context(mock.patch.object(gpu, "takes", lambda x: True))
        for name in names:
            kernel = interpreted(getattr(gpu, name))
            patches.enter_context(mock.patch.object(gpu, name, kernel))
        yield calls
