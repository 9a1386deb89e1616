"""What `import cada_jax` offers: load, encode, match, search, save; and that importing is free."""

import builtins
import dataclasses
import io
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import cada_jax
from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.data.datasets.synthetic import people
from cada_jax.retrieval.ranking import rank

COUNT = 12


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Files of generated people, with a caption of each."""
    folder = tmp_path_factory.mktemp("photos")
    paths, captions = [], []
    for example in people.generate(people.VARIANTS["tiny"], "test"):
        path = folder / f"{example.person}_{example.image}.jpg"
        path.write_bytes(example.jpeg)
        paths.append(path)
        captions.append(example.captions[0].text)
        if len(paths) == COUNT:
            break
    return paths, captions


@pytest.fixture(scope="module")
def retriever():
    return cada_jax.load_model("pretrained:synthetic", jax.devices()[:1])


@pytest.fixture(scope="module")
def gallery(retriever, photos):
    return retriever.encode_images(photos[0])


def test_the_package_imports_nothing_until_it_is_used():
    code = (
        "import sys, cada_jax; heavy = {'jax', 'tensorflow', 'numpy', 'flax'} & set(sys.modules);"
        "print(sorted(heavy), cada_jax.__version__, set(dir(cada_jax)) == set(cada_jax.__all__))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == f"[] {cada_jax.__version__} True"


def test_everything_offered_is_there():
    for name in cada_jax.__all__:
        assert getattr(cada_jax, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'lode_model'"):
        cada_jax.lode_model  # noqa: B018


def test_shipped_models_are_listed_and_load(retriever):
    assert "pretrained:synthetic" in cada_jax.list_pretrained()
    assert retriever.config.data.name == "synthetic"


def test_a_model_says_in_one_line_what_it_is_and_what_it_knows(retriever):
    assert repr(retriever) == (
        "Retriever('pretrained:synthetic', 880,499 parameters, knows drawings of generated people, "
        "on 1 cpu)"
    )
    assert retriever.domain == "drawings of generated people"
    assert "no photographs" in retriever.note and "hf:Salesforce/" in retriever.note
    photographer = dataclasses.replace(retriever, card={"domain": "photographs"})
    assert not photographer.note and not dataclasses.replace(retriever, card={}).note


def test_one_picture_is_a_list_of_one(retriever, photos, gallery):
    one = retriever.encode_images(str(photos[0][0]))
    np.testing.assert_allclose(one.embeddings, gallery.embeddings[:1], atol=1e-5)
    assert one.names == gallery.names[:1]


def test_a_description_finds_its_person(retriever, photos, gallery):
    paths, captions = photos
    found = retriever.search(captions, gallery, k=3, rerank=8)
    right = [
        str(path) in [hit.name for hit in hits] for path, hits in zip(paths, found, strict=True)
    ]
    assert np.mean(right) > 0.8
    for hits in found:
        assert len(hits) == 3 and all(hit.match_logit is not None for hit in hits)
        scores = [hit.match_logit + hit.similarity for hit in hits]
        assert scores == sorted(scores, reverse=True)


def test_one_text_gives_one_list_and_similarity_alone_is_in_its_order(retriever, photos, gallery):
    hits = retriever.search(photos[1][0], gallery, k=99, rerank=0)
    assert len(hits) == COUNT and {hit.match_logit for hit in hits} == {None}
    similarity = [hit.similarity for hit in hits]
    assert similarity == sorted(similarity, reverse=True)
    assert sorted(hit.index for hit in hits) == list(range(COUNT))


def test_searching_ranks_as_the_evaluation_does(retriever, photos, gallery):
    queries = retriever.encode_text(photos[1], pids=range(COUNT))
    known = retriever.encode_images(photos[0], pids=range(COUNT))
    ranking = rank(retriever, queries, known, k=4)
    found = retriever.search(photos[1], gallery, k=COUNT, rerank=4)
    for query, hits in enumerate(found):
        first = [hit.index for hit in hits].index(query)
        assert first == ranking.first_reranked[query]
        best = [index for index, _, _ in ranking.best(query)]
        assert [hit.index for hit in hits[: len(best)]] == best


def test_match_scores_every_text_with_every_image(retriever, photos, gallery):
    logits = retriever.match(photos[1][:3], gallery)
    assert logits.shape == (3, COUNT) and logits.dtype == np.float32
    hits = retriever.search(photos[1][:3], gallery, k=1, rerank=COUNT)
    for row, (hit,) in zip(logits, hits, strict=True):
        assert row[hit.index] == pytest.approx(hit.match_logit, abs=1e-4)


def test_paths_pictures_and_arrays_are_the_same_images(retriever, photos, gallery):
    pictures = [Image.open(path) for path in photos[0][:2]]
    arrays = [np.asarray(picture.convert("RGB")) for picture in pictures]
    for images in (pictures, arrays):
        other = retriever.encode_images(images)
        np.testing.assert_allclose(other.embeddings, gallery.embeddings[:2], atol=1e-5)
        assert other.names == ("", "")


def test_a_gallery_comes_back_from_its_file(retriever, photos, gallery, tmp_path):
    path = tmp_path / "gallery.npz"
    gallery.save(path)
    again = cada_jax.EncodedImages.load(path)
    for name in ("embeddings", "tokens", "pids"):
        np.testing.assert_array_equal(getattr(again, name), getattr(gallery, name))
    assert (again.names, again.model) == (gallery.names, gallery.model)
    assert retriever.search(photos[1][0], again) == retriever.search(photos[1][0], gallery)
    assert [p.name for p in tmp_path.iterdir()] == ["gallery.npz"]


def test_only_a_gallery_is_replaced_by_a_gallery(gallery, tmp_path):
    gallery.save(tmp_path / "gallery.npz")
    gallery.save(tmp_path / "gallery.npz")
    (tmp_path / "thesis.npz").write_text("years of work")
    with pytest.raises(UsageError, match="thesis.npz exists and is not encoded images"):
        gallery.save(tmp_path / "thesis.npz")
    assert (tmp_path / "thesis.npz").read_text() == "years of work"


def test_tokens_in_bfloat16_come_back(gallery, tmp_path):
    half = dataclasses.replace(gallery, tokens=gallery.tokens.astype(jax.numpy.bfloat16))
    half.save(tmp_path / "half.npz")
    np.testing.assert_array_equal(
        cada_jax.EncodedImages.load(tmp_path / "half.npz").tokens, half.tokens
    )


def _single_array():
    data = io.BytesIO()
    np.save(data, np.arange(3))
    return data.getvalue()


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04", b"\x93NUMPY", b"x" * 1000, _single_array()]
)
def test_a_damaged_gallery_is_one_error_and_stays_open_nowhere(tmp_path, content, monkeypatch):
    path, opened, plain = tmp_path / "gallery.npz", [], open
    path.write_bytes(content)

    def watched(*args, **options):
        opened.append(plain(*args, **options))
        return opened[-1]

    for module in (builtins, io):  # NumPy's and pathlib's
        monkeypatch.setattr(module, "open", watched)
    with pytest.raises(UsageError, match="gallery.npz: expected what EncodedImages"):
        cada_jax.EncodedImages.load(path)
    assert opened and all(file.closed for file in opened)


def test_a_gallery_of_another_model_is_refused(retriever, photos, gallery):
    foreign = dataclasses.replace(gallery, model="0" * 64)
    with pytest.raises(UsageError, match="encoded by another model"):
        retriever.search(photos[1][0], foreign)


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda r, g: r.encode_images([]), "at least one image"),
        (
            lambda r, g: r.encode_images(["none.jpg"]),
            "none.jpg: expected a picture",
        ),
        (lambda r, g: r.encode_images([np.zeros((4, 4))]), r"float64 \[4, 4\]: expected uint8"),
        (lambda r, g: r.encode_text([]), "at least one description"),
        (lambda r, g: r.encode_text("..."), "expected at least one word"),
        (lambda r, g: r.search("a man", g, k=0), "k is 0, expected 1"),
        (lambda r, g: r.search(None, g), "a query is None"),
        (lambda r, g: r.search("a man", ["a.jpg"]), r"the gallery is \['a.jpg'\]: expected"),
        (lambda r, g: r.search("a man", g, rerank=-1), "rerank is -1, expected 0"),
        (lambda r, g: cada_jax.EncodedImages.load("none.npz"), "no such file"),
        (
            lambda r, g: cada_jax.load_model("pretrained:none"),
            "Shipped are: pretrained:abroad",
        ),
    ],
)
def test_a_mistake_is_one_error_that_says_what_was_expected(retriever, gallery, call, part):
    with pytest.raises((UsageError, MissingFileError), match=part):
        call(retriever, gallery)


def test_other_devices_than_those_that_trained_it_will_do(photos, gallery):
    spread = cada_jax.load_model("pretrained:synthetic", jax.devices())
    other = spread.encode_images(photos[0])
    np.testing.assert_allclose(other.embeddings, gallery.embeddings, atol=1e-5)
    ours = [hit.index for hit in spread.search(photos[1][0], other)]
    one = cada_jax.load_model("pretrained:synthetic", jax.devices()[:1])
    assert ours == [hit.index for hit in one.search(photos[1][0], gallery)]
