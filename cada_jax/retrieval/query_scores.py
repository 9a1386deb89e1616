"""Many queries answered at once: filters, several phrasings, excluded words, a picture to resemble.

A picture's score is the mean match logit of the phrasings + the similarity - what the excluded
words cost it. The order is (in the top `rerank`, score), then similarity, as in `metrics`.

Q queries, U different texts, E embedding width.
"""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from cada_jax.common.shapes import Float32
from cada_jax.network import Network
from cada_jax.retrieval.encode import Queries
from cada_jax.retrieval.filter import Filter
from cada_jax.retrieval.query import Query
from cada_jax.retrieval.rerank import Pairs, match_pairs
from cada_jax.retrieval.searchable import Neighbor, Picture, Searchable

# The decoder's tokens of so many pictures are on the host at once: 0.6 GB of the full model.
PICTURES_AT_ONCE = 1024
# A picture's share beside the words' in a query of both. Embeddings of two pictures are nearer to
# each other than those of a text and a picture: at 1 the words count for little.
LIKE_WEIGHT = 0.5


class Hit(NamedTuple):
    """One picture that a query found.

    picture: its record; similarity: cosine in [-1,1]; match_logit: the decoder's, mean over the
    phrasings, None where it scored no words of the query; score: what it is ranked by, match logit
    + similarity less what excluded words cost, or the similarity alone where it was not re-ranked;
    index: place among images encoded in memory, -1 in another gallery; others: so many pictures of
    its group were looked up as well, where the query groups them; good_match: whether it is above
    the line of a good match, None where the model has no line for such a query.
    """

    picture: Picture
    similarity: float
    match_logit: float | None
    score: float
    index: int = -1
    others: int = 0
    good_match: bool | None = None

    @property
    def name(self) -> str:
        """As the gallery calls the picture: its path, "" without names."""
        return self.picture.path

    @property
    def pid(self) -> int:
        """The person, -1 for unknown."""
        return self.picture.pid

    def __repr__(self) -> str:
        numbers = f"score={self.score:.3f}, similarity={self.similarity:.3f}"
        return f"Hit({self.name or self.picture.id!r}, {numbers})"

    def to_dict(self) -> dict[str, Any]:
        """The picture's `to_dict` and the scores, rounded to six digits, for JSON."""
        logit = self.match_logit
        return self.picture.to_dict() | {
            "similarity": round(self.similarity, 6),
            "match_logit": None if logit is None else round(logit, 6),
            "score": round(self.score, 6),
            "others": self.others,
            "good_match": self.good_match,
        }


class EncodedQueries(NamedTuple):
    """Q queries with what was encoded for them.

    queries: as asked; texts: the U different texts of all of them, excluded ones too, None without
    any; rows: the row of each text in `texts`; likes: float32 [E] of length 1, the picture that a
    query resembles, None for a query of words alone.
    """

    queries: Sequence[Query]
    texts: Queries | None
    rows: dict[str, int]
    likes: Sequence[np.ndarray | None]

    def embedding(self, query: int) -> Float32[np.ndarray, "E"]:
        """What stage one compares with the pictures: length 1."""
        parts = self._row_numbers(self.queries[query].texts)
        like = self.likes[query]
        if self.texts is None or not parts:
            assert like is not None
            return like
        words = _mean_direction(self.texts.embeddings[parts])
        return words if like is None else _normalized(words + LIKE_WEIGHT * like)

    def _row_numbers(self, texts: Sequence[str]) -> list[int]:
        return [self.rows[text] for text in texts]


def answer(network: Network, encoded: EncodedQueries, gallery: Searchable) -> list[list[Hit]]:
    """The pictures that every query finds, best first.

    One `nearest` for every different filter, one `match_pairs` for up to `PICTURES_AT_ONCE`
    pictures of all queries together.

    Args:
      network: that encoded the queries and the gallery.
      encoded: what is asked.
      gallery: what is searched.

    Raises:
      UsageError: a picture to resemble is not in the gallery.
    """
    near = _nearest(encoded, gallery)
    logits = _match(network, encoded, near, gallery)
    return [
        _ranked(query, found, logits[number])
        for number, (query, found) in enumerate(zip(encoded.queries, near, strict=True))
    ]


def _nearest(encoded: EncodedQueries, gallery: Searchable) -> list[list[Neighbor]]:
    """Stage one: what every query needs for its results and for its re-ranking."""
    near: list[list[Neighbor]] = [[] for _ in encoded.queries]
    groups: dict[Filter, list[int]] = {}
    for number, query in enumerate(encoded.queries):
        groups.setdefault(query.filter, []).append(number)
    for filter, numbers in groups.items():
        vectors = np.stack([encoded.embedding(number) for number in numbers])
        asked = [encoded.queries[number] for number in numbers]
        # A picture that finds itself is one more.
        most = max(query.looked_up + bool(query.like_id) for query in asked)
        found = gallery.nearest(vectors, most, filter)
        for number, pictures in zip(numbers, found, strict=True):
            query = encoded.queries[number]
            others = [one for one in pictures if one.picture.id != query.like_id]
            near[number] = others[: query.looked_up]
    return near


