"""A trained model as a tool: texts and images to embeddings, match scores and search results.

Evaluation and users share it. Pairs are scored and ranked as METHOD, section Retrieval, says: the
cosine of the projected embeddings over all images, then the decoder's match logit added inside the
top k.
"""

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

import numpy as np
from PIL import Image

from cada_jax.checkpoints import export, inspect
from cada_jax.common.console import Progress
from cada_jax.common.errors import UsageError
from cada_jax.config import upgraded
from cada_jax.distributed.mesh import batch_divisor
from cada_jax.retrieval import encode, ranking, search
from cada_jax.retrieval import rerank as rerank_lib
from cada_jax.retrieval.encode import Queries
from cada_jax.retrieval.encoded_images import EncodedImages
from cada_jax.retrieval.images import name_of, pixels_of
from cada_jax.retrieval.network import Network, abstract_network
from cada_jax.text.attribute_phrases import caption_problem
from cada_jax.text.tokenizer import Tokenizer, clean_caption

# A path, a picture of Pillow's, or uint8 [H,W,3].
ImageLike = str | os.PathLike | Image.Image | np.ndarray


class Hit(NamedTuple):
    """One image that a text found.

    index: place in the gallery; name: as the gallery calls it, "" without names; pid: the person,
    -1 for unknown; similarity: cosine in [-1,1]; match_logit: the decoder's, None where the image
    was not re-ranked.
    """

    index: int
    name: str
    pid: int
    similarity: float
    match_logit: float | None


