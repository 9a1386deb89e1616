"""What a file is, told by its first bytes: names such as .pth, .th or .PTH decide nothing."""

import os
from pathlib import Path
from typing import Literal, NamedTuple

from cada_jax.common.errors import UsageError

EXPECTED = (
    "Expected: a file written by torch.save of the authors' or BLIP's code, a .safetensors, or a "
    "folder of Hugging Face's BLIP"
)
Reader = Literal["zip", "pickle", "safetensors"]
LONGEST_HEADER = 100_000_000  # bytes of JSON that safetensors allows
_PICKLE_PROTOCOLS = range(2, 6)
_TAR_MARK = slice(257, 262)

# First bytes -> what such a file is, and what to do with it.
_OTHERS = (
    (b"\x1f\x8b", "a gzip archive", "Unpack it (gunzip, or tar -xzf) and give the file inside"),
    (b"BZh", "a bzip2 archive", "Unpack it and give the file inside"),
    (b"\xfd7zXZ", "an xz archive", "Unpack it and give the file inside"),
    (b"\x28\xb5\x2f\xfd", "a zstandard archive", "Unpack it and give the file inside"),
    (b"7z\xbc\xaf", "a 7z archive", "Unpack it and give the file inside"),
    (b"Rar!", "a RAR archive", "Unpack it and give the file inside"),
    (b"\x93NUMPY", "a NumPy array", "One array is no model"),
    (b"\x89HDF", "an HDF5 file", "Convert it to PyTorch or safetensors first"),
    (b"GGUF", "a GGUF file", "Take the weights it was made from"),
    (b"version https://git-lfs", "a Git LFS pointer", "Fetch the file itself: git lfs pull"),
    (b"PK\x05\x06", "an empty zip archive", "Copy it again"),
)  # fmt: skip


class Kind(NamedTuple):
    """What a file is.

    Attributes:
      reader: which of our readers understands it, None if none does.
      what: in words, with an article.
      advice: what to do with a file that nobody reads here, "" if there is nothing to say.
    """

    reader: Reader | None
    what: str
    advice: str = ""


def file_kind(path: Path) -> Kind:
    """Tells what the file at `path` is.

    Raises:
      UsageError: it cannot be read.
    """
    try:
        if not os.path.isfile(path):
            raise UsageError(f"{path} is neither a file nor a folder. {EXPECTED}")
        with open(path, "rb") as file:
            head = file.read(512)
    except OSError as err:
        raise UsageError(f"{path} cannot be read: {err.strerror or err}") from err
    return _kind(head)


def _kind(head: bytes) -> Kind:
    if not head:
        return Kind(None, "an empty file", "Copy it again")
    if head.startswith(b"PK\x03\x04"):
        return Kind("zip", "a zip archive")
    for mark, what, advice in _OTHERS:
        if head.startswith(mark):
            return Kind(None, what, advice)
    if head[0] == 0x80 and len(head) > 1 and head[1] in _PICKLE_PROTOCOLS:
        return Kind("pickle", "a pickle")
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and 2 <= length <= LONGEST_HEADER:
        return Kind("safetensors", "a safetensors file")
    if head[_TAR_MARK] == b"ustar":
        return Kind(None, "a tar archive", "Unpack it (tar -xf) and give the file inside")
    return _text_kind(head)


def _text_kind(head: bytes) -> Kind:
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith((b"{", b"[")):
        return Kind(None, "a JSON file", "Give the weights, not their index or config")
    if text[:1] == b"<":
        return Kind(
            None,
            "a web page (HTML or XML)",
            "The download gave an error or a login page: download the file itself",
        )
    if all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in head):
        return Kind(None, "a text file")
    return Kind(None, f"of an unknown kind (it begins with {head[:4].hex(' ')})")
