"""Names of files: which can be told in a table. Any letter may stand in one, since firn never hands a name to a shell."""

import unicodedata

from firn.errors import ExposureError


def check_name(path: str) -> None:
    """Raise ExposureError NAME for a name that no table could tell: with a line break or bytes that are no text."""
    if not can_hold(path):
        raise ExposureError("NAME", f"{path!r}: its name has a line break, letters that are no text, or quotes of both kinds; rename it")


def can_hold(text: str) -> bool:
    """Whether a text comes back from a STAR file as it was: it is text, has no line break, and not both kinds of quotes before blanks."""
    refused = any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") and letter != "\t" for letter in text)
    return not refused and not all(ends_early(text, mark) for mark in "\"'")


def ends_early(text: str, mark: str) -> bool:
    """Whether a text that stands between two marks would end before its end."""
    return f"{mark} " in text or f"{mark}\t" in text or text.endswith(mark)
