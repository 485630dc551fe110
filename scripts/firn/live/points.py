"""Numbers of every exposure as lines for plots, kept beside `live/exposures.csv` so that each is read once.

`live/points.jsonl` opens with a line that tells how far the table was read; then comes one JSON list per exposure:
[time found, time ready, name, verdict (0 accepted, 1 rejected, 2 failed), reason, numbers in the order of the first line's columns].
"""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firn.live import layout
from firn.runtime.atomic import write_text

POINTS, LATEST, FITS = layout.LIVE / "points.jsonl", layout.LIVE / "latest.json", layout.LIVE / "latest_fits.json"
VERDICTS = ("accepted", "rejected", "failed")
DIGITS = 5
STAGE = "seconds_"


@dataclass(frozen=True)
class Attribute:
    """A number of an exposure that is plotted: its column, its name for people, its unit there, and the factor to that unit."""

    column: str
    label: str
    unit: str = ""
    factor: float = 1.0


ATTRIBUTES = (
    Attribute("ctf_fit_resolution", "CTF fit resolution", "Å"),
    Attribute("defocus", "Defocus", "µm", 1e-4),
    Attribute("astigmatism", "Astigmatism", "Å"),
    Attribute("motion_total", "Total motion", "Å"),
    Attribute("motion_early", "Early motion", "Å"),
    Attribute("ice_ring_score", "Ice ring"),
    Attribute("picks", "Picks per micrograph"),
    Attribute("particles", "Particles per micrograph"),
    Attribute("pick_score", "Median pick score"),
    Attribute("ctf_score", "CTF score"),
    Attribute("phase_shift", "Phase shift", "°"),
    Attribute("dose_counted", "Counted dose per frame", "e/Å²"),
    Attribute("junk_fraction", "Junk area", "%", 100.0),
)


@dataclass(frozen=True)
class Points:
    """columns: what the numbers of a line are; lines: JSON, one per exposure, in the table's order."""

    columns: list[str]
    lines: list[str]

    def last(self, column: str, count: int) -> list[float]:
        """The latest values of a column, oldest first, of at most count exposures; those without a value are left out."""
        if column not in self.columns:
            return []
        place = FIRST + self.columns.index(column)
        values = [json.loads(line)[place] for line in self.lines[-count:]]
        return [value for value in values if value is not None]


FIRST = 5
"""Place of the first number in a line."""


def read_points() -> Points:
    """All exposures of the table, of which only those that are new since the last time are read there."""
    if not layout.EXPOSURES.exists():
        return Points([], [])
    size = layout.EXPOSURES.stat().st_size
    head, lines = _kept()
    if head["offset"] == size:
        return Points(head["columns"], lines)
    with layout.EXPOSURES.open("rb") as stream:
        names = next(csv.reader([stream.readline().decode("utf-8")]))
        start = max(head["offset"], stream.tell())
        stream.seek(start)
        text = stream.read()
    whole = text[: text.rfind(b"\n") + 1]
    columns = [name for name in names if name.startswith(STAGE) or name in {attribute.column for attribute in ATTRIBUTES}]
    lines += [_line(dict(zip(names, row, strict=False)), columns) for row in csv.reader(io.StringIO(whole.decode("utf-8"))) if row]
    head = {"offset": start + len(whole), "columns": columns}
    write_text(POINTS, "\n".join([json.dumps(head), *lines]))
    return Points(columns, lines)


def forget_points() -> None:
    """Before the table is written anew: read all of it the next time."""
    POINTS.unlink(missing_ok=True)


def _kept() -> tuple[dict[str, Any], list[str]]:
    try:
        head, *lines = POINTS.read_text(encoding="utf-8").split("\n")
        return json.loads(head), lines
    except (FileNotFoundError, ValueError):
        return {"offset": 0, "columns": []}, []


def _line(row: dict[str, str], columns: list[str]) -> str:
    verdict = VERDICTS.index(row["verdict"])
    times = [_number(row.get(name, ""), 12) for name in ("time_found", "time_ready")]
    numbers = [_number(row.get(name, ""), DIGITS) for name in columns]
    return as_script([*times, Path(row["movie"]).stem, verdict, row["reason"], *numbers])


def _number(text: str, digits: int) -> float | int | None:
    if not text:
        return None
    value = float(f"{float(text):.{digits}g}")
    return int(value) if value.is_integer() else value


def as_script(value: Any) -> str:
    """JSON that may stand inside a script element: no text in it can end the element."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")
