"""A trained model as a tool: texts and images to embeddings, match scores and search results.

Evaluation and users share it. Pairs are scored and ranked as METHOD, section Retrieval, says: the
cosine of the projected embeddings over all images, then the decoder's match logit added inside the
top k.
"""

import dataclasses
import functools
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any, overload

import jax
import numpy as np
from PIL import Image

from cada_jax.checkpoints import inspect, model
from cada_jax.checkpoints.model import DRAWINGS
from cada_jax.common.compilation_cache import enable_compilation_cache
from cada_jax.common.console import Progress
from cada_jax.common.errors import UsageError, shown
from cada_jax.distributed.mesh import batch_divisor
from cada_jax.network import TextNetwork, abstract_network
from cada_jax.retrieval import encode, query_scores
from cada_jax.retrieval import rerank as rerank_lib
from cada_jax.retrieval.encode import Queries
from cada_jax.retrieval.encoded_images import EncodedImages
from cada_jax.retrieval.good_match import GoodMatch
from cada_jax.retrieval.images import ImageLike, name_of, pixels_of
from cada_jax.retrieval.in_memory import InMemoryGallery
from cada_jax.retrieval.query import Query
from cada_jax.retrieval.query_scores import Hit
from cada_jax.retrieval.search import power_of_four
from cada_jax.retrieval.searchable import Searchable
from cada_jax.text.tokenizer import Tokenizer

Searched = EncodedImages | Searchable


def _as_queries(
    asked: Sequence[str | Query], k: int | None, rerank: int | None, gallery: Searched
) -> list[Query]:
    """Texts and queries with these numbers; of a text k may exceed the gallery."""
    size = sys.maxsize
    if (k is not None or rerank is not None) and any(isinstance(each, str) for each in asked):
        size = len(gallery)  # once: a database counts its rows for it
    queries = []
    for each in asked:
        query, most = (Query((each,)), size) if isinstance(each, str) else (each, sys.maxsize)
        if not isinstance(query, Query):
            raise UsageError(f"a query is {each!r}: expected a text or a Query")
        queries.append(
            dataclasses.replace(
                query,
                k=query.k if k is None else min(k, max(most, 1)),
                rerank=query.rerank if rerank is None else min(rerank, most),
            )
        )
    return queries


