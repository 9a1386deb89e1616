"""The exported model folder: parameters, configuration, vocabulary.

MODEL/params/          the arrays (Orbax)
MODEL/config.json      the configuration
MODEL/vocab.txt        the vocabulary
MODEL/card.json        if given: how the model was made, what it scores
MODEL/cada_jax.json    checksums of all of these but the card; the mark of our folders
"""

import contextlib
import json
import os
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from cada_jax import config as config_lib
from cada_jax.checkpoints import digests, stored
from cada_jax.checkpoints.local_path import LocalPath, absolute, check_name
from cada_jax.common import files, log_file
from cada_jax.common.errors import MissingFileError, NoRoomError, UsageError
from cada_jax.common.pytrees import flat_arrays, to_host
from cada_jax.text.vocabulary import VOCABULARY_FILE

PRETRAINED = pathlib.Path(__file__).parent / "pretrained"
CARD_FILE = "card.json"
MARK_FILE = "cada_jax.json"
NEEDED = (config_lib.CONFIG_FILE, VOCABULARY_FILE, "params")
WHAT = "a model folder"
COMMITTED_FILE = "commit_success.txt"
# What Orbax writes into params/, by this and by older releases.
ORBAX_FILES = {
    "_CHECKPOINT_METADATA",
    "_METADATA",
    "_sharding",
    "array_metadatas",
    "checkpoint",
    COMMITTED_FILE,
    "d",
    "descriptor",
    "manifest.ocdbt",
}
REMEDY = "Export or copy that model again."


def is_exported(path: pathlib.Path) -> bool:
    """Whether a folder is an exported model and holds nothing else.

    Known by its mark; without one, as older versions left it, by its exact content.
    """
    if not path.is_dir() or not (path / "params").is_dir():
        return False
    names = {p.name for p in path.iterdir()}
    known = {*NEEDED, CARD_FILE, MARK_FILE, files.BEING_WRITTEN}
    inside = {p.name for p in (path / "params").iterdir()}
    foreign = {n for n in inside - ORBAX_FILES if not n.startswith("ocdbt.process_")}
    if names - known or foreign or not names & {MARK_FILE, *NEEDED[:2]}:
        return False
    if MARK_FILE in names:
        return '"sha256"' in (path / MARK_FILE).read_text(encoding="utf-8", errors="replace")
    return names >= set(NEEDED) and bool(inside & {"_METADATA", "_CHECKPOINT_METADATA"})


def check_model_target(path: str | os.PathLike, overwrite: bool = False) -> None:
    """Raises UsageError if `save_model` with the same arguments would refuse `path`."""
    check_name(path)
    files.check_target(path, overwrite, is_exported, WHAT)


def list_pretrained() -> list[str]:
    """Names of the models that the package ships, as `load_model` takes them."""
    found = sorted(p.parent.name for p in PRETRAINED.glob(f"*/{config_lib.CONFIG_FILE}"))
    return [f"pretrained:{name}" for name in found]


def resolve_model(name: str | os.PathLike) -> pathlib.Path:
    """The folder of an exported model; "pretrained:NAME" is the one shipped under that name.

    Raises:
      MissingFileError: there is no such folder, or it is not an exported model.
      UsageError: the path cannot be used.
    """
    if str(name).startswith("pretrained:"):
        path = PRETRAINED / str(name).removeprefix("pretrained:")
        shipped = sorted(p.parent.name for p in PRETRAINED.glob(f"*/{config_lib.CONFIG_FILE}"))
        hint = f"Shipped are: {', '.join(shipped) or 'none'}."
    else:
        path = absolute(name, str(name))
        hint = "A finished run writes one to WORKDIR/model."
        with contextlib.suppress(OSError):
            files.settle(path, is_exported)
    try:
        lacking = [file for file in NEEDED if not (path / file).exists()]
    except OSError as e:
        raise MissingFileError(f"{name}: expected an exported model, but {e.strerror}.") from e
    if lacking:
        raise MissingFileError(
            f"{name}: expected the folder of an exported model with {', '.join(NEEDED)}, but "
            f"{path} lacks {', '.join(lacking)}. {hint}"
        )
    check_name(path)
    return path


