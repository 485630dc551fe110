"""What follows from decisions about pickers: batches that were picked otherwise are opened again, from their picks on.

Images of particles that are picked again are replaced, so that rounds made of them are no source for others any more, and nothing is replaced
while a round reads it. A batch that was worked on in this run of Snakemake is opened in the next, since Snakemake makes nothing twice.
"""

import shutil
from collections.abc import Mapping
from typing import Any

from firn.errors import InputError
from firn.live import layout
from firn.live.batches import batch_name, in_order
from firn.live.control import Picker
from firn.live.pickers import (
    AS_CONFIG,
    FEWEST_KEPT,
    asked_for,
    changes_of,
    kind_of,
    latest_wish,
    picking_of,
    source_of,
    write_decision,
)  # fmt: skip
from firn.live.rounds import forget_particles, last_done, open_rounds, round_name
from firn.live.session import Session


def tend_pickers(session: Session, now: float) -> bool:
    """Decide what is asked for, and open batches that are picked otherwise; whether Snakemake has something new to do."""
    return _decide(session, now) or _open_again(session)


def wants_restart(session: Session) -> bool:
    """Whether batches wait for the next run of Snakemake, as no round is at work on what they replace."""
    return float(session.memory.get("restart", 0.0)) > _started(session)


def check_choices(session: Session, picker: Picker) -> None:
    """Raise InputError when a picker asked for cannot do; for `auto`, when there will be no templates."""
    if asked_for(picker) not in (AS_CONFIG, latest_wish()):
        _resolved(session, picker)


def _resolved(session: Session, picker: Picker) -> tuple[dict[str, Any], str] | None:
    """What changes in which job, and the folder of the templates or the model; None while `auto` waits for templates."""
    source, choice = "", picker
    if picker.type == "auto":
        found = _first_selection(session)
        if found is None:
            return None
        source, choice = found, picker.model_copy(update={"type": "template_picker"})
    source = source or source_of(choice, session.rounds)
    jobs: dict[str, Any] = {}
    for plan in session.plan.values():
        if picking_of(plan)["pickers"] or len(session.plan) == 1:
            jobs |= changes_of(choice, picking_of(plan), source)
    return jobs, source


def _first_selection(session: Session) -> str | None:
    """Folder of a selection of classes that is good enough to pick with; None before there is one. Raises InputError when there will be none."""
    selections = [stream["jobs"]["select"]["name"] for stream in session.streams if "select" in stream["jobs"]]
    if not selections:
        raise InputError("picker.type: auto needs classify_2d and select_2d in the config, which give the templates")
    kinds = {kind_of(settings, Picker()) for plan in session.plan.values() for settings in picking_of(plan)["pickers"].values()}
    if kinds != {"blob_picker"}:
        raise InputError(f"picker.type: auto goes from blobs to templates, but the config picks with {', '.join(sorted(kinds))} already")
    done = [(job, last_done(session.rounds.get(job, []))) for job in selections]
    good = [(job, entry["number"]) for job, entry in done if entry and int(entry.get("kept") or 0) >= FEWEST_KEPT]
    return str(layout.round_folder(good[0][0], round_name(good[0][1]))) if good else None


def _decide(session: Session, now: float) -> bool:
    picker = session.control.picker
    wish = asked_for(picker)
    if wish == latest_wish():
        return False
    try:
        resolved = ({}, "") if wish == AS_CONFIG else _resolved(session, picker)
    except InputError as error:
        session.control_fault = f"{layout.CONTROL}: {error}"
        return False
    if resolved is None:
        return False
    jobs, source = resolved
    by_itself = picker.type == "auto"
    reason = f"{source} has the first good classes" if by_itself else session.control.reason
    roots = [root for root, plan in session.plan.items() if picking_of(plan)["pickers"]]
    first = {root: layout.FIRST_BATCH if picker.scope == "all" else batch_name(session.ledgers[root].batches + 1) for root in roots}
    entry = write_decision(wish, jobs, first, source, "session" if by_itself else "control", reason, now)
    if by_itself:
        layout.append_line(layout.DECISION_LOG, what="picker", old=None, new=entry["jobs"], reason=reason, by="session")
    return True


