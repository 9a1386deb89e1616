"""Results as plain values, the same fields that the server answers with."""

import json
import os
from collections.abc import Sequence
from typing import Any

from cada_jax.gallery.moments import local_iso
from cada_jax.retrieval.query import Query
from cada_jax.retrieval.searchable import Picture
from cada_jax.retriever import Hit


def picture_record(picture: Picture) -> dict[str, Any]:
    """What commands and the server tell of a picture.

    `taken` is ISO 8601 in local time, "" for unknown; `box` is [x, y, width, height] or None.
    """
    folder, name = os.path.split(picture.path)
    return {
        "id": picture.id,
        "path": picture.path,
        "name": name,
        "folder": folder,
        "taken": local_iso(picture.taken) if picture.taken else "",
        "camera": picture.camera,
        "box": None if picture.box is None else [float(side) for side in picture.box],
        "width": picture.width,
        "height": picture.height,
    }


def record(hit: Hit) -> dict[str, Any]:
    """One result for JSON; scores are rounded to six digits after the point."""
    logit = hit.match_logit
    return picture_record(hit.picture) | {
        "similarity": round(hit.similarity, 6),
        "match_logit": None if logit is None else round(logit, 6),
        "score": round(hit.score, 6),
    }


def query_record(query: Query) -> dict[str, Any]:
    """What was asked, for JSON; a picture that came as a file is not repeated."""
    where = query.where
    return {
        "texts": list(query.texts),
        "exclude": list(query.exclude),
        "like": query.like is not None or bool(query.like_id),
        "folder": where.folder,
        "since": None if where.since is None else local_iso(where.since),
        "until": None if where.until is None else local_iso(where.until),
        "camera": where.camera,
        "k": query.k,
        "rerank": query.rerank,
        "min_score": query.min_score,
    }


def as_json(query: Query, hits: Sequence[Hit], gallery_size: int) -> str:
    """The query and its results as one JSON object, in ASCII: whatever a name holds is escaped."""
    results = [record(hit) for hit in hits]
    answer = {"query": query_record(query), "gallery_size": gallery_size, "results": results}
    return json.dumps(answer, indent=1)
