"""ARA: are masked words read from the image? With the own image, another person's, and none.

"None" is the mean of the split's image tokens, place by place: the decoder cannot do without
tokens, and these say what an average picture says.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cada_jax.models.cada import apply
from cada_jax.objective.ara import mask_of
from cada_jax.retrieval.attribute_prompts import COLORS, HAIR
from tools.probing.subject import SEED, Subject, in_batches
from tools.probing.word_classes import CLASSES, COLOUR, Words, attributes_of_words

IMAGES = ("right", "wrong", "none")


@functools.partial(jax.jit, static_argnames="model")
def _answers(model, params, token_ids, masked, image_tokens):
    """(predicted int32, loss float32) of every token [b,L]."""
    tokens = model.config.tokens
    seen = jnp.where(masked, tokens.mask, token_ids), token_ids != tokens.pad, image_tokens
    decoded = apply(model, params, "decode_masked", *seen)
    logits = apply(model, params, "masked_logits", decoded)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, token_ids)
    return jnp.argmax(logits, axis=-1), losses


def masks_of_training(subject: Subject) -> np.ndarray:
    """What ARA would mask in these captions, by a fixed key: bool [Q,L]."""
    split, chosen = subject.split, subject.chosen
    batch = {
        "phrase_ids": split.phrase_ids[chosen],
        "attribute_mask": split.attribute_mask[chosen],
    }
    return np.asarray(mask_of(subject.retriever.config, batch, jax.random.key(SEED)))


def one_phrase_each(phrase_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every attribute phrase masked alone.

    Args:
      phrase_ids: int32 [Q,L].

    Returns:
      (caption int [P], masked bool [P,L]) of the P phrases.
    """
    numbers = np.arange(1, phrase_ids.max(initial=0) + 1)
    present = (phrase_ids[:, None, :] == numbers[None, :, None]).any(axis=-1)
    caption, which = np.nonzero(present)
    return caption, phrase_ids[caption] == numbers[which][:, None]


def measure_masked(subject: Subject, words: Words) -> dict[str, Any]:
    """Accuracy and loss of masked words.

    Returns:
      "trained", masked as in training, and "alone", one phrase at a time; of either: classes and,
      for the generated people, attributes: name -> count, `guess` (the share of its commonest
      token), and for `right`, `wrong` and `none` the accuracy in [0,1], the loss in nats, and of
      colours `same`, how often the answer names the same one, whatever the word.
    """
    every = np.arange(len(subject.chosen))
    phrase_ids = subject.split.phrase_ids[subject.chosen]
    return {
        "trained": _measure(subject, words, every, masks_of_training(subject)),
        "alone": _measure(subject, words, *one_phrase_each(phrase_ids)),
    }


def _measure(
    subject: Subject, words: Words, caption: np.ndarray, masked: np.ndarray
) -> dict[str, Any]:
    """As `measure_masked`, of rows: caption int [P], masked bool [P,L]."""
    if not masked.any():
        return {"classes": {}, "attributes": {}}
    truth = subject.token_ids[caption][masked]
    found = {name: _answer(subject, caption, masked, name) for name in IMAGES}
    answers = {name: (predicted[masked], loss[masked]) for name, (predicted, loss) in found.items()}
    kind = words.kind[caption][masked]
    colours = _colour_of_tokens(subject)
    classes = {}
    for number, name in enumerate(CLASSES):
        known = colours if name == COLOUR else None
        classes[name] = _figures(truth, answers, kind == number, known)
    classes["all"] = _figures(truth, answers, kind >= 0)
    attributes = {}
    if subject.truth is not None:
        of_word = attributes_of_words()
        told = np.array([of_word.get(word) for word in words.word[caption][masked]], object)
        for name in sorted({name for name in told if name}):
            known = colours if name == "color" else None
            attributes[name] = _figures(truth, answers, told == name, known)
    return {
        part: {name: figures for name, figures in table.items() if figures["count"]}
        for part, table in (("classes", classes), ("attributes", attributes))
    }


def _answer(subject: Subject, caption: np.ndarray, masked: np.ndarray, which: str):
    """What `_answers` gives for all rows beside the images that `which` names."""
    token_ids, tokens = subject.token_ids[caption], subject.gallery.tokens
    if which == "none":
        tokens = tokens.mean(axis=0, dtype=np.float32, keepdims=True).astype(tokens.dtype)
        images = np.zeros(len(caption), np.int32)
    else:
        images = {"right": subject.right, "wrong": subject.wrong}[which][caption]

    def inputs(rows):
        return token_ids[rows], masked[rows], tokens[images[rows]]

    cells = token_ids.shape[1] * subject.retriever.config.model.text.vocab_size
    return in_batches(subject, _answers, len(caption), cells, inputs)


def _colour_of_tokens(subject: Subject) -> np.ndarray:
    """The number of the colour that each entry of the vocabulary names, int [V], -1 for none."""
    tables = (HAIR, COLORS)  # where both have a word, the second counts
    named = {word: name for table in tables for name, words in table.items() for word in words}
    number = {name: i for i, name in enumerate(sorted({*named.values()}))}
    tokenizer = subject.retriever.tokenizer
    entries = tokenizer.tokens(np.arange(tokenizer.vocab_size))
    return np.array([number[named[entry]] if entry in named else -1 for entry in entries])


def _figures(
    truth: np.ndarray, answers: dict, chosen: np.ndarray, colours: np.ndarray | None = None
) -> dict[str, Any]:
    """Count, guess, and the figures of each image, of the chosen masked tokens.

    Args:
      truth: int [n], the masked tokens.
      answers: image -> (predicted int [n], loss float [n]).
      chosen: bool [n].
      colours: as of `_colour_of_tokens`, where the chosen ones are to be compared by colour too.
    """
    count = int(chosen.sum())
    if not count:
        return {"count": 0}
    _, often = np.unique(truth[chosen], return_counts=True)
    figures: dict[str, Any] = {"count": count, "guess": float(often.max() / count)}
    for name, (predicted, loss) in answers.items():
        figures[name] = {
            "accuracy": float((predicted == truth)[chosen].mean()),
            "loss": float(loss[chosen].mean()),
        }
        if colours is not None and (named := chosen & (colours[truth] >= 0)).any():
            same = colours[predicted] == colours[truth]
            figures[name]["same"] = float(same[named].mean())
    return figures
