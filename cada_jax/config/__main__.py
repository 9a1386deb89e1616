"""`python -m cada_jax.config` prints every field of the configuration as a Markdown table."""

import sys

from cada_jax.common.command_line import DONE, run_command
from cada_jax.config.reference import describe_fields


def show() -> int:
    """Prints the table."""
    print(describe_fields())
    return DONE


if __name__ == "__main__":
    sys.exit(run_command(show))
