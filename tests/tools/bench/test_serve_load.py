"""The load test counts what a running server answers, and what it refuses."""

import importlib.util
import json

import pytest

from tests.gallery.web.running import ListedGallery, StandIn, running, write_picture
from tools.bench import serve_load

# Not imported here: locust changes Python's sockets and threads for its whole process.
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("locust") is None,
    reason="locust is not there: pip install -e '.[dev]'",
)


@pytest.fixture
def gallery(tmp_path):
    return ListedGallery([write_picture(tmp_path / "a.png")])


def test_clients_are_answered_and_counted(gallery, capsys):
    stand_in = StandIn()
    with running(gallery, stand_in.device) as server:
        flags = ["--clients=3", "--rerank=0", "--seconds=8", "--warm_seconds=5"]
        assert serve_load.main([f"--url={server.url}", *flags]) == 0
    (row,) = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert row["clients"] == 3 and row["errors"] == 0
    assert 0 < row["requests"] <= len(stand_in.asked)
    assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]


def test_a_server_that_finds_nothing_is_an_error(gallery):
    device = StandIn().device._replace(search=lambda queries, gallery: [[] for _ in queries])
    with running(gallery, device) as server:
        row = serve_load.measure(server.url, 1, 0, 8)
    assert row["errors"] == row["requests"] > 0
