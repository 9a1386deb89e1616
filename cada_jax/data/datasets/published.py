"""TFDS builder over a published folder: RSTPReid, CUHK-PEDES, ICFG-PEDES."""

import collections
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import tensorflow_datasets as tfds
from absl import logging

from cada_jax.data.features import CaptionConfig, caption_config, caption_features, store_vocabulary
from cada_jax.data.reading import EncoderSettings, read_all
from cada_jax.data.source import LISTED, Layout, Source, blocking_problems, read_source
from cada_jax.errors import UsageError


class FolderBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """TFDS builder over a published folder; a data set states its LAYOUT.

    `config` is a `CaptionConfig`, see `caption_config`.

    Attributes:
      progress: wraps the images of a split while they are written: progress(images, number, split).
      workers: processes that read images and encode captions, see `reading.read_all`.
    """

    LAYOUT: Layout
    VERSION = tfds.core.Version("1.0.0")
    progress: Callable[[Iterable, int, str], Iterable]
    workers: int = 0

    def __init__(self, *, data_dir=None, config=None, version=None, **kwargs):
        """Takes the arguments of tfds.core.DatasetBuilder."""
        config = caption_config() if config is None else config
        self.progress = lambda images, number, split: images
        verbosity = logging.get_verbosity()
        logging.set_verbosity(logging.ERROR)  # TFDS warns of every config made at run time
        try:
            super().__init__(data_dir=data_dir, config=config, version=version, **kwargs)
        finally:
            logging.set_verbosity(verbosity)

    @property
    def captions_config(self) -> CaptionConfig:
        """The settings that captions are stored by."""
        return self.builder_config

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=caption_features(self.captions_config.max_length)
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        source = read_source(self.LAYOUT, dl_manager.manual_dir)
        problems = blocking_problems(source)
        if problems:
            listed = "\n  ".join(problems[:LISTED])
            raise UsageError(
                f"{source.annotation} has {len(problems)} problems, the first of them:\n  "
                f"{listed}\nAll: python tools/prepare_data.py --dataset={self.name} "
                f"--source={dl_manager.manual_dir} --check"
            )
        encoder = self.captions_config.encoder()
        # The folder is a temporary one here; TFDS renames it when everything is written.
        store_vocabulary(encoder.tokenizer, self.data_dir)
        config = self.captions_config
        settings = EncoderSettings(
            str(encoder.tokenizer.path), config.max_length, config.tagger, config.tag_unit
        )
        _check_room(source, self.data_dir)
        return {
            split: self._generate_examples(source, split, settings)
            for split in self.LAYOUT.splits
            if source.of_split(split)
        }

    def _generate_examples(self, source: Source, split: str, settings: EncoderSettings):
        entries = source.of_split(split)
        seen: collections.Counter[str] = collections.Counter()
        jobs = [source.job(entry) for entry in entries]
        images = self.progress(read_all(jobs, settings, self.workers), len(entries), split)
        for entry, read in zip(entries, images, strict=True):
            if read.problem:
                raise UsageError(read.problem)
            seen[entry.image] += 1
            again = f"#{seen[entry.image]}" if seen[entry.image] > 1 else ""
            yield (
                entry.image + again,
                {
                    "image": read.data,
                    "image_path": entry.image,
                    "pid": entry.pid,
                    "captions": read.captions,
                },
            )


def _check_room(source: Source, folder: str | Path) -> None:
    """Raises UsageError if the image files alone do not fit on the disk of `folder`."""
    needed = sum(source.image_file(entry).stat().st_size for entry in source.entries)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UsageError(
            f"no room for prepared data in {Path(folder).parent}: {needed / 1e6:,.1f} MB of images "
            f"are to be stored, {free / 1e6:,.1f} MB are free. Make room or take another --data_dir"
        )
