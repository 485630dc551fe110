"""Chapters of how the session was run: summary, settings that differ from the defaults, times and machines, alarms and decisions."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from firn.report.data_sets import DataSet
from firn.report.document import Block, Facts, Picture, Section, Table, Text, file_picture
from firn.report.records import named_jobs
from firn.report.session import Session
from firn.report.spoken import plural, spoken_moment, spoken_number, spoken_setting, spoken_time

NOT_SETTINGS = ("type", "revision", "seed", "about")
MOST_ROWS, LONGEST_VALUE = 40, 160
FACES = 2
"""Maps shown on the first page."""
ABOUT = "about"


def summary_chapter(session: Session, sets: list[DataSet]) -> Section:
    """Who, what, when, and what came of it."""
    warnings = [(record.name, sentence) for record in session.records for sentence in record.content["warnings"]]
    opening = (
        [Text("This session is not over: the report tells what was there when it was written.", warning=True)] if session.partial else []
    )
    facts = Facts((*_about(session), *_outcome(session, sets)))
    return Section("Summary", "summary", (*opening, facts, *_faces(session), *_warned(warnings)))


def settings_chapter(session: Session) -> Section:
    """Settings that are not the defaults, job by job."""
    rows = [row for record in session.records for row in _chosen(session, record.name)]
    title = "Settings that differ from the defaults of the versions named below"
    table = Table(title, ("job", "setting", "value", "default"), tuple(rows), (0.17, 0.25, 0.38, 0.2))
    return Section("Settings", "settings", (table,))


def conduct_chapter(session: Session) -> Section:
    """Time, machine and memory of each job; seeds and versions."""
    rows = [
        (
            record.name, record.type, ", ".join(record.upstream), spoken_time(record.seconds), str(record.content["device"]),
            spoken_number(round(record.content["peak_memory_mb"]), "MB"),
        )
        for record in session.records
    ]  # fmt: skip
    table = Table("Jobs", ("job", "type", "made from", "time", "device", "memory"), tuple(rows), (0.16, 0.23, 0.23, 0.15, 0.1, 0.13))
    return Section("Jobs, seeds and versions", "conduct", (Facts(tuple(_made_with(session))), table))


def events_chapter(session: Session) -> Section | None:
    """Alarms of a live session, and decisions that people and rules took."""
    alarms = [
        (spoken_moment(line["time"]), str(line.get("event", "")), str(line.get("sentence", ""))) for line in session.lines("alarms.jsonl")
    ]
    decisions = [
        (
            spoken_moment(line["time"]),
            str(line.get("what", "")),
            f"{_told(line.get('old'))} → {_told(line.get('new'))}",
            str(line.get("reason") or ""),
        )
        for line in session.lines("decisions.jsonl")
    ]
    blocks: list[Block] = []
    if alarms:
        blocks.append(Table(f"Alarms ({len(alarms)})", ("time", "event", "what"), tuple(alarms[-MOST_ROWS:]), (0.25, 0.12, 0.63)))
    if decisions:
        head = ("time", "what", "change", "reason")
        blocks.append(Table(f"Decisions ({len(decisions)})", head, tuple(decisions[-MOST_ROWS:]), (0.25, 0.15, 0.42, 0.18)))
    return Section("Alarms and decisions", "events", tuple(blocks)) if blocks else None


def _about(session: Session) -> Iterator[tuple[str, str]]:
    for name, value in session.config.get(ABOUT, {}).items():
        yield name.replace("_", " "), str(value)
    written = [path.stat().st_mtime for record in session.records for path in _records_of(record.folder)]
    if written:
        yield "processed", f"{spoken_moment(min(written))} to {spoken_moment(max(written))}"


def _records_of(folder: Path) -> list[Path]:
    return [path for path in (folder / "job.json", *folder.glob("batches/*/job.json")) if path.exists()]


def _outcome(session: Session, sets: list[DataSet]) -> Iterator[tuple[str, str]]:
    for data in sets:
        rejected = int((data.exposures["verdict"] == "rejected").sum()) if len(data.exposures) else 0
        count, kept = len(data.exposures) + len(data.failed), len(data.exposures) - rejected
        yield data.source.name, f"{plural(count, 'exposure')} found, {kept} kept, {rejected} rejected, {len(data.failed)} failed"
    for record in session.records:
        if record.type in ("select_2d", "stream_2d", "classify_2d") and record.metric("particles_kept") is not None:
            found, lost = record.metric("particles_kept") or 0, record.metric("particles_excluded") or 0
            yield (
                record.name,
                f"{plural(found, 'particle')} in {spoken_number(record.metric('classes_kept'))} good 2D classes, {spoken_number(lost)} left out",
            )
    for final in session.finals:
        measured, resolution = final.resolution or ("", 0.0)
        nyquist = " (as far as its pixels reach)" if any("Nyquist" in text for text in final.content["warnings"]) else ""
        yield final.name, f"map at {resolution:.2f} Å, FSC 0.143, {measured}{nyquist}"


def _faces(session: Session) -> Iterator[Picture]:
    """The first final maps as surfaces."""
    for final in session.finals[:FACES]:
        line = [final, *reversed(session.ancestors(final.name))]
        record = next((each for each in line if each.makes_map and each.figure("surface", "slices")), None)
        figure = record.figure("surface", "slices") if record else None
        if record and figure:
            yield file_picture(record.folder / figure["file"], final.name, figure["title"])


def _warned(warnings: list[tuple[str, str]]) -> Iterator[Text]:
    for name, sentence in warnings:
        yield Text(f"{name}: {sentence}", warning=True)


def _chosen(session: Session, name: str) -> Iterator[tuple[str, ...]]:
    record = session.record(name)
    defaults = session.defaults.get(record.type, {})
    for key, value in record.content["settings"].items():
        if key not in NOT_SETTINGS and value != defaults.get(key) and not set(named_jobs(value)) <= {*record.upstream, name}:
            yield name, key, _shortened(spoken_setting(value)), spoken_setting(defaults[key]) if key in defaults else "none is given"


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]} … ({len(text)} letters)"


def _made_with(session: Session) -> Iterator[tuple[str, str]]:
    seeds = sorted({str(record.content["seed"]) for record in session.records})
    yield "seed", ", ".join(seeds)
    settings = {record.name: record.content["settings"] for record in session.records}
    yield "fingerprint of all settings", hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=8).hexdigest()
    yield "computing time", spoken_time(sum(record.seconds for record in session.records))
    versions = pd.DataFrame([record.content["versions"] for record in session.records]).fillna("")
    told = [f"{package} {' and '.join(dict.fromkeys(str(value) for value in versions[package] if value))}" for package in versions.columns]
    yield "versions", ", ".join(told)


def _told(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {each}" for key, each in value.items()) or "none"
    return spoken_setting(value)
