"""The JSON answers of the API, as types: FastAPI describes them in /openapi.json."""

import dataclasses
import os

from cada_jax.gallery.results.records import picture_record
from cada_jax.retrieval.searchable import Picture


@dataclasses.dataclass(frozen=True)
class Error:
    """Every refusal: one sentence that says what was expected and what came."""

    error: str


@dataclasses.dataclass(frozen=True)
class Record:
    """One picture of the gallery: a whole image, or a person's box in a scene.

    Attributes:
      id: 32 hexadecimal digits.
      path: of the file on the server.
      name: last part of the path.
      folder: the rest of the path.
      taken: time of exposure, or of modification, ISO 8601 in the server's time with its
        zone.
      camera: "" for unknown.
      box: (x, y, width, height) in pixels of the upright scene; null for the whole image.
      width: of the upright scene in pixels.
      height: of the upright scene in pixels.
      thumbnail: address of a small picture, relative to `/api/`.
    """

    id: str
    path: str
    name: str
    folder: str
    taken: str
    camera: str
    box: list[float] | None
    width: int
    height: int
    thumbnail: str


@dataclasses.dataclass(frozen=True)
class Result(Record):
    """A picture that a query found.

    Attributes:
      similarity: cosine in [-1, 1], the mean over phrasings.
      match_logit: the decoder's score, null where the picture was not re-ranked.
      score: what `min_score` is compared with.
    """

    similarity: float
    match_logit: float | None
    score: float


@dataclasses.dataclass(frozen=True)
class Echo:
    """The query as it was understood."""

    q: list[str]
    exclude: list[str]
    like: str
    image: bool
    folder: str
    since: str
    until: str
    camera: str
    k: int
    rerank: int
    min_score: float | None


@dataclasses.dataclass(frozen=True)
class SearchAnswer:
    """Results of a query, best first.

    Attributes:
      query: as it was understood; excluded words are in `exclude`.
      seconds: from the request's last byte to the answer.
      gallery_size: pictures searched, before filters.
      results: at most `k`.
    """

    query: Echo
    seconds: float
    gallery_size: int
    results: list[Result]


@dataclasses.dataclass(frozen=True)
class WordMap:
    """A word of a description and where in the picture it looks.

    Attributes:
      word: a piece of the vocabulary.
      gate: in (0, 2), how far the word lets its patches in, mean over layers; null without gates.
      gates: the same for each layer.
      map: weight of each patch, rows of columns; gate-weighted.
    """

    word: str
    gate: float | None
    gates: list[float] | None
    map: list[list[float]]


@dataclasses.dataclass(frozen=True)
class AssociationAnswer:
    """The association of a description with a picture.

    Attributes:
      grid: (rows, columns) of patches.
      layers: of the decoder.
      heads: of each layer.
      tokens: a map for every word.
    """

    grid: list[int]
    layers: int
    heads: int
    tokens: list[WordMap]


@dataclasses.dataclass(frozen=True)
class ReadWord:
    """A word that the decoder predicts, and its probability in [0, 1]."""

    word: str
    probability: float


@dataclasses.dataclass(frozen=True)
class Reading:
    """What the decoder reads off one part of a picture, most probable first."""

    part: str
    words: list[ReadWord]


@dataclasses.dataclass(frozen=True)
class AttributesAnswer:
    """What the decoder predicts for a picture without being asked for anything."""

    readings: list[Reading]


@dataclasses.dataclass(frozen=True)
class Health:
    """State of the server.

    Attributes:
      ready: whether programs are compiled and queries are taken; then the status is 200, else 503.
      state: "starting", "ready", "stopping", or "no audit log" when it cannot be written.
      gallery_size: pictures in the gallery.
      queue_depth: queries and other work that wait for the device.
    """

    ready: bool
    state: str
    gallery_size: int
    queue_depth: int


def readable(path: str) -> str:
    """A path as text; bytes of a file name that are no UTF-8 are shown as U+FFFD."""
    return os.fsencode(path).decode("utf-8", "replace")


def record(picture: Picture) -> Record:
    """What a client learns of a picture."""
    return Record(**_fields(picture))


def result(picture: Picture, similarity: float, match_logit: float | None, score: float) -> Result:
    """What a client learns of a picture that was found; arguments as of `Result`."""
    logit = None if match_logit is None else float(match_logit)
    return Result(
        **_fields(picture), similarity=float(similarity), match_logit=logit, score=float(score)
    )


def _fields(picture: Picture) -> dict:
    shown = dataclasses.replace(picture, path=readable(picture.path))
    return picture_record(shown) | {"thumbnail": f"pictures/{picture.id}/thumbnail"}
