"""What the parts of a model do, measured where the answer is known."""

import dataclasses
import json
import types
import xml.etree.ElementTree

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cada_jax.common.errors import UsageError
from cada_jax.data.datasets.synthetic.vocabulary import VOCAB_PATH
from cada_jax.data.split import load_split
from cada_jax.models.cada import from_config, init_params
from cada_jax.retrieval.network import abstract_network
from cada_jax.retrieval.ranking import rank
from cada_jax.retriever import Retriever
from cada_jax.text.tokenizer import Tokenizer
from tests.conftest import _load_config
from tools import probe
from tools.attribute_training import ATTRIBUTES, UNKNOWN, class_table, to_labels
from tools.probing import (
    gate,
    gradients,
    masked_words,
    negatives,
    pictures,
    readout,
    report,
    reranking,
    subject,
    truth,
    word_classes,
)


def small_config(data_dir: str):
    """The demo's configuration with the smallest network, on the tiny set."""
    config = _load_config("synthetic")
    config.data.update(variant="tiny", data_dir=data_dir)
    for part in (config.model.image, config.model.text):
        part.width, part.depth, part.heads, part.mlp_dim = 24, 2, 2, 32
    config.model.embed_dim = 16
    config.train.batch_size = 16
    config.eval.batch_size = 32
    config.eval.rerank_top_k = 4
    return config


def altered(params, change):
    """The parameters with `change(names, leaf)` in place of each leaf."""

    def at(path, leaf):
        return change([getattr(key, "key", None) for key in path], leaf)

    return jax.tree_util.tree_map_with_path(at, params)


def with_params(one: subject.Subject, change) -> subject.Subject:
    """The subject with other parameters; its images are encoded again."""
    params = altered(one.retriever.params, change)
    retriever = dataclasses.replace(one.retriever, params=params)
    return subject.make_subject(one.name, retriever, one.split, None)


def make_retriever(config) -> Retriever:
    network = abstract_network(config)
    params = jax.jit(lambda key: init_params(network.model, config, key))(jax.random.key(0))
    network = network.with_params(params)
    return Retriever(config, network.mesh, network.model, network.params, Tokenizer(VOCAB_PATH))


@pytest.fixture(scope="module")
def one(tmp_path_factory) -> subject.Subject:
    """A network of random weights and the 48 captions of the tiny test split."""
    config = small_config(str(tmp_path_factory.mktemp("data")))
    split = load_split(config, "test")
    return subject.make_subject("random", make_retriever(config), split, None)


@pytest.fixture(scope="module")
def words(one) -> word_classes.Words:
    return words_of(one)


def words_of(one: subject.Subject) -> word_classes.Words:
    attribute = (one.split.phrase_ids > 0) | one.split.attribute_mask
    tokenizer, chosen = one.retriever.tokenizer, one.chosen
    return word_classes.classify_tokens(one.texts, tokenizer, one.token_ids, attribute[chosen])


# What is measured


def test_the_wrong_image_is_never_of_the_same_person(one):
    assert (one.gallery.pids[one.right] == one.pids).all()
    assert (one.gallery.pids[one.wrong] != one.pids).all()


def test_a_limit_draws_the_same_captions_every_time_and_not_the_first(one):
    few = [subject.make_subject("", one.retriever, one.split, 12).chosen for _ in range(2)]
    assert few[0].tolist() == few[1].tolist() == sorted(set(few[0].tolist()))
    assert few[0].tolist() != list(range(12))


def test_a_split_of_one_person_is_refused(one):
    alone = dataclasses.replace(one.split, image_pids=np.zeros_like(one.split.image_pids))
    with pytest.raises(UsageError, match="one person, expected at least two"):
        subject.make_subject("", one.retriever, alone, None)


def test_a_model_of_another_vocabulary_is_refused(one, tmp_path, monkeypatch):
    entries = VOCAB_PATH.read_text().splitlines()
    entries[-1], entries[-2] = entries[-2], entries[-1]
    (tmp_path / "vocab.txt").write_text("\n".join(entries) + "\n")
    other = dataclasses.replace(one.retriever, tokenizer=Tokenizer(tmp_path / "vocab.txt"))
    monkeypatch.setattr(subject, "load_model", lambda name: other)
    data_dir = one.retriever.config.data.data_dir
    with pytest.raises(UsageError, match="another vocabulary than synthetic/tiny"):
        subject.load_subject("other", "synthetic/tiny", "test", 4, data_dir)


