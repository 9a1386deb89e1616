"""How a server starts and ends: flags, readiness, the last requests, signals, counters."""

import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from cada_jax.gallery.commands import serve
from tests.conftest import REPOSITORY
from tests.gallery.processes import heed_interrupts
from tests.gallery.web.running import StandIn, running, until

# The command with a stand-in for the gallery and the model, so that it starts in seconds.
PROGRAM = """
import contextlib, pathlib, sys
from cada_jax.gallery import opening
from cada_jax.gallery.commands import serve
from cada_jax.gallery.web import services
from tests.gallery.web.running import ListedGallery, StandIn, write_picture
gallery = ListedGallery([write_picture(pathlib.Path(sys.argv[1]) / "a.png")])
opening.open_gallery = lambda db, model: contextlib.nullcontext((None, gallery))
services.device_of = lambda retriever: StandIn().device
sys.exit(serve.main(["--db=x", "--port=0", *sys.argv[2:]]))
"""


@pytest.fixture
def command(tmp_path):
    """Starts the command with these flags: (process, address)."""
    processes = []

    def start(*flags: str) -> tuple[subprocess.Popen, str]:
        arguments = [sys.executable, "-c", PROGRAM, str(tmp_path), *flags]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        pipes["preexec_fn"] = heed_interrupts
        processes.append(subprocess.Popen(arguments, cwd=REPOSITORY, **pipes))
        line = processes[-1].stdout.readline()
        assert line.startswith("serving 1 pictures at http://127.0.0.1:"), line
        return processes[-1], line.split()[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_the_server_in_order(command, signum, code):
    process, url = command()
    assert httpx.get(f"{url}api/search?q=coat").status_code == 200
    process.send_signal(signum)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code and "Traceback" not in errors
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}healthz")


def test_a_server_that_stops_finishes_what_it_began(gallery):
    stand_in = StandIn()
    stand_in.hold = threading.Event()
    with running(gallery, stand_in.device, ("--stop_seconds=30",)) as server:
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(httpx.get, f"{server.url}api/search?q=held", timeout=60)
            until(lambda: stand_in.asked)
            server.server.should_exit = True
            until(lambda: not server.server.servers[0].is_serving())
            assert server.thread.is_alive()
            stand_in.hold.set()
            assert held.result(30).status_code == 200
        server.thread.join(30)
        assert not server.thread.is_alive()


def test_a_server_is_not_ready_until_its_programs_are_compiled(gallery, caplog):
    stand_in = StandIn()
    stand_in.hold = threading.Event()
    with running(gallery, stand_in.device, no_warm_up=False, max_batch=3) as server:
        until(lambda: stand_in.asked)
        assert server.client.get("healthz").json()["state"] == "starting"
        stand_in.hold.set()
        until(lambda: server.client.get("healthz").status_code == 200)
        lengths = {len(query.texts[0].split()) for query in stand_in.asked if query.texts}
        assert len(lengths) > 4 and any(query.like is not None for query in stand_in.asked)
    stand_in.raises = [RuntimeError("no program")]
    with running(gallery, stand_in.device, no_warm_up=False) as server:
        until(lambda: server.client.get("healthz").status_code == 200)
        assert server.client.get("api/search?q=coat").status_code == 200
    assert "the first query will be slow" in caplog.text


def test_requests_and_batches_are_counted(command):
    _, url = command("--no_warm_up")
    for address in ("api/search?q=coat", "api/search?q=", "nothing/at/all"):
        httpx.get(f"{url}{address}")
    counters = httpx.get(f"{url}metrics").text
    for line in (
        'http_requests_total{handler="/api/search",method="GET",status="2xx"} 1.0',
        'http_requests_total{handler="/api/search",method="GET",status="4xx"} 1.0',
        "cada_search_seconds_count 1.0",
        "cada_batch_size_sum 1.0",
        "cada_queue_depth 0.0",
        "cada_gallery_size 1.0",
    ):
        assert f"\n{line}\n" in counters, line


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--host=0.0.0.0"], "expected a token"),
        (["--host=203.0.113.7", "--token=x"], "--host"),
        (["--port=70000"], "--port"),
        (["--root_path=/../x"], "expected a plain path"),
        (["--audit_log=/no/such/folder/audit.jsonl"], "cannot be written"),
        (["--max_upload_mb=nan"], "--max_upload_mb is nan"),
    ],
)
def test_a_flag_that_cannot_be_is_one_line_and_code_2(flags, part, capsys, monkeypatch):
    monkeypatch.delenv("CADA_TOKEN", raising=False)
    assert serve.main(["--db=people.db", *flags]) == 2
    said = capsys.readouterr()
    assert not said.out and part in said.err
    assert said.err.startswith("error: ") and said.err.count("\n") == 1


def test_a_taken_port_is_told_before_the_model_is_loaded(capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert serve.main(["--db=no.db", f"--port={port}"]) == 2
    assert f"--port={port}" in capsys.readouterr().err
