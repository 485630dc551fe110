"""`live/session.html`: the session as one page that needs no other file, no server and no network, and reads itself again.

The page is written whole whenever `session.json` is. Its text is data that a small script draws, so that writing costs little however long
the session is, and no name of a file can become markup.
"""

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from firn.errors import InputError
from firn.live import layout
from firn.live.control import Limits
from firn.live.points import ATTRIBUTES, FITS, LATEST, Points, as_script
from firn.live.round_cards import round_cards
from firn.runtime.atomic import write_text

PAGE = layout.LIVE / "session.html"
HERE = Path(__file__).parent
SCRIPTS = ("session_page.js", "session_streams.js", "session_start.js")
REFRESH_S = 15
LAST_LINES = 12
TAIL_BYTES = 40_000
TOLD = (r"^(?:let|const) told = ([^\n]*);$", r"^(?:let|const) points = \[(.*?)\];$")


def write_page(
    summary: Mapping[str, Any], points: Points, limits: Mapping[str, Limits], rounds: Mapping[str, list[dict[str, Any]]]
) -> None:
    """Write the page from the content of session.json, the exposures' numbers, the limits they are judged by, and the rounds made."""
    numbers = summary["counters"]
    told = {
        "name": Path.cwd().name,
        "updated_s": time.time(),
        "refresh_s": REFRESH_S,
        "session": dict(summary),
        "attributes": [
            _attribute(attribute, limits.get(attribute.column)) for attribute in ATTRIBUTES if attribute.column in points.columns
        ],
        "columns": points.columns,
        "latest": layout.read_json(LATEST, []),
        "fits": layout.read_json(FITS, []),
        "alarm_log": _last_lines(layout.ALARM_LOG),
        "decision_log": _last_lines(layout.DECISION_LOG),
        "streams": round_cards(rounds, numbers["particles"], summary["rates"]["particles_per_hour"]),
    }
    shell = (HERE / "session_page.html").read_text(encoding="utf-8")
    parts = {
        "style": (HERE / "session_page.css").read_text(encoding="utf-8"),
        "script": "".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS),
        "told": as_script(told),
        "points": "[" + ",\n".join(points.lines) + "]",
    }
    write_text(PAGE, re.sub(r"/\*(style|script|told|points)\*/", lambda place: parts[place[1]], shell))


def read_page() -> tuple[dict[str, Any], list[str]]:
    """What the page tells, and its exposures as lines of JSON; raises InputError where there is no page or it is damaged."""
    try:
        text = PAGE.read_text(encoding="utf-8")
        told, points = (re.search(pattern, text, re.MULTILINE | re.DOTALL) for pattern in TOLD)
        if not told or not points:
            raise ValueError("lacks what it tells")
        return json.loads(told[1]), [line for line in points[1].split(",\n") if line]
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{PAGE}: is no page of a session ({error})") from error


def _attribute(attribute: Any, limits: Limits | None) -> dict[str, Any]:
    given = limits.model_dump() if limits else {"min": None, "max": None}
    return vars(attribute) | given


def _last_lines(path: Path) -> list[dict[str, Any]]:
    """The last entries of a log of JSON lines, the newest first; a line cut short is left out."""
    if not path.exists():
        return []
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - TAIL_BYTES))
        lines = stream.read().decode("utf-8", errors="replace").splitlines()
    found: list[dict[str, Any]] = []
    for line in reversed(lines):
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found[:LAST_LINES]
