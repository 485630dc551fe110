"""Exposures: the whole table as compact lists, and everything about one of them.

The table is `live/exposures.csv`, or, where no live session was, the exposures.star of the job that tells most of them.
"""

import csv
import json
import math
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from firn.dashboard.kept import Kept, stamp, tagged
from firn.dashboard.places import RequestError, is_inside
from firn.dashboard.server import Answer, as_json
from firn.live import layout
from firn.live.accept import names_of
from firn.live.points import ATTRIBUTES, VERDICTS

HAND_FILE = Path("decisions/exposures.yaml")
"""Hand decisions where no live session is."""
FIGURES = ("motion", "ctf", "picks")
DIGITS, STAGE_DIGITS = 5, 7


@dataclass(frozen=True)
class Table:
    """answer: what the page is sent; rows: of the file, by exposure id."""

    answer: Answer
    rows: dict[str, dict[str, str]]

    @cached_property
    def called(self) -> dict[str, str]:
        """Exposure id by each of its names."""
        return {name: exposure for exposure, row in self.rows.items() for name in names_of(exposure, row["movie"])}


class Exposures:
    """The table, read again when it changes."""

    def __init__(self) -> None:
        self._live = Kept(lambda: _table(_csv_rows()), layout.EXPOSURES)
        self._stars: tuple[Path, Kept[Table]] | None = None
        self._looking = threading.Lock()

    def table(self) -> Table:
        """The exposures as they are now."""
        if layout.EXPOSURES.exists():
            return self._live.value()
        source = _fullest()
        if source is None:
            return _table([])
        if self._stars is None or self._stars[0] != source:
            self._stars = (source, Kept(lambda: _table(_star_rows(source)), source))
        return self._stars[1].value()

    def one(self, exposure: str, hand: dict[str, str]) -> Answer:
        """All numbers of an exposure, its picture with picks, its figures, and what a hand decided."""
        row = self.table().rows.get(exposure)
        if row is None:
            raise RequestError(404, "There is no such exposure.")
        folders = folders_of(row.get("batch", ""))
        told = {"row": {name: value for name, value in row.items() if value}, "hand": hand.get(exposure, "none")}
        with self._looking:  # a micrograph is large, and a reader who steps through them asks for many
            picture = _picture(folders, exposure)
        return as_json(told | {"picture": picture, "figures": _figures(folders, exposure)})


def _csv_rows() -> list[dict[str, str]]:
    with layout.EXPOSURES.open(encoding="utf-8", newline="") as stream:
        return [row for row in csv.DictReader(stream, restval="") if row.get("verdict") in VERDICTS]


def _fullest() -> Path | None:
    """The exposures.star of a curation, which tells of rejected ones too, or else the largest; of several the newest."""
    found = [path for path in Path("results").glob("*/exposures.star") if is_inside(path.as_posix())]
    curated = [path for path in found if (path.parent / "rejected" / path.name).exists()]
    if curated:
        return max(curated, key=lambda path: path.stat().st_mtime)
    return max(found, key=lambda path: (path.stat().st_size, path.stat().st_mtime), default=None)


def _star_rows(path: Path) -> list[dict[str, str]]:
    from firn.formats.tables import read_table  # pandas, which takes a second to import

    rows: list[dict[str, str]] = []
    for place, verdict in ((path, "accepted"), (path.parent / "rejected" / path.name, "rejected")):
        if place.exists():
            table = read_table(place, "exposures")
            if {"defocus_u", "defocus_v"} <= set(table.columns):
                table["defocus"] = (table["defocus_u"] + table["defocus_v"]) / 2
            known = table.astype(object).where(table.notna(), "")
            rows += [{str(key): str(value) for key, value in row.items()} | {"verdict": verdict} for row in known.to_dict("records")]
    for row in rows:
        row["exposure_id"] = row.get("exposure_id", "")
        row["movie"] = row.get("movie") or row.get("micrograph", "")
        row["reason"] = row.get("reason", "") if row["verdict"] != "accepted" else ""
    return rows


def _table(rows: list[dict[str, str]]) -> Table:
    columns = [attribute for attribute in ATTRIBUTES if any(row.get(attribute.column) for row in rows)]
    lists = [
        [
            row["exposure_id"],
            row["movie"].rsplit("/", 1)[-1].rsplit(".", 1)[0],
            VERDICTS.index(row["verdict"]),
            row["reason"],
            _number(row.get("time_found", ""), 12),
        ]
        + [_number(row.get(attribute.column, ""), DIGITS) for attribute in columns]
        for row in rows
    ]
    told = {"columns": [vars(attribute) for attribute in columns], "rows": lists} | _stage(rows)
    answer = tagged(json.dumps(told, separators=(",", ":")).encode())
    return Table(answer, {row["exposure_id"]: row for row in rows if row["exposure_id"]})


def _stage(rows: list[dict[str, str]]) -> dict[str, Any]:
    """Where the stage stood, x and y in µm or None, by row; nothing where no exposure tells."""
    pairs = [[_number(row.get(name, ""), STAGE_DIGITS) for name in ("stage_x", "stage_y")] for row in rows]
    places = [None if None in pair else pair for pair in pairs]
    return {"stage": places} if any(places) else {}


def _number(text: str, digits: int) -> float | None:
    try:
        value = float(f"{float(text):.{digits}g}")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def folders_of(batch: str) -> list[Path]:
    """Folders of the jobs that ran on a batch, the oldest first."""
    if not batch.isalnum():
        return []
    folders = [folder for folder in Path("results").glob(f"*/batches/{batch}") if is_inside(folder.as_posix())]
    return sorted(folders, key=_time)


def _time(folder: Path) -> int:
    """When a folder's table came, or else the folder itself."""
    known = stamp(folder / "exposures.star") or stamp(folder)
    return known[0] if known else 0


def _picture(folders: Iterable[Path], exposure: str) -> dict[str, Any]:
    from firn.live.strip import look_at  # Pillow, which is slow to import

    return look_at(folders, exposure, is_inside)


def _figures(folders: Iterable[Path], exposure: str) -> list[dict[str, str]]:
    """Figures of the exposure, of each kind the last, with title and caption where the job left them."""
    found: dict[str, dict[str, str]] = {}
    for folder in folders:
        listed = {figure["file"]: figure for figure in layout.read_json(folder / "job.json", {}).get("figures", [])}
        for kind in FIGURES:
            name = f"figures/{kind}_{exposure}.png"
            path = (folder / name).as_posix()
            if is_inside(path):
                told = listed.get(name, {})
                found[kind] = {"title": str(told.get("title", kind)), "caption": str(told.get("caption", "")), "file": path}
    return [found[kind] for kind in FIGURES if kind in found]
