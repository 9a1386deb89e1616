"""How much memory a training step needs on each device: from the compiled program, and by count.

    python -m tools.memory --config=rstp --mesh=1x1x1 --set model.dtype=bfloat16 model.remat=full
    python -m tools.memory --config=rstp:large --mesh=2x4x1 --set train.accumulation=4 --no_compile

Devices are simulated on the CPU and nothing is allocated. The compiled figure is what that compiler
planned: an accelerator's fuses more, and the CPU's computes bfloat16 products in float32, so it
lies above what a TPU or GPU needs. The count is of parameters, their gradient and the optimizer's
moments, exactly, and of the activations kept for the backward pass.
"""

import math
import sys
from collections.abc import Sequence

from ml_collections import ConfigDict

from cada_jax.common.command_line import run_command
from tools import compiled_step
from tools.arguments import Parser

GIB = 2**30
CHIPS = (16, 32, 80)  # GiB
# What the runtime, the program and the gaps between arrays take of a chip's memory.
USABLE = 0.92


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


def report(step: compiled_step.Step) -> str:
    """The table."""
    config, mesh = step.config, step.mesh.shape
    params, state = state_bytes(step.state)
    parts = activation_bytes(config, mesh["data"] * mesh["fsdp"], mesh["tensor"])
    accumulated = config.train.accumulation > 1
    gradient = params * (2 if accumulated else 1)  # a chunk's beside the sum
    counted = {"parameters": params, "optimizer state": state - params, "gradient": gradient}
    counted |= parts
    peak = state + gradient + peak_of(parts, accumulated)
    lines = [f"{name:<26} {size / GIB:8.3f} GiB" for name, size in counted.items()]
    lines.append(f"{'at once, by count':<26} {peak / GIB:8.3f} GiB")
    figures = {"by count": peak}
    if step.compiled is not None:
        m = step.compiled.memory_analysis()
        inputs, program = m.argument_size_in_bytes, m.temp_size_in_bytes
        outputs = m.output_size_in_bytes - m.alias_size_in_bytes
        figures["compiled"] = inputs + outputs + program
        lines.append(f"{'compiled: state and batch':<26} {inputs / GIB:8.3f} GiB")
        lines.append(f"{'compiled: while it runs':<26} {(program + outputs) / GIB:8.3f} GiB")
        lines.append(f"{'at once, compiled':<26} {figures['compiled'] / GIB:8.3f} GiB")
    for name, size in figures.items():
        fits = (f"{chip} GiB {'yes' if size <= USABLE * chip * GIB else 'no'}" for chip in CHIPS)
        lines.append(f"fits, {name}: {', '.join(fits)}")
    return "\n".join(lines)


def run(argv: Sequence[str] | None) -> int:
    """Counts, compiles if it may, and prints; returns the exit code."""
    parser = Parser("tools.memory", __doc__)
    compiled_step.add_flags(parser)
    parser.add_argument("--no_compile", action="store_true", help="only count")
    flags = parser.flags(argv)
    config = compiled_step.read_config(flags)
    compiled_step.simulate(flags.mesh)
    step = compiled_step.describe_step(config)
    if not flags.no_compile:
        step = compiled_step.compile_step(step)
    title = f"{compiled_step.title(flags)}, each device"
    print(f"{title}, batch {config.train.batch_size} over all")
    print(report(step))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns the exit code."""
    return run_command(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
