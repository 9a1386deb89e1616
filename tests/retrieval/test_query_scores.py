"""Batches of queries: filters, phrasings, excluded words, pictures to resemble, cut-offs."""

import dataclasses

import jax
import numpy as np
import pytest

import cada_jax
from cada_jax.common.errors import UsageError
from cada_jax.data.datasets.synthetic import people
from cada_jax.retrieval.encoded_images import EncodedImages
from cada_jax.retrieval.filter import Filter
from cada_jax.retrieval.in_memory import InMemoryGallery
from cada_jax.retrieval.query import Query
from cada_jax.retrieval.searchable import Picture, Searchable

COUNT = 16


class Counting:
    """A gallery that counts how often it is asked, and by what."""

    def __init__(self, gallery):
        self._gallery, self.calls = gallery, []

    @property
    def model(self):
        return self._gallery.model

    def __len__(self):
        self.calls.append(("len",))
        return len(self._gallery)

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append((name, *arguments))
            return getattr(self._gallery, name)(*arguments)

        return call

    def nearest(self, *arguments):
        return self.__getattr__("nearest")(*arguments)

    def embeddings_of(self, *arguments):
        return self.__getattr__("embeddings_of")(*arguments)

    def tokens_of(self, *arguments):
        return self.__getattr__("tokens_of")(*arguments)

    def asked(self, name):
        return [call[1:] for call in self.calls if call[0] == name]


@pytest.fixture(scope="module")
def retriever():
    return cada_jax.load_model("pretrained:synthetic", jax.devices()[:1])


@pytest.fixture(scope="module")
def examples():
    return list(people.generate(people.VARIANTS["tiny"], "test"))[:COUNT]


@pytest.fixture(scope="module")
def captions(examples):
    return [example.captions[0].text for example in examples]


