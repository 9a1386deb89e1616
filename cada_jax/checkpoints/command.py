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

from cada_jax.common.errors import UsageError


def main(argv: list[str] | None = None) -> int:
    """Parses the flags and prints; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m cada_jax inspect",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", help="a run's folder, a checkpoint in it, or an exported model")
    parser.add_argument(
        "--verify", action="store_true", help="compare every array with its stored checksum"
    )
    flags = parser.parse_args(argv)
    # Whoever looks at a run must not take the accelerator that it runs on.
    os.environ["JAX_PLATFORMS"] = "cpu"
    from absl import logging

    from cada_jax.checkpoints import inspect, verify

    logging.set_verbosity(logging.ERROR)
    try:
        if not flags.verify:
            print(inspect.describe(inspect.read(flags.path)))
            return 0
        findings = verify.verify(flags.path)
    except UsageError as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    for finding in findings:
        print(finding)
    return 1 if any(finding.damage for finding in findings) else 0


if __name__ == "__main__":
    sys.exit(main())