def _open_again(session: Session) -> bool:
    stale = _stale_batches(session)
    session.memory["stale"] = stale
    if not any(stale.values()):
        session.memory["hold"] = False
        return False
    session.memory["hold"] = session.memory.get("generation", 0) != _latest_number(session)
    if session.paused or session.disk_is_full():
        return False
    if session.memory["hold"]:
        if open_rounds(session.rounds):
            return False
        forget_particles(session.rounds)
        session.memory |= {"generation": _latest_number(session), "hold": False}
    repicked = [pair for pair in session.memory.get("repicked", []) if pair[1] in session.ledgers[pair[0]].opened]
    room = max(1, session.control.open_batches // 2) - len(repicked)
    waiting = [(root, batch) for root, batches in stale.items() for batch in batches]
    ready = [(root, batch) for root, batch in waiting if session.ledgers[root].tallies[batch]["time"] < _started(session)]
    for root, batch in ready[: max(room, 0)]:
        _open_batch(session, root, batch)
        repicked.append([root, batch])
    session.memory["repicked"] = repicked
    if not ready and not repicked:
        session.memory["restart"] = max(session.ledgers[root].tallies[batch]["time"] for root, batch in waiting) + 1e-3
    return bool(ready[: max(room, 0)])


def _open_batch(session: Session, root: str, batch: str) -> None:
    """Take back what came of a batch, then its results from the picks on, the last ones first, so that a kill leaves nothing half valid."""
    ledger, jobs = session.ledgers[root], session.plan[root]["jobs"]
    outcome = layout.outcome_file(root, batch)
    outcome.unlink(missing_ok=True)
    for job in reversed(_outdated_jobs(session.plan[root], root, batch)):
        folder = layout.result_file(job, batch).parent
        for record in (*folder.glob("only/*/job.json"), folder / "job.json"):
            record.unlink(missing_ok=True)
    for job in jobs:
        layout.failed_job_file(job, batch).unlink(missing_ok=True)
    for path in (layout.try_file(root, batch, 1).parent, layout.failed_try_file(root, batch, 1).parent):
        shutil.rmtree(path, ignore_errors=True)
    ledger.tallies.pop(batch, None)
    ledger.opened[batch] = 0


def _stale_batches(session: Session) -> dict[str, list[str]]:
    """Finished batches, by import, that were not picked as is decided for them; each batch is looked at once per decision."""
    found: dict[str, list[str]] = {}
    for root, plan in session.plan.items():
        found[root] = []
        if not any(part["number"] for part in picking_of(plan)["picked"]):
            continue
        known = session.memory.setdefault("picked", {}).setdefault(root, {})
        for batch in in_order(session.ledgers[root].tallies):
            number = picked_as(plan, batch)["number"]
            if known.get(batch) != number:
                if _outdated_jobs(plan, root, batch):
                    found[root].append(batch)
                else:
                    known[batch] = number
    return found


def picked_as(plan: Mapping[str, Any], batch: str) -> dict[str, Any]:
    """What is decided about a batch: number of the decision, and what decides the picks of each job."""
    parts = [part for part in picking_of(plan)["picked"] if part["first"] <= int(batch)]
    return dict(parts[-1])


def _outdated_jobs(plan: Mapping[str, Any], root: str, batch: str) -> list[str]:
    """Jobs of a batch, in order, that ran with other settings than are decided, or read what such a job made."""
    wanted = picked_as(plan, batch)["jobs"]
    outdated: list[str] = []
    for job, needs in plan["jobs"].items():
        if set(needs) & set(outdated) or (job in wanted and _differs(job, batch, wanted[job])):
            outdated.append(job)
    return outdated


def _differs(job: str, batch: str, wanted: Mapping[str, Any]) -> bool:
    """Whether a batch's record tells of other settings; without a record nothing is known to differ."""
    settings = layout.read_json(layout.result_file(job, batch), {}).get("settings")
    return settings is not None and any(settings.get(name) != value for name, value in wanted.items())


def _latest_number(session: Session) -> int:
    """Number of the latest decision that batches are stale by."""
    stale = session.memory["stale"]
    return max(picked_as(session.plan[root], batch)["number"] for root, batches in stale.items() for batch in batches)


def _started(session: Session) -> float:
    return float(next(iter(session.plan.values())).get("started", 0.0))
