"""Token-patch associations: which image patches made every word of a description match.

A word's map is attention times gradient: the cross-attention of its tokens, each weight times what
the match logit would gain if it were larger, added up over layers and heads. So ALBEF (Li et al.,
2021) and BLIP show theirs. `python -m tools.pointing` measured it against attention alone and
others: README.md beside this file.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cada_jax.common.errors import UsageError, needs_extra
from cada_jax.common.shapes import AnyArray, Bool, Float32, Int, UInt8
from cada_jax.models.cada import apply
from cada_jax.models.preprocess import normalize_pixels
from cada_jax.models.vit import patch_grid
from cada_jax.network import Network, TextNetwork
from cada_jax.retrieval.images import ImageLike, pixels_of
from cada_jax.text.attribute_phrases import find_phrases
from cada_jax.text.taggers import DEFAULT_TAGGER, Tagger, make_tagger
from cada_jax.text.tokenizer import clean_caption, split_words


class Associations(NamedTuple):
    """What the decoder's text tokens attended to, and what of it spoke for a match.

    Attributes:
      weights: float32 [layers, B, heads, L, S]; each row sums to 1. The last ones of the image's S
        tokens are its patches.
      relevance: float32 [B, L, S], not negative: weights times the gradient of the match logit
        where that is positive, the mean over heads, the sum over layers.
      gates: float32 [layers, B, L] in (0, 2), how far a token lets its patches in; None when the
        model has no gates.
    """

    weights: Float32[np.ndarray, "layers B heads L S"]
    relevance: Float32[np.ndarray, "B L S"]
    gates: Float32[np.ndarray, "layers B L"] | None


def associations(
    network: Network, images: UInt8[AnyArray, "B H W 3"], token_ids: Int[AnyArray, "B L"]
) -> Associations:
    """Runs the decoder on pairs, and back from the match logit to its cross-attention.

    Args:
      token_ids: int32 [B,L], row i describes image i.
    """
    weights, relevance, gates = network.run(_attended, images, token_ids)
    of_gates = None if gates is None else np.asarray(gates)[..., 0]
    return Associations(np.asarray(weights), np.asarray(relevance), of_gates)


@functools.partial(jax.jit, static_argnames="model")
def _attended(model, params, images, token_ids):
    """(weights, relevance, gates) as of `Associations`."""
    _, tokens = apply(model, params, "encode_image", normalize_pixels(images))

    def decode(variables, *mutable):
        given = {"params": params, **variables}
        return model.apply(given, token_ids, tokens, method="decode", mutable=mutable)

    def match(added):
        decoded, state = decode({"perturbations": added}, "intermediates")
        return jnp.sum(apply(model, params, "match", decoded)[:, 1]), sown_arrays(state)

    # Zeros that are added to the weights: the gradient there is that in the weights.
    shapes = jax.eval_shape(lambda: decode({}, "perturbations", "intermediates")[1])
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes["perturbations"])
    gradients, sown = jax.grad(match, has_aux=True)(zeros)
    (gradient,) = jax.tree.leaves(gradients)
    weights = sown["cross_attention"]
    relevance = (weights * jnp.maximum(gradient, 0.0)).mean(axis=2).sum(axis=0)
    return weights, relevance, sown.get("gate")


def sown_arrays(intermediates: Any) -> dict[str, Any]:
    """The decoder's "cross_attention" and, with gates, its "gate", from what `decode` sows.

    Args:
      intermediates: the collection of that name; arrays begin with the layers, [layers, M, ...].
    """
    kept = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(intermediates):
        names = [getattr(key, "key", None) for key in path]
        if (name := _sown_name(names)) in ("cross_attention", "gate"):
            kept[name] = leaf
    return kept


def _sown_name(names: list) -> str | None:
    return next((name for name in reversed(names) if isinstance(name, str)), None)


@dataclasses.dataclass(frozen=True)
class WordAssociations:
    """What every word of a description attends to in a picture, and what made it match.

    Attributes:
      words: W of them, cleaned; those that the model has no room for are left out.
      weights: float32 [W, layers, heads, rows, columns], of a word of several WordPieces their
        mean. What a map lacks to a sum of 1 went to tokens that are no patches.
      relevance: float32 [W, rows, columns], see `Associations`; the words of an attribute phrase
        share their mean, as a color has its place by the noun behind it.
      gates: float32 [W, layers] in (0, 2), how far a word lets its patches in; None without gates.
      layer, head: whose weights `maps` shows; None for all.
    """

    words: tuple[str, ...]
    weights: Float32[np.ndarray, "W layers heads rows columns"]
    relevance: Float32[np.ndarray, "W rows columns"]
    gates: Float32[np.ndarray, "W layers"] | None
    layer: int | None = None
    head: int | None = None

    @property
    def maps(self) -> Float32[np.ndarray, "W rows columns"]:
        """One map for each word: its relevance in shares; of a layer or a head, its weights."""
        if self.layer is None and self.head is None:
            total = self.relevance.sum(axis=(1, 2), keepdims=True)
            return self.relevance / np.maximum(total, 1e-30)
        heads = self.weights.mean(axis=2) if self.head is None else self.weights[:, :, self.head]
        return heads.mean(axis=1) if self.layer is None else heads[:, self.layer]

    @property
    def gate(self) -> Float32[np.ndarray, "W"] | None:
        """The gate of each word in the layer that is shown, or its mean over them."""
        if self.gates is None:
            return None
        return self.gates.mean(axis=1) if self.layer is None else self.gates[:, self.layer]

    def plain(self) -> dict[str, Any]:
        """The same as values that JSON can hold.

        Returns:
          {"grid": [rows, columns], "layers": n, "heads": n, "tokens": [{"word", "gate", "gates",
          "map"}, ...]}; both gates are None for a model without.
        """
        _, layers, heads, *grid = self.weights.shape
        maps, gate = self.maps, self.gate
        tokens = [
            {
                "word": word,
                "gate": None if gate is None else float(gate[i]),
                "gates": None if self.gates is None else self.gates[i].tolist(),
                "map": maps[i].tolist(),
            }
            for i, word in enumerate(self.words)
        ]
        return {"grid": grid, "layers": layers, "heads": heads, "tokens": tokens}


def word_associations(
    network: TextNetwork,
    image: ImageLike,
    text: str,
    layer: int | None = None,
    head: int | None = None,
) -> WordAssociations:
    """The association of one description with one picture, word by word.

    Args:
      network: with its vocabulary, as `Retriever` is one.
      layer: of the decoder, from 0; None for all.
      head: of its cross-attention, from 0; None for all.

    Raises:
      MissingFileError: there is no such image.
      UsageError: it cannot be read, the text has no word, or there is no such layer or head.
    """
    sizes = network.config.model.text
    for name, value, count in (("layer", layer, sizes.depth), ("head", head, sizes.heads)):
        if value is not None and not 0 <= value < count:
            raise UsageError(f"{name} is {value}, expected 0 to {count - 1}")
    token_ids = network.token_ids([text])
    pixels = pixels_of(image, tuple(network.config.data.image_size))
    seen = associations(network, pixels[None], token_ids)
    cleaned = clean_caption(text)
    _, index = network.tokenizer.encode(cleaned, token_ids.shape[1])
    number = np.unique(index[index >= 0])
    joined = _means(index[None] == number[:, None])
    weights = np.einsum("wl,khls->wkhs", joined, seen.weights[:, 0, :, :, 1:])
    phrase = np.array(find_phrases(text, _tagger())[1])[number]
    alone = np.eye(len(number), dtype=bool)
    shared = _means(np.where(phrase[:, None] > 0, phrase[:, None] == phrase[None], alone))
    grid = patch_grid(network.config.model.image)
    words = split_words(cleaned)
    return WordAssociations(
        tuple(words[i] for i in number),
        weights.reshape(*weights.shape[:3], *grid),
        (shared @ joined @ seen.relevance[0, :, 1:]).reshape(-1, *grid),
        None if seen.gates is None else joined @ seen.gates[:, 0].T,
        layer,
        head,
    )


def _means(chosen: Bool[np.ndarray, "n m"]) -> Float32[np.ndarray, "n m"]:
    """The matrix whose product is the mean over what each row chooses."""
    return (chosen / chosen.sum(axis=1, keepdims=True)).astype(np.float32)


@functools.cache
def _tagger() -> Tagger:
    with needs_extra("search"):
        return make_tagger(DEFAULT_TAGGER)
