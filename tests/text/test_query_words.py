"""Words that a model cannot know are named, and a query of nothing else is refused."""

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st

import cada_jax
from cada_jax.common.errors import UsageError
from cada_jax.data.datasets.synthetic.vocabulary import VOCAB_PATH
from cada_jax.text.query_words import CONNECTING, understand
from cada_jax.text.tokenizer import Tokenizer

from .test_tokenizer import SPECIAL, write_vocabulary

TOKENIZER = Tokenizer(VOCAB_PATH)


@pytest.mark.parametrize(
    ("text", "unknown", "says_something"),
    [
        ("a T-shirt, red sweaters!", (), True),  # in parts: t - shirt, sweater ##s
        ("a man in a sombrero", ("sombrero",), True),
        ("with a sombrero", ("sombrero",), False),
        ("\u8d64\u3044\u670d\u306e\u7537", None, False),  # Japanese
        ("a woman in \u8d64", ("\u8d64",), True),
    ],
)
def test_a_word_is_known_where_the_vocabulary_has_it_whole_or_in_parts(
    text, unknown, says_something
):
    found = understand(text, TOKENIZER, 49)
    assert unknown is None or found.unknown == unknown
    assert found.says_something == says_something and found.cut_at is None


def test_letters_of_a_script_without_words_are_no_knowledge(tmp_path):
    """BERT's English vocabulary has letters of many scripts, and words of one."""
    latin = [f"word{chr(97 + i)}{chr(97 + j)}" for i in range(10) for j in range(10)]
    persian = ["\u0645", "##\u0631", "##\u062f"]
    path = write_vocabulary(tmp_path / "vocab.txt", [*SPECIAL, *latin, *persian])
    found = understand("wordaa \u0645\u0631\u062f \u0645", Tokenizer(path), 20)
    assert (found.known, len(found.unknown)) == (("wordaa",), 2)


def test_a_text_that_is_cut_says_before_which_word():
    words = ["red", "blue"] * 23 + ["a", "yellow", "hat"]
    found = understand(" ".join(words), TOKENIZER, 49)
    assert found.cut_at == "yellow" and len(found.known) == 47
    assert found.notes() == ("too long: cut off before 'yellow'",)
    assert understand("red " * 100, TOKENIZER, 200).cut_at == "red"  # after 72 words


@given(text=st.text("red coatxq,-. \u0645\u8d64", max_size=120), length=st.integers(3, 60))
def test_every_word_that_is_read_is_known_or_unknown(text, length):
    found = understand(text, TOKENIZER, length)
    assert all(any(map(str.isalnum, word)) for word in (*found.known, *found.unknown))
    assert found.says_something or not set(found.known) - CONNECTING
    assert bool(found.notes()) == bool(found.unknown or found.cut_at)


def test_a_model_refuses_a_text_of_unknown_words_and_names_them():
    model = cada_jax.load_model("pretrained:synthetic", jax.devices()[:1])
    assert model.understood("a man in a sombrero").unknown == ("sombrero",)
    with pytest.raises(UsageError, match="no word that the model knows.*vocabulary: sombrero"):
        model.encode_text("a sombrero")