@pytest.fixture(scope="module")
def gallery(retriever, examples, tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    paths = [folder / f"{example.person}_{example.image}.jpg" for example in examples]
    for path, example in zip(paths, examples, strict=True):
        path.write_bytes(example.jpeg)
    images = retriever.encode_images(paths)
    pictures = [
        Picture(f"{i:032x}", f"/{'ab'[i % 2]}/{i}.jpg", taken=float(i), camera="XY"[i // 8])
        for i in range(COUNT)
    ]
    return InMemoryGallery(images, retriever.mesh, pictures)


def ids(hits):
    return [hit.picture.id for hit in hits]


def test_a_batch_gives_what_its_queries_give_alone(retriever, gallery, captions):
    queries = [
        Query(captions[0], k=3),
        Query((captions[1], captions[2]), k=5, rerank=4),
        Query(captions[3], exclude=("a hat", "a blue bag"), rerank=6),
        Query(like_id=gallery._pictures[4].id, k=4),
        Query(captions[0], like_id=gallery._pictures[5].id, filter=Filter(folder="/b")),
        Query(captions[6], k=2, rerank=0, filter=Filter(since=4.0, until=9.0)),
        Query(captions[7], min_score=0.0),
    ]
    together = retriever.search(queries, gallery)
    for query, hits in zip(queries, together, strict=True):
        alone = retriever.search(query, gallery)
        assert ids(hits) == ids(alone)
        for a, b in zip(hits, alone, strict=True):
            assert a.score == pytest.approx(b.score, abs=1e-4)


def test_a_batch_asks_once_for_every_filter_and_once_for_tokens(retriever, gallery, captions):
    counting = Counting(gallery)
    assert isinstance(counting, Searchable)
    where = Filter(folder="/a")
    queries = [Query(text, filter=w) for text in captions[:3] for w in (Filter(), where)]
    queries.append(Query(like_id=gallery._pictures[0].id))
    retriever.search(queries, counting)
    assert [call[2] for call in counting.asked("nearest")] == [Filter(), where]
    assert len(counting.asked("tokens_of")) == len(counting.asked("embeddings_of")) == 1
    (wanted,) = counting.asked("tokens_of")[0]
    assert len({picture.id for picture in wanted}) == len(wanted)


def test_pictures_are_counted_once_at_most_since_a_database_takes_long_for_it(
    retriever, gallery, captions
):
    counting = Counting(gallery)
    retriever.search(captions[:3], counting)
    assert not counting.asked("len")
    hits = retriever.search(captions[:3], counting, k=10_000_000, rerank=2)
    assert len(counting.asked("len")) == 1 and [len(found) for found in hits] == 3 * [COUNT]


def test_plain_texts_and_queries_are_the_same_search(retriever, gallery, captions):
    texts = retriever.search(captions[:3], gallery, k=4, rerank=5)
    queries = retriever.search([Query(text, k=4, rerank=5) for text in captions[:3]], gallery)
    assert texts == queries
    assert ids(retriever.search(Query(captions[0]), gallery, k=4, rerank=5)) == ids(texts[0])


def test_scores_of_phrasings_are_means(retriever, gallery, captions):
    rows = {id: i for i, id in enumerate(p.id for p in gallery._pictures)}
    logits = retriever.match(captions[:2], gallery.images)
    hits = retriever.search(Query(tuple(captions[:2]), k=COUNT), gallery)
    for hit in hits:
        row = rows[hit.picture.id]
        assert hit.match_logit == pytest.approx(logits[:, row].mean(), abs=1e-4)
        assert hit.score == pytest.approx(hit.match_logit + hit.similarity, abs=1e-5)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    mean = retriever.encode_text(captions[:2]).embeddings.mean(axis=0)
    cosine = gallery.images.embeddings @ (mean / np.linalg.norm(mean))
    best = hits[0]
    assert best.similarity == pytest.approx(cosine[rows[best.picture.id]], abs=1e-5)


def test_one_phrasing_given_twice_changes_nothing(retriever, gallery, captions):
    once = retriever.search(Query(captions[0]), gallery)
    twice = retriever.search(Query((captions[0], captions[0])), gallery)
    assert ids(once) == ids(twice)
    assert [h.score for h in once] == pytest.approx([h.score for h in twice], abs=1e-5)


def test_excluded_words_only_ever_lower_a_score(retriever, gallery, captions):
    plain = {h.picture.id: h for h in retriever.search(Query(captions[0], k=COUNT), gallery)}
    hits = retriever.search(Query(captions[0], exclude=captions[0], k=COUNT), gallery)
    lowered = [plain[hit.picture.id].score - hit.score for hit in hits]
    assert min(lowered) >= -1e-4 and max(lowered) > 1
    assert all(
        hit.match_logit == pytest.approx(plain[hit.picture.id].match_logit, abs=1e-4)
        for hit in hits
    )


def test_a_picture_finds_itself_first_by_its_file_and_never_by_its_id(retriever, gallery, examples):
    picture = gallery._pictures[3]
    by_id = retriever.search(Query(like_id=picture.id, k=COUNT), gallery)
    assert picture.id not in ids(by_id) and len(by_id) == COUNT - 1
    assert {hit.match_logit for hit in by_id} == {None}
    by_file = retriever.search(Query(like=gallery.images.names[3], k=COUNT), gallery)
    assert by_file[0].picture == picture and by_file[0].similarity == pytest.approx(1, abs=1e-4)
    assert ids(by_file)[1:] == ids(by_id)


def test_words_beside_a_picture_are_re_ranked_with(retriever, gallery, captions):
    hits = retriever.search(Query(captions[3], like_id=gallery._pictures[3].id), gallery)
    assert all(hit.match_logit is not None for hit in hits)
    logits = retriever.match(captions[3], gallery.images)[0]
    for hit in hits:
        row = [p.id for p in gallery._pictures].index(hit.picture.id)
        assert hit.match_logit == pytest.approx(logits[row], abs=1e-4)


@pytest.mark.parametrize(
    ("where", "admitted"),
    [
        (Filter(folder="/a"), range(0, COUNT, 2)),
        (Filter(since=2.5, until=7.0, folder="/b"), [3, 5]),
        (Filter(camera="Y"), range(8, COUNT)),
        (Filter(camera="Z"), []),
    ],
)
def test_only_what_the_filter_admits_is_found(retriever, gallery, captions, where, admitted):
    for rerank in (0, 4, 32):
        query = Query(captions[0], filter=where, k=COUNT, rerank=rerank)
        assert sorted(ids(retriever.search(query, gallery))) == [f"{i:032x}" for i in admitted]


def test_a_folder_without_pictures_is_said(retriever, gallery, captions):
    with pytest.raises(UsageError, match="folder='/a/0.jpg': no indexed picture is in it"):
        retriever.search(Query(captions[0], filter=Filter(folder="/a/0.jpg")), gallery)


@pytest.mark.parametrize("fields", [{}, {"rerank": 0}, {"min_score": -3.0, "like_id": f"{3:032x}"}])
def test_pages_together_are_the_whole_list(retriever, gallery, captions, fields):
    query = Query(captions[0], **{"rerank": 5, **fields})
    whole = ids(retriever.search(dataclasses.replace(query, k=COUNT), gallery))
    pages = [dataclasses.replace(query, k=3, offset=i) for i in range(0, COUNT + 3, 3)]
    assert [id for page in pages for id in ids(retriever.search(page, gallery))] == whole


@pytest.mark.parametrize(
    ("group", "key"),
    [
        ("file", lambda p: p.path),
        ("scene", lambda p: (p.camera or p.folder, p.taken // 1)),
        ("minute", lambda p: (p.camera or p.folder, p.taken // 60)),
        ("content", lambda p: p.content),
    ],
)
def test_of_every_group_the_best_picture_is_a_result(retriever, gallery, captions, group, key):
    pictures = [
        dataclasses.replace(
            picture,
            path=f"/{'ab'[i % 2]}/{i // 4}.jpg",
            content=str(i % 5),
            taken=20.0 * (i // 3),
            camera=("", "X")[i // 8],
        )
        for i, picture in enumerate(gallery._pictures)
    ]
    grouped = InMemoryGallery(gallery.images, retriever.mesh, pictures)
    query = Query(captions[0], k=COUNT, rerank=5)
    single = retriever.search(query, grouped)
    expected = {}
    for hit in single:
        expected.setdefault(key(hit.picture), []).append(hit.picture.id)
    hits = retriever.search(dataclasses.replace(query, group=group), grouped)
    assert ids(hits) == [found[0] for found in expected.values()] and len(hits) < COUNT
    assert [hit.others for hit in hits] == [len(found) - 1 for found in expected.values()]
    page = dataclasses.replace(query, group=group, k=2, offset=2)
    assert ids(retriever.search(page, grouped)) == ids(hits)[2:4]


def test_a_cut_off_keeps_what_scores_at_least_as_much(retriever, gallery, captions):
    for rerank in (0, 4, 32):
        query = Query(captions[0], k=COUNT, rerank=rerank)
        hits = retriever.search(query, gallery)
        scored = [hit for hit in hits if hit.match_logit is not None or not rerank]
        least = scored[2].score
        kept = retriever.search(dataclasses.replace(query, min_score=least), gallery)
        assert ids(kept) == ids(scored[:3])
        assert not retriever.search(dataclasses.replace(query, min_score=1e6), gallery)


def test_an_id_that_is_not_there_is_one_error(retriever, gallery):
    with pytest.raises(UsageError, match="no picture 'ffff' in the gallery"):
        retriever.search([Query("a man"), Query(like_id="ffff")], gallery)


def test_images_without_records_can_be_filtered_by_folder_alone(retriever, gallery, captions):
    images = dataclasses.replace(
        gallery.images, names=tuple(f"p{i % 2}/{i}.jpg" for i in range(COUNT))
    )
    hits = retriever.search(Query(captions[0], filter=Filter(folder="p1"), k=COUNT), images)
    assert sorted(hit.index for hit in hits) == list(range(1, COUNT, 2))
    with pytest.raises(UsageError, match="no camera and no time"):
        retriever.search(Query("a man", filter=Filter(camera="X")), images)


def test_nothing_is_found_in_an_empty_gallery(retriever, gallery):
    width = gallery.images.embeddings.shape[1]
    empty = EncodedImages(
        np.zeros((0, width), np.float32), gallery.images.tokens[:0], np.zeros(0, int)
    )
    assert retriever.search([Query("a man"), Query("a woman", exclude="hat")], empty) == [[], []]


@pytest.mark.usefixtures("unchecked_shapes")
def test_a_query_that_is_none_is_one_error(retriever, gallery):
    with pytest.raises(UsageError, match="expected a text or a Query"):
        retriever.search([None], gallery)
    with pytest.raises(UsageError, match="at least one description or query"):
        retriever.search([], gallery)
