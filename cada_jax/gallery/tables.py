"""The collections of a gallery in Milvus: their columns, and how one is written anew.

Vectors have length 1 and are compared by the inner product, so similarities are cosines.
"""

from collections.abc import Callable, Iterable
from typing import Any

from cada_jax.gallery.extra import require
from cada_jax.gallery.vector_index import EXACT, INDEXES

INSERTED = 500  # rows sent at once: 1 MB of vectors
_REWRITTEN = "_rewritten"  # after a collection's name: its copy, until it takes the place
_LONGEST = 65_535  # bytes of a text


def _schema(client: Any) -> tuple[Any, Any]:
    return (
        client.create_schema(auto_id=False, enable_dynamic_field=False),
        require("pymilvus").DataType,
    )


def create_pictures(
    client: Any, name: str, width: int, index: str = EXACT, shards: int = 1
) -> None:
    """Makes the collection of pictures; arguments as of `Vectors.create`."""
    schema, kinds = _schema(client)
    schema.add_field("id", kinds.VARCHAR, is_primary=True, max_length=32)
    schema.add_field("vector", kinds.FLOAT_VECTOR, dim=width)
    schema.add_field("path_key", kinds.VARCHAR, max_length=_LONGEST)
    schema.add_field("camera_key", kinds.VARCHAR, max_length=_LONGEST)
    schema.add_field("taken", kinds.DOUBLE)
    schema.add_field("content", kinds.VARCHAR, max_length=64)
    schema.add_field("record", kinds.VARCHAR, max_length=_LONGEST)
    _create(client, name, schema, "vector", index, shards)


def create_state(client: Any, name: str) -> None:
    """Makes the collection of named texts."""
    schema, kinds = _schema(client)
    schema.add_field("id", kinds.VARCHAR, is_primary=True, max_length=256)
    schema.add_field("value", kinds.VARCHAR, max_length=_LONGEST)
    schema.add_field("unused", kinds.FLOAT_VECTOR, dim=2)  # a collection needs a vector
    _create(client, name, schema, "unused")


def _create(
    client: Any, name: str, schema: Any, vector: str, index: str = EXACT, shards: int = 1
) -> None:
    params = client.prepare_index_params()
    params.add_index(vector, index_type=index, metric_type="IP", params=INDEXES[index])
    client.create_collection(
        name,
        schema=schema,
        index_params=params,
        consistency_level="Strong",
        num_shards=shards,
    )


def rewrite(
    client: Any, name: str, rows: Callable[[str, list[str]], Iterable[dict]], index: str
) -> None:
    """Copies a collection of milvus-lite into a new one and drops the old one with its files.

    Args:
      client: of the database.
      name: of the collection.
      rows: (name, columns) -> all rows.
      index: of the pictures, one of `vector_index.INDEXES`.
    """
    described = client.describe_collection(name)["fields"]
    fields = [field["name"] for field in described]
    copy = name + _REWRITTEN
    if "vector" in fields:
        width = next(f["params"]["dim"] for f in described if f["name"] == "vector")
        create_pictures(client, copy, int(width), index)
    else:
        create_state(client, copy)
    batch: list[dict] = []
    for row in rows(name, fields):
        batch.append({field: row[field] for field in fields})
        if len(batch) == INSERTED:
            client.insert(copy, batch)
            batch = []
    if batch:
        client.insert(copy, batch)
    client.flush(copy)
    client.drop_collection(name)
    client.rename_collection(copy, name)
    client.load_collection(name)


def finish_rewriting(client: Any, name: str) -> None:
    """Ends what a crash interrupted: a copy is whole when the original is gone."""
    copy = name + _REWRITTEN
    if not client.has_collection(copy):
        return
    if client.has_collection(name):
        client.drop_collection(copy)
    else:
        client.rename_collection(copy, name)
