"""The table of exposures for people, `live/exposures.csv`, and their hand decisions as a file that curation reads."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from firn.live import layout
from firn.live.control import Control
from firn.live.points import forget_points
from firn.runtime.atomic import write_text

FIXED = ["import", "batch", "exposure_id", "movie", "verdict", "reason"]


@dataclass(frozen=True)
class Row:
    """One exposure: its import and batch, what came of it (exposure_id, movie, numbers), and the verdict with its reason."""

    root: str
    batch: str
    outcome: dict[str, Any]
    verdict: str
    reason: str


def write_exposures(rows: list[Row]) -> None:
    """Write the whole table; its columns are all numbers that any exposure has."""
    columns = list(dict.fromkeys(name for row in rows for name in row.outcome["numbers"]))
    forget_points()
    write_text(layout.EXPOSURES, _lines([FIXED + columns]) + _lines(_values(row, columns) for row in rows))


def append_exposures(rows: list[Row]) -> bool:
    """Add exposures to the table; False, and nothing written, when it is missing, lacks a column, or ends in a line cut short."""
    if not layout.EXPOSURES.exists() or not _is_whole():
        return False
    with layout.EXPOSURES.open(encoding="utf-8", newline="") as stream:
        columns = next(csv.reader(stream), [])[len(FIXED) :]
    if {name for row in rows for name in row.outcome["numbers"]} - set(columns):
        return False
    layout.append_whole(layout.EXPOSURES, _lines(_values(row, columns) for row in rows))
    return True


def _is_whole() -> bool:
    with layout.EXPOSURES.open("rb") as stream:
        stream.seek(max(layout.EXPOSURES.stat().st_size - 1, 0))
        return stream.read() == b"\n"


def write_decisions(control: Control) -> None:
    """Hand decisions for curate_exposures; the file stays as it is when nothing changed, so that nothing runs again."""
    verdicts = dict.fromkeys(control.accept, "accept") | dict.fromkeys(control.reject, "reject")
    text = decisions_text(verdicts)
    if not layout.DECISIONS.exists() or layout.DECISIONS.read_text(encoding="utf-8") != text:
        write_text(layout.DECISIONS, text)


def decisions_text(verdicts: Mapping[str, str]) -> str:
    """A decisions file for curate_exposures: lines `'name': accept` or `'name': reject`, in the order of the names."""
    return "".join(f"{_quoted(name)}: {verdict}\n" for name, verdict in sorted(verdicts.items())) or "{}\n"


def _values(row: Row, columns: list[str]) -> list[Any]:
    numbers = [row.outcome["numbers"].get(name, "") for name in columns]
    return [row.root, row.batch, row.outcome["exposure_id"], row.outcome["movie"], row.verdict, row.reason, *numbers]


def _lines(rows: Any) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def _quoted(name: str) -> str:
    """A YAML string in single quotes."""
    return "'" + name.replace("'", "''") + "'"
