"""The few lines a session ends with: each final map, its resolution, and where the report is."""

import json
from pathlib import Path
from typing import Any

RESOLUTIONS = ("resolution_corrected", "resolution_tight", "resolution_masked", "resolution")


def write_summary(records: list[Path], destination: Path, report: Path) -> None:
    """Write the closing lines of a session from its job.json files."""
    lines = [line for path in records for line in _map_lines(path)]
    destination.write_text("\n".join([*lines, f"report: {report}"]) + "\n", encoding="utf-8")


def _map_lines(path: Path) -> list[str]:
    if not (path.parent / "fsc.star").exists() or not (path.parent / "map.mrc").exists():
        return []
    record = json.loads(path.read_text(encoding="utf-8"))
    resolution = _resolution(record["metrics"])
    return [f"map: {path.parent / 'map.mrc'}  ({record['type']}, {resolution})"]


def _resolution(metrics: dict[str, Any]) -> str:
    for name in RESOLUTIONS:
        if metrics.get(name, {}).get("value"):
            return f"{metrics[name]['value']:.2f} Å, FSC 0.143, {name.removeprefix('resolution').strip('_') or 'unmasked'}"
    return "resolution unknown"
