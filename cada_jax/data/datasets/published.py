"""TFDS builder over a published folder: RSTPReid, CUHK-PEDES, ICFG-PEDES."""

import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import tensorflow_datasets as tfds
from absl import logging

from cada_jax.common.errors import UsageError
from cada_jax.data.preparation.annotations import Source, blocking_problems, read_source
from cada_jax.data.preparation.digests import write_digests
from cada_jax.data.preparation.features import (
    CaptionConfig,
    caption_config,
    caption_features,
    store_vocabulary,
)
from cada_jax.data.preparation.layout import LISTED, Layout
from cada_jax.data.preparation.persons import write_persons
from cada_jax.data.preparation.reader import EncoderSettings, Job, Read, read_all
from cada_jax.data.preparation.tensorflow_check import image_of_example, tensorflow_problem
from cada_jax.data.preparation.tfrecord_writer import write_split


class FolderBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """TFDS builder over a published folder; a data set states its LAYOUT.

    `config` is a `CaptionConfig`, see `caption_config`.

    Attributes:
      progress: wraps the images of a split while they are written: progress(images, number, split).
      workers: processes that read images and encode captions, see `reader.read_all`.
    """

    LAYOUT: Layout
    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES = {
        "1.0.0": "Initial release.",
        "2.0.0": "The same examples in the order of the annotation file, not of hashed names.",
    }
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
            features=caption_features(self.captions_config.max_length),
            disable_shuffling=True,  # the records are in the order of the annotation file
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        source = read_source(self.LAYOUT, dl_manager.manual_dir)
        _refuse_problems(source, self.name)
        write_persons(self.data_dir, source.persons)
        encoder = self.captions_config.encoder()
        # The folder is a temporary one here; TFDS renames it when everything is written.
        store_vocabulary(encoder.tokenizer, self.data_dir)
        config = self.captions_config
        settings = EncoderSettings(
            str(encoder.tokenizer.path), config.max_length, config.tagger, config.tag_unit
        )
        jobs = {
            split: list(map(source.job, source.of_split(split))) for split in self.LAYOUT.splits
        }
        _check_room(itertools.chain(*jobs.values()), self.data_dir)
        # One stream for all splits, which are taken in this order: worker processes start once.
        images = read_all(list(itertools.chain(*jobs.values())), settings, self.workers)
        return {
            split: self._generate_examples(of_split, split, images)
            for split, of_split in jobs.items()
            if of_split
        }

    def _generate_examples(self, jobs: list[Job], split: str, images: Iterator[Read]):
        """Yields keys and examples, serialized already, in the order of the annotation file."""
        shown = self.progress(itertools.islice(images, len(jobs)), len(jobs), split)
        for job, read in zip(jobs, shown, strict=True):
            problem = read.problem or tensorflow_problem(image_of_example(read.example))
            if problem:
                raise UsageError(read.problem or f"{job.label} ({job.path}) {problem}")
            yield job.image_path, read.example

    def _download_and_prepare(self, dl_manager: tfds.download.DownloadManager, download_config):
        """Writes all splits; TFDS would encode and serialize every example in this process."""
        del download_config
        splits = []
        for split, examples in self._split_generators(dl_manager).items():
            template = tfds.core.ShardedFileTemplate(
                data_dir=self.data_dir,
                dataset_name=self.name,
                split=split,
                filetype_suffix=self.info.file_format.file_suffix,
            )
            splits.append(write_split((example for _, example in examples), template))
        self.info.set_splits(tfds.core.SplitDict(splits))
        write_digests(self.data_dir, splits, ordered=True)


def _refuse_problems(source: Source, name: str) -> None:
    problems = blocking_problems(source)
    if problems:
        listed = "\n  ".join(problem.text for problem in problems[:LISTED])
        raise UsageError(
            f"{source.annotation} has {len(problems)} problems, the first of them:\n  {listed}\n"
            f"All: python -m cada_jax prepare --dataset={name} --source={source.root} --check"
        )


def _check_room(jobs: Iterable[Job], folder: str | Path) -> None:
    """Raises UsageError if the image files alone do not fit on the disk of `folder`."""
    needed = sum(os.path.getsize(job.path) for job in jobs if job.path)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UsageError(
            f"no room for prepared data in {Path(folder).parent}: {needed / 1e6:,.1f} MB of images "
            f"are to be stored, {free / 1e6:,.1f} MB are free. Make room or take another --data_dir"
        )
