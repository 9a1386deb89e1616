"""TFDS builder over a folder of images and a list: RSTPReid, CUHK-PEDES, ICFG-PEDES, one's own."""

import itertools
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import tensorflow_datasets as tfds
from absl import logging

from cada_jax.common.errors import UsageError
from cada_jax.data.preparation.features import CaptionConfig, caption_config, caption_features
from cada_jax.data.preparation.prepared_folder import write_digests, write_persons
from cada_jax.data.preparation.reader import Read, read_all
from cada_jax.data.preparation.records import write_split
from cada_jax.data.preparation.source import LISTED, SPLITS, Layout, Source, read_source
from cada_jax.text.tokenizer import load_tokenizer
from cada_jax.text.vocabulary import VOCABULARY_FILE


class FolderBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """TFDS builder over a folder; a published data set states its LAYOUT.

    `config` is a `CaptionConfig`, see `caption_config`.

    Attributes:
      source: what is prepared, where the caller has read it already.
      progress: wraps the images of a split while they are written: progress(images, number, split).
      workers: processes that read images and encode captions, see `reader.read_all`.
    """

    LAYOUT: Layout
    VERSION = tfds.core.Version("3.0.0")
    RELEASE_NOTES = {"3.0.0": "The files as they are, in the order of the list."}
    source: Source | None = None
    progress: Callable[[Iterable, int, str], Iterable]
    workers: int = 0

    def __init_subclass__(cls, **kwargs):
        """The set is named like the folder of its builder; its LAYOUT says what is to be got."""
        cls.name = cls.__module__.split(".")[-2]
        instructions = "The folder as its authors give it out: {} and the images under imgs/."
        cls.MANUAL_DOWNLOAD_INSTRUCTIONS = instructions.format(*cls.LAYOUT.annotations)
        super().__init_subclass__(**kwargs)

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
            disable_shuffling=True,  # the records are in the order of the list
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        source = self.source or read_source(self.LAYOUT, dl_manager.manual_dir)
        if source.blocking:
            raise UsageError(_refusal(source))
        # The folder is a temporary one here; TFDS renames it when everything is written.
        write_persons(self.data_dir, source.persons)
        config = self.captions_config
        vocabulary = load_tokenizer(config.vocab).path
        shutil.copyfile(vocabulary, Path(self.data_dir) / VOCABULARY_FILE)
        self.source = source
        # One stream for all splits, which are taken in this order: worker processes start once.
        entries = [entry for split in SPLITS for entry in source.of_split(split)]
        settings = (str(vocabulary), config.max_length, config.tagger, config.tag_unit)
        images = read_all(entries, settings, self.workers)
        numbers = {split: len(source.of_split(split)) for split in SPLITS}
        return {
            split: self._generate_examples(itertools.islice(images, number), number, split)
            for split, number in numbers.items()
            if number
        }

    def _generate_examples(self, images: Iterable[Read], number: int, split: str):
        """Yields keys and examples, serialized already, in the order of the list."""
        for key, read in enumerate(self.progress(images, number, split)):
            if read.problem:
                raise UsageError(read.problem)
            yield key, read.example

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
        assert self.source
        write_digests(self.data_dir, self.source.digest)


def _refusal(source: Source) -> str:
    listed = "\n  ".join(problem.text for problem in source.blocking[:LISTED])
    more = f"\nThe first {LISTED}; the same command with --check lists all"
    return (
        f"{source.annotation} has {len(source.blocking)} problems:\n  {listed}"
        f"{more if len(source.blocking) > LISTED else ''}"
    )
