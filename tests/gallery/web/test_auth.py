"""Who comes in: tokens and cookies, foreign pages and hosts, a proxy in front."""

import httpx
import pytest

from cada_jax.common.errors import UsageError
from cada_jax.gallery.audit import AuditLog
from cada_jax.gallery.web.auth import COOKIE, Tokens, cookie_of, read_tokens
from tests.gallery.web.running import StandIn, lines, running

SECRET = "correct-horse-battery-staple"
BEARER = {"Authorization": f"Bearer {SECRET}"}


@pytest.fixture
def locked(gallery, tmp_path):
    tokens = Tokens({"alice": SECRET, "bob": "b" * 20})
    audit = AuditLog(tmp_path / "audit.jsonl")
    with running(gallery, StandIn().device, tokens=tokens, audit=audit) as server:
        yield server


def test_a_request_without_the_right_token_is_refused(locked):
    wrong = [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": f"Bearer {SECRET}x"},
        {"Authorization": f"Basic {SECRET}"},
        {"Authorization": b"Bearer \xff\xfe"},
        {"Cookie": f"{COOKIE}={SECRET}"},
        {"Cookie": "\x01=;;;=\"'"},
    ]
    for headers in wrong:
        for path in ("api/search?q=coat", "api/gallery", "metrics", "static/../api/gallery"):
            address = httpx.URL(locked.url, raw_path=f"/{path}".encode())
            answer = locked.client.get(address, headers=headers)
            assert answer.status_code == 401 or (".." in path and answer.status_code == 404)
            assert SECRET not in answer.text
    assert locked.client.get("?token=wrong").status_code == 401


def test_the_right_token_opens_and_the_audit_log_names_it(locked, tmp_path):
    for secret, name in ((SECRET, "alice"), ("b" * 20, "bob")):
        headers = {"Authorization": f"Bearer {secret}"}
        assert locked.client.get("api/search?q=coat", headers=headers).status_code == 200
        assert lines(tmp_path / "audit.jsonl")[-1]["token"] == name


def test_health_and_the_page_itself_are_open(locked):
    for path in ("healthz", "", "?q=coat", "static/style.css", "docs", "responsible"):
        assert locked.client.get(path).status_code == 200, path


def test_a_token_in_the_address_becomes_a_cookie_and_leaves_the_address(locked):
    answer = locked.client.get("", params={"token": SECRET, "q": 'a "red" coat'})
    assert answer.status_code == 303 and answer.headers["location"] == "./?q=a+%22red%22+coat"
    cookie = answer.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=strict", "Path=/"))
    assert SECRET not in cookie and "Secure" not in cookie
    locked.client.cookies.clear()
    headers = {"Cookie": f"other=1; {cookie.split(';')[0]}"}
    assert locked.client.get("api/gallery", headers=headers).status_code == 200


@pytest.mark.parametrize("entry", [BEARER, {"Cookie": f"{COOKIE}={cookie_of(SECRET)}"}])
def test_a_form_of_another_site_is_refused_with_a_token_too(locked, entry):
    form = {"files": {"image": b"x"}}
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "//["):
        answer = locked.client.post("api/search", **form, headers={**entry, "Origin": origin})
        assert answer.status_code == 403, origin
    own = {**entry, "Origin": locked.url.rstrip("/")}
    assert locked.client.post("api/search", **form, headers=own).status_code == 415


def test_a_foreign_name_for_this_machine_is_refused_without_a_token(gallery, locked):
    """A page of that name could read everything: its browser was told that the name is here."""
    with running(gallery, StandIn().device, allowed_host=["people.example"]) as server:
        for host in ("localhost:1", "127.0.0.1", "[::1]:80", "People.example:443"):
            assert server.client.get("api/gallery", headers={"Host": host}).status_code == 200
        for host in ("evil.example", "127.0.0.1.evil.example", ""):
            assert server.client.get("api/gallery", headers={"Host": host}).status_code == 400
    headers = {**BEARER, "Host": "evil.example"}
    assert locked.client.get("api/gallery", headers=headers).status_code == 200


def test_behind_a_proxy_the_path_the_cookie_and_the_client_are_the_proxy_s(gallery, tmp_path):
    flags = ("--root_path=people", "--trust_proxy=127.0.0.1")
    audit, tokens = AuditLog(tmp_path / "audit.jsonl"), Tokens({"token": SECRET})
    said = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "6.6.6.6, 10.1.2.3"}
    with running(gallery, StandIn().device, flags, tokens=tokens, audit=audit) as server:
        for path in ("", "static/style.css", "api/search?q=coat"):  # the proxy cuts /people off
            assert server.client.get(path, headers={**BEARER, **said}).status_code == 200
        assert server.client.get("api/gallery").status_code == 401
        cookie = server.client.get("", params={"token": SECRET}, headers=said).headers["set-cookie"]
        assert "Path=/people" in cookie and "; Secure" in cookie
    assert lines(tmp_path / "audit.jsonl")[-1]["client"] == "10.1.2.3"


def test_tokens_come_from_the_flag_before_the_environment_and_from_a_file(tmp_path):
    (tmp_path / "tokens").write_text("# who may ask\n\nalice aaaa\n  bob  bbbb\n")
    environment = {"CADA_TOKEN": "eeee"}
    tokens = read_tokens("cccc", str(tmp_path / "tokens"), environment)
    names = [tokens.name_of(secret) for secret in ("aaaa", "bbbb", "cccc", "eeee")]
    assert names == ["alice", "bob", "token", None]
    assert read_tokens(None, None, environment).name_of("eeee") == "token"
    assert not read_tokens(None, None, {"CADA_TOKEN": ""})


@pytest.mark.parametrize(
    "content", [b"# nobody\n", b"alice a b\n", b"alice a\nalice b\n", b"a \xff"]
)
def test_a_damaged_file_of_tokens_is_refused(tmp_path, content):
    (tmp_path / "tokens").write_bytes(content)
    with pytest.raises(UsageError):
        read_tokens(None, str(tmp_path / "tokens"), {})
