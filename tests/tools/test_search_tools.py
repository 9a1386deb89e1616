"""The tools that measure search: they measure what they say, and a wrong order is noticed."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

import cada_jax
from tests.conftest import REPOSITORY
from tools.search import attributes, check, options, quality
from tools.search.pictures import draw, write_files

PICTURES = 12


@pytest.fixture(scope="module")
def retriever():
    return cada_jax.load_model("pretrained:synthetic", jax.devices()[:1])


@pytest.fixture(scope="module")
def shown():
    return draw("tiny", "test", PICTURES)


@pytest.fixture(scope="module")
def gallery(retriever, shown, tmp_path_factory):
    return retriever.encode_images(write_files(tmp_path_factory.mktemp("files"), shown))


@pytest.fixture(scope="module")
def evaluation(retriever, shown, gallery):
    """results.json and queries.jsonl as the evaluation would have written them."""
    captions = [one.captions[0] for one in shown]
    queries, firsts = [], {"global": [], "reranked": []}
    found = {
        "global": retriever.search(captions, gallery, k=10, rerank=0),
        "reranked": retriever.search(captions, gallery, k=10, rerank=4),
    }
    for i, one in enumerate(shown):
        line = {"caption": captions[i], "pid": one.person}
        for name, hits in found.items():
            right = [check._pid(hit) == one.person for hit in hits[i]]
            line[f"rank_{name}"] = right.index(True) + 1 if any(right) else 99
            firsts[name].append(right[0])
        line["hits"] = [{"image": f"{check._name(hit)}.jpg"} for hit in found["reranked"][i]]
        queries.append(line)
    rates = {name: {"R1": 100 * float(np.mean(right))} for name, right in firsts.items()}
    return rates | {"rerank_top_k": 4}, queries


def test_the_pictures_are_those_of_the_data_set(shown):
    assert [one.name for one in shown[:2]] == ["00032_c01", "00032_c02"]
    assert shown[0].pixels.shape == (96, 48, 3) and len(shown[0].captions) == 2


def test_search_that_ranks_as_the_evaluation_is_equal(retriever, gallery, evaluation):
    report = check.compare(retriever, gallery, *evaluation)
    assert report["equal"] and report["differ_global"] == report["differ_reranked"] == 0
    assert report["lists_differ"] == 0


def test_a_query_that_is_ranked_otherwise_is_noticed(retriever, gallery, evaluation):
    results, queries = evaluation
    changed = [dict(query) for query in queries]
    changed[3]["rank_reranked"] = 2 if changed[3]["rank_reranked"] == 1 else 1
    report = check.compare(retriever, gallery, results, changed)
    assert not report["equal"] and report["differ_reranked"] == 1 and not report["differ_global"]
    other = results | {"global": {"R1": results["global"]["R1"] - 0.05}}
    assert not check.compare(retriever, gallery, other, queries)["equal"]


def test_a_run_that_was_not_scored_is_one_line(tmp_path, capsys):
    assert check.main([f"--workdir={tmp_path}"]) == 2
    assert "results.json is not there" in capsys.readouterr().err


def test_what_a_thing_is_called():
    assert options.thing("item", "umbrella") == "a person with an umbrella"
    assert options.thing("shoes", "boots") == "a person in boots"
    assert options.thing("bag", "handbag") == "a person with a handbag"


def test_questions_have_enough_pictures_of_either_kind():
    many = draw("demo", "test", 150)
    asked = options.questions(many, 50)
    assert asked
    for question in asked:
        field, value = question.excluded
        right = [one for one in many if question.says.items() <= dict(one.identity).items()]
        carried = sum(one.seen.get(field) == value for one in right)
        assert carried >= options.LEAST_EXCLUDED
        assert len(right) - carried >= options.LEAST_RIGHT


@pytest.mark.parametrize("name", ["phrasings", "like"])
def test_a_measure_gives_shares_in_percent(retriever, shown, name):
    lines = list(quality.MEASURES[name](retriever, shown, 6))
    assert len(lines) == {"phrasings": 2, "like": 4}[name]
    for line in lines:
        values = [value for key, value in line.items() if key.startswith(("R1", "mAP"))]
        assert values and all(0 <= value <= 100 for value in values)


def test_attributes_are_read_better_than_those_of_another_picture(retriever, shown):
    lines = {line["part"]: line for line in attributes.measure_attributes(retriever, shown, 12)}
    assert set(lines) == set(attributes.FIELDS)
    for part in ("hair", "top", "bottom"):
        assert lines[part]["first"] > lines[part]["of another picture"] + 20
        assert lines[part]["first three"] >= lines[part]["first"]


@pytest.mark.slow
def test_search_of_the_demo_ranks_as_its_evaluation(tmp_path, capsys):
    workdir = os.environ.get("CADA_DEMO") or str(tmp_path / "demo")
    if "CADA_DEMO" not in os.environ:
        config = REPOSITORY / "configs" / "synthetic.py"
        train = [sys.executable, "-m", "cada_jax.main", f"--config={config}"]
        subprocess.run([*train, f"--workdir={workdir}"], check=True)
    capsys.readouterr()
    assert check.main([f"--workdir={workdir}"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["tokens"] for line in lines] == list(check.KINDS)
    assert all(line["differ_global"] == line["differ_reranked"] == 0 for line in lines)
