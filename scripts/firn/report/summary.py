"""The few lines a session ends with: each final map, its resolution, and where the report is."""

from pathlib import Path

from firn.report.records import JobRecord
from firn.report.session import Session


def write_summary(session: Session, destination: Path, reports: list[Path]) -> None:
    """Write the closing lines of a session: its final maps, and where its reports are."""
    lines = [_map_line(record) for record in session.finals]
    destination.write_text("\n".join([*lines, *(f"report: {path}" for path in reports)]) + "\n", encoding="utf-8")


def _map_line(record: JobRecord) -> str:
    measured, value = record.resolution or ("", 0.0)
    return f"map: {record.folder / 'map.mrc'}  {value:.2f} Å (FSC 0.143, {measured})"
