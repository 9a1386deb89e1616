"""`cada search`: every flag, every form of output, senseless values, odd names, exit codes."""

import json
import os
import re
import sys

import numpy as np
import pytest
from PIL import Image

from cada_jax.gallery.commands import search
from tests.gallery.in_memory import COUNT, load_small_model, make_gallery, opening


@pytest.fixture(scope="module")
def retriever():
    return load_small_model()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("photos")


@pytest.fixture(scope="module")
def filled(retriever, folder):
    return make_gallery(retriever, folder)


@pytest.fixture
def caption(filled):
    return filled[1][0]


@pytest.fixture
def run(retriever, filled, capfdbinary):
    """A function: flags -> (exit code, stdout in bytes, stderr as text)."""

    def call(*flags):
        try:
            code = search.main(["--db=x", *flags], opening(retriever, filled[0]))
        except SystemExit as e:
            code = e.code
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return code, out, err.decode()

    return call


def found(run, *flags):
    """The ids that a search finds, as numbers."""
    code, out, _ = run(*flags, "--json")
    assert code in (0, search.NOTHING_FOUND)
    return [int(result["id"], 16) for result in json.loads(out)["results"]]


def test_the_person_described_is_first_in_the_table(run, caption):
    code, out, err = run(caption, "--top_k=3")
    lines = out.decode().splitlines()
    assert code == 0 and not err and len(lines) == 4
    assert lines[0].split() == ["score", "match", "similarity", "box", "path"]
    assert lines[1].split()[0] == "1" and lines[1].endswith("a b.jpg") and "4,0,40,96" in lines[1]


def test_json_holds_the_query_and_the_fields_of_the_server(run, caption, folder):
    code, out, _ = run(caption, "a man", "--not", "a hat", "--json", "--top_k=2", "--rerank=4")
    answer = json.loads(out)
    assert code == 0 and answer["gallery_size"] == COUNT and len(answer["results"]) == 2
    assert answer["query"]["texts"] == [caption, "a man"]
    assert answer["query"]["exclude"] == ["a hat"] and answer["query"]["rerank"] == 4
    best = answer["results"][0]
    assert best["name"] == "a b.jpg" and best["folder"] == str(folder)
    assert best["box"] == [4, 0, 40, 96] and best["taken"].startswith("1970-01-0")
    assert max(ord(c) for c in out.decode()) < 127


def test_paths_are_raw_bytes_for_a_pipe(run, caption, folder):
    code, out, _ = run(caption, "--paths", "--null", f"--top_k={COUNT}")
    paths = out.split(b"\0")
    assert code == 0 and paths.pop() == b"" and len(paths) == COUNT
    assert all(os.path.exists(path) for path in paths)
    assert any(b"\n" in path for path in paths) and any(b"\x1b" in path for path in paths)


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_no_control_character_of_a_name_reaches_the_terminal(run, caption, form):
    _, out, err = run(caption, *form, f"--top_k={COUNT}")
    text = out.decode()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text + err)
    assert r"u202egpj.exe.jpg" in text and r"line\nbreak.jpg" in text


