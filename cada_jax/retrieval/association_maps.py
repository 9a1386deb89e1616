"""Token-patch associations: which image patches every word of a caption attends to."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from cada_jax.common.errors import UsageError
from cada_jax.common.shapes import AnyArray, Float32, Int, UInt8
from cada_jax.models.position_embedding import patch_grid
from cada_jax.models.preprocess import normalize_pixels
from cada_jax.retrieval.images import ImageLike, pixels_of
from cada_jax.retrieval.network import Network, TextNetwork
from cada_jax.text.tokenizer import clean_caption, split_words


@dataclasses.dataclass(frozen=True)
class Associations:
    """What the decoder's text tokens attended to.

    Attributes:
      weights: float32 [layers, B, heads, L, S]; S = 1 + patches, each row sums to 1.
      gates: float32 [layers, B, L] in (0, 2), how far a token lets its patches in; None when the
        model has no gates.
    """

    weights: Float32[np.ndarray, "layers B heads L S"]
    gates: Float32[np.ndarray, "layers B L"] | None

    def maps(self, grid: tuple[int, int]) -> Float32[np.ndarray, "B L rows columns"]:
        """Mean over layers and heads without the image's [CLS]: float32 [B, L, rows, columns].

        Args:
          grid: (rows, columns) of patches.

        Raises:
          ValueError: the grid does not hold S - 1 patches.
        """
        mean = self.weights[..., 1:].mean(axis=(0, 2))
        if grid[0] * grid[1] != mean.shape[-1]:
            raise ValueError(
                f"A grid of {grid[0]}x{grid[1]} does not hold {mean.shape[-1]} patches; "
                "it is image_size / patch of the model's configuration."
            )
        return mean.reshape(*mean.shape[:2], *grid)


def associations(
    network: Network, images: UInt8[AnyArray, "B H W 3"], token_ids: Int[AnyArray, "B L"]
) -> Associations:
    """Runs the decoder on pairs and keeps its cross-attention.

    Args:
      network: on its devices.
      images: uint8 [B,H,W,3].
      token_ids: int32 [B,L], row i describes image i.
    """
    kept = sown_arrays(network.run(_intermediates, images, token_ids))
    gates = kept.get("gate")
    weights = np.asarray(kept["cross_attention"])
    return Associations(weights, None if gates is None else np.asarray(gates)[..., 0])


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


@functools.partial(jax.jit, static_argnames="model")
def _intermediates(model, params, images, token_ids):
    tokens = model.apply({"params": params}, normalize_pixels(images), method="encode_image")
    _, state = model.apply(
        {"params": params}, token_ids, tokens, method="decode", mutable=["intermediates"]
    )
    return state["intermediates"]


@dataclasses.dataclass(frozen=True)
class WordAssociations:
    """What every word of a description attends to in a picture.

    Attributes:
      words: W of them, cleaned; those that the model has no room for are left out.
      weights: float32 [W, layers, heads, rows, columns], of a word of several WordPieces their
        mean. What a map lacks to a sum of 1 went to the image's [CLS].
      gates: float32 [W, layers] in (0, 2), how far a word lets its patches in; None without gates.
      layer, head: that `maps` shows, None for the mean over all.
    """

    words: tuple[str, ...]
    weights: Float32[np.ndarray, "W layers heads rows columns"]
    gates: Float32[np.ndarray, "W layers"] | None
    layer: int | None = None
    head: int | None = None

    @property
    def maps(self) -> Float32[np.ndarray, "W rows columns"]:
        """One map for each word: the layers' mean weighted by the gates, the heads' plain mean."""
        heads = self.weights.mean(axis=2) if self.head is None else self.weights[:, :, self.head]
        if self.layer is not None:
            return heads[:, self.layer]
        if self.gates is None:
            return heads.mean(axis=1)
        share = self.gates / np.maximum(self.gates.sum(axis=1, keepdims=True), 1e-12)
        return (heads * share[:, :, None, None]).sum(axis=1)

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
      image: of any size.
      text: a description.
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
    joined = (index[None] == number[:, None]).astype(np.float32)
    joined /= joined.sum(axis=1, keepdims=True)
    weights = np.einsum("wl,khls->wkhs", joined, seen.weights[:, 0, :, :, 1:])
    grid = patch_grid(network.config.model.image)
    words = split_words(cleaned)
    return WordAssociations(
        tuple(words[i] for i in number),
        weights.reshape(*weights.shape[:3], *grid),
        None if seen.gates is None else joined @ seen.gates[:, 0].T,
        layer,
        head,
    )
