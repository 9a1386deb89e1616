"""The parts of a training step that see the whole batch, each compiled alone for many devices.

    python -m tools.device.whole_batch --device=v5p:8x8x8 --batch 7680 30720
    python -m tools.device.whole_batch --device=cpu --mesh=512x1x1 --batch 7680 30720

All devices share the batch; as for `tools.device.compile` they need not be here, and --device=cpu
simulates them. Nothing is run. A line of the table is one program:

    tokens            image tokens of the negatives, brought to the rows that want them
    gradient          the same for the gradient of these tokens
    gathered          tokens, every device gathering those of the whole batch, to compare
    gathered gradient the gradient of that
    global loss       similarities of all pairs, the loss and its gradient
    negatives         the choice of negatives, and the texts that are decoded

MiB are what a program needs beside its arguments and results; on a TPU, in HBM alone. MB sent is
the size of all arrays that the collectives work on, on one device.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

from cada_jax.common.command_line import run_command
from cada_jax.common.errors import UsageError
from cada_jax.config import default_config
from tools import arguments
from tools.arguments import Parser, integer
from tools.device import collectives, hlo, topology
from tools.device.memory import refused_memory

PROGRAMS = (
    "tokens",
    "gradient",
    "gathered",
    "gathered gradient",
    "global loss",
    "negatives",
)


def programs(mesh: Any, batch: int) -> dict[str, tuple]:
    """Name -> (function, shapes of its arguments) of each part, at full size in bfloat16."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import PartitionSpec

    from cada_jax.distributed.batch import gather_rows
    from cada_jax.distributed.mesh import BATCH_AXES
    from cada_jax.distributed.partitioning import data_sharding
    from cada_jax.objective import association, losses

    config, split = default_config(), data_sharding(mesh)

    def rows(*shape, dtype):
        return jax.ShapeDtypeStruct((batch, *shape), dtype, sharding=split)

    def gathered(x, index):
        whole = jax.lax.with_sharding_constraint(x, PartitionSpec())
        return jax.lax.with_sharding_constraint(whole[index], PartitionSpec(BATCH_AXES))

    def gradient_of(gather):
        return lambda x, index: jax.vjp(lambda x: gather(x, index), x)[1](x)[0]

    def global_loss(image, text, pid):
        def loss(image, text):
            return losses.ndf(image, text, pid, config.loss.scale)

        return jax.value_and_grad(loss, argnums=(0, 1))(image, text)

    def negatives(image, text, pid, token_ids):
        key = jax.random.key(0)
        chosen = association.choose_negatives(config, (image, text), pid, key)
        return chosen, association.pairs_to_match(token_ids, chosen)

    (height, width), (down, right) = config.data.image_size, config.model.image.patch
    tokens = 1 + (height // down) * (width // right)
    of_index = rows(tokens, config.model.image.width, dtype=jnp.bfloat16), rows(dtype=jnp.int32)
    of_pairs = (*[rows(config.model.embed_dim, dtype=jnp.float32)] * 2, rows(dtype=jnp.int32))
    texts = rows(config.data.max_length, dtype=jnp.int32)
    parts = (
        (gather_rows, of_index),
        (gradient_of(gather_rows), of_index),
        (gathered, of_index),
        (gradient_of(gathered), of_index),
        (global_loss, of_pairs),
        (negatives, (*of_pairs, texts)),
    )
    return dict(zip(PROGRAMS, parts, strict=True))


def compiled_lines(mesh: Any, batch: int, only: Sequence[str]) -> Any:
    """Compiles the parts one by one and yields a line of the table for each."""
    import jax

    from cada_jax.distributed.mesh import traced_on

    def on_mesh(function):
        def traced(*arguments):
            with traced_on(mesh):
                return function(*arguments)

        return traced

    for name, (function, shapes) in programs(mesh, batch).items():
        if name not in only:
            continue
        start = time.monotonic()
        lowered = jax.jit(on_mesh(function)).lower(*shapes)
        try:
            compiled = lowered.compile()
        except jax.errors.JaxRuntimeError as error:
            if refused_memory(str(error)) is None:
                raise
            yield f"{batch:>8}  {name:<18} does not fit: {str(error).splitlines()[0][:150]}"
            continue
        analysis, text = compiled.memory_analysis(), compiled.as_text()
        assert analysis is not None and text is not None, "both compilers give both"
        found = collectives.read_collectives(hlo.parse(text))
        temporary = analysis.temp_size_in_bytes / 2**20
        sent = sum(collectives.total_bytes(found).values()) / 1e6
        seconds = time.monotonic() - start
        yield f"{batch:>8}  {name:<18} {temporary:>10.1f} {sent:>10.1f} {seconds:>8.0f}"


def read_flags(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags, checked."""
    parser = Parser("tools.device.whole_batch", __doc__)
    parser.add_argument("--device", required=True, help=topology.KNOWN)
    parser.add_argument("--mesh", type=arguments.mesh, help="as for tools.device.compile")
    parser.add_argument("--batch", type=integer(1), nargs="+", required=True, help="pairs")
    parser.add_argument("--only", nargs="*", default=PROGRAMS, choices=PROGRAMS, help="programs")
    return parser.flags(argv)


def run(argv: Sequence[str] | None) -> int:
    """Compiles what the flags ask for and prints the table; returns the exit code."""
    flags = read_flags(argv)
    target = topology.find_target(flags.device)
    config = default_config()
    sides = topology.set_mesh(config, flags.mesh, target)
    topology.prepare(target, sides)
    from cada_jax.distributed.mesh import check_batch, make_mesh

    devices = topology.devices_of(target, sides)
    made = make_mesh(config.mesh, devices)
    for batch in flags.batch:
        try:
            check_batch(made, batch, "--batch")
        except ValueError as error:
            raise UsageError(str(error)) from error
    print(f"{len(devices)} devices of {devices[0].device_kind}")
    print(f"{'batch':>8}  {'program':<18} {'MiB':>10} {'MB sent':>10} {'seconds':>8}")
    for batch in flags.batch:
        for line in compiled_lines(made, batch, flags.only):
            print(line, flush=True)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns the exit code."""
    return run_command(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
