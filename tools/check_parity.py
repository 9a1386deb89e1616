"""Checks this implementation against PyTorch and prints one row per quantity.

    python tools/check_parity.py --golden DIR
        against a folder of numbers obtained from the released code (tests/golden is one),
    python tools/check_parity.py --torch CHECKPOINT [--images DIR --captions FILE]
        against Hugging Face's BLIP classes with the weights of a real checkpoint.

The exit status is 1 if any row breaks its bound, 2 if the input cannot be used.
"""

import argparse
import os
import pathlib
import sys

# Two processes are simulated on two devices of one CPU; JAX reads this once, when it starts.
_DEVICES = "--xla_force_host_platform_device_count"
if _DEVICES not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_DEVICES}=2".strip()
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import jax  # noqa: E402

from cada_jax.common.errors import UsageError  # noqa: E402
from parity import network_cases, retrieval_cases  # noqa: E402
from parity.golden import Golden  # noqa: E402
from parity.table import TOLERANCES, Table  # noqa: E402

CASES = {
    "a_forward": network_cases.forward,
    "a_posembed": network_cases.positions,
    "b_losses": network_cases.loss_values,
    "b_degenerate": network_cases.degenerate,
    "b_hardneg": network_cases.hard_negatives,
    "c_train": network_cases.training,
    "d_eval": retrieval_cases.evaluation,
    "d_metrics": retrieval_cases.metrics,
    "e_attr": retrieval_cases.attributes,
    "f_world2": retrieval_cases.two_processes,
}


def check_golden(folder: str, dtype: str, vocab: str | None = None) -> Table:
    """Runs every case that `folder` holds."""
    golden, table = Golden(folder, dtype), Table(dtype)
    for case, compare in CASES.items():
        if not golden.has(case):
            table.absent(case, f"no {case}.npz in the folder")
        elif case == "e_attr":
            compare(golden, table, vocab)
        else:
            compare(golden, table)
    return table


def main() -> int:
    """Parses the flags, prints the table; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--golden", metavar="DIR", help="folder of golden numbers")
    source.add_argument("--torch", metavar="CHECKPOINT", help=".pth, .safetensors or folder")
    parser.add_argument("--dtype", choices=sorted(TOLERANCES), default="float32",
                        help="of our activations")  # fmt: skip
    parser.add_argument("--vocab", help="WordPiece vocabulary (vocab.txt)")
    parser.add_argument("--images", metavar="DIR", help="with --torch: photographs to compare on")
    parser.add_argument("--captions", metavar="FILE", help="with --torch: one caption a line")
    parser.add_argument("--config", default="default", help="with --torch: file in configs/")
    flags = parser.parse_args()
    # Accelerators would otherwise round the factors of a float32 product.
    jax.config.update("jax_default_matmul_precision", "highest")
    try:
        if flags.golden:
            table = check_golden(flags.golden, flags.dtype, flags.vocab)
        else:
            from parity.hub import check_checkpoint

            table = check_checkpoint(
                flags.torch, flags.config, flags.dtype, flags.images, flags.captions, flags.vocab
            )
    except UsageError as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    print(table)
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
