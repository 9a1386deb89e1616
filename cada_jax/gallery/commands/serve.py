"""Serves a page and a JSON API that search a gallery.

    python -m cada_jax serve --db=people.db
    python -m cada_jax serve --db=people.db --port=8000 --root_path=/people
    CADA_TOKEN=SECRET python -m cada_jax serve --db=people.db --host=0.0.0.0
    python -m cada_jax serve --db=people.db --audit_log=audit.jsonl

It listens on this machine alone; at any other address it needs a token. It speaks HTTP without
TLS: put a reverse proxy in front, see cada_jax/gallery/SERVING.md. SIGTERM and Ctrl-C end it when
the requests that it is answering are done.

The exit status is 0 after SIGTERM, 130 after Ctrl-C, 2 if it cannot be started.
"""

import argparse
import dataclasses
import os
import sys
from typing import TYPE_CHECKING, Any, cast

from cada_jax.common.command_line import Flags, run_command
from cada_jax.common.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from cada_jax.gallery.commands.searched_gallery import Opened
    from cada_jax.gallery.server.engine import ServedGallery
    from cada_jax.gallery.server.services import Options

    Opening = Callable[[str, str], AbstractContextManager[Opened]]

# Flag -> what it bounds; the defaults and the types are those of `server.limits.Limits`.
LIMITS = {
    "--max_text": "characters of one description",
    "--max_phrasings": "descriptions, and excluded ones, of one query",
    "--max_k": "results of one query, and pictures that are re-ranked for it",
    "--max_upload_mb": "megabytes of an upload",
    "--max_upload_megapixels": "millions of pixels of an uploaded picture",
    "--max_uploads": "uploads read at once",
    "--max_concurrent": "requests answered at once; more get 429",
    "--max_connections": "connections open at once; more are hung up on",
    "--max_batch": "queries that the device answers at once",
    "--max_wait_ms": "milliseconds that a query waits for others to share its batch",
    "--header_seconds": "for a client to send the head of a request",
    "--body_seconds": "for a client to send the body of a request",
    "--send_seconds": "after which a client that takes nothing of its answer is hung up on",
    "--answer_seconds": "after which a query is given up with 503",
    "--stop_seconds": "for running requests when the server is told to stop",
}


def main(
    argv: list[str] | None = None,
    opening: "Opening | None" = None,
    started: "Callable[[Any], None] | None" = None,
) -> int:
    """Parses the flags and serves; returns the exit status.

    Args:
      argv: the arguments; those of the process if None.
      opening: (db, model) -> what is served and by what; `searched_gallery.open_gallery` if None.
      started: called with the server once it answers, see `server.run.serve`.
    """
    return run_command(lambda: _serve(_parse(argv), opening, started))


def _parse(argv: list[str] | None) -> argparse.Namespace:
    from cada_jax.gallery.server.limits import Limits

    parser = Flags("cada_jax serve", __doc__)
    add = parser.add_argument
    add("--db", required=True, help="the gallery: a folder, or the URI of a Milvus server")
    add("--model", default="", help="a model folder or pretrained:NAME; by default the gallery's")
    add("--host", default="127.0.0.1", help="address to listen at; another needs a token")
    add("--port", type=int, default=8000, help="0 takes a free one; it is printed")
    add("--root_path", default="", help="what comes before every path behind a proxy: /people")
    add("--token", help="secret that opens the server; better in the variable CADA_TOKEN")
    add("--token_file", help="lines of NAME SECRET; the names stand in the audit log")
    add("--allowed_host", action="append", default=[], help="accepted in Host without a token")
    add("--trust_proxy", action="store_true", help="believe X-Forwarded-For and -Proto")
    add("--audit_log", help="JSONL file: who asked what, when, and what was shown")
    add("--no_warm_up", action="store_true", help="compile programs when a query needs them")
    add("--no_access_log", action="store_true", help="no line on stderr for each request")
    group = parser.add_argument_group("limits")
    for flag, text in LIMITS.items():
        value = getattr(Limits, flag.removeprefix("--"))
        kind = float if flag.endswith(("_mb", "_megapixels", "_ms", "_seconds")) else int
        group.add_argument(flag, type=kind, default=value, help=f"{text} (%(default)s)")
    return parser.parse_args(argv)


def root_path_of(text: str) -> str:
    """A root path with one slash before and none behind; "" for none.

    Raises:
      UsageError: it is no plain path.
    """
    path = "/" + text.strip("/") if text.strip("/") else ""
    parts = path.split("/")[1:]
    plain = path.isascii() and all(c.isalnum() or c in "/-_.~" for c in path)
    if not plain or any(part in ("", ".", "..") for part in parts):
        raise UsageError(f"--root_path={text}: expected a plain path such as /people")
    return path


def options_of(flags: argparse.Namespace) -> "Options":
    """The setup of the server that the flags ask for.

    Raises:
      UsageError: a flag is not what it has to be, or an address needs a token and there is none.
    """
    from cada_jax.gallery.audit import AuditLog
    from cada_jax.gallery.server.gate import is_loopback
    from cada_jax.gallery.server.limits import Limits
    from cada_jax.gallery.server.services import Options
    from cada_jax.gallery.server.tokens import VARIABLE, read_tokens
    from cada_jax.gallery.server.watch import print_entry

    limits = Limits(**{flag[2:]: getattr(flags, flag[2:]) for flag in LIMITS})
    if not 0 <= flags.port <= 65535:
        raise UsageError(f"--port={flags.port}, expected 0 to 65535")
    tokens = read_tokens(flags.token, flags.token_file, os.environ)
    if not tokens and not is_loopback(flags.host):
        raise UsageError(
            f"--host={flags.host} is reached from other machines: expected a token, by the "
            f"variable {VARIABLE}, --token_file or --token"
        )
    return Options(
        root_path=root_path_of(flags.root_path),
        tokens=tokens,
        limits=limits,
        audit=AuditLog(flags.audit_log) if flags.audit_log else None,
        trust_proxy=flags.trust_proxy,
        hosts=tuple(flags.allowed_host),
        compile_ahead=not flags.no_warm_up,
        access_log=None if flags.no_access_log else print_entry,
    )


def _serve(
    flags: argparse.Namespace,
    opening: "Opening | None",
    started: "Callable[[Any], None] | None",
) -> int:
    from cada_jax.gallery.commands.searched_gallery import open_gallery
    from cada_jax.gallery.server.device import device_of
    from cada_jax.gallery.server.run import listen, serve, url_of
    from cada_jax.gallery.server.services import Services

    options = options_of(flags)
    # Before the model is loaded, so that a taken port is said at once.
    with listen(flags.host, flags.port) as listener:
        url = url_of(listener, options.root_path)
        with (opening or open_gallery)(flags.db, flags.model) as opened:
            size = tuple(opened.retriever.config.data.image_size)
            options = dataclasses.replace(options, image_size=size)
            gallery = cast("ServedGallery", opened.gallery)
            services = Services(gallery, device_of(opened.retriever), options)
            token = "?token=TOKEN" if options.tokens else ""
            line = f"serving {len(opened.gallery):,} pictures at {url}{token}"

            def say(server: Any) -> None:
                print(line, flush=True)
                if started is not None:
                    started(server)

            return serve(services, listener, say)


if __name__ == "__main__":
    sys.exit(main())
