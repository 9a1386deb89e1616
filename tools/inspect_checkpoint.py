"""Prints what is in a checkpoint: step, configuration, parameters, and their SHA-256.

    python tools/inspect_checkpoint.py runs/demo                    the latest of a run
    python tools/inspect_checkpoint.py runs/demo/checkpoints/500    or runs/demo/best/500
    python tools/inspect_checkpoint.py runs/demo/model              an exported model

The last line is `sha256 HEX`, of the parameters' names, dtypes, shapes and values alone: the same
whatever mesh the run had. The exit status is 2 if there is nothing that can be read.
"""

import argparse
import os
import sys

# Whoever looks at a run must not take the accelerator that it runs on.
os.environ["JAX_PLATFORMS"] = "cpu"

from absl import logging  # noqa: E402

from cada_jax.checkpoints import inspect  # noqa: E402
from cada_jax.common.errors import UsageError  # noqa: E402


def main() -> int:
    """Parses the flags and prints; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", help="a run's folder, a checkpoint in it, or an exported model")
    logging.set_verbosity(logging.ERROR)
    try:
        print(inspect.describe(inspect.read(parser.parse_args().path)))
    except UsageError as err:
        print(f"error: {err}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
