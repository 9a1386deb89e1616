"""The flags of `serve`, and what they refuse before anything is loaded."""

import contextlib
import dataclasses
import socket

import pytest

from cada_jax.common.errors import UsageError
from cada_jax.gallery.commands import serve
from cada_jax.gallery.server.limits import Limits


@contextlib.contextmanager
def nothing_is_opened(db, model):
    raise AssertionError("the gallery was opened")
    yield


def options(*flags: str):
    return serve.options_of(serve._parse(["--db=people.db", *flags]))


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--host=0.0.0.0"], "expected a token"),
        (["--host=192.168.0.2"], "expected a token"),
        (["--host=::"], "expected a token"),
        (["--host="], "expected a token"),
        (["--port=-1"], "--port=-1, expected 0 to 65535"),
        (["--port=70000"], "--port=70000"),
        (["--port=http"], "invalid int value"),
        (["--root_path=/a b"], "expected a plain path"),
        (["--root_path=/../x"], "expected a plain path"),
        (["--root_path=/a//b"], "expected a plain path"),
        (["--root_path=/people?x"], "expected a plain path"),
        (["--token="], "empty or holds a blank"),
        (["--token=two words"], "empty or holds a blank"),
        (["--token_file=/no/such/file"], "there is no such file"),
        (["--audit_log=/no/such/folder/audit.jsonl"], "cannot be written"),
        (["--max_k=0"], "--max_k is 0, expected more than 0"),
        (["--max_k=20000"], "--max_k is 20000, expected at most"),
        (["--max_phrasings=99"], "--max_phrasings is 99, expected at most"),
        (["--max_upload_mb=nan"], "--max_upload_mb is nan"),
        (["--body_seconds=inf"], "--body_seconds is inf"),
        (["--header_seconds=-1"], "--header_seconds is -1"),
        (["--max_batch=many"], "invalid int value"),
        (["--unknown"], "unrecognized arguments"),
    ],
)
def test_a_flag_that_cannot_be_is_one_line_and_code_2(flags, part, capsys, monkeypatch):
    monkeypatch.delenv("CADA_TOKEN", raising=False)
    assert serve.main(["--db=people.db", *flags], nothing_is_opened) == 2
    said = capsys.readouterr()
    assert not said.out and part in said.err
    assert said.err.startswith("error: ") and said.err.count("\n") == 1


def test_a_taken_port_is_told_before_the_model_is_loaded(capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert serve.main(["--db=people.db", f"--port={port}"], nothing_is_opened) == 2
    assert f"port {port} of 127.0.0.1 is taken" in capsys.readouterr().err


def test_the_gallery_must_be_named(capsys):
    assert serve.main([], nothing_is_opened) == 2
    assert "--db" in capsys.readouterr().err


def test_another_address_is_allowed_with_a_token(monkeypatch):
    monkeypatch.setenv("CADA_TOKEN", "secret")
    assert options("--host=0.0.0.0").tokens.name_of("secret") == "token"
    monkeypatch.delenv("CADA_TOKEN")
    with pytest.raises(UsageError):
        options("--host=0.0.0.0")


def test_every_limit_is_a_flag_with_its_default():
    names = [field.name for field in dataclasses.fields(Limits)]
    assert [flag.removeprefix("--") for flag in serve.LIMITS] == names
    assert options().limits == Limits()
    changed = options("--max_upload_mb=1.5", "--max_k=7", "--stop_seconds=0.5").limits
    assert (changed.upload_bytes, changed.max_k, changed.stop_seconds) == (1_500_000, 7, 0.5)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", ""),
        ("/", ""),
        ("people", "/people"),
        ("/people/", "/people"),
        ("/a/b-c_d.e", "/a/b-c_d.e"),
    ],
)
def test_a_root_path_is_written_in_any_way(given, expected):
    assert serve.root_path_of(given) == expected


def test_a_gallery_of_another_model_is_one_line(capsys):
    def opening(db, model):
        raise UsageError(f"{db} was encoded by another model")

    assert serve.main(["--db=people.db", "--port=0"], opening) == 2
    assert capsys.readouterr().err == "error: people.db was encoded by another model\n"