def _reranked(query: Query) -> int:
    return query.rerank if query.decodes else 0


def _match(
    network: Network, encoded: EncodedQueries, near: list[list[Neighbor]], gallery: Searchable
) -> list[Float32[np.ndarray, "texts pictures"]]:
    """Stage two: of every query the match logits of its texts, then of what it excludes."""
    shapes, texts, ids = [], [], []
    pictures: dict[str, Picture] = {}
    for query, found in zip(encoded.queries, near, strict=True):
        asked = [encoded.rows[text] for text in (*query.texts, *query.exclude)]
        top = [one.picture.id for one in found[: _reranked(query)]]
        pictures |= {one.picture.id: one.picture for one in found[: _reranked(query)]}
        shapes.append((len(asked), len(top)))
        texts += [row for row in asked for _ in top]
        ids += top * len(asked)
    if not ids:
        return [np.zeros(shape, np.float32) for shape in shapes]
    place = {id: number for number, id in enumerate(pictures)}
    pairs = np.stack([np.asarray(texts), np.asarray([place[id] for id in ids])])
    # Two users who ask the same cost as much as one.
    different, inverse = np.unique(pairs, axis=1, return_inverse=True)
    shown = list(pictures.values())
    scores = _match_different(network, encoded.texts, different, shown, gallery)[inverse]
    ends = np.cumsum([rows * columns for rows, columns in shapes])[:-1]
    parts = np.split(scores, ends)
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _match_different(
    network: Network,
    texts: Queries | None,
    pairs: np.ndarray,
    pictures: list[Picture],
    gallery: Searchable,
) -> Float32[np.ndarray, "P"]:
    """Match logits of P pairs, int [2,P] of (text, picture)."""
    assert texts is not None
    logits = np.empty(pairs.shape[1], np.float32)
    for begin in range(0, len(pictures), PICTURES_AT_ONCE):
        some = pictures[begin : begin + PICTURES_AT_ONCE]
        mine = (pairs[1] >= begin) & (pairs[1] < begin + len(some))
        text, image = pairs[:, mine]
        tokens = gallery.tokens_of(some)
        some_pairs = Pairs(texts.token_ids, tokens, text, image - begin)
        logits[mine] = match_pairs(network, some_pairs, steady=True)
    return logits


def _ranked(
    query: Query, near: list[Neighbor], logits: Float32[np.ndarray, "texts pictures"]
) -> list[Hit]:
    """The results of one query from both stages."""
    similarity = np.asarray([one.similarity for one in near], np.float32)
    score = similarity.copy()
    top = logits.shape[1]
    asked = len(query.texts)
    words = logits[:asked].mean(axis=0) if asked and top else None
    if words is not None:
        score[:top] = words + similarity[:top]
    if query.exclude and top:
        score[:top] -= excluded_cost(logits[asked:])
    order = [*np.argsort(-score[:top], kind="stable").tolist(), *range(top, len(near))]
    if query.min_score is not None:
        scored = top if query.decodes else len(near)
        order = [place for place in order if place < scored and score[place] >= query.min_score]
    groups: dict[Hashable, list[int]] = {}
    for place in order:
        groups.setdefault(query.group_of(near[place].picture), []).append(place)
    return [
        Hit(
            near[place].picture,
            near[place].similarity,
            float(words[place]) if words is not None and place < top else None,
            float(score[place]),
            others=len(others),
        )
        for place, *others in [*groups.values()][query.offset : query.offset + query.k]
    ]


def excluded_cost(
    logits: Float32[np.ndarray, "texts pictures"],
) -> Float32[np.ndarray, "pictures"]:
    """What excluded descriptions cost a picture, at least 0.

    It is the match logit of each, less that of the picture that it fits least, summed. The logit of
    a short text is far below 0 even where it is true, so a fixed threshold would exclude nothing.
    """
    return (logits - logits.min(axis=1, keepdims=True)).sum(axis=0)


def _mean_direction(embeddings: Float32[np.ndarray, "n E"]) -> Float32[np.ndarray, "E"]:
    """Their mean in length 1; a single one comes back bit for bit."""
    return embeddings[0] if len(embeddings) == 1 else _normalized(embeddings.mean(axis=0))


def _normalized(vector: Float32[np.ndarray, "E"]) -> Float32[np.ndarray, "E"]:
    return vector / np.maximum(np.linalg.norm(vector), 1e-12)
