"""Memory of a program on each device, as its compiler planned it.

The CPU's compiler plans more than an accelerator needs: it fuses less, and computes bfloat16
products in float32.
"""

import re
from typing import Any, NamedTuple

GIB = 2**30
_UNITS = {"": 1, "B": 1, "K": 2**10, "M": 2**20, "G": GIB, "T": 2**40}
_SIZE = r"([\d.]+)\s*([KMGT]?)(?:i?B)?"
# What compilers say when a program does not fit: (needed, available) or needed alone.
_REFUSALS = (
    re.compile(rf"\({_SIZE}\) exceeds available HBM \({_SIZE}\)"),
    re.compile(rf"Used {_SIZE} of {_SIZE} hbm"),
    re.compile(rf"(?:allocate|allocating) {_SIZE}(?: bytes)?"),
)


class Memory(NamedTuple):
    """Bytes on one device, as compiled.

    inputs: the state and the batch, which stay; running: what the program takes beside them;
    needed, available: of a program that the compiler refused, else 0; `needed` is 0 where its
    message gives no size.
    """

    inputs: int = 0
    running: int = 0
    needed: int = 0
    available: int = 0
    refused: bool = False

    @property
    def total(self) -> int:
        """At once."""
        return self.needed if self.refused else self.inputs + self.running


def compiled_memory(compiled: Any) -> Memory:
    """Of a `jax.stages.Compiled`."""
    m = compiled.memory_analysis()
    outputs = m.output_size_in_bytes - m.alias_size_in_bytes
    return Memory(m.argument_size_in_bytes, m.temp_size_in_bytes + outputs)


def refused_memory(message: str) -> Memory | None:
    """What a compiler's error says of a program that does not fit; None for any other error."""
    if "RESOURCE_EXHAUSTED" not in message and "Ran out of memory" not in message:
        return None
    for pattern in _REFUSALS:
        found = pattern.search(message)
        if found:
            sizes = [
                round(float(number) * _UNITS[unit])
                for number, unit in zip(found.groups()[::2], found.groups()[1::2], strict=True)
            ]
            return Memory(needed=sizes[0], available=(sizes + [0])[1], refused=True)
    return Memory(refused=True)