# Classes of words


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("red", "colour"),
        ("dark-blue", "colour"),
        ("jeans", "garment"),
        ("t-shirt", "garment"),
        ("striped", "other attribute word"),
        ("man", "other attribute word"),
    ],
)
def test_attribute_words_are_sorted_by_lists_and_others_are_function_words(word, expected):
    assert word_classes.class_of(word, True) == expected
    assert word_classes.class_of(word, False) == "function word"


def test_every_token_has_the_class_of_its_word_and_padding_has_none(one, words):
    tokens = one.retriever.config.model.tokens
    names = np.array([*word_classes.CLASSES, None], object)[words.kind]
    assert ((names == None) == (one.token_ids == tokens.pad)).all()  # noqa: E711
    assert ((names == "[CLS]") == (one.token_ids == tokens.cls)).all()
    assert ((names == "[SEP]") == (one.token_ids == tokens.sep)).all()
    attribute = (one.split.phrase_ids > 0) | one.split.attribute_mask
    assert ((names == "function word") == ((words.index >= 0) & ~attribute)).all()
    assert set(words.word[names == "colour"]) <= word_classes.COLOUR_WORDS


def test_words_of_the_generated_captions_tell_of_their_attribute():
    told = word_classes.attributes_of_words()
    expected = {"striped": "top_pattern", "scarlet": "color", "boots": "shoes", "lady": "gender"}
    assert {word: told[word] for word in expected} == expected
    assert told["shoulder"] == told["long"] == word_classes.SEVERAL


# Gate


def test_gates_are_one_at_the_start_of_a_training(one, words):
    found = gate.measure_gate(one, words)
    for of_class in found["classes"].values():
        for spread in (*of_class["right"], *of_class["wrong"]):
            assert spread == {"mean": 1.0, "std": 0.0, "p5": 1.0, "p95": 1.0}


def test_a_gate_that_is_constant_is_reported_as_that_in_every_class(one, words):
    retriever = one.retriever
    params = gate.with_constant_gates(retriever.params, np.array([0.25, 1.5]))
    constant = dataclasses.replace(one, retriever=retriever.with_params(params))
    found = gate.measure_gate(constant, words)
    assert set(found["classes"]) == set(word_classes.CLASSES)
    for of_class in found["classes"].values():
        for which in ("right", "wrong"):
            spreads = of_class[which]
            np.testing.assert_allclose([s["mean"] for s in spreads], [0.25, 1.5], rtol=1e-5)
            assert max(s["std"] for s in spreads) < 1e-6
        assert max(of_class["moved"]) < 1e-6
    assert found["explained"] == [0.0, 0.0]


def test_a_gate_that_reads_its_token_and_its_image_differs_by_class_and_by_image(one, words):
    def random_gate(names, leaf):
        if "gate" not in names or names[-1] != "kernel":
            return leaf
        return jax.random.normal(jax.random.key(1), leaf.shape)

    found = gate.measure_gate(with_params(one, random_gate), words)
    assert min(found["explained"]) > 0.01
    assert max(max(of_class["moved"]) for of_class in found["classes"].values()) > 1e-4
    means = {round(of_class["right"][0]["mean"], 3) for of_class in found["classes"].values()}
    assert len(means) > 3


def test_a_word_of_two_pieces_counts_once_and_a_rare_one_not_at_all():
    index = np.array([[-1, 0, 1, 1, -1]] * 20 + [[-1, 0, 0, 0, -1]])
    word = np.array(
        [[None, "a", "coat", "coat", None]] * 20 + [[None, *["rare"] * 3, None]], object
    )
    gates = np.array([[9.0, 0.5, 1.0, 2.0, 9.0]] * 21, np.float32)
    found = gate._word_means(gates, word_classes.Words(np.zeros_like(index), word, index))
    expected = [
        {"word": "coat", "count": 20, "mean": 1.5},
        {"word": "a", "count": 20, "mean": 0.5},
    ]
    assert found == expected


