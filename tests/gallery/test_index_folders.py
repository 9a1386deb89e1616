"""Filters by folder, whatever files are called."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from cada_jax.gallery import records
from cada_jax.retrieval.query import Where
from cada_jax.retrieval.searchable import Picture

PARTS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)
PATHS = st.lists(PARTS | st.sampled_from("ab"), min_size=1, max_size=3).map(
    lambda parts: "/" + "/".join(parts)
)


@hypothesis.settings(max_examples=10)
@hypothesis.given(paths=st.lists(PATHS, min_size=1, max_size=12), data=st.data())
def test_a_folder_finds_what_lies_below_it_and_nothing_else(searched, paths, data):
    made = {}
    for n, path in enumerate(dict.fromkeys(paths)):
        row = {"taken": n - 3.5e-7, "camera": path[1:4], "content": "0" * 64}
        made[path] = Picture(records.picture_id(path, None), path, **row)
    searched.remove([row["id"] for row in searched.rows(["id"])])
    searched.add([records.to_row(p, np.eye(16)[0]) for p in made.values()])
    parents = {path[: i + 1] for path in made for i, c in enumerate(path + "/") if c == "/"}
    folder = data.draw(st.sampled_from(sorted(parents | set(made))) | PATHS)
    camera = data.draw(st.sampled_from(sorted(path[1:4] for path in made)) | st.just(""))
    since = data.draw(st.none() | st.floats(-4, 14))
    until = since + 3 if since is not None else None
    where = Where(folder, since, until, camera)
    hits = searched.search(np.eye(16)[:1], 100, records.expression(where), records.FIELDS)[0]
    expected = {
        path
        for path, p in made.items()
        if path.startswith(folder.rstrip("/") + "/")
        and (since is None or since <= p.taken < until)
        and (not camera or p.camera == camera)
    }
    assert {records.from_row(row) for _, row in hits} == {made[path] for path in expected}


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """Vectors in a database without a gallery."""
    from cada_jax.gallery.place import place_of
    from cada_jax.gallery.vectors import Vectors

    folder = tmp_path_factory.mktemp("vectors")
    vectors = Vectors(place_of(folder))
    vectors.create(16)
    vectors.load()
    yield vectors
    vectors.close()