def save_model(
    path: str | os.PathLike,
    params: Any,
    config: ConfigDict,
    vocab_path: str | os.PathLike,
    card: dict | None = None,
    overwrite: bool = False,
) -> pathlib.Path:
    """Exports a model: params/ (Orbax), config.json, vocab.txt and, if given, card.json.

    The folder is made under another name and then renamed. Every process calls it; process 0
    writes.

    Args:
      path: the folder to make.
      params: pytree of arrays, on devices or hosts; stored as NumPy, so that any machine reads it.
      config: full config of the model.
      vocab_path: its vocabulary, copied.
      card: what a reader should know of the model: how made, what it scores. JSON values.
      overwrite: whether an exported model that is there is replaced.

    Returns:
      The absolute path.

    Raises:
      UsageError: `path` is neither new nor empty, and not an exported model that may be replaced.
    """
    path = absolute(path, str(path))
    writer = jax.process_index() == 0
    host_params = to_host(params)
    target = files.whole_folder(path, overwrite, is_exported, WHAT)
    with target if writer else contextlib.nullcontext(files.partial_folder(path)) as partial:
        if writer:
            _write_texts(partial, host_params, config, vocab_path, card)
        _write_arrays(partial / "params", path, host_params)
        if writer and (partial / "params" / COMMITTED_FILE).exists():
            # Orbax wrote the folder's whole path there, and whoever gets the model would read it.
            files.write_text(
                partial / "params" / COMMITTED_FILE, "Checkpoint commit was successful\n"
            )
    return path


def _write_arrays(folder: pathlib.Path, path: pathlib.Path, host_params: Any) -> None:
    try:
        with log_file.quiet_libraries(None):
            with ocp.StandardCheckpointer() as checkpointer:  # synchronises the processes itself
                checkpointer.save(LocalPath(folder), host_params)
    except Exception as e:
        reason = stored.no_room(e)
        if reason is None:
            raise
        log = log_file.record(None, e)
        raise NoRoomError(
            f"{path} could not be written: {reason}. Nothing half-written is left. What the "
            f"library said is in {log}. Make room there, then give the same command again."
        ) from e


def _write_texts(
    folder: pathlib.Path,
    host_params: Any,
    config: ConfigDict,
    vocab_path: str | os.PathLike,
    card: dict | None,
) -> None:
    shutil.copyfile(vocab_path, folder / VOCABULARY_FILE)
    files.write_text(folder / config_lib.CONFIG_FILE, config_lib.to_json(config))
    if card is not None:
        files.write_text(folder / CARD_FILE, json.dumps(card, indent=2) + "\n")
    files.write_text(folder / MARK_FILE, mark(folder, host_params))


def mark(folder: pathlib.Path, host_params: Any) -> str:
    """The content of MARK_FILE for the parameters and the text files of a folder."""
    texts = {name: digests.text_digest(folder / name) for name in NEEDED[:2]}
    return digests.dumps(digests.Parts(host_params).checksums(), texts=texts)


def stored_mark(folder: pathlib.Path) -> dict[str, Any] | None:
    """What MARK_FILE holds, None in a folder of an older version.

    Raises:
      UsageError: it is damaged, or config.json or vocab.txt is not what was exported.
    """
    file = folder / MARK_FILE
    if not file.exists():
        return None
    try:
        content = digests.loads(file.read_text(encoding="utf-8", errors="replace"))
        altered = [n for n, d in content["texts"].items() if digests.text_digest(folder / n) != d]
    except (KeyError, AttributeError, ValueError, OSError) as e:
        raise stored.unreadable(file, stored.shorten(e), remedy=REMEDY) from e
    if altered:
        raise UsageError(
            f"{folder / altered[0]}: expected the file as it was exported, but it was changed "
            f"since. Restore it; if the change is meant, delete {MARK_FILE} beside it."
        )
    return content


def check_arrays(folder: pathlib.Path, params: Any, content: dict[str, Any] | None) -> None:
    """Raises UsageError if the parameters of a folder are not those that were exported."""
    if content is None:
        return
    missing = sorted(set(content["arrays"]) - set(flat_arrays(params)))
    damaged = digests.find_damage(params, content["arrays"])
    if missing or damaged:
        reason = stored.changed([*missing, *damaged])
        raise stored.unreadable(folder / "params", reason, remedy=REMEDY)


def load_model(name: str | os.PathLike) -> tuple[dict, ConfigDict, pathlib.Path]:
    """Reads an exported model and compares it with its checksums.

    Args:
      name: its folder, or "pretrained:NAME".

    Returns:
      (params, config, vocab_path): nested dicts of NumPy arrays, the locked config, a file.

    Raises:
      MissingFileError: it is not there.
      UsageError: it cannot be read, or is not what was exported.
    """
    path = resolve_model(name)
    content = stored_mark(path)
    config = config_lib.read_config(path / config_lib.CONFIG_FILE)
    try:
        with log_file.quiet_libraries(None), ocp.StandardCheckpointer() as checkpointer:
            params = checkpointer.restore(LocalPath(path / "params"))
    except Exception as e:
        raise stored.unreadable(path / "params", e, remedy=REMEDY) from e
    if not flat_arrays(params):
        raise stored.unreadable(path / "params", "it holds no arrays", remedy=REMEDY)
    params = jax.tree.map(np.asarray, params)
    check_arrays(path, params, content)
    return params, config, path / VOCABULARY_FILE
