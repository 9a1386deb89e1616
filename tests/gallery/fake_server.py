"""A small stand-in for the server, in the API's shapes, that refuses on demand.

The pictures are generated people. A search counts the caption's words that a query names, so that
results follow the query without a model.
"""

import contextlib
import dataclasses
import email.parser
import email.policy
import functools
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
from cada_jax.data.datasets.synthetic.people import VARIANTS, generate

STATIC = pathlib.Path(cada_jax.__file__).parent / "gallery" / "server" / "static"
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HOSTILE = [
    "<img src=x onerror=document.title='owned'>.jpg",
    "a&b \"quoted\" 'single' %41 #?+;.jpg",
    "two\nlines \u202egpj.jpg",
    "</script><script>document.title='owned'</script>.jpg",
]
GRID, LAYERS, HEADS = (12, 6), 3, 2
PICTURES = 60
SCALE = 3  # of a drawn person on the page


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
    hold: threading.Event | None = None  # searches wait for it

    def refuse(self, status: int, error: str, **others: Any) -> None:
        """The next search is refused."""
        self.refusals.append(Refusal(status, error, **others))

    def reset(self) -> None:
        """As at the start."""
        self.refusals.clear()
        self.asked.clear()
        self.token, self.empty, self.hold = "", False, None


@functools.cache
def people() -> tuple[list[tuple[Image.Image, str]], ...]:
    """Images and captions of the tiny variant."""
    examples = generate(VARIANTS["tiny"], "train")
    pairs = [(Image.open(io.BytesIO(e.jpeg)).convert("RGB"), e.captions[0].text) for e in examples]
    return (pairs[:PICTURES],)


def make_records(names: list[str] | None = None) -> list[dict[str, Any]]:
    """Records as the API gives them; every fourth is one of two persons in a scene.

    Args:
      names: of the files, from the first on; the others are numbered.
    """
    (pairs,) = people()
    records = []
    for i, (image, caption) in enumerate(pairs):
        name = names[i] if names and i < len(names) else f"person_{i:03d}.jpg"
        scene, box = _scene(image, pairs[(i + 7) % len(pairs)][0]) if i % 4 == 3 else (image, None)
        if box is None:
            scene = scene.resize(
                (scene.width * SCALE, scene.height * SCALE), Image.Resampling.LANCZOS
            )
        folder = ("/photos/station", "/photos/station/north", "/photos/park")[i % 3]
        records.append(
            {
                "id": f"{i:032x}",
                "path": f"{folder}/{name}",
                "name": name,
                "folder": folder,
                "taken": f"2026-{1 + i % 12:02d}-{1 + i % 28:02d}T08:30:00Z",
                "camera": ("North gate", "South gate")[i % 2],
                "box": box,
                "width": scene.width,
                "height": scene.height,
                "thumbnail": f"pictures/{i:032x}/thumbnail",
                "_caption": caption,
                "_scene": scene,
            }
        )
    return records


def _scene(person: Image.Image, other: Image.Image) -> tuple[Image.Image, list[float]]:
    size = (person.width * SCALE, person.height * SCALE)
    width, height = size[0] * 5, round(size[1] * 1.3)
    ground = person.resize((1, 1)).resize((width, height))
    x, y = round(width * 0.58), round(height * 0.18)
    ground.paste(other.resize(size), (round(width * 0.2), y - 12))
    ground.paste(person.resize(size), (x, y))
    return ground, [float(x), float(y), float(size[0]), float(size[1])]


def search(site: Site, fields: dict[str, list[str]]) -> dict[str, Any]:
    """The answer to a search."""
    get = lambda name: fields.get(name, [""])[0]  # noqa: E731
    found = []
    for record in [] if site.empty else site.records:
        day = record["taken"][:10]
        if (
            not (record["folder"] + "/").startswith(get("folder").rstrip("/") + "/")
            and get("folder")
            or (get("camera") and record["camera"] != get("camera"))
            or (get("since") and day < get("since"))
            or (get("until") and day > get("until"))
        ):
            continue
        words = _words(record["_caption"])
        score = sum(len(_words(q) & words) for q in fields.get("q", []))
        score -= 3 * sum(len(_words(text) & words) for text in fields.get("not", []))
        if get("like"):
            other = next(r for r in site.records if r["id"] == get("like"))
            score += len(_words(other["_caption"]) & words)
        score = score / 2 - int(record["id"], 16) / 1000
        texts = bool(fields.get("q"))
        found.append(
            {k: v for k, v in record.items() if not k.startswith("_")}
            | {"similarity": 0.2, "match_logit": score if texts else None, "score": score}
        )
    found.sort(key=lambda result: -result["score"])
    return {
        "query": {},
        "seconds": 0.012,
        "gallery_size": 0 if site.empty else len(site.records),
        "results": found[: int(get("k") or 10)],
    }


def _words(text: str) -> set[str]:
    common = {"a", "an", "the", "and", "with", "in", "is", "of", "wears", "wearing", "person"}
    return set(re.findall(r"[a-z]+", text.lower())) - common


def association(text: str, layer: str, head: str) -> dict[str, Any]:
    """A spot for each word, further to the right with each layer and down with each head."""
    rows, columns = GRID
    tokens = []
    for i, word in enumerate(re.findall(r"[a-z]+", text.lower())):
        r0 = (2 + 2 * i + int(head or 0)) % rows
        c0 = (1 + i + int(layer or 0)) % columns
        spot = [
            [1 / (1 + (r - r0) ** 2 + (c - c0) ** 2) for c in range(columns)] for r in range(rows)
        ]
        gates = [0.4 + 0.3 * ((i + n) % 5) for n in range(LAYERS)]
        tokens.append({"word": word, "gate": sum(gates) / LAYERS, "gates": gates, "map": spot})
    return {"grid": list(GRID), "layers": LAYERS, "heads": HEADS, "tokens": tokens}


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
        if path == "/" and fields.get("token") == [self.site.token]:
            self.answer(b"welcome", "text/html", headers={"Set-Cookie": f"t={self.site.token}"})
        elif path == "/":
            self.file("index.html")
        elif path.startswith("/static/"):
            self.file(path.removeprefix("/static/"))
        elif self.allowed(path):
            self.api(path, fields)

    def do_POST(self) -> None:  # noqa: N802
        """A search by a picture."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.allowed(urlsplit(self.path).path):
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
        self.json(search(self.site, fields))

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
            self.json(search(site, fields))
        elif path == "/api/gallery":
            size = 0 if site.empty else len(site.records)
            folders = sorted({r["folder"] for r in site.records})
            cameras = sorted({r["camera"] for r in site.records})
            self.json({"pictures": size, "folders": folders, "cameras": cameras})
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
            scene, box = record["_scene"], record["box"]
            if what == "thumbnail" and box:
                x, y, width, height = box
                scene = scene.crop((x, y, x + width, y + height))
            file = io.BytesIO()
            scene.save(file, "JPEG", quality=90)
            self.answer(file.getvalue(), "image/jpeg")
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
