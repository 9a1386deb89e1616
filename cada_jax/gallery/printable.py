"""Names of files as they may be shown: nothing in them reaches a terminal or a page raw."""


def printable(text: str) -> str:
    r"""The text with every character that is not seen written as \n, \x1b or \u202e.

    Not seen are controls, what turns the direction of a line, halves of characters, and blanks
    other than the usual one. A byte that is not UTF-8 is shown as \xff. A backslash stays.
    """
    return "".join(map(_shown, text))


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that the file system's name has and UTF-8 has not
        return f"\\x{number - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
