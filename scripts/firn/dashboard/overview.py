"""What `live/session.html` tells, in three pieces that change at different times: numbers, pictures, and the exposures' points."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from firn.dashboard.kept import Kept, tagged
from firn.dashboard.server import Answer, as_json
from firn.errors import InputError
from firn.live.page import PAGE, read_page

PICTURES = ("latest", "fits", "streams")


@dataclass(frozen=True)
class Pieces:
    """session, pictures: answers; lines: one JSON list per exposure."""

    session: Answer
    pictures: Answer
    lines: list[str]
    _digests: dict[int, str] = field(default_factory=dict)

    def digest(self, count: int) -> str:
        """Of the first `count` exposures, found out once however many readers ask."""
        if count not in self._digests:
            self._digests[count] = hashlib.blake2b("\n".join(self.lines[:count]).encode(), digest_size=12).hexdigest()
        return self._digests[count]


class Overview:
    """The page of the live session, read again when it is written again."""

    def __init__(self) -> None:
        self._kept = Kept(_read, PAGE)

    def session(self) -> Answer:
        """State, counters, alarms, attributes with their limits, logs."""
        return self._kept.value().session

    def pictures(self) -> Answer:
        """The latest exposures, fits, and figures of the rounds."""
        return self._kept.value().pictures

    def points(self, count: str, digest: str) -> Answer:
        """All exposures, or those after the first `count` when the reader's digest of these is still right."""
        pieces = self._kept.value()
        lines = pieces.lines
        known = int(count) if count.isascii() and count.isdigit() and len(count) < 9 else 0
        start = known if 0 < known <= len(lines) and pieces.digest(known) == digest else 0
        head = json.dumps({"start": start, "count": len(lines), "digest": pieces.digest(len(lines))})
        return Answer(f'{head[:-1]}, "fresh": [{",".join(lines[start:])}]}}'.encode())


def _read() -> Pieces:
    if not PAGE.exists():
        nothing = as_json({"error": "There is no live session in this run folder."}, 404)
        return Pieces(nothing, nothing, [])
    told, lines = read_page()
    pictures: dict[str, Any] = {name: told.pop(name, []) for name in PICTURES}
    try:
        return Pieces(tagged(json.dumps(told, allow_nan=False).encode()), tagged(json.dumps(pictures, allow_nan=False).encode()), lines)
    except ValueError as error:
        raise InputError(f"{PAGE}: holds a number that is none ({error})") from error
