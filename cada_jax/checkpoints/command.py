"""Prints what is in a checkpoint: step, configuration, parameters, and their SHA-256.

    python -m cada_jax inspect runs/demo                    the latest of a run
    python -m cada_jax inspect runs/demo/checkpoints/500    or runs/demo/best/500
    python -m cada_jax inspect runs/demo/model              an exported model
    python -m cada_jax inspect runs/demo --verify           are all of them as they were written?

The last line is `sha256 HEX`, of the parameters' names, dtypes, shapes and values alone: the same
whatever mesh the run had. With --verify there is one line for every checkpoint, the best and the
exported model instead: ok, damaged (and what), or no digest stored (saved by an older version).

The exit status is 1 if --verify finds damage, 2 if there is nothing that can be read.
"""

import argparse
import os
import sys

from cada_jax.common.command_line import DONE, Flags, run_command

DAMAGED = 1


def main(argv: list[str] | None = None) -> int:
    """Parses the flags and prints; returns the exit status."""
    return run_command(lambda: _inspect(_parse(argv)))


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Flags("cada_jax inspect", __doc__)
    parser.add_argument("path", help="a run's folder, a checkpoint in it, or an exported model")
    parser.add_argument(
        "--verify", action="store_true", help="compare every array with its stored checksum"
    )
    return parser.parse_args(argv)


def _inspect(flags: argparse.Namespace) -> int:
    # Whoever looks at a run must not take the accelerator that it runs on.
    os.environ["JAX_PLATFORMS"] = "cpu"
    from absl import logging

    from cada_jax.checkpoints import inspect, verify

    logging.set_verbosity(logging.ERROR)
    if not flags.verify:
        print(inspect.describe(inspect.read(flags.path)))
        return DONE
    findings = verify.verify(flags.path)
    for finding in findings:
        print(finding)
    return DAMAGED if any(finding.damage for finding in findings) else DONE


if __name__ == "__main__":
    sys.exit(main())
