"""A program's memory is kept from call to call, which the system would clear each time."""

import subprocess
import sys

import pytest

# Page faults of 20 calls of a program with 80 MB of temporary memory.
FAULTS = """
import resource, sys
from cada_jax.common.kept_memory import keep_memory
kept = sys.argv[1] == "kept" and keep_memory()
import jax
import jax.numpy as jnp
f = jax.jit(lambda x: jnp.sin(x) @ jnp.ones((2000, 8)))
x = jnp.ones((10_000, 2000))
for _ in range(10):  # the heap grows to what overlapping calls hold
    f(x).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    f(x).block_until_ready()
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> tuple[int, int]:
    ran = subprocess.run(
        [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True
    )
    kept, count = map(int, ran.stdout.split())
    return kept, count


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is the GNU C library's")
def test_a_program_asks_the_system_for_its_memory_once():
    kept, few = faults("kept")
    if not kept:
        pytest.skip("many CPUs, or another C library")
    assert few < faults("not")[1] / 10
