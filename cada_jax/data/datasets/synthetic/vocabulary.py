"""Builds `vocab.txt`: the words of the generator's own captions and single characters.

    python -m cada_jax.data.datasets.synthetic.vocabulary

writes the file again (only needed when words are added to `lexicon`).
"""

import collections
import re
import string
from dataclasses import replace
from pathlib import Path

from cada_jax.data.datasets.synthetic.people import DEMO, caption_texts

VOCAB_PATH = Path(__file__).with_name("vocab.txt")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_PERSONS = 1500  # enough for the rarest word to occur several times


def build_vocabulary() -> list[str]:
    """Returns the entries of `vocab.txt`, in order.

    Special tokens come first, then every printable ASCII character at the start and
    inside ("##x") of a word, so that no ASCII text gives [UNK], then the words of the
    captions of a fixed seed, the most frequent first.
    """
    settings = replace(DEMO, seed=123, train_persons=_PERSONS, images_per_person=4)
    counts: collections.Counter[str] = collections.Counter()
    for text in caption_texts(settings, "train"):
        counts.update(re.findall(r"[a-z]{2,}", text.lower()))
    words = sorted(counts, key=lambda word: (-counts[word], word))
    inside = string.ascii_lowercase + string.digits
    characters = [*inside, *string.punctuation, *("##" + c for c in inside)]
    return [*SPECIAL, *characters, *words]


if __name__ == "__main__":
    VOCAB_PATH.write_text("\n".join(build_vocabulary()) + "\n", encoding="ascii")
