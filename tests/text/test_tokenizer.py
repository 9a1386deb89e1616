import json

import numpy as np
import pytest

from cada_jax.common.errors import MissingFileError
from cada_jax.text.tokenizer import (
    Tokenizer,
    clean_caption,
    find_words,
    load_tokenizer,
    split_words,
)

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def write_vocabulary(path, entries):
    path.write_text("\n".join(entries) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def tokenizer(tmp_path):
    words = ["a", "red", "t", "-", "shirt", "sleeve", "##d", "##less", ",", "cafe"]
    return Tokenizer(write_vocabulary(tmp_path / "vocab.txt", SPECIAL + words))


def golden_captions(golden):
    return json.loads((golden / "e_attr_captions.json").read_text())["captions"]


def golden_tokenizer(golden, folder):
    """BERT's tokenizer as far as the golden captions need it: their pieces at BERT's ids.

    Longest-match splitting cannot differ: the full vocabulary's choice is here, and nothing
    longer than it.
    """
    entries = [f"[unused{i}]" for i in range(30522)]
    for token, index in zip(SPECIAL, (0, 100, 101, 102, 103), strict=True):
        entries[index] = token
    beyond = 1
    for record in golden_captions(golden):
        for token, index in zip(record["tokens"], record["ids"][1:-1], strict=False):
            entries[index] = token if index not in (0, 102) else entries[index]
    for record in golden_captions(golden):  # pieces cut off have no id there
        for token in record["tokens"]:
            if token not in entries:
                entries[beyond] = token
                beyond += 1
    return Tokenizer(write_vocabulary(folder / "bert.txt", entries))


def test_cleaning_and_ids_are_those_of_the_released_code(golden, tmp_path):
    tokenizer = golden_tokenizer(golden, tmp_path)
    assert tokenizer.vocab_size == 30524
    assert tokenizer.special == {
        "pad": 0,
        "cls": 101,
        "sep": 102,
        "mask": 103,
        "dec": 30522,
        "enc": 30523,
    }
    for record in golden_captions(golden):
        text = clean_caption(record["caption"])
        assert text == record["pre_caption"]
        assert tokenizer.split(text)[0] == record["tokens"]
        assert tokenizer.encode(text, 73)[0].tolist() == record["ids"]


@pytest.mark.parametrize(
    ("caption", "cleaned"),
    [
        ("A MAN\tin   Black.", "a man in black"),
        ('("red") *coat*: #1; ~!', "red coat 1"),
        ("what? it's - ok, yes", "what? it's - ok, yes"),
    ],
)
def test_cleaning(caption, cleaned):
    assert clean_caption(caption) == cleaned
    assert clean_caption(cleaned) == cleaned


def test_long_captions_lose_words_at_the_end():
    text = " ".join(str(i) for i in range(100))
    assert clean_caption(text).split() == text.split()[:72]
    assert clean_caption(text, max_words=3) == "0 1 2"


def test_every_piece_knows_its_word(tokenizer):
    text = "a sleeved t-shirt, café"
    pieces, ids, words = tokenizer.split(text)
    assert pieces == ["a", "sleeve", "##d", "t", "-", "shirt", ",", "cafe"]
    spans = find_words(text)
    assert [text[s:e] for s, e in spans] == ["a", "sleeved", "t-shirt", ",", "café"]
    assert words.tolist() == [0, 1, 1, 2, 2, 2, 3, 4]
    assert tokenizer.tokens(ids) == pieces


def test_splitting_word_by_word_is_splitting_the_whole(tokenizer):
    """Captions are split between blanks and the parts remembered: nothing may reach over one."""
    generator = np.random.default_rng(0)
    letters = list(
        "ared tshirtsleeved-,'/?&0\u00e9\u0301\u200b\u4e2d\u00a0\u3000\u00df\ufb01\ud55c\x00_"
    )
    for length in generator.integers(0, 60, 300):
        text = clean_caption("".join(generator.choice(letters, length)))
        whole = tokenizer._pieces.encode(text, add_special_tokens=False)
        ends = [end for _, end in find_words(text)]
        of_word = np.searchsorted(ends, [start for start, _ in whole.offsets], side="right")
        for _ in range(2):  # new, then remembered
            pieces, ids, words = tokenizer.split(text)
            assert (pieces, ids.tolist()) == (whole.tokens, whole.ids)
            assert words.tolist() == of_word.tolist()
        assert split_words(text) == [text[start:end] for start, end in find_words(text)]


def test_encoding_has_static_shape_and_marks_no_word_at_special_tokens(tokenizer):
    ids, words = tokenizer.encode("a red sleeveless t-shirt", 8)
    special = tokenizer.special
    assert ids.dtype == words.dtype == np.int32 and ids.shape == words.shape == (8,)
    assert tokenizer.tokens(ids) == ["[CLS]", "a", "red", "sleeve", "##less", "t", "-", "[SEP]"]
    assert words.tolist() == [-1, 0, 1, 2, 2, 3, 3, -1]
    ids, words = tokenizer.encode("a", 5)
    assert ids.tolist() == [special["cls"], 5, special["sep"], special["pad"], special["pad"]]
    assert words.tolist() == [-1, 0, -1, -1, -1]


def test_a_caption_cannot_name_special_tokens(tokenizer):
    ids, _ = tokenizer.encode(clean_caption("[SEP] [MASK] a"), 20)
    assert (ids == tokenizer.special["sep"]).sum() == 1
    assert tokenizer.special["mask"] not in ids


def test_dec_and_enc_keep_their_place_where_the_file_has_them(tmp_path):
    path = write_vocabulary(tmp_path / "v.txt", ["[PAD]", "[ENC]", *SPECIAL[1:], "a"])
    tokenizer = Tokenizer(path)
    assert tokenizer.special["enc"] == 1
    assert tokenizer.special["dec"] == 7 == tokenizer.vocab_size - 1


def test_a_folder_stands_for_its_vocabulary(tmp_path):
    write_vocabulary(tmp_path / "vocab.txt", SPECIAL)
    assert load_tokenizer(tmp_path).path == tmp_path / "vocab.txt"
    (tmp_path / "nothing").mkdir()
    with pytest.raises(MissingFileError, match=r"nothing.vocab\.txt"):
        load_tokenizer(tmp_path / "nothing")


def test_without_a_network_the_error_says_what_to_download(monkeypatch, tmp_path):
    import huggingface_hub
    from huggingface_hub import constants

    def tries_for_half_a_minute(*_, **__):
        raise AssertionError("asked for a download although nothing answers")

    nowhere = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", nowhere)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", tries_for_half_a_minute)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    with pytest.raises(MissingFileError, match=r"'some/name'.*\(ConnectError.*--vocab"):
        load_tokenizer("some/name")
    cached = write_vocabulary(tmp_path / "cached.txt", SPECIAL)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: str(cached))
    assert load_tokenizer("some/name").path == cached
