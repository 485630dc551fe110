"""Rounds of streams as files: plans, tries, results; what is remembered of each.

The plan of a round is written whole before it counts, and names all that decides the round: settings, folders it reads, and the accepted
exposures of each batch. So a session can be replayed from its plans. A round is done, refused (its input cannot do, with a sentence), or
failed after a few tries; in either case the next one is planned as more particles come.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from firn.live import layout
from firn.runtime.atomic import write_json, write_text

MOST_TRIES = 3
KEPT_TABLES = 3
"""Latest rounds of a job whose particle tables stay."""
PAUSE_BETWEEN_TRIES_S = 30.0
RESOLUTIONS = ("resolution_corrected", "best_resolution")
COLUMNS = ("finished", "job", "role", "round", "state", "particles", "kept", "resolution", "seconds", "tries", "sentence", "folder")

PLANNED = {"number": 0, "role": "", "planned": 0.0, "particles": 0, "made": {}, "limits": {}, "picks": 0}
"""What is kept of a plan, and what is taken where one of another version lacks it."""
NEEDED = {*PLANNED, "state", "try", "sentence"} - {"picks"}
"""What a round that is remembered tells at least."""

Round = dict[str, Any]
"""number, role, planned (time), particles, made (what it was made from, by role), picks (number of the decision by which all was picked),
state, try, sentence, and what the result tells."""
Rounds = dict[str, list[Round]]
"""Rounds of each job in order."""


def round_name(number: int) -> str:
    """Folder name of the number-th round, counted from 1."""
    return f"{number:04d}"


def recall(remembered: Mapping[str, list[Round]], jobs: Iterable[str]) -> Rounds:
    """Rounds of some jobs as they were remembered, made complete by the plans that are there."""
    return {job: _of_job(job, remembered.get(job, [])) for job in jobs}


def _of_job(job: str, remembered: list[Round]) -> list[Round]:
    plans = sorted((layout.LIVE / "rounds" / job).glob("[0-9]*.json"), key=lambda path: int(path.stem))
    known = {entry["number"]: entry for entry in remembered if entry.keys() >= NEEDED}
    if len(plans) == len(known):
        return list(known.values())
    return [known.get(int(path.stem)) or _entry({"number": int(path.stem)} | layout.read_json(path, {})) for path in plans]


def _entry(plan: Mapping[str, Any]) -> Round:
    return {name: plan.get(name, otherwise) for name, otherwise in PLANNED.items()} | {"state": "open", "try": 1, "sentence": ""}


def write_plan(rounds: Rounds, plan: dict[str, Any]) -> None:
    """Add a round to a job, which is open from now on."""
    write_json(layout.round_file(plan["job"], round_name(plan["number"])), plan)
    rounds.setdefault(plan["job"], []).append(_entry(plan))


def needs_of(job: str, name: str) -> list[str]:
    """Results outside of the streams that a round waits for."""
    return list(layout.read_json(layout.round_file(job, name), {}).get("needs", []))


def refresh(job: str, entry: Round, now: float, hold: bool = False) -> str:
    """Look at what an open round has left: `ended`, `again` when it is to be tried again, which `hold` puts off, or nothing."""
    name = round_name(entry["number"])
    token = layout.read_json(layout.round_try_file(job, name, entry["try"]), None)
    if token is not None:
        entry |= {"state": "refused" if token.get("refused") else "done", "sentence": token.get("refused", ""), "finished": round(now, 1)}
        entry |= _told(layout.read_json(layout.round_folder(job, name) / "job.json", {}))
        return "ended"
    failed = layout.read_json(layout.failed_round_file(job, name, entry["try"]), None)
    if failed is None or hold:
        return ""
    if entry["try"] >= MOST_TRIES:
        entry |= {"state": "failed", "sentence": f"failed {MOST_TRIES} times; its log tells more", "finished": round(now, 1)}
        return "ended"
    if now - failed["time"] < PAUSE_BETWEEN_TRIES_S * (entry["try"] - 1):
        return ""
    entry["try"] += 1
    return "again"


def _told(record: Mapping[str, Any]) -> dict[str, Any]:
    """Resolution, particles kept and seconds of a finished round."""
    metrics = {name: metric["value"] for name, metric in record.get("metrics", {}).items()}
    resolution = next((metrics[name] for name in RESOLUTIONS if metrics.get(name) is not None), None)
    return {"resolution": resolution, "kept": metrics.get("particles_kept"), "seconds": record.get("seconds")}


def open_rounds(rounds: Rounds) -> dict[str, dict[str, int]]:
    """Number of the try of each open round, by job and round."""
    found = {
        job: {round_name(entry["number"]): entry["try"] for entry in entries if entry["state"] == "open"} for job, entries in rounds.items()
    }
    return {job: names for job, names in found.items() if names}


def last_done(entries: Iterable[Round]) -> Round | None:
    """The latest round that went well."""
    return next((entry for entry in reversed(list(entries)) if entry["state"] == "done"), None)


def thin_out(rounds: Rounds) -> None:
    """Remove the particle tables of old rounds that no open one reads, since all tables of a long session would fill the disk.

    Maps, classes and figures stay; the plans still tell whose particles they were.
    """
    open_plans = [
        layout.read_json(layout.round_file(job, name), {"inputs": {}}) for job, names in open_rounds(rounds).items() for name in names
    ]
    read = {Path(folder) for plan in open_plans for folders in plan["inputs"].values() for folder in folders}
    for job, entries in rounds.items():
        done = [entry for entry in entries if entry["state"] == "done"]
        for entry in done[:-KEPT_TABLES]:
            folder = layout.round_folder(job, round_name(entry["number"]))
            if not entry.get("thin") and not any(folder in (path, *path.parents) for path in read):
                _remove_tables(job, entry)


def forget_particles(rounds: Rounds) -> None:
    """Remove the particle tables of all rounds, since other particles will take the place of their images."""
    for job, entries in rounds.items():
        for entry in (entry for entry in entries if entry["state"] == "done" and not entry.get("thin")):
            _remove_tables(job, entry)


def _remove_tables(job: str, entry: Round) -> None:
    for table in layout.round_folder(job, round_name(entry["number"])).rglob("particles.star"):
        table.unlink()
    entry["thin"] = True


def given_up(rounds: Rounds) -> dict[str, str]:
    """A sentence for each job whose latest round failed for good, for alarms."""
    latest = {job: entries[-1] for job, entries in rounds.items() if entries}
    return {
        f"round_{job}": f"Round {entry['number']} of {job} {entry['sentence']} (logs/{job}/rounds)"
        for job, entry in latest.items()
        if entry["state"] == "failed"
    }


def latest_rounds(rounds: Rounds) -> dict[str, Any]:
    """The latest round of each job, and the last that went well, for people."""
    return {
        job: {"round": entries[-1]["number"], "state": entries[-1]["state"], "sentence": entries[-1]["sentence"], "last": _shown(entries)}
        for job, entries in rounds.items()
        if entries
    }


def _shown(entries: list[Round]) -> dict[str, Any] | None:
    done = last_done(entries)
    return done and {
        "round": done["number"],
        **{name: done.get(name) for name in ("particles", "kept", "resolution", "seconds", "finished")},
    }


def write_table(rounds: Rounds) -> None:
    """`live/rounds.csv`: one line per finished round in order of time: resolution against particles."""
    ended = [(job, entry) for job, entries in rounds.items() for entry in entries if entry["state"] != "open"]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for job, entry in sorted(ended, key=lambda pair: float(pair[1]["finished"])):
        folder = layout.round_folder(job, round_name(entry["number"]))
        row = entry | {"job": job, "round": entry["number"], "tries": entry["try"], "folder": folder}
        writer.writerow(["" if row.get(name) is None else row[name] for name in COLUMNS])
    write_text(Path(layout.ROUNDS), stream.getvalue())
