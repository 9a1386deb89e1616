"""Memory: what compilers say of too little."""

import pytest

from tools.device import memory
from tools.device.memory import GIB, Memory

TPU_SAYS = (
    "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. "
    "Used 20.30G of 15.75G hbm. Exceeded hbm capacity by 4.55G."
)


@pytest.mark.parametrize(
    ("message", "needed", "available"),
    [
        (TPU_SAYS, 20.3 * GIB, 15.75 * GIB),
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1024 bytes.", 1024, 0),
        ("RESOURCE_EXHAUSTED: something new", 0, 0),
    ],
)
def test_a_refusal_gives_the_sizes_that_its_message_names(message, needed, available):
    found = memory.refused_memory(message)
    assert found == Memory(needed=round(needed), available=round(available), refused=True)
    assert found.total == round(needed)


def test_another_error_of_the_compiler_is_no_refusal():
    assert memory.refused_memory("INTERNAL: Mosaic failed to compile") is None
