"""The folder of a model: parameters, configuration, vocabulary.

MODEL/params/          the arrays (Orbax)
MODEL/config.json      the configuration
MODEL/vocab.txt        the vocabulary
MODEL/card.json        if given: how the model was made, what it knows, what it scores
MODEL/cada_jax.json    the manifest of all of these, which marks our folders
"""

import contextlib
import os
import pathlib
import shutil
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from cada_jax import config as config_lib
from cada_jax.checkpoints import arrays, hub, manifest
from cada_jax.common import files, log_file
from cada_jax.common.errors import MissingFileError
from cada_jax.common.pytrees import to_host
from cada_jax.text.vocabulary import VOCABULARY_FILE

PRETRAINED = pathlib.Path(__file__).parent / "pretrained"
PRETRAINED_PREFIX = "pretrained:"
CARD_FILE = "card.json"
# What a card says that a model knows.
DRAWINGS, PHOTOGRAPHS = "drawings of generated people", "photographs"
NEEDED = (config_lib.CONFIG_FILE, VOCABULARY_FILE, "params")
WHAT = "a model folder"
REMEDY = "Export or copy that model again."
COMMITTED_FILE = "commit_success.txt"  # Orbax's


class Model(NamedTuple):
    """What a model's folder holds.

    params: nested dicts of NumPy arrays; config: locked; vocab_path: a file; card: {} without one.
    """

    params: dict[str, Any]
    config: ConfigDict
    vocab_path: pathlib.Path
    card: dict[str, Any]


def list_pretrained() -> list[str]:
    """Names of the models that the package ships, as `load_model` takes them."""
    found = PRETRAINED.glob(f"*/{config_lib.CONFIG_FILE}")
    return sorted(f"{PRETRAINED_PREFIX}{p.parent.name}" for p in found)


def resolve_model(name: str | os.PathLike) -> pathlib.Path:
    """The folder of a model, which a name of the hub is converted to at its first use.

    Args:
      name: a folder, "pretrained:NAME" for one that the package ships, or "hf:ORG/NAME".

    Raises:
      MissingFileError: there is no such folder, or it is no model's.
      UsageError: the path cannot be used.
    """
    if str(name).startswith(hub.PREFIX):
        return hub.local_model(str(name))
    if str(name).startswith(PRETRAINED_PREFIX):
        path = PRETRAINED / str(name).removeprefix(PRETRAINED_PREFIX)
        hint = f"Shipped are: {', '.join(list_pretrained())}."
    else:
        path = arrays.folder_path(name)
        hint = "A finished run writes one to WORKDIR/model."
        with contextlib.suppress(OSError):
            files.settle(path, manifest.holds_nothing_else)
    lacking = [file for file in NEEDED if not (path / file).exists()]
    if lacking:
        raise MissingFileError(
            f"{name}: expected the folder of a model with {', '.join(NEEDED)}, but {path} lacks "
            f"{', '.join(lacking)}. {hint}"
        )
    return path


def check_model_target(path: str | os.PathLike, overwrite: bool = False) -> pathlib.Path:
    """Returns the absolute path; raises UsageError if `save_model` would refuse it."""
    path = arrays.folder_path(path)
    files.check_target(path, overwrite, manifest.holds_nothing_else, WHAT)
    return path


def save_model(
    path: str | os.PathLike,
    params: Any,
    config: ConfigDict,
    vocab_path: str | os.PathLike,
    card: dict | None = None,
    overwrite: bool = False,
) -> pathlib.Path:
    """Writes a model's folder, whole or not at all. Every process calls it; process 0 writes.

    Args:
      path: the folder to make.
      params: pytree of arrays, on devices or hosts; stored as NumPy, so that any machine reads it.
      config: full config of the model.
      vocab_path: its vocabulary, copied.
      card: what a reader should know of the model. JSON values.
      overwrite: whether a model that is there is replaced.

    Returns:
      The absolute path.

    Raises:
      UsageError: `path` is neither new nor empty, and not a model that may be replaced.
      NoRoomError: the disk is full; what was there stays.
    """
    path = arrays.folder_path(path)
    host_params = to_host(params)
    ours, partial = jax.process_index() == 0, files.partial_folder(path)
    try:
        with log_file.quiet_libraries(None), contextlib.ExitStack() as stack:
            if ours:
                target = files.whole_folder(path, overwrite, manifest.holds_nothing_else, WHAT)
                partial = stack.enter_context(target)
                shutil.copyfile(vocab_path, partial / VOCABULARY_FILE)
                files.write_text(partial / config_lib.CONFIG_FILE, config_lib.to_json(config))
                if card is not None:
                    files.write_json(partial / CARD_FILE, card)
            arrays.save(partial / "params", host_params)
            if ours:
                committed = partial / "params" / COMMITTED_FILE
                if committed.exists():  # Orbax wrote the folder's whole path there
                    committed.write_text("Checkpoint commit was successful\n")
                manifest.write(partial)
    except Exception as e:
        explained = arrays.no_room(e, f"{path}: nothing half-written is left")
        if explained is None:
            raise
        raise explained from e
    return path


def update_card(name: str | os.PathLike, entries: dict[str, Any]) -> None:
    """Adds entries to the card of a model that is there; raises as `resolve_model` and `check`."""
    path = resolve_model(name)
    manifest.check(path, REMEDY)
    card = path / CARD_FILE
    known = files.read_json(card, "a model's card") if card.exists() else {}
    files.write_json(card, known | entries)
    manifest.write(path)


def load_model(name: str | os.PathLike) -> Model:
    """Reads a model and compares it with its manifest.

    Raises:
      MissingFileError: it is not there.
      UsageError: it cannot be read, or is not as it was written.
    """
    path = resolve_model(name)
    manifest.check(path, REMEDY)
    card = path / CARD_FILE
    return Model(
        arrays.read(path / "params"),
        config_lib.read_config(path / config_lib.CONFIG_FILE),
        path / VOCABULARY_FILE,
        files.read_json(card, "a model's card") if card.exists() else {},
    )
