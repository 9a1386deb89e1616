"""Names of files as they may be shown: nothing in them reaches a terminal or a page raw."""

import unicodedata

# Control characters, invisible formatting (which can turn the direction of a line), halves of
# characters, private and unassigned ones, separators of lines and paragraphs.
INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def printable(text: str) -> str:
    r"""The text with every character that is not seen written as \n, \x1b or \u202e.

    A byte that is not UTF-8 is shown as \xff. A backslash stays as it is.
    """
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if unicodedata.category(character) not in INVISIBLE:
        return character
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that the file system's name has and UTF-8 has not
        return f"\\x{number - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def columns(text: str) -> int:
    """Columns of a terminal that a printable text takes: wide characters take two."""
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    combining = sum(bool(unicodedata.combining(c)) for c in text)
    return len(text) + wide - combining


def shortened(text: str, width: int) -> str:
    """The text in at most `width` columns: its beginning gives way to "...".

    Of a path the end says more than the beginning.
    """
    if columns(text) <= width:
        return text
    while text and columns(text) > width - 3:
        text = text[1:]
    return f"...{text}"[-max(width, 0) :] if width > 0 else ""