@dataclasses.dataclass(frozen=True)
class Retriever(Network):
    """A network with the vocabulary that it reads; see `load_model`.

    Attributes:
      tokenizer: its token ids are those that the model was trained with.
    """

    tokenizer: Tokenizer

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the parameters, which marks the galleries that this model encodes."""
        return inspect.digest(self.params)

    def encode_images(
        self,
        images: Sequence[ImageLike],
        names: Sequence[str] | None = None,
        pids: Sequence[int] | None = None,
        progress: Progress | None = None,
    ) -> EncodedImages:
        """Encodes images for searching.

        Args:
          images: paths, pictures or uint8 [H,W,3]; of any size, resized to
            `config.data.image_size`.
          names: what to call them; paths are their own names.
          pids: the person in each, where known.
          progress: wraps the loop over batches, see `common.console.progress_bar`.

        Raises:
          UsageError: there is no image, or one cannot be read.
        """
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
          pids: the person that each describes, where known.

        Raises:
          UsageError: there is no text, or one has no word.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            raise UsageError("texts is empty: expected at least one description")
        if problem := next(filter(None, map(caption_problem, texts)), None):
            raise UsageError(f"a text cannot be searched for: {problem}")
        length = self.config.data.max_length
        ids = np.stack([self.tokenizer.encode(clean_caption(text), length)[0] for text in texts])
        persons = np.full(len(texts), -1) if pids is None else np.asarray(pids)

        def load(rows: range) -> dict[str, np.ndarray]:
            return {"token_ids": ids[list(rows)]}

        return encode.encode_queries(self, self._batches(load, persons, None, ""), len(texts))

    def match(self, texts: str | Sequence[str], images: EncodedImages | Sequence[ImageLike]):
        """Match logits of every text with every image: float32 [texts, images], larger is better.

        Args:
          texts: one or several.
          images: a gallery, or images to encode first.
        """
        queries = self.encode_text(texts)
        gallery = images if isinstance(images, EncodedImages) else self.encode_images(images)
        self._check_gallery(gallery)
        shape = len(queries.token_ids), len(gallery)
        text, image = (index.reshape(-1) for index in np.indices(shape))
        pairs = rerank_lib.Pairs(queries.token_ids, gallery.tokens, text, image)
        return rerank_lib.match_pairs(self, pairs).reshape(shape)

    @overload
    def search(
        self, texts: str, gallery: EncodedImages, k: int = 10, rerank: int = 32
    ) -> list[Hit]: ...

    @overload
    def search(
        self, texts: Sequence[str], gallery: EncodedImages, k: int = 10, rerank: int = 32
    ) -> list[list[Hit]]: ...

    def search(
        self, texts: str | Sequence[str], gallery: EncodedImages, k: int = 10, rerank: int = 32
    ) -> list[Hit] | list[list[Hit]]:
        """The images that a text describes best, best first.

        Args:
          texts: one, or several for a list of results each.
          gallery: from `encode_images`.
          k: how many images; at most all.
          rerank: the decoder scores so many nearest images of each text; 0 for similarity alone.

        Raises:
          UsageError: k or rerank is negative, or another model encoded the gallery.
        """
        for name, value, least in (("k", k, 1), ("rerank", rerank, 0)):
            if value < least:
                raise UsageError(f"{name} is {value}, expected {least} or more")
        self._check_gallery(gallery)
        queries = self.encode_text(texts)
        rerank = min(rerank, len(gallery))
        most = min(max(k, rerank), len(gallery))
        shown, similarity = search.global_topk(
            queries.embeddings, gallery.embeddings, most, self.mesh
        )
        text = np.repeat(np.arange(len(shown)), rerank)
        top = shown[:, :rerank].reshape(-1)
        pairs = rerank_lib.Pairs(queries.token_ids, gallery.tokens, text, top)
        logits = rerank_lib.match_pairs(self, pairs).reshape(len(shown), rerank)
        found = [
            [
                self._hit(gallery, *place)
                for place in ranking.best_places(shown[q], similarity[q], logits[q], k)
            ]
            for q in range(len(shown))
        ]
        return found[0] if isinstance(texts, str) else found

    def _hit(
        self, gallery: EncodedImages, image: int, similarity: float, logit: float | None
    ) -> Hit:
        name = gallery.names[image] if gallery.names else ""
        return Hit(image, name, int(gallery.pids[image]), similarity, logit)

    def _check_gallery(self, gallery: EncodedImages) -> None:
        if gallery.model and gallery.model != self.digest:
            raise UsageError(
                f"the gallery was encoded by another model ({gallery.model[:12]}, this one is "
                f"{self.digest[:12]}): load that model, or encode the images again with this one"
            )

    def _batches(self, load, pids, progress: Progress | None, text: str) -> Iterator[dict]:
        """Batches of one size, the last one filled up with copies of its first row.

        Args:
          load: range of rows -> columns.
          pids: int [rows].
          progress: wraps the loop, or None.
          text: what the progress bar says.
        """
        size, devices = len(pids), batch_divisor(self.mesh)
        # A power of two, so that few programs are compiled for calls of different sizes.
        batch = min(self.config.eval.batch_size, 2 ** (size - 1).bit_length())
        batch = -(-batch // devices) * devices
        starts = range(0, size, batch)
        for begin in starts if progress is None else progress(starts, len(starts), text):
            rows = range(begin, min(begin + batch, size))
            columns = load(rows) | {"pid": np.asarray(pids[begin : rows.stop])}
            valid = np.arange(batch) < len(rows)
            index = np.where(valid, np.arange(batch), 0)
            yield {name: x[index] for name, x in columns.items()} | {"valid": valid}


def load_model(name: str | os.PathLike, devices: list | None = None) -> Retriever:
    """Loads an exported model for use.

    Args:
      name: the folder of an exported model (WORKDIR/model of a run, or what
        `python -m cada_jax convert` made), or "pretrained:NAME".
      devices: to use; all there are if None.

    Raises:
      MissingFileError: it is not there.
      UsageError: it cannot be read.
    """
    params, config, vocab_path = export.load_model(name)
    config = upgraded(config).copy_and_resolve_references()
    # The devices that trained it are not these.
    config.mesh.update(data=-1, fsdp=1, tensor=1)
    network = abstract_network(config, devices).with_params(params)
    return Retriever(
        network.config, network.mesh, network.model, network.params, Tokenizer(vocab_path)
    )
