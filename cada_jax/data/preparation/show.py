"""Captions with their attribute phrases marked, so that a person sees what ARA will mask."""

import itertools
import os
import sys

from cada_jax.data.preparation.annotations import Source
from cada_jax.text.attribute_phrases import CaptionEncoder

COLOURS = (31, 32, 33, 34, 35, 36)  # of an ANSI terminal, in turn


def mark_phrases(encoder: CaptionEncoder, caption: str, image: str, colour: bool) -> str:
    """Returns a caption as its tokens read, its attribute phrases coloured or in brackets."""
    encoded = encoder.encode([caption], image)[0]
    tokens = encoder.tokenizer.tokens(encoded["token_ids"])
    inside = slice(1, tokens.index("[SEP]"))
    pieces = zip(tokens[inside], encoded["phrase_ids"][inside], strict=True)
    runs = []
    for phrase, run in itertools.groupby(pieces, key=lambda piece: int(piece[1])):
        text = " ".join(token for token, _ in run).replace(" ##", "")
        start, end = (f"\033[{COLOURS[phrase % 6]}m", "\033[0m") if colour else ("[", "]")
        runs.append(start + text + end if phrase else text)
    return " ".join(runs)


def show(encoder: CaptionEncoder, source: Source, number: int) -> None:
    """Prints captions spread over the source."""
    captions = [(text, entry.image) for entry in source.entries for text in entry.captions]
    colour = sys.stdout is not None and sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for text, image in captions[:: max(1, len(captions) // number)][:number]:
        print(mark_phrases(encoder, text, image, colour))
