"""What makes results better than they are is told, and stops nothing."""

import pytest

from cada_jax.data.preparation import command
from cada_jax.data.preparation.captions_file import read_own
from cada_jax.data.preparation.check import notes
from tests.data import pictures


@pytest.fixture
def photos(tmp_path):
    for number, kind in enumerate(("baseline", "progressive", "baseline", "4:4:4")):
        (tmp_path / f"{number}.jpg").write_bytes(pictures.JPEG[kind])
    return tmp_path


def listed(photos, *rows):
    (photos / "captions.csv").write_text("\n".join(["image,caption,id,split", *rows]))
    return read_own(photos, photos / "captions.csv")


def test_a_clean_set_has_no_notes(photos):
    rows = ("0.jpg,a man in red,1,train", "1.jpg,a woman in a skirt,2,val", "3.jpg,a boy,3,test")
    assert list(notes(listed(photos, *rows))) == []


def test_leaks_and_oddities_are_counted_with_examples(photos, capsys):
    listed(
        photos,
        "0.jpg,A man in red.,1,train",
        "0.jpg,A man in red.,1,train",
        "1.jpg,ein Mann mit blauer Hose und Hut,2,train",
        "2.jpg,a man in red,3,test",
        "3.jpg,,4,test",
    )
    assert command.main(["--dataset=folder", f"--source={photos}", "--check"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if "NOTE" in line] == [
        "NOTE: images without a caption, in the gallery only: 1, '3.jpg'",
        "NOTE: images that have one caption twice, kept: 1, '0.jpg'",
        "NOTE: files with equal bytes in several splits: 1, '0.jpg = 2.jpg'",
        "NOTE: captions of several persons, of whom one counts as right: 1, 'a man in red'",
        "NOTE: captions in train and in test: 1, 'a man in red'",
        "NOTE: captions that are no English: 1, 'ein mann mit blauer hose und hut'",
    ]


FOREIGN = (
    *("ein Mann trägt ein rotes Hemd", "un hombre con camisa roja", "seorang pria memakai"),
    *(
        "een man draagt een rood shirt en een blauwe broek",
        "一个穿红色衬衫的男人",
        "مردی با پیراهن قرمز",
    ),
)
ENGLISH = (
    *("red t-shirt blue jeans black shoes backpack", "guy w/ hoodie, joggers n sneakers"),
    *("black puffer jacket, skinny jeans, crossbody bag", "a woman in teal leggings"),
)


def test_english_as_people_write_it_is_told_from_other_languages(photos):
    rows = [f'{i % 4}.jpg,"{text}",{i % 4},train' for i, text in enumerate(FOREIGN + ENGLISH)]
    (note,) = [n for n in notes(listed(photos, *rows)) if "English" in n]
    assert note.startswith(f"captions that are no English: {len(FOREIGN)}, ")