def test_gates_of_one_change_no_ranking_of_a_model_whose_gates_are_one(one, words):
    queries = reranking.encode_captions(one)
    trained = rank(one.retriever, queries, one.gallery, 4)
    found = gate.measure_worth(one, queries, trained, gate.measure_gate(one, words))
    for worth in found.values():
        assert (worth["put_right"], worth["put_wrong"]) == (0, 0)
        assert worth["R1"] == trained.metrics["reranked"]["R1"]


def test_a_model_without_gates_has_nothing_to_measure(one, words):
    config = one.retriever.config.copy_and_resolve_references()
    config.atp.gate = "off"
    retriever = dataclasses.replace(one.retriever, model=from_config(config))
    without = dataclasses.replace(one, retriever=retriever)
    assert gate.measure_gate(without, words) is None


# Masked words


def cross_attention(scale):
    """What makes the attribute decoder's cross-attention give `scale` times as much."""

    def change(names, leaf):
        of_cross = "attribute_decoder" in names and "cross" in names and "out" in names
        return scale * leaf if of_cross else leaf

    return change


def test_a_decoder_that_ignores_images_answers_the_same_beside_any(one, words):
    found = masked_words.measure_masked(with_params(one, cross_attention(0.0)), words)
    for way in ("trained", "alone"):
        assert {"colour", "garment", "all"} <= set(found[way]["classes"])
        for part in ("classes", "attributes"):
            for figures in found[way][part].values():
                assert figures["right"] == figures["wrong"] == figures["none"]


def test_a_decoder_that_looks_answers_differently(one, words):
    found = masked_words.measure_masked(with_params(one, cross_attention(50.0)), words)
    losses = [found["alone"]["classes"]["all"][image]["loss"] for image in masked_words.IMAGES]
    assert len({round(loss, 6) for loss in losses}) == 3


def test_every_phrase_is_masked_alone_and_none_is_left_out(one):
    phrase_ids = one.split.phrase_ids
    caption, masked = masked_words.one_phrase_each(phrase_ids)
    assert len(caption) == sum(len(set(row[row > 0])) for row in phrase_ids)
    assert all(len(set(phrase_ids[c][m])) == 1 for c, m in zip(caption, masked, strict=True))
    together = np.zeros_like(phrase_ids)
    np.add.at(together, caption, masked.astype(int))
    assert (together == (phrase_ids > 0)).all()


def test_masks_of_training_are_whole_phrases_at_the_rate_of_the_configuration(one):
    masked, phrase_ids = masked_words.masks_of_training(one), one.split.phrase_ids
    caption, alone = masked_words.one_phrase_each(phrase_ids)
    share = [(masked[c] & m).sum() / m.sum() for c, m in zip(caption, alone, strict=True)]
    assert set(share) == {0.0, 1.0}
    assert abs(np.mean(share) - one.retriever.config.ara.phrase_rate) < 0.1
    assert not masked[phrase_ids == 0].any()


def test_figures_of_a_table_made_by_hand():
    truth_ids, predicted = np.array([3, 3, 4, 5]), np.array([3, 4, 4, 3])
    answers = {"right": (predicted, np.array([0.0, 1.0, 2.0, 9.0]))}
    colours = np.array([-1, -1, -1, 0, 0, 1])  # 3 and 4 name the same colour
    chosen = np.array([True, True, True, False])
    found = masked_words._figures(truth_ids, answers, chosen, colours)
    assert found["count"] == 3 and found["guess"] == pytest.approx(2 / 3)
    assert found["right"] == {"accuracy": pytest.approx(2 / 3), "loss": 1.0, "same": 1.0}
    other = masked_words._figures(truth_ids, answers, ~chosen, colours)
    assert other["right"] == {"accuracy": 0.0, "loss": 9.0, "same": 0.0}


def test_two_words_for_one_colour_are_the_same_colour(one):
    number = masked_words._colour_of_tokens(one)
    vocabulary = one.retriever.tokenizer.vocabulary
    red, scarlet, navy, boots = (number[vocabulary[w]] for w in ("red", "scarlet", "navy", "boots"))
    assert red == scarlet != navy and boots == -1 != red


# Negatives


def test_ranks_of_a_table_made_by_hand():
    scores = np.array([[9.0, 5.0, 7.0], [1.0, 2.0, 3.0]])
    other = np.array([[False, True, True], [True, True, False]])
    assert negatives.ranks_of(scores, other, np.array([1, 1])).tolist() == [2, 1]


