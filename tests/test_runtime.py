"""What a run asks of its process."""

import os
import subprocess
import sys

import pytest

from cada_jax import runtime

FAULTS = """
import resource, sys
from cada_jax.runtime import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
import jax
import jax.numpy as jnp
use = jax.jit(lambda x: jnp.sum(jnp.sort(jnp.sin(x) @ jnp.cos(x), axis=0)[0]))
x = jnp.ones((2000, 2000))
faults = []
for _ in range(20):  # what is kept takes some runs to lie so that everything fits
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    use(x).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(faults))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")
def test_memory_that_is_freed_need_not_be_zeroed_again():
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}

    def faults(how):
        command = [sys.executable, "-c", FAULTS, how]
        ran = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        return int(ran.stdout)

    assert faults("keep") < 0.1 * faults("leave")


@pytest.mark.parametrize(("platforms", "expected"), [("cpu", True), ("cuda,cpu", False)])
def test_an_accelerators_process_is_left_alone(monkeypatch, platforms, expected):
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    assert runtime.only_cpu() is expected
    if not expected:
        assert not runtime.keep_freed_memory()
