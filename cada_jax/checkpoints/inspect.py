"""What is in a checkpoint, read as NumPy: without a mesh, a model or an accelerator.

The digest is of names, dtypes, shapes and values. How a run spread its parameters over devices
leaves no trace in it, so that two runs can be compared bit by bit whatever they ran on.
"""

import hashlib
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from cada_jax import config as config_lib
from cada_jax.checkpoints import arrays, manifest
from cada_jax.checkpoints.model import REMEDY as MODEL_REMEDY
from cada_jax.checkpoints.model import resolve_model
from cada_jax.checkpoints.run import INFO_FILE, ITEMS, REMEDY, check_provenance, steps_in
from cada_jax.common.errors import MissingFileError, needs_extra
from cada_jax.common.files import read_json
from cada_jax.common.pytrees import flat_arrays


class Stored(NamedTuple):
    """Parameters as they are stored.

    folder: where; step: of training, None for a model; params: nested dict of NumPy arrays;
    config: the run's or the model's, None where it is not written; provenance: see
    `run.Checkpoints`, {} of a model.
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


def _locate(path: str | os.PathLike) -> tuple[pathlib.Path, str | None]:
    """(folder of a checkpoint or model, the item it holds; None for a model) of a path or name."""
    if str(path).startswith(("pretrained:", "hf:")):
        return resolve_model(path), None
    root = arrays.folder_path(path)
    if root.name.isdigit() and root.parent.name in ITEMS and root.is_dir():
        return root, ITEMS[root.parent.name]
    if (root / "params").is_dir():
        return root, None
    if steps := steps_in(root / "checkpoints"):
        return root / "checkpoints" / str(steps[-1]), ITEMS["checkpoints"]
    raise MissingFileError(
        f"{root}: expected the folder of a run with a whole checkpoint in it, one of its "
        "checkpoints (WORKDIR/checkpoints/STEP or WORKDIR/best/STEP), or a model "
        f"(WORKDIR/model); {'it is none of these' if root.exists() else 'it does not exist'}."
    )


def read(path: str | os.PathLike) -> Stored:
    """Reads the parameters, and nothing else, of a run's latest checkpoint or of a given one.

    Args:
      path: a run's folder, WORKDIR/checkpoints/STEP, WORKDIR/best/STEP, or a model.

    Raises:
      MissingFileError: there is no checkpoint.
      UsageError: it is damaged.
    """
    folder, item = _locate(path)
    manifest.check(folder, REMEDY if item else MODEL_REMEDY)
    config = (folder.parent.parent if item else folder) / config_lib.CONFIG_FILE
    params = arrays.read(folder / (item or "params"), "params" if item == "state" else None)
    provenance = read_json(folder / INFO_FILE, "a checkpoint's")["provenance"] if item else {}
    return Stored(
        folder,
        int(folder.name) if item else None,
        params["params"] if item == "state" else params,
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
      provenance: what they have to be made from, see `run.Checkpoints`.

    Raises:
      UsageError: they do not fit, naming every array that does not; they are of another
        provenance; or as `read`.
    """
    stored = read(path)
    check_provenance(stored.folder, stored.provenance, provenance or {})
    arrays.check_fit(stored.folder, expected, stored.params)
    return stored.params


def describe(stored: Stored) -> str:
    """Path, step, configuration, parameter table and, as the last line, `sha256 HEX`."""
    with needs_extra("train"):
        from clu import parameter_overview

    written = config_lib.to_json(stored.config).rstrip() if stored.config else "not written"
    return "\n".join(
        [
            f"checkpoint {stored.folder}",
            f"step {'none: a model' if stored.step is None else stored.step}",
            f"config {written}",
            parameter_overview.get_parameter_overview(stored.params, include_stats=True),
            f"sha256 {digest(stored.params)}",
        ]
    )


def verify(path: str | os.PathLike) -> dict[pathlib.Path, str | None]:
    """What is wrong with every checkpoint and model at a path, None where nothing is.

    Args:
      path: a run's folder, one of its checkpoints, or a model.

    Raises:
      MissingFileError: there is none of these.
    """
    root = arrays.folder_path(path)
    there = [root / kind / str(step) for kind in ITEMS for step in steps_in(root / kind)]
    there += [root / "model"] if (root / "model").is_dir() else []
    folders = there if there and not (root / "params").is_dir() else [_locate(path)[0]]
    return {folder: manifest.damage(folder) for folder in folders}