def test_hardest_is_nearer_than_sampled_and_sampled_nearer_than_random(one, monkeypatch):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((2, len(one.chosen), 8)).astype(np.float32)
    unit = vectors / np.linalg.norm(vectors, axis=2, keepdims=True)
    monkeypatch.setattr(negatives, "features", lambda _: tuple(unit))
    found = negatives.measure_negatives(one)
    assert (found["batch"], found["batches"]) == (16, 3)
    assert found["hardest"]["rank"] == found["hardest"]["nearest"] == 1
    assert 1 < found["sampled"]["rank"] < found["random"]["rank"] / 2
    assert found["random"]["cosine"] < found["sampled"]["cosine"] < found["hardest"]["cosine"]
    assert 0.1 < found["sampling"]["first"] < found["sampling"]["first_5"] <= 1


def test_equal_similarities_give_every_other_person_the_same_probability():
    other = np.ones((4, 4), bool)
    other[:, 0] = False
    first, top, choices = negatives._masses(np.full((4, 4), 0.3), other, 0.07).mean(axis=0)
    assert (first, top, choices) == pytest.approx((1 / 3, 1, 3))


def test_a_head_that_always_says_match_is_right_for_pairs_and_wrong_for_negatives(one):
    def always(names, leaf):
        if "itm_head" not in names:
            return leaf
        return jnp.array([0.0, 5.0]) if names[-1] == "bias" else jnp.zeros_like(leaf)

    found = negatives.measure_negatives(with_params(one, always))
    assert found["positive"]["accuracy"] == 1
    for method in negatives.METHODS:
        assert found[method]["accuracy"] == 0
        assert found[method]["loss"] == pytest.approx(np.log1p(np.exp(5)), rel=1e-5)


def test_captions_of_one_person_have_no_negatives(one):
    of_one = one.pids == one.pids[0]
    same = dataclasses.replace(one, chosen=one.chosen[of_one], wrong=one.wrong[of_one])
    found = negatives.measure_negatives(same)
    assert found["sampling"] == {} and not set(found) & set(negatives.METHODS)
    assert 0 <= found["positive"]["accuracy"] <= 1


def test_a_caption_fits_its_own_image_and_hardly_any_of_another_person(one):
    assert truth.share_that_fits(one.truth, one.chosen, one.right) == 1
    assert truth.share_that_fits(one.truth, one.chosen, one.wrong) < 0.2


# Re-ranking


def scripted(first_global, first_reranked, k):
    return types.SimpleNamespace(
        first_global=np.array(first_global),
        first_reranked=np.array(first_reranked),
        retrieved=types.SimpleNamespace(indices=np.zeros((len(first_global), k), int)),
    )


def test_queries_are_counted_by_what_re_ranking_did_to_them(one):
    photographs = dataclasses.replace(one, truth=None)
    ranking = scripted([0, 0, 2, 3, 9, -1], [0, 1, 0, 1, 9, -1], 5)
    found = reranking.measure_reranking(photographs, ranking)
    assert found["queries"] == 5  # one has no right image
    assert found["counts"] == dict(stay_right=1, put_wrong=1, put_right=1, stay_wrong=2)
    assert found["R1"] == {"similarity": 40, "reranked": 40}
    assert found["unreachable"] == 1
    assert found["rank_by_similarity"] == {"1": 1, "4-5": 1}
    assert "reranked" not in found


def test_errors_are_the_readers_where_the_caption_contradicts_the_image(one):
    every = np.arange(len(one.chosen))
    found = reranking.describe_errors(one, every, one.wrong)
    fits = truth.share_that_fits(one.truth, one.chosen, one.wrong)
    assert found["errors"] == 48 == found["reader"] + found["open"]
    assert found["open"] == round(48 * fits)
    differ = found["persons_differ"]
    assert sum(counts["errors"] for counts in differ.values()) == 48 and "0" not in differ
    assert sum(counts["reader"] for counts in differ.values()) == found["reader"]
    for name, counts in found["attributes"].items():
        assert counts["contradicted"] + counts["hidden"] <= counts["stated"], name


def test_the_own_image_contradicts_nothing(one):
    found = reranking.describe_errors(one, np.arange(len(one.chosen)), one.right)
    assert found["reader"] == 0 and found["persons_differ"] == {"0": {"errors": 48, "reader": 0}}
    assert found["attributes"] == {}


