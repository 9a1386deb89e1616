"""Checks this implementation against PyTorch and prints one row per quantity.

    python tools/check_parity.py --golden DIR
        against a folder of numbers obtained from the released code (tests/golden is one); with
        --curves=FILE.svg the losses of a whole training of both are drawn,
    python tools/check_parity.py --torch CHECKPOINT [--images DIR --captions FILE]
        against Hugging Face's BLIP classes with the weights of a real checkpoint.

The exit status is 1 if any row breaks its bound, 2 if the input cannot be used.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from tools.arguments import Parser, command
from tools.parity.table import TOLERANCES, Table

# Two processes are simulated on two devices of one CPU; JAX reads this once, when it starts.
_DEVICES = "--xla_force_host_platform_device_count"


def check(flags: argparse.Namespace) -> Table:
    """Runs the comparison that the flags ask for.

    Raises:
      UsageError: its input cannot be used.
    """
    if _DEVICES not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_DEVICES}=2".strip()
    import jax

    # Accelerators would otherwise round the factors of a float32 product.
    jax.config.update("jax_default_matmul_precision", "highest")
    if flags.golden is not None:
        from tools.parity import whole_training
        from tools.parity.cases import check_golden

        if flags.curves:
            whole_training.draw(flags.golden, flags.curves)
        return check_golden(flags.golden, flags.dtype, flags.vocab)
    from tools.parity.hub import check_checkpoint

    return check_checkpoint(
        flags.torch, flags.config, flags.dtype, flags.images, flags.captions, flags.vocab
    )


def run(argv: Sequence[str] | None) -> int:
    """Prints the table of a comparison; returns the exit status."""
    parser = Parser("tools.check_parity", __doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--golden", metavar="DIR", help="folder of golden numbers")
    source.add_argument("--torch", metavar="CHECKPOINT", help="PyTorch checkpoint or folder")
    add = parser.add_argument
    add("--dtype", choices=sorted(TOLERANCES), default="float32", help="of our activations")
    add("--vocab", help="WordPiece vocabulary (vocab.txt)")
    add("--curves", metavar="FILE", help="with --golden: draws the trainings' losses")
    add("--images", metavar="DIR", help="with --torch: photographs to compare on")
    add("--captions", metavar="FILE", help="with --torch: one caption a line")
    add("--config", default="default", help="with --torch: file in configs/, or a path")
    table = check(parser.flags(argv))
    print(table)
    return 1 if table.failed else 0


main = command(run)

if __name__ == "__main__":
    sys.exit(main())
