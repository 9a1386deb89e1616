"""From `config.data` to a prepared TFDS builder: where it lies, is it there, make it."""

import os
import time
from pathlib import Path

import tensorflow as tf
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.data.datasets.cuhk.builder import Cuhk
from cada_jax.data.datasets.icfg.builder import Icfg
from cada_jax.data.datasets.published import FolderBuilder
from cada_jax.data.datasets.rstp.builder import Rstp
from cada_jax.data.datasets.synthetic.builder import Synthetic
from cada_jax.data.preparation.features import CaptionConfig, caption_config
from cada_jax.data.preparation.layout import expand
from cada_jax.data.preparation.prepared_folder import (
    VARIANT,
    check_whole,
    find_metadata_defect,
    is_prepared,
    write_records,
)

# Data sets that come as a folder; `synthetic` draws itself.
PUBLISHED: dict[str, type[FolderBuilder]] = {"rstp": Rstp, "cuhk": Cuhk, "icfg": Icfg}


def hide_accelerators() -> None:
    """Keeps TensorFlow off GPUs and TPUs, whose memory belongs to JAX."""
    for kind in ("GPU", "TPU"):
        tf.config.set_visible_devices([], kind)


def data_folder(config: ConfigDict) -> Path:
    """Returns the folder of prepared sets: data.data_dir, $CADA_DATA_DIR or ~/cada_data.

    Raises:
      UsageError: it begins with ~ and the name of nobody.
    """
    chosen = config.data.data_dir or os.environ.get("CADA_DATA_DIR") or "~/cada_data"
    return expand(chosen, "data.data_dir (--data_dir, $CADA_DATA_DIR)")


def make_builder(config: ConfigDict) -> tfds.core.GeneratorBasedBuilder:
    """Returns the builder that `config.data` names, prepared or not.

    Raises:
      UsageError: unknown data set, variant, tagger or tag unit; what is prepared is damaged.
      MissingFileError: data.vocab names no vocabulary.
    """
    data, folder = config.data, data_folder(config)
    if data.name == "synthetic":
        variant = _synthetic_variant(data)
        settings = Synthetic.builder_configs[variant or Synthetic.BUILDER_CONFIGS[0].name]
        kind: type[tfds.core.GeneratorBasedBuilder] = Synthetic
    elif data.name not in PUBLISHED:
        known = ["synthetic", *PUBLISHED]
        raise UsageError(f"unknown data set {data.name!r} (data.name): expected one of {known}")
    else:
        kind = PUBLISHED[data.name]
        if data.variant is not None:
            settings = CaptionConfig(
                name=data.variant,  # pyrefly: ignore[unexpected-keyword]
                max_length=data.max_length,
            )
        else:
            settings = caption_config(data.vocab, data.max_length, data.tagger, data.tag_unit)
    # TFDS reads what is there as soon as a builder is made, and fails in its own ways.
    there = folder / data.name / settings.name / str(kind.VERSION)
    defect = find_metadata_defect(there) if there.is_dir() else None
    if defect:
        raise UsageError(
            f"the prepared data in {there} is damaged: {defect}. {prepare_again(config)}"
        )
    return kind(data_dir=str(folder), config=settings)


def prepare_again(config: ConfigDict) -> str:
    """Returns what to do about a damaged folder of prepared data."""
    if config.data.name not in PUBLISHED:
        return "Remove that folder; the next run draws the people again"
    return f"Remove that folder and prepare it again: {prepare_command(config)}"


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
    remedy = prepare_again(config)
    check_whole(builder.data_dir, remedy[0].lower() + remedy[1:])
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
        f"python -m cada_jax prepare --dataset={data.name} --source=/path/to/"
        f"{PUBLISHED[data.name].LAYOUT.folder} --data_dir={data_folder(config)}"
    )
    asked = {
        "vocab": data.vocab,
        "max_length": data.max_length,
        "tagger": data.tagger,
        "tag_unit": data.tag_unit,
    }
    named = VARIANT.fullmatch(data.variant or "")
    if named:  # data.variant says more than the other fields do
        asked |= {"tagger": named["tagger"], "tag_unit": named["unit"]}
        asked |= {"max_length": int(named["length"])}
        asked["vocab"] = (data.vocab or "/path/to/vocab.txt") if named["digest"] else None
    usual = {"vocab": None, "max_length": 73, "tagger": "pattern", "tag_unit": "word"}
    return command + "".join(
        f" --{flag}={value}" for flag, value in asked.items() if value != usual[flag]
    )