@pytest.mark.parametrize(
    ("changed", "count"),
    [
        ({"top_color"}, 1),
        ({"top_color", "bag_color"}, 1),
        ({"top_color", "top"}, 0),
        ({"hair_style"}, 0),
    ],
)
def test_persons_are_recoloured_where_nothing_but_colours_of_things_differ(one, changed, count):
    own, other = int(one.pids[0]), int(one.split.image_pids[one.wrong[0]])
    twin = one.truth.persons[own] | dict.fromkeys(changed, "another")
    assert len(truth.differing(one.truth.persons[own], twin)) == len(changed), "known attributes"
    persons = {**one.truth.persons, other: twin}
    known = dataclasses.replace(one, truth=one.truth._replace(persons=persons))
    found = reranking.describe_errors(known, np.arange(1), one.wrong[:1])
    assert found["recoloured"] == count


# Gradients


@pytest.fixture(scope="module")
def norms(one) -> dict:
    return gradients.measure_gradients(one)["norms"]


def test_a_loss_moves_what_it_reads_and_nothing_else(norms):
    moved = {
        name: {part for part, of_part in norms.items() if of_part[name] > 0}
        for name in ("global_weight", "atp_weight", "ara_weight")
    }
    heads = {"itm_head", "itm_local_head"}
    assert moved["global_weight"] == {"image_encoder", "text_encoder", "vision_proj", "text_proj"}
    assert moved["atp_weight"] == {"image_encoder", "text_encoder"} | heads
    assert moved["ara_weight"] == {"image_encoder", "attribute_decoder"}


def test_a_norm_is_of_the_weighted_loss_and_of_what_the_config_switches_on(one, norms):
    config = one.retriever.config.copy_and_resolve_references()
    config.loss.ara_weight *= 3
    config.loss.atp_weight = 0.0
    config.loss.alignment = "quota_transport"
    retriever = dataclasses.replace(one.retriever, config=config)
    found = gradients.measure_gradients(dataclasses.replace(one, retriever=retriever))["norms"]
    here = found["image_encoder"]
    assert set(here) == {"global_weight", "ara_weight", "alignment_weight"}
    assert here["ara_weight"] == pytest.approx(3 * norms["image_encoder"]["ara_weight"], rel=1e-4)
    assert here["global_weight"] == pytest.approx(norms["image_encoder"]["global_weight"], rel=1e-4)
    assert here["alignment_weight"] > 0


def test_a_large_network_gets_fewer_pairs_than_a_batch(one):
    small, full = one.retriever.config, _load_config("rstp")
    assert gradients.batch_size(small) == small.train.batch_size
    assert 16 <= gradients.batch_size(full) < full.train.batch_size


def test_less_than_a_batch_has_no_gradients(one):
    config = one.retriever.config.copy_and_resolve_references()
    config.train.batch_size = one.split.num_captions + 1
    retriever = dataclasses.replace(one.retriever, config=config)
    assert gradients.measure_gradients(dataclasses.replace(one, retriever=retriever)) is None


# What images tell


def test_a_readout_names_what_features_hold_and_guesses_the_rest():
    rng = np.random.default_rng(0)
    labels = np.stack([rng.integers(0, 3, 400), rng.integers(0, 5, 400)], 1)
    hidden = rng.random(400) < 0.5
    labels[hidden, 0] = UNKNOWN
    held = np.eye(4)[labels[:, 0]]  # the last column: hidden
    noise = rng.normal(size=(400, 8))
    features = np.concatenate([held, noise], 1).astype(np.float32)
    fitted, asked = readout.standardised(features[:200], features[200:])
    weights = readout.fit_readout(fitted, labels[:200], [3, 5])
    named = readout.predict(weights, asked, [3, 5])
    right = named == labels[200:]
    assert right[~hidden[200:], 0].all()
    assert right[:, 1].mean() < 0.4
    assert set(named[:, 0]) <= {0, 1, 2}, "hidden is no answer"


