"""Memory of a program on each device: as its compiler planned it, and by count.

The count is of parameters, their gradient and the optimizer's moments, exactly, and of the
activations kept for the backward pass. The CPU's compiler plans more than an accelerator needs: it
fuses less, and computes bfloat16 products in float32.
"""

import math
import re
from typing import Any, NamedTuple

from ml_collections import ConfigDict

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


def layer_bytes(
    rows: int, tokens: int, keys: list[int], part: ConfigDict, size: int, dropout: bool
) -> int:
    """What a transformer layer keeps for its backward pass, in bytes.

    Inputs of every product, norm and GELU: of width D the input, its norm, queries, keys, values
    and their mixture for every attention, and of the MLP two arrays of its hidden width; and the
    attention weights in the model's dtype; where they are dropped, also in float32 before that.

    Args:
      rows: sequences on a device.
      tokens: of a sequence.
      keys: tokens attended to, of each attention in the layer.
      part: config.model.image or .text.
      size: bytes of the model's dtype.
      dropout: whether masks of one byte are kept too.
    """
    hidden = rows * tokens * (3 * part.width + 2 * part.mlp_dim)
    total = hidden * size + dropout * rows * tokens * part.width
    for attended in keys:
        total += rows * part.width * (3 * tokens + 2 * attended) * size
        total += rows * part.heads * tokens * attended * (size + 5 * dropout)
    return total


def product_bytes(rows: int, tokens: int, keys: list[int], part: ConfigDict, size: int) -> int:
    """What a layer's products with weights give, in bytes; arguments as `layer_bytes` has them."""
    total = rows * tokens * (part.width + part.mlp_dim) * size
    return total + sum(2 * rows * part.width * (tokens + attended) * size for attended in keys)


def activation_bytes(config: ConfigDict, data: int, tensor: int) -> dict[str, int]:
    """Activations kept on a device for the backward pass, by part of the model, in bytes.

    With accumulation the parts of a chunk follow each other, and the batch's image tokens (their
    own, the negatives' and both gradients) stay; without it everything is there at once.
    """
    from cada_jax.objective.losses import MASKED_CHUNK  # imports JAX

    c, size = config.model, 2 if config.model.dtype == "bfloat16" else 4
    chunks, length = config.train.accumulation, config.data.max_length
    batch = config.train.batch_size // data
    rows = batch // chunks
    grid = math.prod(s // p for s, p in zip(c.image.size, c.image.patch, strict=True)) + 1
    drops = c.text.dropout > 0

    def layers(part, rows, tokens, keys, dropout):
        inputs = rows * tokens * part.width * size
        kept = layer_bytes(rows, tokens, keys, part, size, dropout) // tensor
        if c.remat == "off":
            return part.depth * (inputs + kept)
        # Of every layer what is kept, and the rest of one layer, computed again.
        products = 0
        if c.remat == "light":
            products = product_bytes(rows, tokens, keys, part, size) // tensor
        return part.depth * (inputs + products) + kept - products

    parts = {
        "image encoder": layers(c.image, rows, grid, [grid], False),
        "text encoder": layers(c.text, rows, length, [length], drops),
    }
    if config.loss.atp_weight:
        parts["decoder"] = layers(c.text, 3 * rows, length, [length, grid], drops)
    if config.loss.ara_weight:
        parts["attribute decoder"] = layers(c.text, rows, length, [length, grid], drops)
        # Logits, and the softmax that their gradient is made of, some masked positions at a time.
        places = min(MASKED_CHUNK, length)
        parts["vocabulary logits"] = 2 * 4 * rows * places * c.text.vocab_size
    if chunks > 1:
        parts["encodings of the batch"] = 4 * batch * grid * c.image.width * size
    return parts


def peak_of(parts: dict[str, int], accumulated: bool) -> int:
    """The most that is there at once."""
    if not accumulated:
        return sum(parts.values())
    encoders = max(parts["image encoder"], parts["text encoder"])
    after = sum(parts.get(n, 0) for n in ("decoder", "attribute decoder", "vocabulary logits"))
    return parts["encodings of the batch"] + max(encoders, after)


def state_bytes(state) -> tuple[int, int]:
    """Bytes on one device of the parameters, and of the whole state."""
    import jax

    def of(tree):
        leaves = jax.tree.leaves(tree)
        return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in leaves)

    return of(state.params), of(state)


def counted(config: ConfigDict, state: Any, mesh: Any) -> dict[str, int]:
    """Bytes on a device in a training step by part, with "at once, by count" last.

    Args:
      config: full config.
      state: the train state's shapes with shardings.
      mesh: axis name -> size.
    """
    params, whole = state_bytes(state)
    parts = activation_bytes(config, mesh["data"] * mesh["fsdp"], mesh["tensor"])
    accumulated = config.train.accumulation > 1
    gradient = params * (2 if accumulated else 1)  # a chunk's beside the sum
    sizes = {"parameters": params, "optimizer state": whole - params, "gradient": gradient}
    peak = whole + gradient + peak_of(parts, accumulated)
    return sizes | parts | {"at once, by count": peak}
