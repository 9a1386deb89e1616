"""How a server starts and ends: address, readiness, the last requests, exit status."""

import concurrent.futures
import pathlib
import signal
import socket
import subprocess
import sys
import threading

import httpx
import pytest

from cada_jax.common.errors import UsageError
from cada_jax.gallery.server.run import listen, url_of
from tests.conftest import REPOSITORY
from tests.gallery.server.running import ListedGallery, running, stand_in, until, write_picture

# A server of no model, so that it starts in seconds: it prints its address, then its exit status
# is that of `serve`.
PROGRAM = """
import pathlib, sys
from cada_jax.gallery.server.run import listen, serve, url_of
from cada_jax.gallery.server.services import Options, Services
from tests.gallery.server.running import ListedGallery, stand_in, until, write_picture
gallery = ListedGallery([write_picture(pathlib.Path(sys.argv[1]) / "a.png")])
listener = listen("127.0.0.1", 0)
services = Services(gallery, stand_in(), Options())
sys.exit(serve(services, listener, lambda server: print(url_of(listener), flush=True)))
"""


@pytest.fixture
def gallery(tmp_path):
    return ListedGallery([write_picture(tmp_path / "a.png")])


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_the_server_in_order(tmp_path, signum, code):
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert httpx.get(f"{url}api/search?q=coat").status_code == 200
        process.send_signal(signum)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code
    assert "Traceback" not in errors
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}healthz")


def test_a_server_that_stops_finishes_what_it_began_and_refuses_the_rest(gallery):
    began, opened = threading.Event(), threading.Event()

    def search(queries, gallery):
        if any(query.texts == ("held",) for query in queries):
            began.set()
            assert opened.wait(30)
        return [[] for _ in queries]

    with running(gallery, stand_in(search)) as server:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            held = pool.submit(server.client.get, "api/search?q=held")
            assert began.wait(30)
            server.server.stop()
            answer = server.client.get("api/search?q=coat")
            assert answer.status_code == 503 and "stopping" in answer.json()["error"]
            assert "retry-after" in answer.headers and answer.headers["connection"] == "close"
            health = server.client.get("healthz")
            assert health.status_code == 503 and health.json()["state"] == "stopping"
            assert not server.ended.is_set()
            opened.set()
            assert held.result(30).status_code == 200
        assert server.ended.wait(30)


def test_a_server_says_that_it_is_not_ready_until_its_programs_are_compiled(gallery):
    began, opened = threading.Event(), threading.Event()

    def search(queries, gallery):
        began.set()
        assert opened.wait(30)
        return [[] for _ in queries]

    with running(gallery, stand_in(search)) as server:
        assert began.wait(30)
        health = server.client.get("healthz")
        assert health.status_code == 503
        assert health.json() == {
            "ready": False,
            "state": "starting",
            "gallery_size": 1,
            "queue_depth": 0,
        }
        opened.set()
        until(lambda: server.client.get("healthz").status_code == 200)


def test_a_server_whose_programs_do_not_compile_serves_anyway(gallery, caplog):
    calls = []

    def search(queries, gallery):
        calls.append(len(queries))
        if len(calls) == 1:
            raise RuntimeError("no program")
        return [[] for _ in queries]

    with running(gallery, stand_in(search)) as server:
        until(lambda: server.client.get("healthz").status_code == 200)
        assert server.client.get("api/search?q=coat").status_code == 200
    assert "the first query will be slow" in caplog.text


def test_a_taken_port_is_one_line_that_names_it():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} of 127.0.0.1 is taken"):
            listen("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "part"),
    [("no.such.host.invalid", "address of this machine"), ("203.0.113.7", "no address of this")],
)
def test_a_foreign_address_is_refused(host, part):
    with pytest.raises(UsageError, match=part):
        listen(host, 0)


def test_the_address_is_printed_as_a_browser_takes_it():
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener, "/people") == f"http://127.0.0.1:{port}/people/"


def test_temporary_thumbnails_are_removed(gallery):
    with running(gallery, stand_in()) as server:
        id = next(iter(gallery.pictures))
        assert server.client.get(f"api/pictures/{id}/thumbnail").status_code == 200
        folder = pathlib.Path(server.services.thumbnails._folder.name)
        assert len(list(folder.iterdir())) == 1
    assert not folder.exists()