def test_tokens_that_are_the_truth_are_read_and_an_embedding_of_noise_is_not(one, monkeypatch):
    rng = np.random.default_rng(0)
    train = load_split(one.retriever.config, "train")
    table = class_table(truth.read_truth(one.retriever.config, train).shown)

    def encode(retriever, split):
        del retriever
        labels = to_labels(truth.read_truth(one.retriever.config, split).shown, table)
        columns = [labels[:, [i]] == np.arange(len(table[a])) for i, a in enumerate(ATTRIBUTES)]
        tokens = np.concatenate(columns, 1).astype(np.float32)[:, None]
        noise = rng.normal(size=(len(labels), 4)).astype(np.float32)
        return dataclasses.replace(one.gallery, embeddings=noise, tokens=tokens, pids=labels[:, 0])

    monkeypatch.setattr(readout, "encode_images", encode)
    known = dataclasses.replace(one, gallery=encode(None, one.split))
    found = readout.measure_readout(known)
    assert found["images"] == train.num_images
    assert found["mean"]["tokens"] > 0.9 > 0.7 > found["mean"]["embedding"]
    shown = [of_one["top_color"] for of_one in one.truth.shown if "top_color" in of_one]
    of_train = truth.read_truth(one.retriever.config, train).shown
    commonest = max(
        table["top_color"], key=lambda v: sum(x.get("top_color") == v for x in of_train)
    )
    assert found["attributes"]["top_color"]["commonest"] == pytest.approx(
        np.mean([value == commonest for value in shown])
    )


def test_nothing_is_read_without_the_truth_or_of_the_train_split(one):
    assert readout.measure_readout(dataclasses.replace(one, truth=None)) is None
    same = dataclasses.replace(one, split=dataclasses.replace(one.split, name="train"))
    assert readout.measure_readout(same) is None


# The tool


def test_two_measurements_of_one_model_are_equal_and_every_file_is_written(one, tmp_path):
    few = subject.make_subject("random", one.retriever, one.split, 20)
    first, second = probe.measure(few), probe.measure(few)
    assert first == second
    plain = probe.write(tmp_path / "new", [first, {**second, "model": "other"}])
    assert "random" in plain and "other" in plain
    names = {path.name for path in (tmp_path / "new").iterdir()}
    svg = {f"{name}-{i}.svg" for name in ("gate", "masked") for i in (1, 2)}
    assert names == {"probe.json", "probe.md"} | svg
    for name in svg:
        root = xml.etree.ElementTree.parse(tmp_path / "new" / name).getroot()
        assert root.tag.endswith("svg")
    stored = json.loads((tmp_path / "new" / "probe.json").read_text())
    assert [entry["model"] for entry in stored] == ["random", "other"]
    text = (tmp_path / "new" / "probe.md").read_text()
    assert text.count("\n## ") == 8 and "nan" not in text.lower()


def test_a_model_without_gates_leaves_dashes_beside_one_with_gates(one):
    found = probe.measure(subject.make_subject("with", one.retriever, one.split, 8))
    without = {**found, "model": "without", "gate": None, "gate_worth": None}
    tables = report.make_tables([found, without])
    assert tables[0].rows[0][1][1] == report.NOTHING != tables[0].rows[0][1][0]
    titles = [table.title for table in report.make_tables([without])]
    assert len(titles) == len(tables) - 2 and not any("Gate" in title for title in titles)


def test_a_bar_is_as_long_as_its_value(tmp_path):
    bars = {"a": [pictures.Bar(25.0)], "b": [pictures.Bar(50.0)]}
    pictures.draw(tmp_path / "x.svg", "t", ["s"], bars, 100.0)
    root = xml.etree.ElementTree.parse(tmp_path / "x.svg").getroot()
    widths = [float(r.get("width")) for r in root.iter() if r.get("height") == "12"]
    assert widths[1] == pytest.approx(2 * widths[0], abs=0.2)


def test_the_shipped_model_reads_masked_colours_from_the_image(one, tmp_path, capsys):
    data_dir = one.retriever.config.data.data_dir
    flags = ["--dataset=synthetic/tiny", f"--data_dir={data_dir}", f"--out={tmp_path / 'new'}"]
    assert probe.main(["--model=pretrained:synthetic", *flags]) == 0
    assert "R@1 reranked" in capsys.readouterr().out
    found = json.loads((tmp_path / "new" / "probe.json").read_text())[0]
    colour = found["masked_words"]["alone"]["classes"]["colour"]
    assert colour["right"]["accuracy"] > 3 * colour["wrong"]["accuracy"]
    assert found["negatives"]["hardest"]["loss"] > found["negatives"]["random"]["loss"]
