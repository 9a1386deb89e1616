"""A small stand-in for the server, in the API's shapes, that refuses on demand.

python -m tests.gallery.page.fake_server    # serves the page at http://127.0.0.1:8765/
"""

import contextlib
import dataclasses
import email.parser
import email.policy
import http.server
import io
import json
import mimetypes
import pathlib
import re
import threading
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from PIL import Image

import cada_jax
from tests.gallery.page.fake_gallery import association, jpeg, make_records, search

STATIC = pathlib.Path(cada_jax.__file__).parent / "gallery" / "server" / "static"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@dataclasses.dataclass
class Refusal:
    """What the next answers are: a status, a sentence and headers; so many times."""

    status: int
    error: str
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    times: int = 1
    path: str = "/api/search"


@dataclasses.dataclass
class Site:
    """A running server: where it is, what it was asked, and how it answers next."""

    records: list[dict[str, Any]]
    url: str = ""
    refusals: list[Refusal] = dataclasses.field(default_factory=list)
    asked: list[str] = dataclasses.field(default_factory=list)
    token: str = ""
    empty: bool = False
    root: str = ""  # what comes before every path, as behind a proxy
    hold: threading.Event | None = None  # searches wait for it

    def refuse(self, status: int, error: str, **others: Any) -> None:
        """The next search is refused."""
        self.refusals.append(Refusal(status, error, **others))

    @property
    def present(self) -> list[dict[str, Any]]:
        """The records that are there."""
        return [] if self.empty else self.records

    def reset(self) -> None:
        """As at the start."""
        self.refusals.clear()
        self.asked.clear()
        self.token, self.empty, self.root, self.hold = "", False, "", None


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    site: Site

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps quiet."""

    def do_GET(self) -> None:  # noqa: N802
        """Pages, pictures and the API."""
        parts = urlsplit(self.path)
        fields = parse_qs(parts.query, keep_blank_values=True)
        path = unquote(parts.path)
        if not path.startswith(self.site.root):
            self.json({"error": "outside of the root path"}, 404)
            return
        path = path.removeprefix(self.site.root)
        if path == "/" and fields.get("token") == [self.site.token]:
            self.answer(b"welcome", "text/html", headers={"Set-Cookie": f"t={self.site.token}"})
        elif path == "/" and "token" in fields:
            self.json({"error": "this server needs its token"}, 401)
        elif path == "/":
            self.file("index.html")
        elif path.startswith("/static/"):
            self.file(path.removeprefix("/static/"))
        elif path == "/favicon.ico":
            self.answer(b"", "image/x-icon")
        elif self.allowed(path):
            self.api(path, fields)

    def do_POST(self) -> None:  # noqa: N802
        """A search by a picture."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.allowed(urlsplit(self.path).path.removeprefix(self.site.root)):
            return
        kind = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        parser = email.parser.BytesParser(policy=email.policy.HTTP)
        fields: dict[str, list[str]] = {}
        for part in parser.parsebytes(kind + body).iter_parts():
            name = part.get_param("name", header="content-disposition")
            if name == "image":
                Image.open(io.BytesIO(part.get_payload(decode=True))).verify()
                fields["image"] = ["yes"]
            else:
                fields.setdefault(str(name), []).append(part.get_content().strip())
        self.site.asked.append(f"POST {json.dumps(fields, sort_keys=True)}")
        self.json(search(self.site.present, fields))

    def allowed(self, path: str) -> bool:
        """Whether the request is answered; a refusal is sent else."""
        site = self.site
        if site.token and f"t={site.token}" not in self.headers.get("Cookie", ""):
            self.json({"error": "this server needs its token"}, 401)
            return False
        for refusal in site.refusals:
            if path.startswith(refusal.path) and refusal.times:
                refusal.times -= 1
                self.json({"error": refusal.error}, refusal.status, refusal.headers)
                return False
        return True

    def api(self, path: str, fields: dict[str, list[str]]) -> None:
        """Answers of /api."""
        site = self.site
        if path == "/api/search":
            site.asked.append(self.path)
            if site.hold:
                site.hold.wait(20)
            self.json(search(site.present, fields))
        elif path == "/api/gallery":
            folders = sorted({r["folder"] for r in site.present})
            cameras = sorted({r["camera"] for r in site.present})
            self.json({"pictures": len(site.present), "folders": folders, "cameras": cameras})
        elif match := re.fullmatch(r"/api/pictures/([0-9a-f]{32})(?:/(\w+))?", path):
            found = [r for r in site.records if r["id"] == match[1]]
            if not found:
                self.json({"error": "no picture has this id"}, 404)
            else:
                self.picture(found[0], match[2], fields)
        else:
            self.json({"error": f"there is nothing at {path}"}, 404)

    def picture(self, record: dict[str, Any], what: str, fields: dict[str, list[str]]) -> None:
        """Answers of /api/pictures/ID."""
        if what in ("thumbnail", "image"):
            self.answer(jpeg(record, what), "image/jpeg")
        elif what == "association":
            get = lambda name: fields.get(name, [""])[0]  # noqa: E731
            self.site.asked.append(self.path)
            self.json(association(get("q"), get("layer"), get("head")))
        elif what == "attributes":
            top = [("black", 0.83), ("grey", 0.09), ("blue", 0.03)]
            carries = [("backpack", 0.71), ("handbag", 0.11)]
            parts = {"top": top, "carries": carries}
            words = lambda pairs: [{"word": w, "probability": p} for w, p in pairs]  # noqa: E731
            self.json({"readings": [{"part": k, "words": words(v)} for k, v in parts.items()]})
        else:
            self.json({k: v for k, v in record.items() if not k.startswith("_")})

    def file(self, name: str) -> None:
        """A file of the page."""
        path = STATIC / name
        kind = mimetypes.guess_type(path)[0] or "text/plain"
        self.answer(path.read_bytes(), kind.replace("application/javascript", "text/javascript"))

    def json(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        """Sends JSON."""
        self.answer(json.dumps(content).encode(), "application/json", status, headers)

    def answer(
        self, body: bytes, kind: str, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        """Sends an answer under the policy that the server has."""
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "Content-Security-Policy": CONTENT_SECURITY_POLICY,
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(body)


@contextlib.contextmanager
def running(names: list[str] | None = None, port: int = 0) -> Iterator[Site]:
    """A server at a free port, until the end of the block."""
    site = Site(make_records(names))
    handler = type("BoundHandler", (Handler,), {"site": site})
    http.server.ThreadingHTTPServer.request_queue_size = 128
    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    site.url = f"http://127.0.0.1:{server.server_address[1]}/"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    with running(port=8765) as running_site:
        print(running_site.url, flush=True)
        while True:
            time.sleep(3600)
