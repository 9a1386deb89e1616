"""How long the attention kernels take by the TPU compiler's own schedule, beside their roofline.

    python -m tools.device.kernels --device=v5e:2x4 --config=rstp

The HLO has no estimate for a Pallas kernel. But the compiler schedules it instruction by
instruction, and can write down how many bundles, which a core starts one a cycle, it came to. The
kernels of a training step are compiled one by one, each sequence of theirs counted with its
bundles. What the count leaves out is waiting for memory; the roofline is of that as well.

The flags that make the compiler write are undocumented: tried with libtpu 0.0.42.
"""

import argparse
import math
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Sequence
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from cada_jax.common.command_line import run_command
from cada_jax.common.errors import UsageError
from tools import config_file
from tools.arguments import Parser
from tools.device import topology
from tools.device.chips import Chip

_BUNDLES = re.compile(r"total scheduled bundles:\s+(\d+)")
_FILES = "*attention_{}*schedule-analysis_final_bundles.txt"
# Products of a head's scores or weights with something: of the forward pass, of the backward pass.
PRODUCTS = {"forward": 2, "backward": 5}


class Case(NamedTuple):
    """One attention of a step on a device.

    name; layers: of the part of the model it is in; rows: sequences; tokens, images, seen: queries
    [rows, tokens, D] attend [images, seen, D]; bias: tokens of the bias, 0 for none.
    """

    name: str
    layers: int
    rows: int
    tokens: int
    images: int
    seen: int
    bias: int


def cases(config: ConfigDict, devices: int) -> list[Case]:
    """Every attention of a training step whose batch `devices` share."""
    c, rows, length = config.model, config.train.batch_size // devices, config.data.max_length
    grid = math.prod(s // p for s, p in zip(c.image.size, c.image.patch, strict=True)) + 1
    image, text = c.image.depth, c.text.depth
    masked = length if config.ara.causal else 1
    return [
        Case("image encoder", image, rows, grid, rows, grid, 0),
        Case("text encoder", text, rows, length, rows, length, 1),
        Case("decoder, itself", text, 3 * rows, length, 3 * rows, length, 1),
        Case("decoder, image", text, 3 * rows, length, 2 * rows, grid, 0),
        Case("attribute decoder, itself", text, rows, length, rows, length, masked),
        Case("attribute decoder, image", text, rows, length, rows, grid, 0),
    ]


def read_bundles(folder: pathlib.Path) -> dict[str, int]:
    """Bundles of a kernel's forward and backward pass, from what the compiler wrote in a folder.

    Raises:
      UsageError: it wrote none, as a libtpu that does not know the flags would.
    """
    found = {}
    for which in PRODUCTS:
        files = sorted(folder.glob(_FILES.format(which)))
        counts = [_BUNDLES.search(f.read_text(encoding="utf-8", errors="replace")) for f in files]
        counts = [int(count[1]) for count in counts if count]
        if not counts:
            raise UsageError(
                "the compiler wrote no schedule of its kernels: expected libtpu 0.0.42, whose "
                "undocumented flags this needs; pip install 'libtpu==0.0.42.*'"
            )
        found[which] = max(counts)
    return found


def _compile(case: Case, config: ConfigDict, device: Any) -> None:
    """Compiles a case's forward and backward pass for one device."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import SingleDeviceSharding

    from cada_jax.models.fused_attention import fused_attention

    width = config.model.image.width if case.name == "image encoder" else config.model.text.width
    rate = 0.0 if case.name == "image encoder" else config.model.text.dropout
    whole = SingleDeviceSharding(device)

    def shape(*sizes, dtype=jnp.bfloat16):
        return jax.ShapeDtypeStruct(sizes, dtype, sharding=whole)

    def both(q, k, v, grad, bias, index, keys):
        def attend(q, k, v):
            return fused_attention(q, (k, v), bias, index, keys, rate)

        out, pull = jax.vjp(attend, q, k, v)
        return out, pull(grad)

    queries = shape(case.rows, case.tokens, width)
    seen = shape(case.images, case.seen, width)
    bias = shape(case.rows, case.bias, case.seen, dtype=jnp.float32) if case.bias else None
    groups = (case.images // 2, 2 * case.rows // case.images)
    index = shape(*groups, dtype=jnp.int32) if case.rows != case.images else None
    keys = shape(case.rows, 2, dtype=jnp.int32)
    jax.jit(both).lower(queries, seen, seen, queries, bias, index, keys).compile()


def roofline(case: Case, width: int, which: str, chip: Chip) -> float:
    """Seconds of a pass: the larger of its FLOP and its bytes; bfloat16, heads of any size."""
    flops = PRODUCTS[which] * 2 * case.rows * case.tokens * case.seen * width
    queries, seen = case.rows * case.tokens * width, case.images * case.seen * width
    # Read: q, k, v, and the gradient; written: the output, or the gradients of q, k and v.
    numbers = 2 * queries + 2 * seen if which == "forward" else 3 * queries + 4 * seen
    return max(flops / chip.peak, 2 * numbers / chip.bandwidth)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.add_argument("--device", default="v5e:2x4", help="a TPU, e.g. v5e:2x4, v6e:2x4")
    parser.add_argument("--config", default="rstp", help="rstp, rstp:large, or a path")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="FIELD=VALUE", help="e.g. train.batch_size=240"
    )


def run(argv: Sequence[str] | None) -> int:
    """Compiles each kernel and prints the table; returns the exit code."""
    parser = Parser("tools.device.kernels", __doc__)
    add_flags(parser)
    flags = parser.flags(argv)
    target = topology.find_target(flags.device)
    if target.platform != "tpu" or target.chip is None:
        raise UsageError(f"--device={flags.device}: expected a TPU, whose compiler makes kernels")
    config, chip = config_file.read_config(flags.config, flags.set), target.chip
    if config.train.batch_size % target.devices:
        raise UsageError(
            f"train.batch_size = {config.train.batch_size} is not a multiple of the "
            f"{target.devices} chips of --device={flags.device}"
        )
    topology.prepare(target, (target.devices, 1, 1))
    with tempfile.TemporaryDirectory(prefix="cada_kernels_") as folder:
        # Read once, when the compiler is loaded.
        os.environ["LIBTPU_INIT_ARGS"] = f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true"
        device = topology.devices_of(target, (target.devices, 1, 1))[0]
        print(f"{flags.config} on {flags.device}, batch {config.train.batch_size}, each chip")
        print(f"{'attention':<28}{'sequences':>10}{'bundles':>16}{'ms a step':>12}{'roofline':>10}")
        totals = [0.0, 0.0]
        for case in cases(config, target.devices):
            _compile(case, config, device)
            bundles = read_bundles(pathlib.Path(folder))
            for file in pathlib.Path(folder).iterdir():
                file.unlink()
            part = config.model.image if case.name == "image encoder" else config.model.text
            runs = case.layers * case.rows * sum(bundles.values()) / chip.clock
            bound = case.layers * sum(roofline(case, part.width, w, chip) for w in PRODUCTS)
            totals = [totals[0] + runs, totals[1] + bound]
            each = " + ".join(str(bundles[which]) for which in PRODUCTS)
            print(
                f"{case.name:<28}{case.rows:>10}{each:>16}{1e3 * runs:>12.2f}{1e3 * bound:>10.2f}"
            )
        print(f"{'all':<54}{1e3 * totals[0]:>12.2f}{1e3 * totals[1]:>10.2f}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the tool; returns the exit code."""
    return run_command(lambda: run(argv))


if __name__ == "__main__":
    sys.exit(main())
