r"""Searches a gallery in words, by a picture, or both.

    python -m cada_jax search --db=people.db "a man in a grey hooded jacket"
    python -m cada_jax search --db=people.db "a woman in red" "a lady with a red coat"
    python -m cada_jax search --db=people.db "a man in black" --not "a person with an umbrella"
    python -m cada_jax search --db=people.db --like=photo.jpg --top_k=20 --out=page.html
    python -m cada_jax search --db=people.db "a man" --since=2026-05-01 --paths --null | xargs -0 ls

Several texts are phrasings of one description: their vectors are averaged, their match scores are
summed. Dates are local time; --until includes the day that it names. A table is printed unless
--json or --paths asks for something else; control characters in names are shown as \x1b.

The exit status is 0 if something was found, 1 if nothing was, 2 if it could not be searched.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cada_jax.common.command_line import DONE, Flags, run_command

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from cada_jax.gallery.opening import Opened
    from cada_jax.retrieval.query import Query
    from cada_jax.retriever import Hit

NOTHING_FOUND = 1


def main(
    argv: list[str] | None = None,
    opening: "Callable[[str, str], AbstractContextManager[Opened]] | None" = None,
) -> int:
    """Parses the flags, searches and prints; returns the exit status.

    Args:
      argv: the arguments; those of the process if None.
      opening: (db, model) -> what is searched and by what; `opening.open_gallery` if None.
    """
    return run_command(lambda: _search(_parse(argv), opening))


def _parse(argv: list[str] | None) -> argparse.Namespace:
    from cada_jax.retrieval.filter import GROUPS, Filter  # which needs no JAX

    parser = Flags("cada_jax search", __doc__)
    add = parser.add_argument
    add("texts", nargs="*", metavar="TEXT", help="a description; several are its phrasings")
    add("--db", required=True, help="the gallery: a file, or the URI of a Milvus server")
    add("--model", default="", help="a model folder or pretrained:NAME (the gallery's)")
    add("--top_k", type=int, default=10, help="number of results (%(default)s)")
    add("--offset", type=int, default=0, help="leave out so many of the best: the next page (0)")
    add("--rerank", type=int, default=32, help="the decoder scores so many of the nearest (32)")
    add("--min_score", type=float, help="leave out results that score less")
    excluded = "a description that counts against a picture; may be repeated"
    add("--not", dest="exclude", action="append", default=[], metavar="TEXT", help=excluded)
    add("--like", default="", metavar="IMAGE", help="a picture to resemble, alone or with words")
    add("--group", default="", help=f"one result for each {', '.join(GROUPS)}")
    filters = parser.add_argument_group("which pictures").add_argument
    for field in Filter.fields():
        filters(f"--{field.name}", default="", help=field.help)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--paths", action="store_true", help="print the paths alone, one a line")
    add("--null", action="store_true", help="with --paths: end each with a NUL")
    add("--out", default="", metavar="FILE", help="also write sheet.png or page.html")
    return parser.parse_args(argv)


def query_of(flags: argparse.Namespace) -> "Query":
    """The query that the flags ask for; a picture to resemble is read here.

    Raises:
      UsageError: a flag is not what it has to be.
    """
    from cada_jax.common.errors import UsageError
    from cada_jax.common.images import read_rgb
    from cada_jax.retrieval.filter import Filter
    from cada_jax.retrieval.query import MOST_RESULTS, Query

    for flag, value, least in (("--top_k", flags.top_k, 1), ("--rerank", flags.rerank, 0)):
        if not least <= value <= MOST_RESULTS:
            raise UsageError(f"{flag}={value}: expected {least} to {MOST_RESULTS}")
    return Query(
        texts=tuple(flags.texts),
        exclude=tuple(flags.exclude),
        like=read_rgb(flags.like) if flags.like else None,
        filter=Filter.read(vars(flags), "--"),
        k=flags.top_k,
        offset=flags.offset,
        rerank=flags.rerank,
        group=flags.group,
        min_score=flags.min_score,
    )


def _search(flags: argparse.Namespace, opening: Any) -> int:
    from cada_jax.common.errors import UsageError
    from cada_jax.gallery import results
    from cada_jax.gallery.opening import open_gallery

    if flags.null and not flags.paths:
        raise UsageError("--null ends paths: expected --paths beside it")
    out = results.check_out(flags.out, (".png", ".html")) if flags.out else None
    query = query_of(flags)
    with (opening or open_gallery)(flags.db, flags.model) as opened:
        hits = opened.retriever.search(query, opened.gallery)
        _print(flags, query, hits, len(opened.gallery))
    if out is not None:
        results.save(out, _title(flags), hits)
    return DONE if hits else NOTHING_FOUND


def _title(flags: argparse.Namespace) -> str:
    parts = [" / ".join(flags.texts), f"like {flags.like}" if flags.like else ""]
    parts += [f"not {text}" for text in flags.exclude]
    return ", ".join(part for part in parts if part)


def _print(flags: argparse.Namespace, query: "Query", hits: "list[Hit]", size: int) -> None:
    from cada_jax.gallery.printable import printable
    from cada_jax.gallery.results import table
    from cada_jax.retrieval.good_match import notice

    terminal = sys.stdout.isatty()
    if hasattr(sys.stdout, "reconfigure"):
        # A terminal may lack the letters of a name.
        sys.stdout.reconfigure(errors="backslashreplace")
    if flags.json:
        results = [hit.to_dict() for hit in hits]
        answer = {"query": query.to_dict(), "gallery_size": size, "results": results}
        print(json.dumps(answer, indent=1))  # ASCII: whatever a name holds is escaped
    elif flags.paths and not terminal:
        end = b"\0" if flags.null else os.linesep.encode()
        sys.stdout.flush()
        sys.stdout.buffer.write(b"".join(os.fsencode(hit.name) + end for hit in hits))
    elif flags.paths:
        print(*(printable(hit.name) for hit in hits), sep="\n")
    elif hits:
        print(table(hits))
        if text := notice(hits):
            print(f"? {text}", file=sys.stderr)
    else:
        print(f"nothing found among {size} pictures", file=sys.stderr)
