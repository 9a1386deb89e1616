"""Reads a JSON list of objects; a file that is something else is named for what it is."""

import json
from pathlib import Path
from typing import Any

from cada_jax.common.errors import UsageError

_LIST = "expected a JSON list of entries in UTF-8"
_MAGIC = {
    b"\x1f\x8b": "is compressed by gzip: unpack it (gunzip)",
    b"PK\x03\x04": "is a zip archive: unpack it",
    b"BZh": "is compressed by bzip2: unpack it (bunzip2)",
    b"\xfd7zXZ": "is compressed by xz: unpack it (unxz)",
    b"7z\xbc\xaf": "is a 7z archive: unpack it",
    b"Rar!": "is a RAR archive: unpack it",
    b"\x28\xb5\x2f\xfd": "is compressed by zstd: unpack it (unzstd)",
    b"\x80": "is a Python pickle, or damaged: download the JSON file",
    b"version https://git-lfs": "is a Git LFS pointer, not the file: run git lfs pull",
    b"<": "is a web page or XML, not the list: the download went wrong, get the file again",
}
_WIDE = {  # byte order mark -> encoding
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


def read_list(path: Path) -> list[Any]:
    """Returns the items of a JSON list.

    Raises:
      UsageError: it cannot be read, is no UTF-8, no JSON, or no list that holds anything; says what
        it is instead and what to do.
    """
    try:
        data = path.read_bytes()
    except OSError as err:
        raise UsageError(f"{path} cannot be read: {err.strerror}. Change its permissions") from err
    text = _decode(path, data)
    try:
        items = json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as err:
        raise UsageError(f"{path} {_what_it_is(text, err)}") from err
    if isinstance(items, dict):
        raise UsageError(f"{path} {_of_object(items)}")
    if not isinstance(items, list):
        raise UsageError(f"{path} is a JSON {type(items).__name__}: {_LIST}")
    if not items:
        raise UsageError(f"{path} is an empty list: {_LIST}. Download it again")
    return items


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entry = dict(pairs)
    if len(entry) != len(pairs):  # json would keep the last of two without a word
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object: leave one out")
    return entry


def _decode(path: Path, data: bytes) -> str:
    """The text of a file's bytes; editors may add a byte order mark."""
    start = data[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start and not data.strip():
        raise UsageError(f"{path} is empty: {_LIST}. Download or unpack it again")
    for magic, what in _MAGIC.items():
        if start.startswith(magic):
            raise UsageError(f"{path} {what}")
    wide = next((name for mark, name in _WIDE.items() if data.startswith(mark)), None)
    if wide or b"\x00" in data[:64]:
        name = wide or "UTF-16 or UTF-32"
        raise UsageError(
            f"{path} is {name} text: {_LIST}. Convert it: iconv -f {name.split()[0]} -t UTF-8"
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise UsageError(
            f"{path} is not UTF-8 text (byte 0x{data[err.start]:02x} at {err.start}): {_LIST}. "
            "Convert it, for example: iconv -f LATIN1 -t UTF-8"
        ) from err


def _what_it_is(text: str, error: Exception) -> str:
    lines = [line for line in text.splitlines() if line.strip()][:2]
    try:
        if len(lines) == 2 and all(isinstance(json.loads(line), dict) for line in lines):
            return (
                "is JSON Lines, one object a line: expected one JSON list of them. Convert it: "
                "jq -s . FILE > LIST"
            )
    except (ValueError, RecursionError):
        pass
    text = text.strip()
    cut = text.startswith("[") and not text.endswith("]") and "Extra data" not in str(error)
    if cut and isinstance(error, ValueError):
        return f"ends in the middle of the list ({error}): download or unpack it again"
    return f"is not JSON: {error}. Download or unpack it again"


def _of_object(items: dict[str, Any]) -> str:
    keys = ", ".join(map(repr, list(items)[:5]))
    if items and all(isinstance(value, list) for value in items.values()):
        return (
            f"is an object of lists under {keys}: expected one JSON list, in which every entry "
            'names its split, such as {"split": "train", ...}. Join the lists into one'
        )
    return f"is a JSON object with the keys {keys or '(none)'}: {_LIST}"


def shorten(value: Any, most: int = 80) -> str:
    """Returns a value as Python writes it, cut to `most` characters."""
    text = repr(value)  # writes half a character as its number, so that it can be printed
    return text if len(text) <= most else f"{text[: most - 4]} ..."
