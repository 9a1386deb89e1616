"""The training step of a configuration, compiled for a mesh of simulated devices, never run.

What `tools.memory` and `tools.collectives` share. `simulate` must come before JAX is used.
"""

import argparse
import dataclasses
import os
import re
import time
from typing import Any

from ml_collections import ConfigDict

from cada_jax.common.errors import UsageError
from tools.config_file import load_config


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say what to compile."""
    parser.add_argument("--config", default="rstp", help="rstp, rstp:large, or a path")
    parser.add_argument("--mesh", default="1x1x1", help="DATAxFSDPxTENSOR, e.g. 2x4x1")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="FIELD=VALUE", help="e.g. model.dtype=bfloat16"
    )


def simulate(mesh: str) -> tuple[int, int, int]:
    """Makes JAX see as many CPU devices as the mesh has, and returns its sizes.

    Raises:
      UsageError: it is not of the form DATAxFSDPxTENSOR.
    """
    if not re.fullmatch(r"[1-9]\d*x[1-9]\d*x[1-9]\d*", mesh):
        raise UsageError(f"--mesh={mesh}: expected DATAxFSDPxTENSOR, as 2x4x1")
    data, fsdp, tensor = (int(size) for size in mesh.split("x"))
    os.environ["JAX_PLATFORMS"] = "cpu"
    devices = f"--xla_force_host_platform_device_count={data * fsdp * tensor}"
    # Machine code of level 0: nothing here is run, and HLO is optimised all the same.
    os.environ["XLA_FLAGS"] = f"{devices} --xla_backend_optimization_level=0"
    return data, fsdp, tensor


def parse_changes(config: ConfigDict, changes: list[str]) -> dict[str, Any]:
    """FIELD=VALUE as dotted field -> value of the field's type.

    Raises:
      UsageError: a field does not exist or cannot hold the value.
    """
    parsed = {}
    for change in changes:
        field, _, text = change.partition("=")
        try:
            old = config
            for name in field.split("."):
                old = old[name]
            if isinstance(old, bool):
                parsed[field] = {"true": True, "false": False}[text.lower()]
            else:
                parsed[field] = text if old is None else type(old)(text)
        except (KeyError, AttributeError, ValueError, TypeError) as e:
            raise UsageError(f"--set {change}: no such field, or not a value of its type") from e
    return parsed


def read_config(argument: str, changes: list[str], mesh: tuple[int, int, int]) -> ConfigDict:
    """The configuration with FIELD=VALUE changes and a mesh; raises as `parse_changes` does."""
    config = load_config(argument)
    config.update_from_flattened_dict(parse_changes(config, changes))
    config.mesh.data, config.mesh.fsdp, config.mesh.tensor = mesh
    return config


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
    import jax

    from cada_jax.common.pytrees import abstract_arrays
    from cada_jax.distributed import mesh as mesh_lib
    from cada_jax.models import cada
    from cada_jax.training import optimizer, train_step

    try:
        mesh = mesh_lib.make_mesh(config.mesh)
        for part in ("image", "text"):
            heads = config.model[part].heads
            mesh_lib.check_heads(mesh, heads, f"config.model.{part}.heads")
        mesh_lib.check_batch(mesh, config.train.batch_size, "config.train.batch_size")
        mesh_lib.check_accumulation(mesh, config.train.batch_size, config.train.accumulation)
        model = cada.from_config(config)
        tx = optimizer.make_optimizer(config, steps_per_epoch=100)
    except ValueError as e:
        raise UsageError(str(e)) from e
    shapes = jax.eval_shape(lambda: train_step.init_state(model, tx, config, mesh))
    state = abstract_arrays(shapes, train_step.state_shardings(mesh, shapes))
    function = train_step.make_train_step(model, tx, config, mesh)
    return Step(config, mesh, state, function)


def compile_step(step: Step) -> Step:
    """The same with `compiled`."""
    import jax

    start = time.monotonic()
    key = jax.eval_shape(lambda: jax.random.key(0))
    compiled = step.function.lower(step.state, abstract_batch(step.config), key).compile()
    return dataclasses.replace(step, compiled=compiled, seconds=time.monotonic() - start)
