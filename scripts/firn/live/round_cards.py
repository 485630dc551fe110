"""What the rounds of the streams made so far, for the session's page: numbers of every round, pictures of the latest."""

import base64
import csv
import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from firn.live import layout
from firn.live.forecast import FEWEST_ROUNDS, forecast

MAPS = ("refine", "initial")
PICTURES = {
    "select": ("selection",),
    "classify": ("classes",),
    "refine": ("surface", "slices", "fsc", "directions"),
    "initial": ("volumes", "classes"),
}
"""Names of figures that are shown of a round, by role."""
LARGEST_PICTURE = 1_500_000
"""Bytes; a larger one stays in its folder."""


def read_rounds() -> dict[str, list[dict[str, Any]]]:
    """Rounds of each job that went well, in order, as `live/rounds.csv` tells; nothing where no stream has started."""
    if not layout.ROUNDS.exists():
        return {}
    jobs: dict[str, list[dict[str, Any]]] = {}
    with layout.ROUNDS.open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table):
            if row["state"] == "done":
                numbers = {name: _number(row.get(name)) for name in ("finished", "round", "particles", "kept", "resolution")}
                jobs.setdefault(row["job"], []).append({"role": row["role"], "folder": row["folder"], **numbers})
    return jobs


def resolutions(jobs: Mapping[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """Rounds of each map that is refined, with their particles and resolution (Å)."""
    return {
        name: [entry for entry in rounds if entry["particles"] and entry["resolution"]]
        for name, rounds in jobs.items()
        if rounds[-1]["role"] == "refine"
    }


def round_cards(jobs: Mapping[str, list[dict[str, Any]]], particles: int, per_hour: float) -> list[dict[str, Any]]:
    """One card per job that made classes or a map: its rounds, the latest round's figures, and what more particles would bring.

    particles: found by the session so far; per_hour: that come now, of which a map gets the share it has had so far.
    """
    maps = resolutions(jobs)
    hidden = {"initial"} if maps else set()
    cards = []
    for name, rounds in jobs.items():
        role = rounds[-1]["role"]
        if role in hidden or role not in PICTURES:
            continue
        used = maps.get(name, [])
        share = min(used[-1]["particles"] / particles, 1.0) if used and particles else 1.0
        figures = _figures(Path(rounds[-1]["folder"]), role)
        pixel_size = _pixel_size(Path(rounds[-1]["folder"])) if len(used) >= FEWEST_ROUNDS else None
        told = [{key: entry[key] for key in ("round", "finished", "particles", "kept", "resolution")} for entry in rounds]
        future = forecast(used, share * per_hour, pixel_size)
        cards.append({"name": name, "role": role, "rounds": told, "figures": figures, "forecast": future})
    return sorted(cards, key=lambda card: list(PICTURES).index(card["role"]) if card["role"] in MAPS else -1)


def _figures(folder: Path, role: str) -> list[dict[str, str]]:
    record = layout.read_json(folder / "job.json", {})
    files = {Path(figure["file"]).stem: figure for figure in record.get("figures", [])}
    chosen = [files[name] for name in PICTURES[role] if name in files and _fits(folder / files[name]["file"])]
    return [{"title": figure["title"], "caption": figure["caption"], "picture": _picture(folder / figure["file"])} for figure in chosen]


def _pixel_size(folder: Path) -> float | None:
    """Å, of a round's map; None where it has none."""
    from firn.formats.mrc import read_shape  # needs numpy, which is slow to import, and most ticks see no map

    return read_shape(folder / "map.mrc")[1] if (folder / "map.mrc").exists() else None


def _fits(path: Path) -> bool:
    return path.is_file() and path.stat().st_size <= LARGEST_PICTURE


def _picture(path: Path) -> str:
    return _as_uri(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=32)
def _as_uri(path: Path, changed_ns: int) -> str:
    """A picture inside the page; kept, since the page is written every few seconds and a round's figures never change."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
