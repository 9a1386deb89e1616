"""Secrets: where they come from, and which are refused."""

import pytest

from cada_jax.common.errors import UsageError
from cada_jax.gallery.server.tokens import Tokens, read_tokens


def test_the_flag_comes_before_the_environment():
    tokens = read_tokens("of-the-flag", None, {"CADA_TOKEN": "of-the-environment"})
    assert tokens.name_of("of-the-flag") == "token"
    assert tokens.name_of("of-the-environment") is None


def test_the_environment_is_read_and_an_empty_variable_is_none():
    assert read_tokens(None, None, {"CADA_TOKEN": "secret"}).name_of("secret") == "token"
    assert not read_tokens(None, None, {"CADA_TOKEN": ""})


def test_a_file_names_several(tmp_path):
    (tmp_path / "tokens").write_text("# who may ask\n\nalice aaaa\n  bob  bbbb\n")
    tokens = read_tokens("cccc", str(tmp_path / "tokens"), {})
    names = [tokens.name_of(secret) for secret in ("aaaa", "bbbb", "cccc", "dddd")]
    assert names == ["alice", "bob", "token", None]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "holds no token"),
        (b"# nobody\n", "holds no token"),
        (b"alice\n", "line 1: expected a new name"),
        (b"alice a b\n", "line 1"),
        (b"alice a\nalice b\n", "line 2"),
        (b"alice \xff\n", "not UTF-8"),
        ("alice gehe\N{LATIN SMALL LETTER I WITH DIAERESIS}m\n".encode(), "ASCII"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, content, part):
    (tmp_path / "tokens").write_bytes(content)
    with pytest.raises(UsageError, match=part):
        read_tokens(None, str(tmp_path / "tokens"), {})


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no such file"):
        read_tokens(None, str(tmp_path / "none"), {})
    with pytest.raises(UsageError, match="cannot be read"):
        read_tokens(None, str(tmp_path), {})


@pytest.mark.parametrize("secret", ["", " ", "two words", "tab\t", "line\n", "schlüssel"])
def test_a_secret_that_a_header_cannot_carry_is_refused(secret):
    with pytest.raises(UsageError, match="ASCII"):
        read_tokens(secret, None, {})


def test_the_cookie_does_not_tell_the_secret():
    tokens = Tokens({"token": "secret"})
    cookie = tokens.cookie_of("secret")
    assert "secret" not in cookie and len(cookie) == 64
    assert tokens.holder({"cookie": f"cada_token={cookie}"}) == "token"
    assert tokens.holder({"authorization": f"Bearer {cookie}"}) is None
