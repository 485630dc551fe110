"""The errors a user may meet: each carries one sentence that says what, got, want and where."""

import difflib
from collections.abc import Iterable

LONGEST_REMARK = 200


class InputError(ValueError):
    """Something the user gave (a file, a table, a parameter) cannot be used; the message is one clear sentence."""


class ExposureError(InputError):
    """One exposure is unusable; the batch goes on and the exposure is listed in `failed.star`.

    `code` is a stable reason such as TRUNCATED, FRAMES, SHAPE, GAIN_SHAPE, ZERO, NONFINITE, CODEC, HEADER.
    """

    def __init__(self, code: str, sentence: str):
        super().__init__(sentence)
        self.code = code


class MachineError(InputError):
    """A disk is full or away, or memory is short, which is no fault of what was to be done: the same work succeeds when that is mended."""


def brief(remark: object) -> str:
    """What a library says, or what a file holds, on one line and not long, as a part of a sentence."""
    text = " ".join(str(remark).split())
    return text if len(text) <= LONGEST_REMARK else text[:LONGEST_REMARK] + " ..."


def hint_at(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about a word that is not known: the one that may have been meant, or all that are known."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(sorted(known))}"
