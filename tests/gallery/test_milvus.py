"""The same gallery on a Milvus server, by URI.

A server stands behind CADA_TEST_MILVUS, "http://HOST:PORT"; if that is not set, milvus-lite stands
for one.
"""

import dataclasses
import json
import os
import time

import numpy as np
import pytest

pytest.importorskip("pymilvus")

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.gallery.commands import forget as forget_command
from cada_jax.gallery.gallery import Gallery
from cada_jax.gallery.index import IndexOptions, index_pictures
from cada_jax.gallery.store.milvus import MilvusStore
from cada_jax.gallery.uri import GalleryUri
from cada_jax.retrieval.filter import Filter
from tests.gallery.processes import free_port, holder, milvus_server
from tests.gallery.test_store import META, picture, put, vector
from tests.gallery.tiny import counts, held_by, snapshot, tiny_retriever, write_pictures
from tests.gallery.tiny import picture as image


@pytest.fixture(scope="module")
def retriever():
    return tiny_retriever()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if uri := os.environ.get("CADA_TEST_MILVUS"):
        yield uri
        return
    with milvus_server(tmp_path_factory.mktemp("server")) as uri:
        yield uri


@pytest.fixture
def db(server, request):
    """A collection of the test's own, dropped afterwards."""
    from pymilvus import MilvusClient

    name = f"c{os.getpid()}_{abs(hash(request.node.name))}"
    yield f"{server}#{name}"
    client = MilvusClient(server)
    for collection in client.list_collections():
        if collection.startswith(name):
            client.drop_collection(collection)


@pytest.fixture
def photos(tmp_path):
    write_pictures(tmp_path / "photos", ["a.png", "b.png", "in/c.png"])
    return tmp_path / "photos"


@pytest.fixture
def run(db, photos, retriever):
    def call(db=db, retriever=retriever, **options):
        return index_pictures(db, [photos], retriever, IndexOptions(**options))

    return call


def test_a_gallery_on_a_server_holds_what_a_local_one_holds(run, db, photos, retriever, tmp_path):
    run()
    run(db=tmp_path / "local", tokens="recompute")
    assert held_by(snapshot(db, retriever)) == held_by(snapshot(tmp_path / "local", retriever))
    write_pictures(photos, {"d.png": 8})
    (photos / "a.png").rename(photos / "z.png")
    (photos / "b.png").unlink()
    assert counts(run()) == {"new": 1, "moved": 1, "removed": 1, "unchanged": 1}
    with Gallery.open(db, retriever) as gallery:
        before = gallery.changes()
        embeddings = retriever.encode_images([image(2)]).embeddings
        near = gallery.nearest(embeddings, 3, Filter(folder=str(photos / "in")))[0]
        assert [os.path.basename(n.picture.path) for n in near] == ["c.png"]
        assert near[0].similarity == pytest.approx(1, abs=1e-5)
        assert gallery.summary()["pictures"] == len(gallery) == 3
        write_pictures(photos, {"e.png": 9})
        run()
        assert gallery.changes() != before and len(gallery) == 4


def test_filters_admit_what_a_loop_admits_whatever_names_hold(db):
    store = MilvusStore(GalleryUri.read(db), writes=True, new=META)
    made = [picture(n) for n in range(24)]
    put(store, made)
    assert store.rows() == {p.id: dataclasses.replace(p, tokens=None) for p in made}
    query = np.stack([vector(made[0])])
    for filter in (
        Filter(),
        Filter(folder="/a"),
        Filter(folder="/c d", camera='x" OR 1=1'),
        Filter(since=-2.0, until=1.5),
        Filter(folder="/"),
    ):
        conditions = filter.conditions({p.folder for p in made})
        admitted = [p for p in made if all(c.holds(getattr(p, c.column)) for c in conditions)]
        (found,) = store.nearest(query, 30, filter, None)
        assert {n.picture.id for n in found} == {p.id for p in admitted}
    store.close()


