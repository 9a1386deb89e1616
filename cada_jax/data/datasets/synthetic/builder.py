"""TFDS builder of the generated people; draws them, needs no download."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from cada_jax.data.datasets.synthetic.people import (
    DEMO,
    SPLITS,
    VARIANTS,
    Settings,
    generate,
    image_path,
)
from cada_jax.data.datasets.synthetic.vocabulary import VOCAB_PATH
from cada_jax.data.preparation.features import caption_features
from cada_jax.data.preparation.prepared_folder import write_digests
from cada_jax.text.attribute_phrases import CaptionEncoder
from cada_jax.text.taggers import DEFAULT_TAGGER
from cada_jax.text.tokenizer import Tokenizer
from cada_jax.text.vocabulary import VOCABULARY_FILE

MAX_LENGTH = 49  # [CLS], the longest caption, [SEP]


@dataclass(eq=False)
class SyntheticConfig(tfds.core.BuilderConfig):
    """A variant of the generated set."""

    settings: Settings = DEMO
    tagger: str = DEFAULT_TAGGER


class Synthetic(tfds.core.GeneratorBasedBuilder):
    """Generated persons with two captions an image; see README.md beside this file."""

    VERSION = tfds.core.Version("2.0.0")
    RELEASE_NOTES = {
        "1.0.0": "Initial release.",
        "2.0.0": "Attribute phrases by rules of grammar.",
    }
    BUILDER_CONFIGS = [
        # pyrefly: ignore[unexpected-keyword]  (the fields of TFDS's own dataclass)
        SyntheticConfig(name=s.name, description=s.description, settings=s)
        for s in VARIANTS.values()
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(features=caption_features(MAX_LENGTH))

    def _split_generators(self, dl_manager: tfds.download.DownloadManager):
        encoder = CaptionEncoder(Tokenizer(VOCAB_PATH), MAX_LENGTH, self.builder_config.tagger)
        # TFDS writes into a folder with a temporary name and renames it at the end.
        shutil.copyfile(VOCAB_PATH, Path(self.data_dir) / VOCABULARY_FILE)
        return {split: self._generate_examples(split, encoder) for split in SPLITS}

    def _generate_examples(
        self, split: str, encoder: CaptionEncoder
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        settings = self.builder_config.settings
        first = settings.first_pid(split)
        for example in generate(settings, split):
            pid = first + example.person
            path = image_path(pid, example.image)
            yield (
                path,
                {
                    "image": example.jpeg,
                    "image_path": path,
                    "pid": pid,
                    "captions": encoder.encode([c.text for c in example.captions], path),
                },
            )

    def _download_and_prepare(self, dl_manager: tfds.download.DownloadManager, **kwargs):
        """Writes all splits, then their digests."""
        super()._download_and_prepare(dl_manager, **kwargs)
        write_digests(self.data_dir)
