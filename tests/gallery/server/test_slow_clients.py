"""Clients that hang, drip, hang up or come all at once: the server stays there for the others."""

import concurrent.futures
import dataclasses
import socket
import threading

import pytest

from tests.gallery.server.running import (
    QUICK,
    ListedGallery,
    running,
    stand_in,
    until,
    write_picture,
)

IMPATIENT = dataclasses.replace(
    QUICK, header_seconds=0.3, body_seconds=0.3, send_seconds=0.3, answer_seconds=0.3
)


@pytest.fixture
def gallery(tmp_path):
    return ListedGallery([write_picture(tmp_path / "a.png")])


class Gate:
    """A device whose searches wait until it is opened; it notes their queries."""

    def __init__(self):
        self.began, self.opened = threading.Event(), threading.Event()
        self.texts: list[str] = []

    def __call__(self, queries, gallery):
        self.texts += [query.texts[0] for query in queries]
        if any(query.texts == ("held",) for query in queries):
            self.began.set()
            assert self.opened.wait(30)
        return [[] for _ in queries]


def connect(server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), 10)


def rest(connection: socket.socket) -> bytes:
    """What comes until the server hangs up."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionError:
        pass
    return b"".join(parts)


HEAD = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
FORM = b"Content-Type: multipart/form-data; boundary=b\r\n"


@pytest.mark.parametrize("sent", [b"", b"GET /", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_a_client_whose_head_does_not_come_is_hung_up_on(gallery, sent):
    with running(gallery, stand_in(), limits=IMPATIENT) as server:
        with connect(server) as connection:
            connection.sendall(sent)
            assert rest(connection) == b""
        assert server.client.get("healthz").status_code == 200


def test_a_client_that_drips_its_head_gains_no_time(gallery):
    with running(gallery, stand_in(), limits=IMPATIENT) as server:
        with connect(server) as connection:
            connection.settimeout(0.05)
            with pytest.raises(ConnectionError):
                for _ in range(200):
                    connection.sendall(b"G")
                    try:
                        if connection.recv(1) == b"":
                            raise ConnectionResetError
                    except TimeoutError:
                        pass
        assert server.client.get("healthz").status_code == 200


def test_a_client_that_asks_once_and_then_sends_half_a_head_is_hung_up_on(gallery):
    with running(gallery, stand_in(), limits=IMPATIENT) as server, connect(server) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /he")
        answer = rest(connection)
    assert answer.count(b"HTTP/1.1 200 OK") == 1


def test_a_body_that_does_not_come_is_a_408(gallery):
    with running(gallery, stand_in(), limits=IMPATIENT) as server:
        with connect(server) as connection:
            connection.sendall(HEAD + FORM + b"\r\n--b\r\n")
            answer = rest(connection)
        assert answer.startswith(b"HTTP/1.1 408 ") and b"did not come within" in answer
        assert server.client.get("api/search?q=coat").status_code == 200


def test_hanging_clients_do_not_keep_others_out(gallery):
    with running(gallery, stand_in()) as server:
        hanging = [connect(server) for _ in range(60)]
        for connection in hanging:
            connection.sendall(HEAD[:40])
        assert server.client.get("api/search?q=coat").status_code == 200
        for connection in hanging:
            connection.close()


def test_a_client_that_reads_nothing_is_dropped(tmp_path):
    picture = write_picture(tmp_path / "a.png")
    gallery = ListedGallery([picture])

    def search(queries, gallery):
        found = stand_in().search(queries, gallery)
        return [hits * 20_000 for hits in found]

    with running(gallery, stand_in(search), limits=IMPATIENT) as server:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.settimeout(20)
        connection.sendall(b"GET /api/search?q=coat HTTP/1.1\r\nHost: localhost\r\n\r\n")
        connections = server.server.server_state.connections
        until(lambda: any(c.flow.write_paused for c in connections.copy()))
        until(lambda: not any(c.flow.write_paused for c in connections.copy()))
        assert server.client.get("healthz").status_code == 200
        with connection:
            assert 0 < len(rest(connection)) < 7_000_000  # of 8 MB


def test_a_query_whose_client_hung_up_is_not_computed(gallery):
    gate = Gate()
    with running(gallery, stand_in(gate)) as server:
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            held = pool.submit(server.client.get, "api/search?q=held")
            assert gate.began.wait(30)
            with connect(server) as connection:
                connection.sendall(b"GET /api/search?q=gone HTTP/1.1\r\nHost: localhost\r\n\r\n")
                until(lambda: server.services.queue.depth == 1)
            until(lambda: any(entry["status"] == 499 for entry in server.log))
            gate.opened.set()
            assert held.result(30).status_code == 200
        assert server.client.get("api/search?q=after").status_code == 200
    assert "gone" not in gate.texts and "after" in gate.texts


def test_a_client_that_hangs_up_within_its_body_costs_nothing(gallery):
    with running(gallery, stand_in()) as server:
        with connect(server) as connection:
            connection.sendall(HEAD + FORM + b"\r\n--b\r\n")
        until(lambda: any(entry["method"] == "POST" for entry in server.log))
        (entry,) = (entry for entry in server.log if entry["method"] == "POST")
        assert entry["status"] == 499
        assert server.client.get("api/search?q=coat").status_code == 200


def test_a_device_that_is_too_slow_is_a_503(gallery):
    gate = Gate()
    with running(gallery, stand_in(gate), limits=IMPATIENT) as server:
        answer = server.client.get("api/search?q=held")
        assert answer.status_code == 503 and "no answer within 0.3 seconds" in answer.text
        gate.opened.set()
        assert server.client.get("api/search?q=coat").status_code == 200


def test_64_clients_at_once_are_all_answered(gallery):
    with running(gallery, stand_in()) as server:
        barrier = threading.Barrier(64)

        def ask(i: int) -> int:
            barrier.wait(30)
            return server.client.get(f"api/search?q=coat {i}").status_code

        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            assert set(pool.map(ask, range(64))) == {200}


def test_more_clients_than_allowed_are_told_to_come_again(gallery):
    gate = Gate()
    limits = dataclasses.replace(QUICK, max_concurrent=4)
    with running(gallery, stand_in(gate), limits=limits) as server:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(server.client.get, "api/search?q=held") for _ in range(4)]
            until(lambda: server.services.state.active == 4)
            answer = server.client.get("api/search?q=coat")
            assert answer.status_code == 429 and answer.headers["retry-after"] == "1"
            assert "4 requests are being answered" in answer.json()["error"]
            assert server.client.get("healthz").status_code == 200
            gate.opened.set()
            assert {future.result(30).status_code for future in asked} == {200}
        assert server.client.get("api/search?q=coat").status_code == 200


def test_more_uploads_than_allowed_are_told_to_come_again(gallery):
    limits = dataclasses.replace(QUICK, max_uploads=1)
    with running(gallery, stand_in(), limits=limits) as server, connect(server) as connection:
        connection.sendall(HEAD + FORM + b"\r\n--b\r\n")
        until(lambda: server.services.uploads.locked())
        answer = server.client.post("api/search", files={"image": b"x"})
        assert answer.status_code == 429 and "uploads are being read" in answer.json()["error"]
        assert server.client.get("api/search?q=coat").status_code == 200


def test_more_connections_than_allowed_are_hung_up_on(gallery):
    limits = dataclasses.replace(QUICK, max_connections=3)
    with running(gallery, stand_in(), limits=limits) as server:
        held = [connect(server) for _ in range(3)]
        connections = server.server.server_state.connections
        until(lambda: len(connections) == 3)
        with connect(server) as one_more:
            assert rest(one_more) == b""
        for connection in held:
            connection.close()
        until(lambda: not connections)
        assert server.client.get("healthz").status_code in (200, 503)
