"""What is in a checkpoint, read as NumPy: without a mesh, a model or an accelerator.

The digest is of names, dtypes, shapes and values. How a run spread its parameters over devices
leaves no trace in it, so that two runs can be compared bit by bit whatever they ran on.
"""

import hashlib
import os
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from clu import parameter_overview
from ml_collections import ConfigDict

from cada_jax import config as config_lib
from cada_jax.checkpoints import digests, export
from cada_jax.checkpoints import stored as stored_lib
from cada_jax.checkpoints.local_path import LocalPath, absolute
from cada_jax.checkpoints.manager import Checkpoints
from cada_jax.common import log_file
from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.common.pytrees import compare_trees, flat_arrays


class Stored(NamedTuple):
    """Parameters as they are stored.

    folder: where; step: of training, None for an exported model; params: nested dict of NumPy
    arrays; config: the run's or the model's, None where it is not written; provenance: see
    `manager.Checkpoints`, {} where it is not written.
    """

    folder: pathlib.Path
    step: int | None
    params: dict[str, Any]
    config: ConfigDict | None
    provenance: dict[str, Any] = {}


def digest(params: Any) -> str:
    """SHA-256, in hexadecimal, of a pytree of arrays: names in order, dtypes, shapes, values."""
    sha = hashlib.sha256()
    for name, leaf in sorted(flat_arrays(params).items()):
        array = np.asarray(leaf)
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        sha.update(f"{name} {array.dtype.name} {array.shape}\n".encode())
        sha.update(little.tobytes())
    return sha.hexdigest()


def _locate(path: pathlib.Path) -> tuple[pathlib.Path, str, int | None, pathlib.Path]:
    """(folder of the arrays, item, step, folder of config.json) of what `path` names."""
    if path.name.isdigit():
        for item in ("state", "params"):
            if (path / item).is_dir():
                return path / item, item, int(path.name), path.parent.parent
    if (path / "params").is_dir():
        return path / "params", "model", None, path
    if path.is_dir():
        with Checkpoints(path, read_only=True) as saved:
            step = saved.latest_step
        if step is not None:
            return path / "checkpoints" / str(step) / "state", "state", step, path
    raise MissingFileError(
        f"{path}: expected the folder of a run with a whole checkpoint in it, one of its "
        "checkpoints (WORKDIR/checkpoints/STEP or WORKDIR/best/STEP), or an exported model "
        f"(WORKDIR/model); {'it is none of these' if path.exists() else 'it does not exist'}."
    )


def read_arrays(folder: pathlib.Path, part: str | None = None) -> dict[str, Any]:
    """What Orbax stored in a folder, as NumPy, whatever devices wrote it; nothing is compared.

    Args:
      folder: of one item, as WORKDIR/checkpoints/STEP/state.
      part: the only branch to read; it stays below this name.

    Raises:
      UsageError: it cannot be read.
    """
    try:
        with (
            log_file.quiet_libraries(None),
            ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer,
        ):
            tree = checkpointer.metadata(LocalPath(folder)).item_metadata.tree
            tree = {part: tree[part]} if part else tree
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), tree)
            shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), tree)
            args = ocp.args.PyTreeRestore(shapes, restore_args=as_numpy, partial_restore=True)
            return checkpointer.restore(LocalPath(folder), args=args)
    except Exception as e:
        raise stored_lib.unreadable(folder, e, remedy="Give the path of another one.") from e


def read(path: str | os.PathLike) -> Stored:
    """Reads the parameters, and nothing else, of a run's latest checkpoint or of a given one.

    Args:
      path: a run's folder, WORKDIR/checkpoints/STEP, WORKDIR/best/STEP or an exported model.

    Raises:
      MissingFileError: there is no checkpoint.
      UsageError: it cannot be read.
    """
    folder, item, step, root = _locate(absolute(path, str(path)))
    content = export.stored_mark(root) if item == "model" else None
    provenance = {}
    arrays = read_arrays(folder, "params" if item == "state" else None)
    if item == "model":
        export.check_arrays(root, arrays, content)
    else:
        kept = stored_lib.stored_digests(folder.parent)
        provenance = kept.provenance if kept else {}
        damaged = digests.find_damage(arrays, kept.arrays) if kept else []
        if damaged:
            raise stored_lib.unreadable(folder, stored_lib.changed(damaged))
    params = arrays["params"] if item == "state" else arrays
    config = root / config_lib.CONFIG_FILE
    return Stored(
        folder,
        step,
        params,
        config_lib.read_config(config) if config.exists() else None,
        provenance,
    )


def read_params(
    path: str | os.PathLike, expected: Any, provenance: dict | None = None
) -> dict[str, Any]:
    """The parameters of a checkpoint, without the optimizer's moments, as NumPy.

    Args:
      path: as in `read`.
      expected: pytree of arrays or shapes that they have to fit.
      provenance: what they have to be made from, see `manager.Checkpoints`.

    Raises:
      UsageError: they do not fit, naming every array that does not; they are of another
        provenance; or as `read`.
    """
    stored = read(path)
    stored_lib.check_provenance(stored.folder, stored.provenance, provenance or {})
    difference = compare_trees(expected, stored.params)
    if difference:
        raise UsageError(
            f"{stored.folder} was saved for another model:\n{difference}\n"
            "Use the configuration it was trained with, or another --workdir."
        )
    return stored.params


def describe(stored: Stored) -> str:
    """Path, step, configuration, parameter table and, as the last line, `sha256 HEX`."""
    written = config_lib.to_json(stored.config).rstrip() if stored.config else "not written"
    return "\n".join(
        [
            f"checkpoint {stored.folder}",
            f"step {'none: an exported model' if stored.step is None else stored.step}",
            f"config {written}",
            parameter_overview.get_parameter_overview(stored.params, include_stats=True),
            f"sha256 {digest(stored.params)}",
        ]
    )
