"""Builds `vocab.txt`: the words of the generator's own captions and single characters.

    python -m cada_jax.data.datasets.synthetic.vocabulary [FILE]

writes the file again (only needed when words are added to `lexicon`).
"""

import collections
import re
import string
import sys
from dataclasses import replace
from pathlib import Path

from cada_jax.common.files import check_target
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


def main(argv: list[str]) -> None:
    """Writes the vocabulary to a file, by default the shipped one."""
    path = Path(argv[1]) if len(argv) > 1 else VOCAB_PATH
    if path != VOCAB_PATH:
        check_target(path, False, lambda path: False, "a vocabulary")
    entries = build_vocabulary()
    path.write_text("\n".join(entries) + "\n", encoding="ascii")
    print(f"{len(entries)} entries -> {path}")


if __name__ == "__main__":
    main(sys.argv)
