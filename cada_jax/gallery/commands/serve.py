"""Serves a page and a JSON API that search a gallery.

    python -m cada_jax serve --db=people.db
    python -m cada_jax serve --db=people.db --port=8000 --root_path=/people
    CADA_TOKEN=SECRET python -m cada_jax serve --db=people.db --host=0.0.0.0
    python -m cada_jax serve --db=people.db --audit_log=audit.jsonl

It listens on this machine alone; at any other address it needs a token. It speaks HTTP without
TLS: put a reverse proxy in front, see cada_jax/gallery/SERVING.md. What is indexed or forgotten
meanwhile is found, and found no more, without a stop. SIGTERM and Ctrl-C end it when the requests
that it is answering are done.

The exit status is 0 after SIGTERM, 130 after Ctrl-C, 2 if it cannot be started.
"""

import argparse
import ipaddress
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

from cada_jax.common.command_line import DONE, Flags, run_command
from cada_jax.common.errors import UsageError, needs_extra
from cada_jax.gallery.audit import AuditLog

if TYPE_CHECKING:
    from cada_jax.gallery.web.services import Services

LIMITS = {
    "--max_upload_mb": (float, 20, "megabytes of an upload"),
    "--max_upload_megapixels": (float, 50, "millions of pixels of an uploaded picture"),
    "--max_batch": (int, 16, "queries that the device answers at once"),
    "--max_wait_ms": (float, 2, "milliseconds that a query waits for others to share its batch"),
    "--max_waiting": (int, 128, "queries that wait for the device; more get 429"),
    "--max_connections": (int, 512, "connections open at once; more get 503"),
    "--stop_seconds": (int, 30, "for running requests when the server is told to stop"),
}
SAFE_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def main(argv: list[str] | None = None) -> int:
    """Parses the flags and serves; returns the exit status."""
    return run_command(lambda: _serve(parse(argv)))


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The flags, and what they name: `tokens`, and the log `audit` or None.

    Raises:
      UsageError: a number is out of its range, a file cannot be used, or the address needs a token
        and there is none.
    """
    parser = Flags("cada_jax serve", __doc__)
    add = parser.add_argument
    add("--db", required=True, help="the gallery: a file, or the URI of a Milvus server")
    add("--model", default="", help="a model folder or pretrained:NAME; by default the gallery's")
    add("--host", default="127.0.0.1", help="address to listen at; another needs a token")
    add("--port", type=int, default=8000, help="0 takes a free one; it is printed")
    add("--root_path", default="", help="what a proxy in front cuts off a path: /people")
    add("--token", help="secret that opens the server; better in the variable CADA_TOKEN")
    add("--token_file", help="lines of NAME SECRET; the names stand in the audit log")
    add("--allowed_host", action="append", default=[], help="accepted in Host without a token")
    add("--trust_proxy", help="its address: believe what it says in X-Forwarded-For and -Proto")
    add("--audit_log", help="JSONL file: who asked what, when, and what was shown")
    add("--no_warm_up", action="store_true", help="compile programs when a query needs them")
    group = parser.add_argument_group("limits")
    for flag, (kind, value, text) in LIMITS.items():
        group.add_argument(flag, type=kind, default=value, help=f"{text} (%(default)s)")
    flags = parser.parse_args(argv)
    with needs_extra("search"):
        from cada_jax.gallery.web.auth import VARIABLE, read_tokens

    for flag in LIMITS:
        value = getattr(flags, flag[2:])
        if not 0 < value < float("inf") and not (value == 0 and flag == "--max_wait_ms"):
            raise UsageError(f"{flag} is {value}, expected more than 0")
    path = flags.root_path.strip("/")
    if path and any(not part or not part.strip(".") for part in path.split("/")):
        raise UsageError(f"--root_path={flags.root_path}: expected a plain path such as /people")
    flags.root_path = f"/{path}" if path else ""
    flags.tokens = read_tokens(flags.token, flags.token_file, os.environ)
    if not flags.tokens and not _is_loopback(flags.host):
        raise UsageError(
            f"--host={flags.host} is reached from other machines: expected a token, by the "
            f"variable {VARIABLE}, --token_file or --token"
        )
    flags.audit = AuditLog(flags.audit_log) if flags.audit_log else None
    return flags


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at an address; port 0 takes a free one.

    Raises:
      UsageError: the port is taken or may not be used, or the host is no address of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=256)
    except (OSError, OverflowError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(
            f"--host={host} --port={port}: {why}; choose another port by --port, or an address of "
            "this machine by --host"
        ) from None


def server_of(services: "Services") -> Any:
    """The uvicorn server of a gallery; its `run(sockets=[...])` serves."""
    import uvicorn

    from cada_jax.gallery.web.app import build_app

    flags = services.flags
    config = uvicorn.Config(
        build_app(services),
        log_config=None,  # uvicorn's closes the handlers that other libraries have set up
        access_log=False,  # it holds every query; a proxy's, and the audit log, are the choice
        ws="none",
        root_path=flags.root_path,
        proxy_headers=bool(flags.trust_proxy),
        forwarded_allow_ips=flags.trust_proxy,
        server_header=False,
        headers=list(SAFE_HEADERS.items()),
        limit_concurrency=flags.max_connections,
        timeout_graceful_shutdown=flags.stop_seconds,
    )
    return uvicorn.Server(config)


def _serve(flags: argparse.Namespace) -> int:
    from cada_jax.gallery.opening import open_gallery
    from cada_jax.gallery.web.services import Services, device_of

    # uvicorn raises the signal that ended it again, when all is done.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(DONE))
    # Before the model is loaded, so that a taken port is said at once.
    with listen(flags.host, flags.port) as listener:
        with open_gallery(flags.db, flags.model) as (retriever, gallery):
            services = Services(gallery, device_of(retriever), flags)
            port = listener.getsockname()[1]
            host = f"[{flags.host}]" if ":" in flags.host else flags.host
            token = "?token=TOKEN" if flags.tokens else ""
            print(f"serving {len(gallery):,} pictures at http://{host}:{port}/{token}", flush=True)
            server_of(services).run(sockets=[listener])
    return DONE
