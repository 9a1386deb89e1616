"""Several data sets: each one's configuration, and their training splits as one."""

from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from cada_jax.data import split as split_lib
from cada_jax.data.registry import FOLDERS
from cada_jax.data.split import Split
from cada_jax.text.vocabulary import check_same_vocabulary


def named_sets(config: ConfigDict, field: str) -> dict[str, ConfigDict]:
    """Returns the configuration of every data set that a list in the configuration names.

    They differ from `config` in data.name and data.variant alone.

    Args:
      field: "train.datasets" or "eval.datasets": comma-separated, each NAME or NAME/VARIANT. A
        NAME alone takes data.variant if that can be meant: between published sets, or for
        data.name itself. Which names there are is checked by the configuration.
    """
    group, key = field.split(".")
    sets: dict[str, ConfigDict] = {}
    for label in (name.strip() for name in config[group][key].split(",")):
        name, _, variant = label.partition("/")
        alike = name == config.data.name or {name, config.data.name} <= set(FOLDERS)
        own = config.copy_and_resolve_references()
        own.data.name = name
        own.data.variant = variant or (config.data.variant if alike else None)
        sets[label] = own
    return sets


def mix_splits(splits: Sequence[Split]) -> Split:
    """Returns splits one after the other as one, the persons of different sets kept apart.

    Person numbers of every split but the first go on where those before end; image paths begin
    with the data set's name.

    Raises:
      UsageError: the splits were prepared with different vocabularies or lengths.
    """
    first = splits[0]
    check_same_vocabulary({split.dataset: split.vocab_path for split in splits})
    next_pid, images_before, pids, caption_image = 0, 0, [], []
    for split in splits:
        shift = next_pid - int(split.image_pids.min()) if pids else 0
        pids.append(split.image_pids + np.int32(shift))
        caption_image.append(split.caption_image + np.int32(images_before))
        next_pid = max(next_pid, int(pids[-1].max()) + 1)
        images_before += split.num_images

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(split, name) for split in splits])

    return Split(
        name=first.name,
        dataset=" + ".join(split.dataset for split in splits),
        images=joined("images"),
        image_paths=[f"{s.dataset.split('/')[0]}/{p}" for s in splits for p in s.image_paths],
        image_pids=np.concatenate(pids),
        texts=[text for split in splits for text in split.texts],
        token_ids=joined("token_ids"),
        phrase_ids=joined("phrase_ids"),
        attribute_mask=joined("attribute_mask"),
        caption_image=np.concatenate(caption_image),
        vocab_path=first.vocab_path,
    )


def load_training(config: ConfigDict) -> Split:
    """Reads what `config.train.datasets` names, or the training split of `config.data` alone.

    Raises:
      UsageError: as `mix_splits` and `load_split`.
    """
    if not config.train.datasets:
        return split_lib.load_split(config, "train")
    sets = named_sets(config, "train.datasets")
    return mix_splits([split_lib.load_split(own, "train") for own in sets.values()])
