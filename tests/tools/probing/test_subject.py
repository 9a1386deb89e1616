"""What is measured: captions, images, and wrong images beside them."""

import dataclasses

import numpy as np
import pytest

from cada_jax.common.errors import UsageError
from cada_jax.data.datasets.synthetic.vocabulary import VOCAB_PATH
from cada_jax.text.tokenizer import Tokenizer
from tools.probing import (
    subject,
)


def test_the_wrong_image_is_never_of_the_same_person(one):
    assert (one.gallery.pids[one.right] == one.pids).all()
    assert (one.gallery.pids[one.wrong] != one.pids).all()


def test_a_limit_draws_the_same_captions_every_time_and_not_the_first(one):
    few = [subject.make_subject("", one.retriever, one.split, 12).chosen for _ in range(2)]
    assert few[0].tolist() == few[1].tolist() == sorted(set(few[0].tolist()))
    assert few[0].tolist() != list(range(12))


def test_a_split_of_one_person_is_refused(one):
    alone = dataclasses.replace(one.split, image_pids=np.zeros_like(one.split.image_pids))
    with pytest.raises(UsageError, match="one person, expected at least two"):
        subject.make_subject("", one.retriever, alone, None)


def test_a_model_of_another_vocabulary_is_refused(one, tmp_path, monkeypatch):
    entries = VOCAB_PATH.read_text().splitlines()
    entries[-1], entries[-2] = entries[-2], entries[-1]
    (tmp_path / "vocab.txt").write_text("\n".join(entries) + "\n")
    other = dataclasses.replace(one.retriever, tokenizer=Tokenizer(tmp_path / "vocab.txt"))
    monkeypatch.setattr(subject, "load_model", lambda name: other)
    data_dir = one.retriever.config.data.data_dir
    with pytest.raises(UsageError, match="another vocabulary than synthetic/tiny"):
        subject.load_subject("other", "synthetic/tiny", "test", 4, data_dir)
