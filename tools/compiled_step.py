"""The training step of a configuration, compiled for a mesh of simulated devices, never run.

What `tools.memory` and `tools.collectives` share. `simulate` must come before JAX is used.
"""

import argparse
import dataclasses
import math
import os
import time
from typing import Any

from ml_collections import ConfigDict

from tools import arguments, config_file


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say what to compile."""
    parser.add_argument("--config", default="rstp", help="rstp, rstp:large, or a path")
    parser.add_argument(
        "--mesh", type=arguments.mesh, default="1x1x1", help="DATAxFSDPxTENSOR, e.g. 2x4x1"
    )
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="FIELD=VALUE", help="e.g. model.dtype=bfloat16"
    )


def read_config(flags: argparse.Namespace) -> ConfigDict:
    """The configuration with its changes and the mesh; raises as `config_file.read_config`."""
    config = config_file.read_config(flags.config, flags.set)
    config.mesh.data, config.mesh.fsdp, config.mesh.tensor = flags.mesh
    return config


def title(flags: argparse.Namespace) -> str:
    """What was compiled, as the flags say it."""
    return f"{flags.config} {' '.join(flags.set)} on {'x'.join(map(str, flags.mesh))}"


def simulate(mesh: tuple[int, int, int]) -> None:
    """Makes JAX see as many CPU devices as the mesh has; before JAX is used."""
    os.environ["JAX_PLATFORMS"] = "cpu"
    devices = f"--xla_force_host_platform_device_count={math.prod(mesh)}"
    # Machine code of level 0: nothing here is run, and HLO is optimised all the same.
    os.environ["XLA_FLAGS"] = f"{devices} --xla_backend_optimization_level=0"


@dataclasses.dataclass(frozen=True)
class Step:
    """A training step that nothing is allocated for.

    config, mesh; state: shapes with shardings; function: the jitted step; compiled:
    `jax.stages.Compiled` or None; seconds: that compiling took.
    """

    config: ConfigDict
    mesh: Any
    state: Any
    function: Any
    compiled: Any = None
    seconds: float = 0.0


def abstract_batch(config: ConfigDict) -> dict:
    """Shapes of a training batch."""
    import jax
    import numpy as np

    rows, length = config.train.batch_size, config.data.max_length
    shapes = {
        "image": ((rows, *config.data.image_size, 3), np.uint8),
        "token_ids": ((rows, length), np.int32),
        "phrase_ids": ((rows, length), np.int32),
        "attribute_mask": ((rows, length), np.bool_),
        "pid": ((rows,), np.int32),
    }
    return {name: jax.ShapeDtypeStruct(*spec) for name, spec in shapes.items()}


def describe_step(config: ConfigDict) -> Step:
    """The step on its mesh, not compiled.

    Raises:
      UsageError: the mesh does not fit the batch, or the configuration cannot be.
    """
    from cada_jax.training import train_step
    from cada_jax.training.setup import make_setup

    setup = make_setup(config, steps_per_epoch=100)
    state = train_step.abstract_state(setup)
    return Step(config, setup.network.mesh, state, train_step.make_train_step(setup))


def compile_step(step: Step) -> Step:
    """The same with `compiled`."""
    import jax

    start = time.monotonic()
    key = jax.eval_shape(lambda: jax.random.key(0))
    compiled = step.function.lower(step.state, abstract_batch(step.config), key).compile()
    return dataclasses.replace(step, compiled=compiled, seconds=time.monotonic() - start)
