"""The record of a picture as the row of a vector database.

Text that filters compare is percent-encoded: it holds letters, digits and `/._-~%` only. Then a
filter needs no escaping, whatever a file is called, and a database may order it as it likes.
"""

import hashlib
import json
import urllib.parse

import numpy as np

from cada_jax.retrieval.query import Where
from cada_jax.retrieval.searchable import Picture

Box = tuple[float, float, float, float]
# What the database returns of a row besides its vector.
FIELDS = ("id", "content", "record")


def encoded(text: str) -> str:
    """Percent-encoded UTF-8; of two texts, one is a prefix of the other as before."""
    return urllib.parse.quote(text, safe="/")


def box_key(box: Box | None) -> str:
    """A box as text, the same for the same numbers; "" for the whole picture."""
    return "" if box is None else ",".join(repr(float(x)) for x in box)


def picture_id(path: str, box: Box | None) -> str:
    """The first 32 hexadecimal digits of the SHA-256 of path and box."""
    return hashlib.sha256(f"{path}\0{box_key(box)}".encode()).hexdigest()[:32]


def token_key(content: str, box: Box | None) -> str:
    """Names the tokens of these pixels, wherever the file lies: 64 hexadecimal digits."""
    return hashlib.sha256(f"{content}\0{box_key(box)}".encode()).hexdigest()


def to_row(picture: Picture, vector: np.ndarray) -> dict:
    """The row of a picture.

    Args:
      picture: its record.
      vector: float32 [E] of length 1.
    """
    record = {
        "path": picture.path,
        "size": picture.size,
        "modified_ns": str(picture.modified_ns),  # JSON's numbers may be doubles there
        "taken": picture.taken,
        "camera": picture.camera,
        "width": picture.width,
        "height": picture.height,
        "box": list(picture.box) if picture.box else None,
        "box_score": picture.box_score,
        "pid": picture.pid,
    }
    return {
        "id": picture.id,
        "vector": np.asarray(vector, np.float32),
        "path_key": encoded(picture.path),
        "camera_key": encoded(picture.camera),
        "taken": float(picture.taken),
        "content": picture.content,
        "record": json.dumps(record),
    }


def from_row(row: dict) -> Picture:
    """The record in a row of the database."""
    record = json.loads(row["record"])
    box = record["box"]
    return Picture(
        id=row["id"],
        path=record["path"],
        content=row["content"],
        size=int(record["size"]),
        modified_ns=int(record["modified_ns"]),
        taken=float(record["taken"]),
        camera=record["camera"],
        width=record["width"],
        height=record["height"],
        box=tuple(box) if box else None,
        box_score=record["box_score"],
        pid=record["pid"],
    )


def expression(where: Where) -> str:
    """A filter in Milvus's language, "" for one that admits all.

    Everything below a folder lies, in the order of bytes, between "FOLDER/" and "FOLDER0": "0" is
    the character after "/".
    """
    parts = []
    if where.folder:
        folder = encoded(where.folder.rstrip("/"))
        parts.append(f'path_key >= "{folder}/" and path_key < "{folder}0"')
    if where.since is not None:
        parts.append(f"taken >= {float(where.since)!r}")
    if where.until is not None:
        parts.append(f"taken < {float(where.until)!r}")
    if where.camera:
        parts.append(f'camera_key == "{encoded(where.camera)}"')
    return " and ".join(parts)
