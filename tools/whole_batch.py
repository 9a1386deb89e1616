"""The parts of a training step that see the whole batch, each compiled alone for many devices.

    python -m tools.whole_batch --devices=512 --batch 7680 30720
    python -m tools.whole_batch --tpu=v5p:8x8x8 --batch 7680 30720

Devices are simulated on the CPU, or those of a TPU slice that is not there: its compiler, libtpu,
needs none. All devices share the batch. Nothing is run. A line of the table is one program:

    tokens            image tokens of the negatives, brought to the rows that want them
    gradient          the same for the gradient of these tokens
    gathered          tokens, every device gathering those of the whole batch, to compare
    gathered gradient the gradient of that
    global loss       similarities of all pairs, the loss and its gradient
    negatives         the choice of negatives, and the texts that are decoded

MiB are what a program needs beside its arguments and results; on a TPU, in HBM alone. MB sent is
the size of all operands of the collectives, on one device.
"""

import argparse
import math
import os
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

from cada_jax.common.command_line import run_command
from cada_jax.common.errors import UsageError
from tools.arguments import MOST_DEVICES, Parser, integer

# What libtpu needs to compile on a machine that has none.
TPU_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
PROGRAMS = (
    "tokens",
    "gradient",
    "gathered",
    "gathered gradient",
    "global loss",
    "negatives",
)
_COLLECTIVE = re.compile(
    r" = (.*?) (?:all-reduce|all-gather|reduce-scatter|all-to-all)(?:-start)?\("
)
_SHAPE = re.compile(r"(bf16|f32|s32|pred)\[([\d,]*)\]")
_SIZES = {"bf16": 2, "f32": 4, "s32": 4, "pred": 1}


def tpu_devices(topology: str) -> list:
    """The devices of a slice such as "v5p:8x8x8".

    Raises:
      UsageError: libtpu is missing or knows no such slice.
    """
    from jax.experimental import topologies

    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    except Exception as error:  # JAX raises what libtpu says, in several types
        reason = str(error).strip().splitlines()[0][:150] if str(error).strip() else repr(error)
        raise UsageError(
            f"--tpu={topology}: expected a slice that the TPU's compiler knows, as v5e:2x4 or "
            f"v5p:8x8x8, and libtpu installed (pip install -e '.[tpu]'); got: {reason}"
        ) from error


def programs(mesh: Any, batch: int) -> dict[str, tuple]:
    """Name -> (function, shapes of its arguments) of each part, at full size in bfloat16."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import PartitionSpec

    from cada_jax.config import default_config
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


def bytes_sent(text: str) -> int:
    """Bytes of a compiled program's collectives on one device; none of these is in a loop."""
    return sum(
        _SIZES[dtype] * math.prod(int(n) for n in shape.split(",") if n)
        for result in _COLLECTIVE.findall(text)
        for dtype, shape in _SHAPE.findall(result)
    )


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
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            yield f"{batch:>8}  {name:<18} does not fit: {str(error).splitlines()[0][:150]}"
            continue
        analysis, text = compiled.memory_analysis(), compiled.as_text()
        assert analysis is not None and text is not None, "both compilers give both"
        temporary, sent = analysis.temp_size_in_bytes / 2**20, bytes_sent(text) / 1e6
        seconds = time.monotonic() - start
        yield f"{batch:>8}  {name:<18} {temporary:>10.1f} {sent:>10.1f} {seconds:>8.0f}"


def read_flags(argv: Sequence[str] | None) -> argparse.Namespace:
    """The flags, checked."""
    parser = Parser("tools.whole_batch", __doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--devices", type=integer(2, MOST_DEVICES), help="simulated on the CPU")
    where.add_argument("--tpu", metavar="SLICE", help="e.g. v5e:2x4, v5p:8x8x8")
    parser.add_argument("--batch", type=integer(1), nargs="+", required=True, help="pairs")
    parser.add_argument("--only", nargs="*", default=PROGRAMS, choices=PROGRAMS, help="programs")
    return parser.flags(argv)


def run(argv: Sequence[str] | None) -> int:
    """Compiles what the flags ask for and prints the table; returns the exit code."""
    flags = read_flags(argv)
    os.environ["JAX_PLATFORMS"] = "cpu"
    if flags.tpu:
        os.environ.update(TPU_ENVIRONMENT)
    else:
        devices = f"--xla_force_host_platform_device_count={flags.devices}"
        os.environ["XLA_FLAGS"] = f"{devices} --xla_backend_optimization_level=0"
    import jax

    from cada_jax.config import default_config
    from cada_jax.distributed.mesh import check_batch, make_mesh

    devices = tpu_devices(flags.tpu) if flags.tpu else jax.devices()[: flags.devices]
    mesh = make_mesh(default_config().mesh, devices)
    for batch in flags.batch:
        try:
            check_batch(mesh, batch, "--batch")
        except ValueError as error:
            raise UsageError(str(error)) from error
    print(f"{len(devices)} devices of {devices[0].device_kind}")
    print(f"{'batch':>8}  {'program':<18} {'MiB':>10} {'MB sent':>10} {'seconds':>8}")
    for batch in flags.batch:
        for line in compiled_lines(mesh, batch, flags.only):
            print(line, flush=True)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns the exit code."""
    return run_command(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
