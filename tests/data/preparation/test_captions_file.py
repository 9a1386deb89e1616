"""Lists of one's own: every form gives the same set, and all that is wrong is named at once."""

import csv
import io
import json
import shutil

import pytest

from cada_jax.common.errors import MissingFileError, UsageError
from cada_jax.data.preparation import command
from cada_jax.data.preparation.captions_file import read_own
from cada_jax.data.split import load_split
from tests.conftest import DATASETS
from tests.data import pictures

ROWS = [
    ("0.jpg", 'A man, with a "red" shirt.', "anna", "train"),
    ("0.jpg", "He wears blue trousers.", "anna", "train"),
    ("1.jpg", "a woman in a dress; a bag", "bob", "test"),
    ("2.jpg", "", "carl", "test"),
    ("3.png", "a boy with a ball", "dora", "val"),
]
NAMES = ("image", "caption", "id", "split")
OBJECTS = [dict(zip(NAMES, row, strict=True)) for row in ROWS]
VOCABULARY = DATASETS / "rstp" / "dummy_data" / "vocab.txt"


def table(separator, rows=ROWS, names=NAMES):
    file = io.StringIO()
    csv.writer(file, delimiter=separator).writerows([names, *rows])
    return file.getvalue()


FORMS = {
    "comma.csv": table(","),
    "semicolon.csv": table(";"),
    "mark.csv": "\ufeff" + table(","),
    "capitals.csv": table(",", names=[name.title() for name in NAMES]),
    "list.tsv": table("\t"),
    "list.json": json.dumps(OBJECTS),
    "list.jsonl": "\n".join(map(json.dumps, OBJECTS)) + "\n",
}


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, kind in enumerate(("baseline", "progressive", "4:4:4")):
        (folder / f"{number}.jpg").write_bytes(pictures.JPEG[kind])
    (folder / "3.png").write_bytes(pictures.PNG["RGB"])
    return folder


def read(photos, text, seed=0, encoding="utf-8"):
    (photos / "list").write_bytes(text.encode(encoding))
    return read_own(photos, photos / "list", seed)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_same_set(photos, form):
    source = read(photos, FORMS[form])
    assert (source.problems, source.notes) == ([], ())
    assert source.digest == read(photos, FORMS["comma.csv"]).digest
    assert [source.counts(s) for s in ("train", "val", "test")] == [(1, 1, 2), (1, 1, 1), (2, 2, 1)]
    assert source.entries[0].captions == (ROWS[0][1], ROWS[1][1])
    assert source.persons == ("anna", "bob", "carl", "dora")


def test_a_table_of_a_spreadsheet_in_utf_16_is_read(photos):
    assert read(photos, table("\t"), encoding="utf-16").problems == []


def test_a_json_object_may_hold_several_captions(photos):
    text = json.dumps([{"image": "0.jpg", "captions": ["a man", "he walks"], "id": 7}])
    (entry,) = read(photos, text).entries
    assert entry.captions == ("a man", "he walks") and entry.pid == 7


def test_splits_are_drawn_by_person_and_seed(photos):
    rows = [(f"{i % 4}.jpg", "a man", f"p{i % 30}", "") for i in range(4)]
    many = [(f"{i}.jpg", "a man", f"p{i % 30}", "") for i in range(90)]
    for i in range(4, 90):
        shutil.copy(photos / "0.jpg", photos / f"{i}.jpg")
    shutil.copy(photos / "0.jpg", photos / "3.jpg")
    source = read(photos, table(",", many))
    assert not source.problems and "30 persons was drawn" in source.notes[0]
    assert [source.counts(s)[0] for s in ("train", "val", "test")] == [24, 3, 3]
    assert source.digest == read(photos, table(",", many)).digest
    assert source.digest != read(photos, table(",", many), seed=1).digest
    given = [("0.jpg", "a man", "p0", "test"), *many[1:]]
    split_of = {e.person: e.split for e in read(photos, table(",", given)).entries}
    assert split_of["p0"] == "test", "the other images of a person follow the one with a split"
    few = read(photos, table(",", rows[:2]))
    assert "2 persons cannot be split" in few.problems[0].text


def test_without_ids_every_image_is_a_person(photos):
    source = read(photos, "image,caption\n0.jpg,a man\n1.jpg,a boy\n2.jpg,a girl\n0.jpg,he\n")
    assert len(source.persons) == len(source.entries) == 3
    assert source.notes[0] == "no ids: every image is taken as a person of its own"


def test_all_that_is_wrong_with_a_list_is_named_at_once(photos):
    lines = [
        *("image,caption,id,split,camera", "0.jpg,a man,anna,train,1"),
        *("gone.jpg,a man,anna,train,1", "1.jpg;a boy;bob;train;1", "1.jpg,a boy, or not,b,val,1"),
        *("2.jpg,a girl,carl,dev,1", "3.png,a boy,,val,1", "0.jpg,a man,dora,train,1"),
    ]
    source = read(photos, "\n".join(lines))
    named = [
        "line 4: expected 5 fields, image, caption, id, split, camera, separated by ','; got 1",
        "line 5: expected 5 fields",
        "line 2: image '0.jpg' has the ids anna, dora",
        "line 6: split is 'dev'",
        "line 7: image '3.png' has no id",
        "line 3: image 'gone.jpg' is missing under",
    ]
    for problem, text in zip(source.problems, named, strict=True):
        assert problem.text.startswith(text)
    assert source.notes == ("not read: the columns camera",)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("img,text\n0.jpg,a man\n", "got img, text"),
        ("[1, 2", "cannot be read (JSONDecodeError"),
    ],
)
def test_a_list_without_the_columns_is_one_line(photos, text, named):
    with pytest.raises(UsageError, match="list: expected a list of images") as caught:
        read(photos, text)
    assert named in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_a_list_that_is_not_there_or_no_text_is_one_line(photos):
    with pytest.raises(MissingFileError, match="there is no such file"):
        read_own(photos, photos / "none.csv")
    with pytest.raises(UsageError, match="in UTF-8; it cannot be read"):
        read(photos, "image,caption\n0.jpg,caf\u00e9", encoding="latin-1")


def test_it_is_prepared_trained_on_and_not_mistaken_for_a_changed_one(
    photos, tmp_path, load_config, capsys
):
    (photos / "captions.csv").write_text(table(","))
    flags = ["--dataset=folder", f"--source={photos}", f"--vocab={VOCABULARY}"]
    flags += [f"--data_dir={tmp_path}"]
    assert command.main(flags) == 0 and command.main(flags) == 0
    assert "--config=configs/folder.py" in capsys.readouterr().out
    config = load_config("folder")
    config.data.update(vocab=str(VOCABULARY), data_dir=str(tmp_path))
    test = load_split(config, "test")
    assert test.images[1] == (photos / "2.jpg").read_bytes()
    assert (test.num_images, test.num_captions) == (2, 1), "one image in the gallery only"
    assert [test.person(pid) for pid in test.image_pids] == ["bob", "carl"]
    (photos / "captions.csv").write_text(table(",", ROWS[:-1]))
    assert command.main(flags) == 2
    assert "was prepared from another list" in capsys.readouterr().err
