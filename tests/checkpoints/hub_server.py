"""A hub on 127.0.0.1 that speaks what `huggingface_hub` asks: HEAD, redirects, ranges, ETag."""

import dataclasses
import hashlib
import http.server
import pathlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

COMMIT = "c0ffee" * 6 + "c0ff"
LARGE = (".safetensors", ".bin")  # files that the hub redirects to its storage


@dataclasses.dataclass
class Hub:
    """What is served, and how.

    repositories: "ORG/NAME" -> folder; gated: those that ask for an agreement; cut: bytes after
    which the next large file breaks off, 0 for never; ranges: of the requests that had one.
    """

    repositories: dict[str, pathlib.Path] = dataclasses.field(default_factory=dict)
    gated: set[str] = dataclasses.field(default_factory=set)
    cut: int = 0
    requests: int = 0
    ranges: list[str] = dataclasses.field(default_factory=list)
    url: str = ""

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        self.requests += 1
        parts = re.fullmatch(r"/(storage/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", handler.path)
        if parts is None:
            return self._refuse(handler, 404, "EntryNotFound")
        stored, repository, revision, name = parts.groups()
        folder = self.repositories.get(repository)
        if folder is None:
            return self._refuse(handler, 404, "RepoNotFound")
        if repository in self.gated:
            return self._refuse(handler, 403, "GatedRepo")
        if revision not in ("main", COMMIT):
            return self._refuse(handler, 404, "RevisionNotFound")
        if not (folder / name).is_file():
            return self._refuse(handler, 404, "EntryNotFound")
        content = (folder / name).read_bytes()
        # Not of the content: 0.9 GB take longer than a client waits.
        version = f"{name} {len(content)} {(folder / name).stat().st_mtime_ns}"
        etag = f'"{hashlib.sha256(version.encode()).hexdigest()}"'
        if name.endswith(LARGE) and not stored:
            handler.send_response(302)
            handler.send_header("Location", f"{self.url}/storage{handler.path}")
            handler.send_header("X-Linked-Etag", etag)
            handler.send_header("X-Linked-Size", str(len(content)))
            handler.send_header("X-Repo-Commit", COMMIT)
            handler.send_header("Content-Length", "0")
            return handler.end_headers()
        self._send(handler, content, etag, bool(stored))

    def _send(self, handler, content: bytes, etag: str, stored: bool) -> None:
        start = 0
        asked = re.fullmatch(r"bytes=(\d+)-\d*", handler.headers.get("Range") or "")
        if asked:
            self.ranges.append(asked[0])
            start = int(asked[1])
        handler.send_response(206 if asked else 200)
        if asked:
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            handler.send_header("Content-Range", span)
        handler.send_header("ETag", etag)
        handler.send_header("Accept-Ranges", "bytes")
        handler.send_header("X-Repo-Commit", COMMIT)
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        if handler.command == "HEAD":
            return
        if stored and self.cut:
            handler.wfile.write(content[start : start + self.cut])
            self.cut = 0
            handler.close_connection = True
            return
        handler.wfile.write(content[start:])

    def _refuse(self, handler, status: int, code: str) -> None:
        handler.send_response(status)
        handler.send_header("X-Error-Code", code)
        handler.send_header("X-Repo-Commit", COMMIT)
        handler.send_header("Content-Length", "0")
        handler.end_headers()


@contextmanager
def serving() -> Iterator[Hub]:
    """Serves a hub until the end of the `with` block."""
    hub = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            hub.answer(self)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
