"""Tokens, cookies, host names and origins; root paths; headers of every answer."""

import httpx
import pytest

from cada_jax.gallery.server.gate import is_loopback
from cada_jax.gallery.server.tokens import Tokens
from tests.gallery.server.running import ListedGallery, running, stand_in, write_picture

SECRET = "correct-horse-battery-staple"


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    return ListedGallery([write_picture(tmp_path_factory.mktemp("gate") / "a.png")])


@pytest.fixture(scope="module")
def locked(gallery):
    with running(gallery, stand_in(), tokens=Tokens({"alice": SECRET, "bob": "b" * 20})) as server:
        yield server


@pytest.fixture(scope="module")
def open_server(gallery):
    with running(gallery, stand_in()) as server:
        yield server


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {SECRET}x"},
        {"Authorization": f"Bearer {SECRET[:-1]}"},
        {"Authorization": f"Basic {SECRET}"},
        {"Authorization": SECRET},
        {"Authorization": b"Bearer \xff\xfe"},
        {"Cookie": "cada_token=wrong"},
        {"Cookie": f"cada_token={SECRET}"},
        {"Cookie": "cada_token"},
        {"Cookie": "\x01=;;;=\"'"},
    ],
)
def test_a_request_without_the_right_token_is_refused(locked, headers):
    pages = ["api/search?q=coat", "api/gallery", "metrics", "docs", "openapi.json"]
    for page in [*pages, f"api/search?q=coat&token={SECRET}"]:
        answer = locked.client.get(page, headers=headers)
        assert answer.status_code == 401, page
        assert "token" in answer.json()["error"] and SECRET not in answer.text
        assert answer.headers["www-authenticate"] == "Bearer"
    assert locked.client.get("?token=wrong", headers=headers).status_code == 401


def test_the_right_token_opens_and_the_log_names_it(locked):
    for secret, name in ((SECRET, "alice"), ("b" * 20, "bob")):
        answer = locked.client.get("api/gallery", headers={"Authorization": f"Bearer {secret}"})
        assert answer.status_code == 200
        assert locked.entry("/api/gallery")["token"] == name


def test_health_and_the_page_itself_are_open(locked):
    for path in ("healthz", "", "?q=coat", "static/docs.css"):
        assert locked.client.get(path).status_code in (200, 503), path
    assert locked.client.get("static/../api/gallery").status_code == 401
    address = httpx.URL(locked.client.base_url, raw_path=b"/static/../api/gallery")
    assert locked.client.get(address).status_code in (401, 404)


def test_a_token_in_the_address_becomes_a_cookie_and_leaves_the_address(locked):
    answer = locked.client.get("", params={"token": SECRET, "q": 'a "red" coat', "k": "5"})
    assert answer.status_code == 200
    assert "url=./?q=a+%22red%22+coat&amp;k=5" in answer.text
    assert SECRET not in answer.text and SECRET not in str(locked.log)
    cookie = answer.headers["set-cookie"]
    for part in ("HttpOnly", "SameSite=Strict", "Path=/"):
        assert part in cookie
    assert SECRET not in cookie and "Secure" not in cookie
    value = cookie.split(";")[0]
    assert locked.client.get("api/gallery", headers={"Cookie": value}).status_code == 200
    assert locked.client.get("", headers={"Cookie": f"other=1; {value}"}).status_code == 200


def test_the_cookie_is_kept_to_tls_behind_a_proxy_that_speaks_it(gallery):
    tokens = Tokens({"token": SECRET})
    with running(gallery, stand_in(), tokens=tokens, trust_proxy=True) as server:
        headers = {"X-Forwarded-Proto": "https"}
        answer = server.client.get("", params={"token": SECRET}, headers=headers)
        assert "; Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize("host", ["localhost", "localhost:1234", "127.0.0.1:80", "[::1]:80"])
