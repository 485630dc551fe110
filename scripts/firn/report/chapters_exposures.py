"""Chapters of what was collected: the data set in numbers, its numbers over time, what was rejected or failed, and example micrographs."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from firn.report.data_sets import DataSet
from firn.report.document import Block, Facts, Heading, Picture, Section, Table, Text, file_picture
from firn.report.examples import choose_examples, draw_examples
from firn.report.over_time import draw_over_time, shown_attributes
from firn.report.session import Session
from firn.report.spoken import plural, spoken_moment, spoken_number, spoken_range
from firn.report.style import png_of

MOST_ROWS = 40
SAMPLE = re.compile(r"(motion|ctf)_e[0-9a-f]{12}$")
"""Names of figures of single exposures."""
NAMED = ("movie", "micrograph", "exposure_id")


def collected_chapter(sets: list[DataSet]) -> Section | None:
    """Numbers of each data set, and these over time."""
    full = [data for data in sets if len(data.exposures)]
    if not full:
        return None
    blocks: list[Block] = []
    for data in full:
        blocks += [*_title(data, full), Facts(tuple(_facts(data))), *_course(data), *_samples(data)]
    return Section("What was collected", "collected", tuple(blocks))


def micrograph_chapter(sets: list[DataSet]) -> Section | None:
    """Example micrographs of each data set with their picks."""
    blocks: list[Block] = []
    for data in sets:
        groups, judged = choose_examples(data.exposures) if len(data.exposures) else ([], "")
        picks = data.picks_shown() if groups else pd.DataFrame()
        caption = "Circles are the picks that went on, of the particle's diameter." if len(picks) else "No picks were made."
        blocks += _title(data, sets) if groups else []
        blocks += [Picture(draw_examples(group, picks), f"{group.title}{_by(group.title, judged)}", caption) for group in groups]
        if len(data.exposures) and not groups:
            blocks.append(Text(f"The micrographs of {data.source.name} are not there any more, so that none can be shown."))
    return Section("Example micrographs", "micrographs", tuple(blocks)) if blocks else None


def verdict_chapter(session: Session, sets: list[DataSet]) -> Section | None:
    """What was rejected and what failed, each with its reason."""
    blocks: list[Block] = []
    for data in sets:
        rejected = data.exposures[data.exposures["verdict"] == "rejected"] if len(data.exposures) else data.exposures
        if len(rejected):
            rows = [(_file(row), str(row.get("reason") or "")) for row in rejected.to_dict("records")]
            blocks.append(_listed(f"Rejected exposures of {data.source.name}", ("exposure", "reason"), rows, (0.45, 0.55)))
    for record in session.records:
        failed = [(_file(row), row.get("reason_code", ""), row.get("reason", "")) for row in record.failures()]
        if failed:
            blocks.append(_listed(f"Failed exposures of {record.name}", ("file", "code", "what happened"), failed, (0.37, 0.13, 0.5)))
    return Section("Rejected and failed", "failures", tuple(blocks)) if blocks else None


def _title(data: DataSet, sets: list[DataSet]) -> list[Block]:
    return [Heading(f"Data set {data.source.name}")] if len(sets) > 1 else []


def _facts(data: DataSet) -> Iterator[tuple[str, str]]:
    table = data.exposures
    rejected = int((table["verdict"] == "rejected").sum())
    kind = "movie" if "movie" in table.columns else "micrograph"
    yield "exposures", f"{plural(len(table), kind)} accepted by the import, {len(data.failed)} failed, {rejected} rejected later"
    first = table.iloc[0]
    yield "optics", f"{first['voltage_kv']:g} kV, Cs {first['cs_mm']:g} mm, amplitude contrast {first['amplitude_contrast']:g}"
    yield "pixel size", _pixels(table)
    if pd.notna(first.get("dose_per_frame")) and pd.notna(first.get("frames")):
        total = (table["dose_per_frame"] * table["frames"]).round(2)
        yield "dose", f"{spoken_range(list(total), 'e/Å²', 1)} in {_whole(table['frames'])} frames of {first['dose_per_frame']:.3g} e/Å²"
    groups = table["optics_name"].nunique() if "optics_name" in table.columns else 1
    yield "image", f"{_whole(table['width_px'])} × {_whole(table['height_px'])} px, {plural(groups, 'optics group')}"
    yield from _measured(table)
    if "time" in table.columns and table["time"].notna().any():
        yield "collected", f"{spoken_moment(table['time'].min())} to {spoken_moment(table['time'].max())}"


def _measured(table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Medians and spans of what was measured of the accepted exposures."""
    kept = table[table["verdict"] != "rejected"]
    for name, label, factor, unit in (
        ("defocus", "defocus", 1e-4, "µm"), ("ctf_fit_resolution", "CTF fit", 1, "Å"), ("motion_total", "motion", 1, "Å"),
    ):  # fmt: skip
        values = pd.to_numeric(kept[name], errors="coerce").dropna() * factor if name in kept.columns else []
        if len(values):
            middle = pd.Series(values).median()
            yield label, f"median {middle:.2f} {unit}, {spoken_range(list(values), unit)}"
    for name in ("picks", "particles"):
        if name in kept.columns and kept[name].notna().any():
            count = kept[name].sum()
            yield name, f"{spoken_number(count)}, {count / max(len(kept), 1):.0f} per exposure"


def _course(data: DataSet) -> Iterator[Block]:
    if not shown_attributes(data.exposures):
        return
    limits = "Dashed red lines are the limits of curation. " if data.limits else ""
    yield Picture(
        png_of(draw_over_time(data.exposures, data.limits)),
        "Exposures over time",
        f"Each point is an exposure; at the side, how the values are distributed, with the median. {limits}Red exposures were rejected.",
    )


def _samples(data: DataSet) -> Iterator[Block]:
    """Trajectories and Thon rings of one exposure, as the jobs drew them."""
    for kind in ("motion", "ctf"):
        figures = [(record.folder / figure["file"], figure) for record in data.family for figure in record.content["figures"]]
        found = next(
            ((path, figure) for path, figure in figures if SAMPLE.search(path.stem) and f"{kind}_e" in path.stem and path.exists()), None
        )
        if found:
            yield file_picture(found[0], found[1]["title"], found[1]["caption"])


def _pixels(table: pd.DataFrame) -> str:
    movie = table.get("movie_pixel_size")
    own = float(table["micrograph_pixel_size"].iloc[0])
    binned = f", micrographs at {own:g} Å" if movie is not None and abs(float(movie.iloc[0]) - own) > 1e-6 else ""
    return f"{float(movie.iloc[0]) if movie is not None else own:g} Å{binned}"


def _whole(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def _by(title: str, judged: str) -> str:
    return f" by {judged}" if judged and title != "Rejected" else ""


def _file(row: Mapping[Any, Any]) -> str:
    return Path(next(str(row[name]) for name in NAMED if isinstance(row.get(name), str) and row[name] not in ("", "None", "nan"))).name


def _listed(title: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]], shares: tuple[float, ...]) -> Table:
    more = f" (the first {MOST_ROWS} of {len(rows)})" if len(rows) > MOST_ROWS else f" ({len(rows)})"
    return Table(title + more, head, tuple(rows[:MOST_ROWS]), shares)