def test_paths_on_a_terminal_are_escaped_too(retriever, filled, caption, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert search.main(["--db=x", caption, "--paths"], opening(retriever, filled[0])) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_filters_leave_out_what_they_say(run, caption, folder):
    everything = (caption, f"--top_k={COUNT}")
    assert sorted(found(run, *everything)) == list(range(COUNT))
    inner = found(run, *everything, f"--folder={folder}/inner/")
    assert sorted(inner) == list(range(1, COUNT, 2))
    assert sorted(found(run, *everything, "--camera=south")) == list(range(6, COUNT))
    since = found(run, *everything, "--since=1970-01-05T00:00+00:00")
    assert sorted(since) == list(range(3, COUNT))
    until = found(run, *everything, "--until=1970-01-05T00:00:01+00:00")
    assert sorted(until) == list(range(4))


def test_a_relative_folder_is_below_the_working_folder(run, caption, folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert len(found(run, caption, "--folder=inner", f"--top_k={COUNT}")) == COUNT // 2


def test_a_picture_alone_finds_itself_without_the_decoder(run, folder):
    code, out, _ = run(f"--like={folder}/a b.jpg", "--json")
    results = json.loads(out)["results"]
    assert code == 0 and results[0]["name"] == "a b.jpg"
    assert {result["match_logit"] for result in results} == {None}


def test_a_cut_off_that_nothing_reaches_ends_with_1(run, caption):
    code, out, err = run(caption, "--min_score=1000")
    assert (code, out) == (search.NOTHING_FOUND, b"")
    assert err == f"nothing found among {COUNT} pictures\n"
    code, out, _ = run(caption, "--min_score=1000", "--paths")
    assert (code, out) == (search.NOTHING_FOUND, b"")


def test_a_negative_cut_off_may_stand_alone_and_pages_follow_each_other(run, caption):
    everything = found(run, caption, "--min_score", "-100", f"--top_k={COUNT}", "--rerank=99")
    assert len(everything) == COUNT
    pages = [found(run, caption, "--top_k=5", f"--offset={i}") for i in (0, 5, 10, 15)]
    assert sum(pages, []) == everything and pages[-1] == []


def test_a_sheet_shows_every_result(run, caption, tmp_path):
    out = tmp_path / "sheet.png"
    assert run(caption, f"--out={out}", "--top_k=10")[0] == 0
    with Image.open(out) as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    colourful = (pixels.max(axis=-1) - pixels.min(axis=-1) > 30).mean()
    assert 0.05 < colourful < 0.9


def test_a_page_needs_nothing_from_elsewhere_and_escapes_names(run, tmp_path, caption):
    out = tmp_path / "page.html"
    words = "a man <script>alert(1)</script>"
    assert run(words, caption, f"--out={out}", f"--top_k={COUNT}")[0] == 0
    text = out.read_text(encoding="utf-8")
    assert "<script" not in text and "\x1b" not in text and "\u202e" not in text
    assert text.count("data:image/jpeg;base64,") == COUNT
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert all(source.startswith(("data:", "file://")) for source in sources)
    assert any("%23" in source and "%25" in source for source in sources)  # "100% #1..."
    assert "url(" not in text and "http" not in text


def test_a_file_that_is_gone_leaves_a_note(retriever, tmp_path, capsys):
    gallery, captions = make_gallery(retriever, tmp_path)
    (tmp_path / "a b.jpg").unlink()
    for name in ("s.png", "p.html"):
        flags = ["--db=x", captions[0], f"--out={tmp_path / name}"]
        assert search.main(flags, opening(retriever, gallery)) == 0
    assert "file is gone" in (tmp_path / "p.html").read_text()


def test_nobody_elses_file_is_replaced(run, tmp_path, caption):
    (tmp_path / "thesis.html").write_text("years of work with cada_jax")
    code, out, err = run(caption, f"--out={tmp_path / 'thesis.html'}")
    assert (code, out) == (2, b"") and "is there already: remove it, or choose another" in err
    assert (tmp_path / "thesis.html").read_text() == "years of work with cada_jax"


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        ([], "nothing to search for"),
        (["a", "?!"], "expected at least one word"),
        (["a", "--top_k=0"], "--top_k=0: expected 1 to"),
        (["a", "--min_score=nan"], "min_score is nan"),
        (["a", "--since=yesterday"], "--since='yesterday': expected a date"),
        (["a", "--since=2026-05-02", "--until=2026-05-01"], "expected until to be later"),
        (["--like=~nosuchuser/x"], "determine home directory"),
        (["--like=" + 300 * "x"], "File name too long"),
        (["a", "--folder=a\0b"], "NUL"),
        (["a", "--out=sheet.gif"], "ends in .png or .html"),
        (["a", "--null"], "expected --paths beside it"),
    ],
)
def test_a_senseless_flag_is_one_line_before_the_model_is_loaded(flags, part, capsys):
    def no_loading(db, model):
        raise AssertionError("the gallery was opened")

    try:
        code = search.main(["--db=x", *flags], no_loading)
    except SystemExit as e:
        code = e.code
    out, err = capsys.readouterr()
    assert code == 2 and not out
    assert err.startswith("error: ") and err.count("\n") == 1 and part in err


def test_a_gallery_of_another_model_is_one_error(retriever, filled, caption, capsys):
    import dataclasses

    from cada_jax.retrieval.in_memory import InMemoryGallery

    foreign = dataclasses.replace(filled[0].images, model="0" * 64)
    gallery = InMemoryGallery(foreign, retriever.mesh, filled[0]._pictures)
    assert search.main(["--db=x", caption], opening(retriever, gallery)) == 2
    assert "encoded by another model" in capsys.readouterr().err