def test_this_machine_may_be_called_by_its_names(open_server, host):
    assert open_server.client.get("api/gallery", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:80",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "",
        "[",
    ],
)
def test_a_foreign_name_for_this_machine_is_refused_without_a_token(open_server, locked, host):
    """A page of that name could read everything: its browser was told that the name is here."""
    answer = open_server.client.get("api/gallery", headers={"Host": host})
    assert answer.status_code == 421 and "--allowed_host" in answer.json()["error"]
    headers = {"Host": host, "Authorization": f"Bearer {SECRET}"}
    assert locked.client.get("api/gallery", headers=headers).status_code == 200


def test_an_allowed_name_is_accepted(gallery):
    with running(gallery, stand_in(), hosts=("people.example",)) as server:
        answer = server.client.get("api/gallery", headers={"Host": "People.Example:443"})
        assert answer.status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "//"])
def test_a_form_of_another_site_is_refused(open_server, origin):
    files = {"image": ("a.png", b"x")}
    headers = {"Origin": origin}
    answer = open_server.client.post("api/search", files=files, headers=headers)
    assert answer.status_code == 403 and "expected one of this server" in answer.json()["error"]
    own = {"Origin": f"http://127.0.0.1:{open_server.port}"}
    answer = open_server.client.post("api/search", files=files, headers=own)
    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.2", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_which_addresses_only_this_machine_reaches(host, expected):
    assert is_loopback(host) is expected


@pytest.mark.parametrize("prefix", ["/people", ""])
def test_behind_a_root_path_both_ways_of_a_proxy_work(gallery, prefix):
    """Some proxies cut the root path off, others hand it on."""
    tokens = Tokens({"token": SECRET})
    with running(gallery, stand_in(), root_path="/people", tokens=tokens) as server:
        address = f"http://127.0.0.1:{server.port}{prefix}"
        headers = {"Authorization": f"Bearer {SECRET}"}
        for path in ("/", "/api/search?q=coat", "/static/docs.css", "/docs", "/healthz"):
            assert server.client.get(address + path, headers=headers).status_code == 200, path
        answer = server.client.get(f"{address}/?token={SECRET}")
        assert "Path=/people" in answer.headers["set-cookie"]
        server.client.cookies.clear()
        assert server.client.get(f"{address}/api/gallery").status_code == 401
        assert server.client.get(f"{address}/peoples/healthz").status_code == 401


def test_the_root_path_without_a_slash_leads_to_the_page(gallery):
    with running(gallery, stand_in(), root_path="/people") as server:
        answer = server.client.get(f"http://127.0.0.1:{server.port}/people?q=coat")
        assert answer.status_code == 308 and answer.headers["location"] == "/people/?q=coat"


@pytest.mark.parametrize(
    "path",
    ["", "api/search?q=coat", "api/search?q=", "nothing", "healthz", "static/docs.css", "docs"],
)
def test_every_answer_carries_safe_headers(open_server, path):
    headers = open_server.client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert "access-control-allow-origin" not in headers


def test_the_client_is_whom_the_trusted_proxy_saw(gallery):
    forwarded = {"X-Forwarded-For": "6.6.6.6, 10.1.2.3"}
    for trust, expected in ((True, "10.1.2.3"), (False, "127.0.0.1")):
        with running(gallery, stand_in(), trust_proxy=trust) as server:
            server.client.get("api/gallery", headers=forwarded)
            assert server.entry("/api/gallery")["client"] == expected
            server.client.get("api/gallery", headers={"X-Forwarded-For": "<script>"})
            assert server.entry("/api/gallery")["client"] == "127.0.0.1"


def test_the_access_log_holds_no_query(open_server):
    open_server.client.get("api/search", params={"q": "a very private coat"})
    entry = open_server.entry("/api/search")
    assert "private" not in str(entry)
    assert (entry["method"], entry["path"], entry["status"]) == ("GET", "/api/search", 200)
    assert entry["bytes"] > 0 and entry["ms"] > 0
