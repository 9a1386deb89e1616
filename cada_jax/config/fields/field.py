"""One field of the configuration."""

import dataclasses
from typing import Any

from cada_jax.config.kinds import Kind

# When a field may differ from what WORKDIR/config.json holds.
NEVER = "never"  # it decides the numbers of the run or the shape of the network
SCORED = "scored"  # while a trained run is scored: it is no part of the network or its input
CONTINUED = "continued"  # at any time: places, how often something is said, how work is divided


@dataclasses.dataclass(frozen=True)
class Same:
    """The default of a field that follows the field `name`."""

    name: str


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of the configuration.

    Attributes:
      name: dotted, below `config`.
      default: its value in `default_config()`.
      kind: the values that it allows.
      meaning: what it is, with its unit.
      change: NEVER, SCORED or CONTINUED.
    """

    name: str
    default: Any
    kind: Kind
    meaning: str
    change: str = NEVER
