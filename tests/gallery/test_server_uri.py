"""The same gallery on a Milvus server, by URI; milvus-lite behind a port stands for the server."""

import json
import os
import threading
import time

import numpy as np
import pytest

from cada_jax.common.errors import UsageError
from cada_jax.gallery import lease as lease_lib
from cada_jax.gallery.commands import forget as forget_command
from cada_jax.gallery.gallery import Gallery
from cada_jax.gallery.index_options import IndexOptions
from cada_jax.gallery.indexing import index
from cada_jax.gallery.lease import Lease
from cada_jax.gallery.place import place_of
from cada_jax.gallery.vectors import Vectors
from cada_jax.retrieval.query import Where
from tests.gallery.processes import free_port, holder, milvus_server
from tests.gallery.tiny import held_by, picture, snapshot, tiny_retriever, write_pictures


@pytest.fixture(scope="module")
def retriever():
    return tiny_retriever()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with milvus_server(tmp_path_factory.mktemp("server")) as uri:
        yield uri


@pytest.fixture
def db(server, request):
    """A collection of the test's own."""
    return f"{server}#c{abs(hash(request.node.name))}"


@pytest.fixture
def photos(tmp_path):
    write_pictures(tmp_path / "photos", ["a.png", "b.png", "in/c.png"])
    return tmp_path / "photos"


@pytest.fixture
def run(db, photos, retriever, tmp_path):
    def call(db=db, **options):
        options = {"token_store": str(tmp_path / "tokens")} | options
        return index(db, [photos], retriever, IndexOptions(**options))

    return call


def test_a_gallery_on_a_server_holds_what_a_local_one_holds(run, db, photos, retriever, tmp_path):
    run()
    run(db=tmp_path / "local", token_store="")
    assert held_by(snapshot(db, retriever)) == held_by(snapshot(tmp_path / "local", retriever))
    write_pictures(photos, {"d.png": 8})
    (photos / "a.png").rename(photos / "z.png")
    (photos / "b.png").unlink()
    report = run()
    assert (report.new, report.moved, report.removed, report.unchanged) == (1, 1, 2, 1)
    names = {os.path.basename(path) for path, _ in snapshot(db, retriever)}
    assert names == {"z.png", "c.png", "d.png"}
    with Gallery.open(db, retriever) as gallery:
        embeddings = retriever.encode_images([picture(2)]).embeddings
        near = gallery.nearest(embeddings, 3, Where(folder=str(photos / "in")))[0]
        assert [os.path.basename(n.picture.path) for n in near] == ["c.png"]
        assert gallery.thumbnail_path is None and gallery.summary()["pictures"] == 3


def test_forgetting_on_a_server(run, db, photos, retriever, tmp_path, capsys):
    run()
    assert forget_command.main([f"--db={db}", f"--folder={photos / 'in'}", "--yes"]) == 0
    assert "1 pictures of 1 files forgotten. Left of them: 0 records" in capsys.readouterr().out
    assert len(list((tmp_path / "tokens").rglob("*/*/*"))) == 2
    assert run().forgotten == 1 and len(snapshot(db, retriever)) == 2


def test_tokens_need_a_place(run):
    with pytest.raises(UsageError, match="--token_store=FOLDER_OR_BUCKET, or --tokens=recompute"):
        run(token_store="")


def test_two_galleries_may_share_a_token_store(run, db, retriever, photos):
    run()
    (photos / "a.png").unlink()
    run(db=f"{db}_other")
    assert len(snapshot(db, retriever)) == 3


def test_a_reader_may_look_while_another_writes_and_a_second_writer_is_refused(
    run, db, photos, retriever
):
    run()
    with holder(db, "writes") as process:
        with pytest.raises(UsageError, match=f"in use by process {process.pid} on .*claim ends"):
            run()
        with pytest.raises(UsageError, match=f"in use by process {process.pid}"):
            Gallery.open(db, retriever, read_only=False)
        with Gallery.open(db, retriever) as gallery:
            assert len(gallery) == 3
    assert run().unchanged == 3  # the killed process is known to be dead
    with Gallery.open(db, retriever) as gallery:
        assert not gallery.vectors.state(lease_lib.KEY)


@pytest.fixture
def vectors(db):
    vectors = Vectors(place_of(db))
    vectors.make_state()
    yield vectors
    vectors.close()


def _row(**changes):
    row = {"pid": 1, "host": "elsewhere", "started": 0, "until": time.time() + 50, "holds": True}
    return {lease_lib.KEY + "x": json.dumps(row | changes)}


def test_a_holder_on_another_machine_keeps_others_away_until_its_claim_ends(vectors):
    vectors.set_state(_row())
    with pytest.raises(UsageError, match="in use by process 1 on elsewhere.*its claim ends in"):
        Lease(vectors)
    assert list(vectors.state()) == [lease_lib.KEY + "x"]
    vectors.set_state(_row(until=time.time() - 1))
    Lease(vectors).release()
    assert not vectors.state()


def test_a_claim_is_renewed_while_it_is_held(vectors):
    lease = Lease(vectors, seconds=0.3)

    def until():
        (text,) = vectors.state(lease_lib.KEY).values()
        return json.loads(text)["until"]

    first = until()
    deadline = time.monotonic() + 20
    while until() == first:
        assert time.monotonic() < deadline
    lease.release()


def test_of_many_who_come_at_once_never_do_two_hold_it(db, vectors):
    held, most, refused, lock = [0], [0], [], threading.Lock()
    begin = threading.Barrier(4)

    def claim():
        own = Vectors(place_of(db))
        own.make_state()
        begin.wait()
        for _ in range(3):
            try:
                lease = Lease(own)
            except UsageError as err:
                refused.append(str(err))
                continue
            with lock:
                held[0] += 1
                most[0] = max(most[0], held[0])
            own.state()
            with lock:
                held[0] -= 1
            lease.release()
        own.close()

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1 and all("in use by process" in text for text in refused)


def test_a_foreign_collection_is_refused_and_untouched(run, db, vectors):
    place = place_of(f"{db}_foreign")
    vectors.client.create_collection(place.collection, dimension=4)
    vectors.client.insert(place.collection, [{"id": 1, "vector": [0.0, 1, 2, 3]}])
    for reindex in (False, True):
        with pytest.raises(UsageError, match="is there and is no gallery. Nothing was touched"):
            run(db=f"{db}_foreign", reindex=reindex)
    vectors.client.load_collection(place.collection)
    rows = vectors.client.get(place.collection, ids=[1])
    assert np.allclose(rows[0]["vector"], [0, 1, 2, 3])


def test_a_gallery_that_is_not_on_the_server_is_one_error(db):
    with pytest.raises(UsageError, match="there is no gallery. Make one"):
        Gallery.open(f"{db}_nowhere")


def test_a_server_that_is_not_there_is_one_quick_error(capsys):
    begin = time.monotonic()
    db = f"http://127.0.0.1:{free_port()}"
    assert forget_command.main([f"--db={db}", "--ids", "0" * 32, "--yes"]) == 2
    out, err = capsys.readouterr()
    assert not out and len(err.splitlines()) == 1 and "See that the address is right" in err
    assert time.monotonic() - begin < 15


def test_a_server_that_goes_away_is_one_error(tmp_path, retriever, photos):
    with milvus_server(tmp_path) as uri:
        index(uri, [photos], retriever, IndexOptions(tokens="recompute"))
        gallery = Gallery.open(uri, retriever)
    with pytest.raises(UsageError, match="the vector database refused"):
        len(gallery)
    gallery.close()
