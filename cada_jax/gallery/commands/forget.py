"""Takes pictures out of a gallery: vectors, records and image tokens.

    python -m cada_jax forget --db=people.db --folder=/archive/entrance
    python -m cada_jax search --db=people.db --like=face.jpg --paths --null > found
    python -m cada_jax forget --db=people.db --paths_from=found --null --dry_run
    python -m cada_jax forget --db=people.db --ids 0123456789abcdef0123456789abcdef --yes

Pictures of files with the same bytes go too. The files themselves are not touched. Their SHA-256
stays, so that the next indexing leaves them out; --no_exclusion keeps not even that. The gallery's
files are written anew, and nothing of what was removed is left in them.

The exit status is 0, or 2 if nothing could be removed.
"""

import argparse
import sys
from typing import IO

from cada_jax.common.command_line import DONE, Flags, run_command

SHOWN = 10


def main(argv: list[str] | None = None, stdin: IO | None = None) -> int:
    """Parses the flags and removes; returns the exit status.

    Args:
      argv: the arguments; those of the process if None.
      stdin: where `--paths_from=-` and the question read; the process's if None.
    """
    return run_command(lambda: _forget(_parse(argv), stdin or sys.stdin))


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Flags("cada_jax forget", __doc__)
    add = parser.add_argument
    add("--db", required=True, help="the gallery: a file, or the URI of a Milvus server")
    add("--ids", nargs="+", action="extend", default=[], help="ids, as `search --json` gives them")
    add("--folder", default="", help="everything below this folder")
    listed = "paths, one a line, as `search --paths` prints them; - for stdin"
    add("--paths_from", default="", metavar="FILE", help=listed)
    add("--null", action="store_true", help="the paths end with a NUL each")
    add("--dry_run", action="store_true", help="show what would go")
    add("--yes", action="store_true", help="do not ask")
    add("--no_exclusion", action="store_true", help="keep no SHA-256: the next indexing finds them")
    return parser.parse_args(argv)


def _paths(flags: argparse.Namespace, stdin: IO) -> list[str]:
    from cada_jax.common.files import read_bytes

    if not flags.paths_from:
        return []
    if flags.paths_from == "-":
        text = stdin.read()
    else:
        text = read_bytes(flags.paths_from, "a list of paths").decode("utf-8", "surrogateescape")
    return [path for path in text.split("\0" if flags.null else "\n") if path]


def _forget(flags: argparse.Namespace, stdin: IO) -> int:
    from cada_jax.common.errors import UsageError
    from cada_jax.gallery.forget import chosen, forget_pictures
    from cada_jax.gallery.gallery import Gallery
    from cada_jax.gallery.printable import printable

    paths = _paths(flags, stdin)
    if not (flags.ids or flags.folder or paths):
        raise UsageError("nothing to forget: expected --ids, --folder or --paths_from")
    with Gallery.open(flags.db, read_only=flags.dry_run) as gallery:
        pictures = chosen(gallery, flags.ids, paths, flags.folder)
        for picture in pictures[:SHOWN]:
            print(printable(picture.path))
        if len(pictures) > SHOWN:
            print(f"... and {len(pictures) - SHOWN} more")
        if flags.dry_run:
            print(f"{len(pictures)} pictures would be forgotten")
            return DONE
        if not flags.yes and not _agreed(len(pictures), stdin, flags.paths_from == "-"):
            print("Nothing was removed.")
            return DONE
        forget_pictures(gallery, pictures, exclude=not flags.no_exclusion)
    files = len({picture.path for picture in pictures})
    print(f"{len(pictures)} pictures of {files} files forgotten.")
    return DONE


def _agreed(count: int, stdin: IO, read_already: bool) -> bool:
    from cada_jax.common.errors import UsageError

    if read_already or not stdin.isatty():
        raise UsageError(f"{count} pictures would be forgotten: confirm it with --yes")
    print(f"Forget {count} pictures? [y/N] ", end="", flush=True)
    return stdin.readline().strip().lower() in ("y", "yes")
