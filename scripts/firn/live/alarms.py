"""What somebody should know at night: each alarm is written once when it comes and once when it goes."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from firn.live.control import Alarms

RECENT = 50
FEWEST, FEWEST_FAILED = 10, 3
STUCK_TRIES = 3
SAMPLES = 60
SAMPLE_S = 60.0
CALMER = 0.6
"""An alarm about failures goes when their share is below this part of its limit, and one about space when there is that much more."""


@dataclass(frozen=True)
class Facts:
    """What alarms are drawn from. recent: (time, exposures that went well, that failed); disk: (time, bytes free).

    waits: minutes that batches wait for their first job to begin; active: keys of the alarms that hold; trends: alarms found elsewhere, by key.
    """

    now: float
    collecting: bool
    last_found: float
    recent: tuple[tuple[float, int, int], ...]
    disk: tuple[tuple[float, float], ...]
    tries: Mapping[str, int]
    control_fault: str = ""
    waits: Mapping[str, float] = field(default_factory=dict)
    active: Collection[str] = ()
    trends: Mapping[str, str] = field(default_factory=dict)


def find_alarms(facts: Facts, limits: Alarms) -> dict[str, str]:
    """Sentence of every alarm that holds now, by its key."""
    found: dict[str, str] = {}
    silent = (facts.now - facts.last_found) / 60
    if facts.collecting and silent > limits.no_new_min:
        found["no_new_files"] = f"No new file for {silent:.0f} minutes"
    failed, total = failure_share(facts.recent)
    held = "failures" in facts.active
    if (
        total >= FEWEST
        and failed >= (1 if held else FEWEST_FAILED)
        and 100 * failed > limits.failure_percent * (CALMER if held else 1) * total
    ):
        than = "" if 100 * failed <= limits.failure_percent * total else f", more than {limits.failure_percent:g} %"
        found["failures"] = f"{failed} of the last {total} exposures failed{than}"
    found |= _disk_alarms(facts, limits)
    stuck = sorted(batch for batch, number in facts.tries.items() if number >= STUCK_TRIES)
    if stuck:
        found["stuck"] = f"Batch {stuck[0]} failed {facts.tries[stuck[0]]} times; is something wrong with the machine? Its log tells more"
    late = max(facts.waits, key=lambda batch: facts.waits[batch], default=None)
    if late is not None and facts.waits[late] > limits.not_started_min:
        found["not_started"] = f"Batch {late} waits for {facts.waits[late]:.0f} minutes to be started; is the queue full?"
    if facts.control_fault:
        found["control"] = f"{facts.control_fault}; the last valid settings stay"
    return found | dict(facts.trends)


def _disk_alarms(facts: Facts, limits: Alarms) -> dict[str, str]:
    free = facts.disk[-1][1] / 1e9 if facts.disk else float("inf")
    hours = hours_until_full(facts.disk)
    if free < limits.disk_free_gb:
        return {"disk": f"The run folder's disk has {free:.1f} GB left, less than {limits.disk_free_gb:g} GB; no new batch is started"}
    if hours < limits.disk_full_h / (CALMER if "disk_soon" in facts.active else 1):
        return {"disk_soon": f"The run folder's disk will be full in {hours:.1f} hours ({free:.1f} GB left)"}
    return {}


def failure_share(recent: Iterable[tuple[float, int, int]]) -> tuple[int, int]:
    """(failed, all) of the last RECENT exposures or a few more."""
    failed = total = 0
    for _, well, bad in sorted(recent, reverse=True):
        if total >= RECENT:
            break
        failed, total = failed + bad, total + well + bad
    return failed, total


def hours_until_full(disk: tuple[tuple[float, float], ...]) -> float:
    """Hours until no byte is free at the mean rate over the samples; infinite while they cover less than ten minutes or nothing is used."""
    if len(disk) < 2 or disk[-1][0] - disk[0][0] < 600 or disk[-1][1] >= disk[0][1]:
        return float("inf")
    per_second = (disk[0][1] - disk[-1][1]) / (disk[-1][0] - disk[0][0])
    return disk[-1][1] / per_second / 3600


def sample(samples: list[Any], now: float, value: float) -> list[Any]:
    """Samples of a number with the present one: one per minute, an hour of them, the last always fresh."""
    kept = [list(entry) for entry in samples]
    if len(kept) >= 2 and kept[-1][0] - kept[-2][0] < SAMPLE_S:
        kept.pop()
    return [*kept, [now, value]][-SAMPLES:]


def news(old: Mapping[str, str], new: Mapping[str, str]) -> list[dict[str, str]]:
    """What to write: alarms that came, and those that went."""
    came = [{"alarm": key, "event": "raised", "sentence": sentence} for key, sentence in new.items() if key not in old]
    return came + [{"alarm": key, "event": "cleared", "sentence": sentence} for key, sentence in old.items() if key not in new]
