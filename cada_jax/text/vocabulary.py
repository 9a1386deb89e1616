"""Vocabularies: where they lie, what must be in them, and whether two of them agree.

A vocabulary is a text file with one WordPiece a line; the line number is the token's id. Every
check of a vocabulary in the project is here.
"""

import hashlib
import itertools
import os
from pathlib import Path

from ml_collections import ConfigDict

from cada_jax.common.errors import MissingFileError, UsageError, reading

# Name in our code -> entry of the vocabulary file.
SPECIAL_TOKENS = {
    "pad": "[PAD]",
    "cls": "[CLS]",
    "sep": "[SEP]",
    "mask": "[MASK]",
    "dec": "[DEC]",
    "enc": "[ENC]",
}
UNKNOWN_TOKEN = "[UNK]"
# BERT's own file has none of these: they follow its last entry, as in BLIP.
APPENDED = ("[DEC]", "[ENC]")
VOCABULARY_FILE = "vocab.txt"
WHAT = "a WordPiece vocabulary such as BERT's vocab.txt, one entry per line"
BERT_VOCABULARY = "bert-base-uncased"
# SHA-256 of the vocabulary published as bert-base-uncased, the one real data sets use.
BERT_DIGEST = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"


def find_vocabulary(path_or_hub_name: str | Path) -> Path:
    """Returns the vocabulary file of a path, a folder holding vocab.txt, or a hub name.

    A hub name ("bert-base-uncased") is looked for in the local Hugging Face cache first.

    Raises:
      MissingFileError: it is none of these, or the hub cannot be reached.
    """
    # os.path answers False where a path is too long or names nobody's home; Path would raise.
    path = Path(os.path.expanduser(path_or_hub_name))
    if os.path.isfile(path):
        return path
    if os.path.isdir(path):
        return path / VOCABULARY_FILE
    return _hub_file(str(path_or_hub_name))


def read_vocabulary(path: Path) -> dict[str, int]:
    """The entries of a WordPiece vocabulary with their ids, the appended ones included.

    Raises:
      MissingFileError: there is no such file.
      UsageError: it is no WordPiece vocabulary, or has an entry twice.
    """
    entries = _entries(path)
    entries += [token for token in APPENDED if token not in entries]
    vocabulary = {entry: i for i, entry in enumerate(entries)}
    if len(vocabulary) != len(entries):
        twice = next(entry for i, entry in enumerate(entries) if vocabulary[entry] != i)
        raise UsageError(f"vocabulary file {path} has the entry {twice!r} more than once")
    needed = [*SPECIAL_TOKENS.values(), UNKNOWN_TOKEN]
    if missing := [token for token in needed if token not in vocabulary]:
        raise UsageError(f"{path} lacks {', '.join(missing)}: expected {WHAT}")
    return vocabulary


def vocabulary_digest(path: str | Path) -> str:
    """Returns the SHA-256 of a vocabulary's entries, in hexadecimal.

    Raises:
      UsageError: the file cannot be read, or is no text.
    """
    text = "\n".join(_entries(Path(path))) + "\n"
    return hashlib.sha256(text.encode()).hexdigest()


def check_same_vocabulary(vocabularies: dict[str, Path]) -> None:
    """Raises UsageError unless all of these data sets were prepared with one vocabulary.

    Args:
      vocabularies: name of a prepared set -> its vocabulary file.
    """
    (first, path), *others = vocabularies.items()
    for name, other in others:
        if vocabulary_digest(other) != vocabulary_digest(path):
            raise UsageError(
                f"{first} and {name} were prepared with different vocabularies ({path}, {other}), "
                "so one model cannot read both: prepare them with the same --vocab"
            )


def check_model_tokens(config: ConfigDict, path: Path) -> None:
    """Checks that the model counts and finds its tokens as a vocabulary file does.

    Raises:
      UsageError: names the first field of config.model that differs, with both values.
    """
    vocabulary = read_vocabulary(path)
    expected = {"text.vocab_size": len(vocabulary)}  # [DEC] and [ENC] included
    expected |= {f"tokens.{name}": vocabulary[token] for name, token in SPECIAL_TOKENS.items()}
    for field, value in expected.items():
        group, name = field.split(".")
        if config.model[group][name] != value:
            raise UsageError(
                f"config.model.{field} is {config.model[group][name]}, by the vocabulary {path} it "
                f"is {value}: set --config.model.{field}={value} or take another vocabulary"
            )


def _entries(path: Path) -> list[str]:
    """The lines of a vocabulary file. An editor's byte order mark and line ends do not count."""
    with reading(path, WHAT):
        text = path.read_bytes().decode("utf-8-sig")
    return text.replace("\r\n", "\n").rstrip("\n").split("\n")


def check_same_ids(ours: Path, theirs: Path, origin: str) -> None:
    """Raises UsageError if two vocabularies give a word different ids.

    One may lack the entries that the tokenizer appends.
    """
    pairs = itertools.zip_longest(_entries(ours), _entries(theirs))
    for number, (a, b) in enumerate(pairs):
        if a != b and not (a is None and b in APPENDED or b is None and a in APPENDED):
            raise UsageError(
                f"{origin} was trained with another vocabulary: id {number} is {b!r} in {theirs} "
                f"and {a!r} in {ours}. Prepare the data with config.data.vocab={theirs}, or "
                "choose another config.init_from."
            )


def _hub_file(name: str) -> Path:
    import huggingface_hub as hub

    try:
        cached = hub.try_to_load_from_cache(name, VOCABULARY_FILE)
        if isinstance(cached, str):
            return Path(cached)
        # Asked for once: without a network the download below tries again for half a minute.
        hub.get_hf_file_metadata(hub.hf_hub_url(name, VOCABULARY_FILE))
        return Path(hub.hf_hub_download(name, VOCABULARY_FILE))
    except Exception as err:  # the hub client's errors have no common base
        raise MissingFileError(
            f"no vocabulary {name!r}: it is neither a file, nor a folder holding vocab.txt, nor "
            f"could it be fetched from the Hugging Face hub ({type(err).__name__}). For BERT's "
            "vocabulary download https://huggingface.co/bert-base-uncased/resolve/main/vocab.txt "
            "and give that file's path instead (--vocab of python -m cada_jax prepare)"
        ) from err