@dataclasses.dataclass(frozen=True, repr=False)
class Retriever(TextNetwork):
    """A trained network that encodes, matches and searches; see `load_model`.

    Attributes:
      name: as it was loaded, "" if it was not.
      card: what its card.json says: how it was made, what it knows, what it scores.
    """

    name: str = ""
    card: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        count = sum(x.size for x in jax.tree.leaves(self.params))
        devices = f"{self.mesh.size} {self.mesh.devices.flat[0].platform}"
        knows = f", knows {self.domain}" if self.domain else ""
        return f"Retriever({self.name!r}, {count:,} parameters{knows}, on {devices})"

    @property
    def domain(self) -> str:
        """What kind of pictures the model was trained on, "" where its card does not say."""
        return str(self.card.get("domain", ""))

    @property
    def note(self) -> str:
        """One line for whoever searches photographs by a model that has seen none, else ""."""
        if self.domain != DRAWINGS:
            return ""
        return (
            f"{self.name or 'this model'} knows {DRAWINGS} only, no photographs. A model for "
            "photographs: --model=hf:Salesforce/blip-itm-base-coco"
        )

    @property
    def good_match(self) -> GoodMatch | None:
        """The line above which a result is a good match, None where none was measured."""
        return GoodMatch.of_card(self.card)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the parameters, which marks the galleries that this model encodes."""
        return inspect.digest(self.params)

    def encode_images(
        self,
        images: str | os.PathLike | Image.Image | Sequence[ImageLike],
        names: Sequence[str] | None = None,
        pids: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> EncodedImages:
        """Encodes images for searching.

        Args:
          images: paths, pictures or uint8 [H,W,3], or one of the first two; of any size, resized
            to `config.data.image_size`.
          names: what to call them; paths are their own names.
          pids: the person in each, where known.
          progress: wraps the loop over batches, see `common.console.progress_bar`.

        Raises:
          UsageError: there is no image, or one cannot be read.
        """
        if isinstance(images, str | os.PathLike | Image.Image):
            images = [images]
        if not len(images):
            raise UsageError("images is empty: expected at least one image to encode")
        persons = np.full(len(images), -1) if pids is None else np.asarray(pids)
        names = [name_of(image) for image in images] if names is None else list(names)
        if not len(images) == len(persons) == len(names):
            raise UsageError(
                f"{len(images)} images came with {len(names)} names and {len(persons)} pids: "
                "expected one of each for every image"
            )
        size = tuple(self.config.data.image_size)

        def load(rows: range) -> dict[str, np.ndarray]:
            return {"image": np.stack([pixels_of(images[i], size) for i in rows])}

        batches = self._batches(load, persons, progress, "encode images")
        gallery = encode.encode_gallery(self, batches, len(images))
        return dataclasses.replace(gallery, names=tuple(names), model=self.digest)

    def encode_text(self, texts: str | Sequence[str], pids: Sequence[int] | None = None) -> Queries:
        """Encodes descriptions, cleaned as those that the model was trained with.

        Args:
          texts: one or several; what exceeds `config.data.max_length` tokens is cut off.

        Raises:
          UsageError: there is no text, or one has no word.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        ids = self.token_ids(texts)
        persons = np.full(len(texts), -1) if pids is None else np.asarray(pids)

        def load(rows: range) -> dict[str, np.ndarray]:
            return {"token_ids": ids[list(rows)]}

        return encode.encode_queries(self, self._batches(load, persons, None, ""), len(texts))

    def match(
        self, texts: str | Sequence[str], images: EncodedImages | Sequence[ImageLike]
    ) -> np.ndarray:
        """Match logits of every text with every image, float32 [texts, images]; more is better."""
        queries = self.encode_text(texts)
        gallery = images if isinstance(images, EncodedImages) else self.encode_images(images)
        self._check_gallery(gallery)
        shape = len(queries.token_ids), len(gallery)
        text, image = (index.reshape(-1) for index in np.indices(shape))
        pairs = rerank_lib.Pairs(queries.token_ids, gallery.tokens, text, image)
        return rerank_lib.match_pairs(self, pairs).reshape(shape)

    @overload
    def search(
        self, query: str | Query, gallery: Searched, k: int | None = None, rerank: int | None = None
    ) -> list[Hit]: ...

    @overload
    def search(
        self,
        query: Sequence[str | Query],
        gallery: Searched,
        k: int | None = None,
        rerank: int | None = None,
    ) -> list[list[Hit]]: ...

    def search(
        self,
        query: str | Query | Sequence[str | Query],
        gallery: Searched,
        k: int | None = None,
        rerank: int | None = None,
    ) -> list[Hit] | list[list[Hit]]:
        """The images that a query describes best, best first.

        Args:
          query: a text or a `Query`; several, which are answered together, for a list of results
            each. A list of texts is several queries: for several phrasings of one description see
            `Query.texts`.
          gallery: from `encode_images`, or any `Searchable`.
          k: how many images, at most all; None: the query's own, 10 for a text.
          rerank: the decoder scores so many nearest images; 0 for similarity alone; None: the
            query's own, 32 for a text.

        Raises:
          UsageError: a query or a number is not what it has to be, another model encoded the
            gallery, or a picture to resemble is not there.
        """
        one = isinstance(query, str | Query)
        if not one and not isinstance(query, Sequence):
            raise UsageError(f"a query is {query!r}: expected a text or a Query, or several")
        queries = _as_queries([query] if one else query, k, rerank, gallery)
        if not queries:
            raise UsageError("nothing to search for: expected at least one description or query")
        self._check_gallery(gallery)
        if isinstance(gallery, EncodedImages):
            gallery = InMemoryGallery(gallery, self.mesh)
        found = query_scores.answer(self, self._encode_queries(queries, gallery), gallery)
        if isinstance(gallery, InMemoryGallery):
            found = [[h._replace(index=gallery.row(h.picture.id)) for h in hits] for hits in found]
        if line := self.good_match:
            found = [line.mark(q, hits) for q, hits in zip(queries, found, strict=True)]
        return found[0] if one else found

    def _encode_queries(
        self, queries: list[Query], gallery: Searchable
    ) -> query_scores.EncodedQueries:
        """Every different text once, and every picture to resemble."""
        texts = list(dict.fromkeys(text for q in queries for text in (*q.texts, *q.exclude)))
        ids = list(dict.fromkeys(q.like_id for q in queries if q.like_id))
        stored = dict(zip(ids, gallery.embeddings_of(ids), strict=True)) if ids else {}
        images = [q.like for q in queries if q.like is not None]
        given = iter(self.encode_images(images).embeddings if images else ())
        likes = [stored.get(q.like_id) if q.like is None else next(given) for q in queries]
        rows = {text: row for row, text in enumerate(texts)}
        return query_scores.EncodedQueries(
            queries, self.encode_text(texts) if texts else None, rows, likes
        )

    def _check_gallery(self, gallery: Searched) -> None:
        if not isinstance(gallery, EncodedImages | Searchable):
            raise UsageError(
                f"the gallery is {shown(gallery)}: expected a Gallery or what encode_images gave"
            )
        if gallery.model and gallery.model != self.digest:
            raise UsageError(
                f"the gallery was encoded by another model ({gallery.model[:12]}, this one is "
                f"{self.digest[:12]}): load that model, or encode the images again with this one"
            )

    def _batches(self, load, pids, progress: Progress | None, text: str) -> Iterator[dict]:
        """Batches of one size, the last one filled up with copies of its first row.

        Args:
          load: range of rows -> columns.
        """
        size, devices = len(pids), batch_divisor(self.mesh)
        # A power of four, so that few programs are compiled for calls of different sizes.
        batch = min(self.config.eval.batch_size, power_of_four(size))
        batch = -(-batch // devices) * devices
        starts = range(0, size, batch)
        for begin in starts if progress is None else progress(starts, len(starts), text):
            rows = range(begin, min(begin + batch, size))
            columns = load(rows) | {"pid": np.asarray(pids[begin : rows.stop])}
            valid = np.arange(batch) < len(rows)
            index = np.where(valid, np.arange(batch), 0)
            yield {name: x[index] for name, x in columns.items()} | {"valid": valid}


def load_model(name: str | os.PathLike, devices: list | None = None) -> Retriever:
    """Loads a model for use; compiled programs are kept on disk, see `enable_compilation_cache`.

    Args:
      name: the folder of a model (WORKDIR/model of a run, or what `python -m cada_jax convert`
        made), "pretrained:NAME" of the package, or "hf:ORG/NAME" of the Hugging Face hub.
      devices: to use; all there are if None.

    Raises:
      MissingFileError: it is not there.
      UsageError: it cannot be read.
    """
    enable_compilation_cache()
    found = model.load_model(name)
    config = found.config.copy_and_resolve_references()
    # The devices that trained it are not these.
    config.mesh.update(data=-1, fsdp=1, tensor=1)
    network = abstract_network(config, devices).with_params(found.params)
    parts = (network.config, network.mesh, network.model, network.params)
    return Retriever(*parts, Tokenizer(found.vocab_path), str(name), found.card)
