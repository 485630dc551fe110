"""Rounds of the streams in a running session: taken up as they end, tried again as they fail, planned as they are due."""

import time
from collections.abc import Mapping
from typing import Any

from firn.live import layout
from firn.live.batches import in_order
from firn.live.rounds import refresh, thin_out, write_plan, write_table
from firn.live.session import Session
from firn.live.streams import Due, due_rounds

DECIDING = ("thresholds", "reject", "accept")


def tend_rounds(session: Session, now: float) -> bool:
    """Look after all rounds; whether Snakemake has something new to do."""
    full = session.disk_is_full()
    found = [refresh(job, entries[-1], now, full) for job, entries in session.rounds.items() if entries and entries[-1]["state"] == "open"]
    if "ended" in found:
        write_table(session.rounds)
        thin_out(session.rounds)
    return _plan_due(session, now) or "again" in found


def is_collected(session: Session, now: float) -> bool:
    """Whether no exposure is to come any more, and none is in work."""
    return (
        session.closing(now)
        and not any(session.away.values())
        and not any(session.memory.get("stale", {}).values())
        and not any(ledger.waiting or ledger.ready or ledger.opened for ledger in session.ledgers.values())
    )


def _plan_due(session: Session, now: float) -> bool:
    held = session.memory.get("hold", False) or session.paused
    if held or not session.control.streams.enabled or not session.streams or session.disk_is_full():
        return False
    picks = session.memory.get("generation", 0)
    last, limits, fresh = is_collected(session, now), session.control.model_dump(include=set(DECIDING)), False
    for stream in session.streams:
        usable = sum(_usable(session, root) for root in stream["sources"])
        for due in due_rounds(stream, session.rounds, usable, limits, session.control.streams, last, picks):
            _plan(session, stream, due, limits)
            fresh = True
    return fresh


def _usable(session: Session, root: str) -> int:
    """Particles of an import's accepted exposures that need not be picked again."""
    tallies, stale = session.ledgers[root].tallies, set(session.memory.get("stale", {}).get(root, []))
    return sum(tally["usable"] for batch, tally in tallies.items() if batch not in stale)


def _accepted(session: Session, root: str, batch: str) -> dict[str, int]:
    """Particles of each accepted exposure of a batch, under the thresholds as they are now."""
    from firn.live.outcomes import verdict_of  # slow to import, and most ticks need none

    outcomes = layout.read_json(layout.outcome_file(root, batch), [])
    kept = (outcome for outcome in outcomes if verdict_of(outcome, session.control, session.limits(root))[0] == "accepted")
    return {outcome["exposure_id"]: int(outcome["numbers"].get("particles", 0)) for outcome in kept}


def _plan(session: Session, stream: Mapping[str, Any], due: Due, limits: Mapping[str, Any]) -> None:
    job = stream["jobs"][due.role]
    by_exposure = any("sources" in folders for folders in due.inputs.values())
    sources = {name: _exposures(session, root) for root, name in stream["sources"].items()} if by_exposure else {}
    plan = {
        "job": job["name"],
        "role": due.role,
        "number": 1 + max((entry["number"] for entry in session.rounds.get(job["name"], [])), default=0),
        "planned": time.time(),
        "particles": due.particles,
        "made": due.made,
        "picks": session.memory.get("generation", 0),
        "lane": "auxiliary" if due.role == "initial" else None,
        "limits": limits,
        "settings": job["settings"],
        "inputs": due.inputs,
        "needs": job["needs"],
        "sources": sources,
    }
    write_plan(session.rounds, plan)


def _exposures(session: Session, root: str) -> dict[str, list[str]]:
    """Accepted exposures with particles, by batch."""
    picked = session.ledgers[root].tallies.keys() - set(session.memory.get("stale", {}).get(root, []))
    batches = {batch: _accepted(session, root, batch) for batch in in_order(picked)}
    return {batch: [name for name, count in counts.items() if count] for batch, counts in batches.items() if any(counts.values())}
