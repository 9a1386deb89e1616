"""From `config.data` to a prepared TFDS builder: where it lies, is it there, make it."""

import os
import time
from pathlib import Path

import tensorflow as tf
import tensorflow_datasets as tfds
from google.protobuf import json_format
from ml_collections import ConfigDict

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.data.datasets.cuhk.builder import Cuhk
from cada_jax.data.datasets.icfg.builder import Icfg
from cada_jax.data.datasets.published import FolderBuilder
from cada_jax.data.datasets.rstp.builder import Rstp
from cada_jax.data.datasets.synthetic.builder import Synthetic
from cada_jax.data.preparation.features import CaptionConfig, caption_config
from cada_jax.data.preparation.prepared_folder import check_whole, is_prepared, write_records

# Data sets that come as a folder; `synthetic` draws itself.
PUBLISHED: dict[str, type[FolderBuilder]] = {"rstp": Rstp, "cuhk": Cuhk, "icfg": Icfg}


def hide_accelerators() -> None:
    """Keeps TensorFlow off GPUs and TPUs, whose memory belongs to JAX."""
    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)


def data_folder(config: ConfigDict) -> Path:
    """Returns the folder of prepared sets: data.data_dir, $CADA_DATA_DIR or ~/cada_data."""
    chosen = config.data.data_dir or os.environ.get("CADA_DATA_DIR") or "~/cada_data"
    return Path(chosen).expanduser()


def make_builder(config: ConfigDict) -> tfds.core.GeneratorBasedBuilder:
    """Returns the builder that `config.data` names, prepared or not.

    Raises:
      UsageError: unknown data set, variant, tagger or tag unit.
      MissingFileError: data.vocab names no vocabulary.
    """
    data, folder = config.data, str(data_folder(config))
    if data.name == "synthetic":
        return Synthetic(data_dir=folder, config=_synthetic_variant(data))
    if data.name not in PUBLISHED:
        known = ["synthetic", *PUBLISHED]
        raise UsageError(f"unknown data set {data.name!r} (data.name): expected one of {known}")
    if data.variant is not None:
        settings = CaptionConfig(name=data.variant, max_length=data.max_length)
    else:
        settings = caption_config(data.vocab, data.max_length, data.tagger, data.tag_unit)
    try:
        return PUBLISHED[data.name](data_dir=folder, config=settings)
    except json_format.ParseError as err:
        raise UsageError(
            f"the prepared data in {folder}/{data.name}/{settings.name} is damaged ({err}): remove "
            "that folder and prepare it again"
        ) from err


def _synthetic_variant(data: ConfigDict) -> str | None:
    names = list(Synthetic.builder_configs)
    if data.variant is not None and data.variant not in names:
        raise UsageError(
            f"unknown data.variant {data.variant!r} of synthetic: expected one of {names}"
        )
    if (data.tagger, data.tag_unit) != ("pattern", "word"):
        raise UsageError(
            f"data.tagger is {data.tagger!r} and data.tag_unit {data.tag_unit!r}, but the "
            "generated people are always tagged by 'pattern' and 'word': leave both as they are"
        )
    return data.variant


def prepared_builder(config: ConfigDict) -> tfds.core.GeneratorBasedBuilder:
    """Returns the builder of prepared data; draws the generated people if they are missing.

    Raises:
      MissingFileError: a published set is not prepared; says what to get and what to run.
      UsageError: as `make_builder`; or the data folder is damaged or cannot be written.
    """
    hide_accelerators()
    builder = make_builder(config)
    if is_prepared(builder):
        return builder
    check_whole(builder.data_dir)
    if config.data.name in PUBLISHED:
        raise MissingFileError(_missing_message(config, builder))
    print(f"Preparing {builder.info.full_name} in {builder.data_dir} ...", flush=True)
    start = time.monotonic()
    write_records(builder)
    print(f"Prepared {builder.info.full_name} in {time.monotonic() - start:.0f} s", flush=True)
    return builder


def _missing_message(config: ConfigDict, builder: FolderBuilder) -> str:
    layout, name, folder = builder.LAYOUT, config.data.name, data_folder(config)
    others = folder.glob(f"{name}/*/{builder.version}/dataset_info.json")
    beside = sorted(path.parent.parent.name for path in others)
    found = ""
    if beside:
        found = (
            f"\nPrepared there under other settings: {', '.join(beside)}; take one with "
            f"--config.data.variant={beside[0]}"
        )
    return (
        f"{layout.title} is not prepared: {builder.data_dir} is missing.{found}\n"
        f"Get the folder {layout.folder} from its authors: {layout.expected}.\n"
        f"Prepare it: {prepare_command(config)}\n"
        "Without it: python -m cada_jax.main --config=configs/synthetic.py --workdir=WORKDIR runs "
        "on generated people"
    )


def prepare_command(config: ConfigDict) -> str:
    """Returns the command that prepares what `config.data` asks for."""
    data = config.data
    command = (
        f"python tools/prepare_data.py --dataset={data.name} --source=/path/to/"
        f"{PUBLISHED[data.name].LAYOUT.folder} --data_dir={data_folder(config)}"
    )
    given = {
        "vocab": (data.vocab, None),
        "max_length": (data.max_length, 73),
        "tagger": (data.tagger, "pattern"),
        "tag_unit": (data.tag_unit, "word"),
    }
    return command + "".join(
        f" --{flag}={value}" for flag, (value, default) in given.items() if value != default
    )
