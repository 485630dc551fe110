"""The few lines a session ends with: each final map, its resolution, and where the report is."""

from pathlib import Path

from firn.report.records import JobRecord, final_maps, read_records


def write_summary(records: list[Path], destination: Path, report: Path) -> None:
    """Write the closing lines of a session from its job.json files."""
    lines = [_map_line(record) for record in final_maps(read_records(records))]
    destination.write_text("\n".join([*lines, f"report: {report}"]) + "\n", encoding="utf-8")


def _map_line(record: JobRecord) -> str:
    measured, value = record.resolution or ("", 0.0)
    return f"map: {record.folder / 'map.mrc'}  {value:.2f} Å (FSC 0.143, {measured})"
