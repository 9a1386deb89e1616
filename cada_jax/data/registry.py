"""From `config.data` to a prepared TFDS builder: where it lies, is it there, make it."""

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from cada_jax.common.errors import MissingFileError, UsageError, reading
from cada_jax.common.files import local_path
from cada_jax.data.datasets.cuhk.builder import Cuhk
from cada_jax.data.datasets.folder.builder import Folder
from cada_jax.data.datasets.folder_builder import FolderBuilder
from cada_jax.data.datasets.icfg.builder import Icfg
from cada_jax.data.datasets.rstp.builder import Rstp
from cada_jax.data.datasets.synthetic.builder import Synthetic, SyntheticConfig
from cada_jax.data.preparation.features import caption_config
from cada_jax.data.preparation.prepared_folder import is_prepared, write_records
from cada_jax.text.taggers import DEFAULT_TAGGER

# Data sets that come as a folder; `synthetic` draws itself.
PUBLISHED: dict[str, type[FolderBuilder]] = {"rstp": Rstp, "cuhk": Cuhk, "icfg": Icfg}
FOLDERS: dict[str, type[FolderBuilder]] = PUBLISHED | {"folder": Folder}


def hide_accelerators() -> None:
    """Keeps TensorFlow off GPUs and TPUs, whose memory belongs to JAX."""
    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)


def data_folder(config: ConfigDict) -> Path:
    """Returns the folder of prepared sets: data.data_dir, $CADA_DATA_DIR or ~/cada_data."""
    chosen = config.data.data_dir or os.environ.get("CADA_DATA_DIR") or "~/cada_data"
    return local_path(chosen)


@contextlib.contextmanager
def undamaged(config: ConfigDict, folder: str | os.PathLike) -> Iterator[None]:
    """Turns whatever the block raises of damaged files in `folder` into one error with a remedy."""
    try:
        with reading(folder, "prepared data"):
            yield
    except UsageError as err:
        remedy = "Remove that folder; the next run draws the people again"
        if config.data.name in FOLDERS:
            remedy = f"Remove that folder and prepare it again: {prepare_command(config)}"
        raise UsageError(f"the prepared data in {folder} is damaged: {err}. {remedy}") from err


def make_builder(config: ConfigDict) -> tfds.core.GeneratorBasedBuilder:
    """Returns the builder that `config.data` names, prepared or not.

    Raises:
      UsageError: an unknown variant of the generated people; what is prepared is damaged.
      MissingFileError: data.vocab names no vocabulary.
    """
    data = config.data
    kind: type[tfds.core.GeneratorBasedBuilder] = Synthetic
    if data.name == "synthetic":
        settings = _synthetic_settings(data)
    else:
        kind = FOLDERS[data.name]
        settings = caption_config(
            None if data.variant else data.vocab, data.max_length, data.tagger, data.tag_unit
        )
        settings.name = data.variant or settings.name
    folder = data_folder(config)
    # TFDS reads what is there as soon as a builder is made, and fails in its own ways.
    with undamaged(config, folder / data.name / settings.name / str(kind.VERSION)):
        return kind(data_dir=str(folder), config=settings)


def _synthetic_settings(data: ConfigDict) -> SyntheticConfig:
    """A variant as it is registered; tagged otherwise it has a folder of its own."""
    names = list(Synthetic.builder_configs)
    if data.variant is not None and data.variant not in names:
        raise UsageError(
            f"unknown data.variant {data.variant!r} of synthetic: expected one of {names}"
        )
    settings = Synthetic.builder_configs[data.variant or names[0]]
    if data.tagger == DEFAULT_TAGGER:
        return settings
    return dataclasses.replace(settings, name=f"{settings.name}-{data.tagger}", tagger=data.tagger)


def prepared_builder(config: ConfigDict) -> tfds.core.GeneratorBasedBuilder:
    """Returns the builder of prepared data; draws the generated people if they are missing.

    Raises:
      MissingFileError: a set from a folder is not prepared; says what to run.
      UsageError: as `make_builder`.
    """
    hide_accelerators()
    builder = make_builder(config)
    if is_prepared(builder):
        return builder
    if config.data.name in FOLDERS and not os.path.exists(builder.data_dir):
        raise MissingFileError(_missing_message(config, builder))
    print(f"Preparing {builder.info.full_name} in {builder.data_dir} ...", flush=True)
    start = time.monotonic()
    write_records(builder)
    print(f"Prepared {builder.info.full_name} in {time.monotonic() - start:.0f} s", flush=True)
    return builder


def _missing_message(config: ConfigDict, builder: FolderBuilder) -> str:
    name = config.data.name
    others = data_folder(config).glob(f"{name}/*/{builder.version}/dataset_info.json")
    beside = sorted(path.parent.parent.name for path in others)
    found = ""
    if beside:
        found = (
            f"\nPrepared there under other settings: {', '.join(beside)}; take one with "
            f"--config.data.variant={beside[0]}"
        )
    return (
        f"{builder.LAYOUT.title} is not prepared: {builder.data_dir} is missing.{found}\n"
        f"{builder.MANUAL_DOWNLOAD_INSTRUCTIONS}\nPrepare it: {prepare_command(config)}\n"
        "Without it: python -m cada_jax.main --config=configs/synthetic.py --workdir=WORKDIR runs "
        "on generated people"
    )


def prepare_command(config: ConfigDict) -> str:
    """Returns the command that prepares what `config.data` asks for."""
    data = config.data
    command = (
        f"python -m cada_jax prepare --dataset={data.name} --source=/path/to/"
        f"{FOLDERS[data.name].LAYOUT.folder} --data_dir={data_folder(config)}"
    )
    usual = {"vocab": None, "max_length": 73, "tagger": DEFAULT_TAGGER, "tag_unit": "word"}
    return command + "".join(
        f" --{flag}={data[flag]}" for flag, value in usual.items() if data[flag] != value
    )