def test_forgetting_on_a_server_and_a_cut_off_one_that_indexing_ends(run, db, photos, retriever):
    run()
    assert forget_command.main([f"--db={db}", f"--folder={photos / 'in'}", "--yes"]) == 0
    assert run().forgotten == 1 and len(snapshot(db, retriever)) == 2
    with Gallery.open(db, read_only=False) as gallery:
        (gone,) = [p for p in gallery.pictures() if p.path.endswith("a.png")]
        gallery.store._set({f"forgotten/{gone.content}": ""})  # killed before the row went
    assert counts(run()) == {"unchanged": 1, "forgotten": 2}
    assert len(snapshot(db, retriever)) == 1
    assert run(include_forgotten=True).pictures == 3


def test_another_model_needs_reindex_and_what_is_forgotten_stays_so(run, db, photos, retriever):
    run()
    forget_command.main([f"--db={db}", f"--folder={photos / 'in'}", "--yes"])
    other = tiny_retriever(1)
    with pytest.raises(UsageError, match="cannot be compared"):
        run(retriever=other)
    assert counts(run(retriever=other, reindex=True)) == {"new": 2, "forgotten": 1}
    with pytest.raises(UsageError, match="--tokens=store.*has no room for them"):
        run(tokens="store")


def test_a_second_writer_is_told_who_writes_and_readers_go_on(run, db, retriever):
    run()
    with holder(db, "writes") as process:
        with pytest.raises(UsageError, match=f"in use by process {process.pid} on .*wait until"):
            run()
        with Gallery.open(db, retriever) as gallery:
            assert len(gallery) == 3
    assert run().unchanged == 3  # the killed process is known to be dead
    store = MilvusStore(GalleryUri.read(db))
    store._set({"writer/x": json.dumps({"pid": 1, "host": "elsewhere", "since": "noon"})})
    with pytest.raises(UsageError, match="process 1 on elsewhere, since noon.*delete the row"):
        run()
    store._drop(["writer/x"])
    assert not store._all("writer/") and run().unchanged == 3
    store.close()


def test_a_foreign_collection_is_refused_and_untouched(run, db, server):
    from pymilvus import MilvusClient

    client = MilvusClient(server)
    name = db.partition("#")[2]
    client.create_collection(name, dimension=4, consistency_level="Strong")
    client.insert(name, [{"id": 1, "vector": [0.0, 1, 2, 3]}])
    for reindex in (False, True):
        with pytest.raises(UsageError, match="is there and is no gallery. Nothing was touched"):
            run(reindex=reindex)
    client.load_collection(name)
    assert np.allclose(client.get(name, ids=[1])[0]["vector"], [0, 1, 2, 3])


def test_a_gallery_or_a_server_that_is_not_there_is_one_quick_error(db, capsys):
    with pytest.raises(MissingFileError, match="there is no gallery. Make one"):
        Gallery.open(db)
    begin = time.monotonic()
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert forget_command.main([f"--db={nowhere}", "--ids", "0" * 32, "--yes"]) == 2
    out, err = capsys.readouterr()
    assert not out and len(err.splitlines()) == 1 and "see that the address is right" in err
    assert time.monotonic() - begin < 15


@pytest.mark.parametrize(
    ("db", "says"),
    [
        (" ", "is empty"),
        ("gs://bucket/x", "expected a file, or http://HOST:PORT"),
        ("http://#x", "expected http://HOST:PORT.*no host"),
        ("http://host#no-name", "names no collection"),
        ("http://host:99999999", "Port"),
    ],
)
def test_a_senseless_address_is_refused(db, says):
    with pytest.raises(UsageError, match=says):
        GalleryUri.read(db)


def test_a_password_is_not_shown(tmp_path):
    uri = GalleryUri.read("https://user:secret@host:1/x#people")
    assert uri.name == "https://host:1/x#people" and not uri.file
    assert GalleryUri.read(tmp_path / "100%#?.db") == (str(tmp_path / "100%#?.db"), "", "")
