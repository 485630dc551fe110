"""The exposures of a session with all that was measured of them, whichever job measured it, and what became of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from firn.report.records import JobRecord
from firn.report.session import Session

IMPORTS = ("import_movies", "import_micrographs")
PICKING = {
    "picks": (
        "blob_picker",
        "template_picker",
        "topaz_picker",
        "gautomatch",
        "cryolo_picker",
        "inspect_picks",
        "import_picks",
        "preprocess",
    ),
    "particles": ("extract_particles", "preprocess"),
}


@dataclass(frozen=True)
class DataSet:
    """What came from one import: its record, jobs that lead from it to the final maps, and one row per exposure with all that was measured.

    Columns besides those of exposures.star: verdict (accepted, rejected), reason, picks, particles, and time (s since 1970) where it is known.
    """

    source: JobRecord
    family: tuple[JobRecord, ...]
    exposures: pd.DataFrame
    failed: tuple[dict[str, str], ...]

    @property
    def limits(self) -> dict[str, tuple[float | None, float | None]]:
        """(least, most) that curation allowed, by column of the exposures."""
        found = [record for record in self.family if record.type == "curate_exposures"][:1]
        names = {name.split("_", 2)[2] for record in found for name in record.metrics if name.startswith(("limit_min_", "limit_max_"))}
        return {name: (found[0].metric(f"limit_min_{name}"), found[0].metric(f"limit_max_{name}")) for name in sorted(names)}

    def picks_shown(self) -> pd.DataFrame:
        """Picks as the last job left them that picked or chose among picks; those that made particles where no job did."""
        return _last_table(self.family, "picks", PICKING["picks"])


def data_sets(session: Session) -> list[DataSet]:
    """Every import of movies or micrographs with its exposures, in the order of the jobs."""
    return [_data_set(session, record) for record in session.records if _brings_exposures(record)]


def _brings_exposures(record: JobRecord) -> bool:
    return record.type in IMPORTS or (record.type == "import_relion" and not record.table("exposures").empty)


def _data_set(session: Session, source: JobRecord) -> DataSet:
    used = {record.name for final in session.finals for record in [*session.ancestors(final.name), final]}
    family = [record for record in session.records if source in session.ancestors(record.name)]
    family = [record for record in family if record.name in used] or family
    failed = tuple(row for record in [source, *family] for row in record.failures())
    table = source.table("exposures")
    if table.empty:
        return DataSet(source, tuple(family), table, failed)
    table = table.drop_duplicates("exposure_id").set_index("exposure_id", drop=False)
    for record in family:
        for verdict, part in (("accepted", record.table("exposures")), ("rejected", record.table("exposures", "rejected"))):
            table = _with_columns(table, part, verdict if record.type == "curate_exposures" else None)
    table = _with_columns(_counted(table, family), session.live_table("exposures.csv").rename(columns={"time_found": "time"}), None)
    if {"defocus_u", "defocus_v"} <= set(table.columns):
        table = table.assign(defocus=(table["defocus_u"] + table["defocus_v"]) / 2)
    if "verdict" not in table.columns:
        table = table.assign(verdict="accepted", reason="")
    return DataSet(source, tuple(family), table.reset_index(drop=True), failed)


def _with_columns(table: pd.DataFrame, part: pd.DataFrame, verdict: str | None) -> pd.DataFrame:
    """Columns of another table of the same exposures where they tell something new; the verdict of those that it names."""
    if part.empty or "exposure_id" not in part.columns:
        return table
    part = part.drop_duplicates("exposure_id").set_index("exposure_id", drop=False)
    if verdict is not None:
        part = part.assign(verdict=verdict)
    new = [name for name in part.columns if name not in table.columns]
    table = table.join(part[new])
    for name in ("verdict", "reason") if verdict is not None else ():
        if name in part.columns and name not in new:
            table[name] = table[name].fillna(part[name])
    return table


def _counted(table: pd.DataFrame, family: list[JobRecord]) -> pd.DataFrame:
    """With the picks and particles of each exposure, as the last job before 2D classes left them."""
    for kind, types in PICKING.items():
        found = _last_table(family, kind, types)
        if "exposure_id" in found.columns:
            table = table.assign(**{kind: found.groupby("exposure_id").size().reindex(table.index)})
    return table


def _last_table(family: Sequence[JobRecord], kind: str, types: tuple[str, ...]) -> pd.DataFrame:
    tables = [record.table(kind) for record in family if record.type in types]
    return next((table for table in reversed(tables) if len(table)), pd.DataFrame())
