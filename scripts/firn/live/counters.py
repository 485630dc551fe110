"""Numbers of a session for people: how many files are where, how fast it goes, what failed."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from firn.live.ledger import Ledger

HOUR = 3600.0
LAST_FAILURES = 20


def count(ledgers: Iterable[Ledger]) -> dict[str, int]:
    """Files found, waiting to be complete, refused, complete, queued, in work; exposures accepted, rejected, failed; picks, particles."""
    total: Counter[str] = Counter()
    for ledger in ledgers:
        finished = sum(_exposures(tally) for tally in ledger.tallies.values())
        total.update(
            found=len(ledger.waiting) + len(ledger.ready) + len(ledger.taken) + len(ledger.refused), waiting=len(ledger.waiting),
            refused=len(ledger.refused), complete=len(ledger.ready) + len(ledger.taken), queued=len(ledger.ready),
            in_progress=len(ledger.taken) - finished, ready=finished, batches=ledger.batches, open_batches=len(ledger.opened),
        )  # fmt: skip
        for tally in ledger.tallies.values():
            total.update({name: tally[name] for name in ("accepted", "rejected", "picks", "particles")})
            total["failed"] += sum(tally["failed"].values())
    return {name: int(total[name]) for name in NAMES}


NAMES = (
    "found", "waiting", "refused", "complete", "queued", "in_progress", "ready", "accepted", "rejected", "failed", "picks", "particles",
    "batches", "open_batches",
)  # fmt: skip


def rates(ledgers: Iterable[Ledger], now: float, started: float) -> dict[str, float]:
    """Per hour over the last hour, or since the start: files found, exposures ready and accepted, particles."""
    total: Counter[str] = Counter()
    since = max(now - HOUR, started)
    for ledger in ledgers:
        found = [seen.found for seen in ledger.waiting.values()] + [entry[0] for entry in [*ledger.ready.values(), *ledger.taken.values()]]
        total["found"] += sum(time >= since for time in found)
        for tally in (tally for tally in ledger.tallies.values() if tally["time"] >= since):
            total.update(ready=_exposures(tally), accepted=tally["accepted"], particles=tally["particles"])
    hours = max(now - since, 1.0) / HOUR
    return {f"{name}_per_hour": round(total[name] / hours, 1) for name in ("found", "ready", "accepted", "particles")}


def failures(ledgers: Iterable[Ledger]) -> dict[str, int]:
    """How many files and exposures failed, by reason code."""
    total: Counter[str] = Counter()
    for ledger in ledgers:
        total.update(entry[0] for entry in ledger.refused.values())
        for tally in ledger.tallies.values():
            total.update(tally["failed"])
    return dict(total.most_common())


def last_refused(ledgers: Iterable[Ledger]) -> list[dict[str, str]]:
    """The latest files that were refused, with reasons."""
    entries = [(entry[4], path, entry[0], entry[1]) for ledger in ledgers for path, entry in ledger.refused.items()]
    return [{"file": path, "code": code, "reason": reason} for _, path, code, reason in sorted(entries, reverse=True)[:LAST_FAILURES]]


def recent(ledgers: Iterable[Ledger]) -> tuple[tuple[float, int, int], ...]:
    """(time, went well, failed) of batches and refused files, for alarms."""
    events: list[tuple[float, int, int]] = []
    for ledger in ledgers:
        events += [(entry[4], 0, 1) for entry in ledger.refused.values()]
        for tally in ledger.tallies.values():
            bad = sum(tally["failed"].values())
            events.append((tally["time"], _exposures(tally) - bad, bad))
    return tuple(events)


def _exposures(tally: dict[str, Any]) -> int:
    return int(tally["accepted"] + tally["rejected"] + sum(tally["failed"].values()))
