"""A live session as one tick sees it: what was remembered, what people decided, what is told to people."""

import json
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from firn.errors import InputError, MachineError
from firn.live import alarms, counters, layout
from firn.live.accept import limits_of
from firn.live.batches import open_count
from firn.live.control import Control, Limits, changes, read_control
from firn.live.ledger import Ledger
from firn.live.memory import memory_alarm
from firn.live.page import write_page
from firn.live.pickers import decided, told_trials
from firn.live.points import Points, read_points
from firn.live.round_cards import read_rounds, resolutions
from firn.live.rounds import Rounds, given_up, latest_rounds, open_rounds, recall
from firn.live.storage import results_away, say_waiting
from firn.live.trends import attribute_alarms, backlog_alarm, pattern_alarm, resolution_alarm
from firn.live.views import views_sentence
from firn.live.workers import enforce, plan_workers, seconds_per_movie
from firn.runtime.atomic import write_json, write_text

TELL_S, PLAN_S = 10.0, 60.0


@dataclass
class Session:
    """plan: per import its patterns, batch size, EER settings and jobs, as firn.dag.collection tells; ledgers by import.

    streams: as firn.dag.streams tells; rounds of each of their jobs.
    """

    plan: dict[str, dict[str, Any]]
    ledgers: dict[str, Ledger]
    control: Control
    memory: dict[str, Any]
    streams: Sequence[dict[str, Any]] = ()
    rounds: Rounds = field(default_factory=dict)
    control_fault: str = ""
    refused: tuple[Any, InputError] | None = None
    """What of the control file was refused, as the session stood, and why."""
    told: float = 0.0
    storage_fault: str = ""
    returned: bool = False
    """Whether the results were away since the tick began."""
    away: dict[str, str] = field(default_factory=dict)
    """Of each import, why nothing is begun with its movies."""
    active: dict[str, str] = field(default_factory=dict)

    @classmethod
    def resume(cls, plan: dict[str, dict[str, Any]], now: float, streams: Sequence[dict[str, Any]] = ()) -> "Session":
        """The session as the last tick left it; a new one where there is none; of a memory of another version's what is understood."""
        known = _of_kinds(layout.read_json(layout.STATE, {}))
        remembered, made = known.pop("ledgers", {}), known.pop("rounds", {})
        ledgers = {root: Ledger.restore(root, remembered.get(root)) for root in plan}
        memory: dict[str, Any] = {
            "started": now,
            "last_found": now,
            "disk": [],
            "backlog": [],
            "views": {},
            "alarms": {},
            "control": Control().model_dump(),
            "quiet_since": now,
        }
        memory |= known
        rounds = recall(made, [job["name"] for stream in streams for job in stream["jobs"].values()])
        told = memory.pop("told", 0.0)
        return cls(plan, ledgers, _control(memory["control"]), memory, streams, rounds, told=told, active=dict(memory["alarms"]))

    def heed(self, now: float, check: Callable[[Control], None] = lambda control: None) -> bool:
        """Read what people decided; whether anything changed. A file with a fault changes nothing and raises an alarm.

        check: raises InputError when something that is asked for cannot be done in this session.
        """
        try:
            control = read_control(layout.CONTROL)
            if control != self.control:
                check(control)
        except InputError as error:
            self.control_fault = str(error)
            return False
        self.control_fault = ""
        if control == self.control:
            return False
        for change in changes(self.control.model_dump(), control.model_dump()):
            layout.append_line(layout.DECISION_LOG, **change)
        if control.state == "run" and self.control.state != "run":
            self.memory["last_found"] = self.memory["quiet_since"] = now
        self.control, self.memory["control"] = control, control.model_dump()
        return True

    @property
    def ending(self) -> bool:
        """Whether no file is to be waited for any more."""
        return self.control.state == "end" or layout.END_MARK.exists()

    @property
    def paused(self) -> bool:
        """Whether nothing but what is in work is to be done."""
        return self.control.state in ("pause", "stop") and not self.ending

    @property
    def opened(self) -> dict[str, dict[str, int]]:
        """Number of the try of each batch in work, by import."""
        return {root: ledger.opened for root, ledger in self.ledgers.items()}

    def is_quiet(self, now: float) -> bool:
        """Whether the session ends because no file came for long."""
        limit = self.control.quiet_min
        return limit is not None and self.control.state == "run" and now - self.memory["quiet_since"] > 60 * limit

    def closing(self, now: float) -> bool:
        """Whether the session is about to end: as somebody decided, or since no file came for long."""
        return self.ending or self.is_quiet(now)

    def limits(self, root: str) -> dict[str, Limits]:
        """Limits that the config's curation gives."""
        return limits_of(self.plan[root]["curation"])

    def remember(self, over: str = "") -> None:
        """Write what the next tick and Snakemake's targets need; over: why there is no next tick."""
        remembered = {root: ledger.remembered() for root, ledger in self.ledgers.items()}
        kept = {"alarms": self.active, "ledgers": remembered, "rounds": self.rounds, "told": self.told}
        write_text(layout.STATE, json.dumps(self.memory | kept))
        write_json(
            layout.OPEN,
            {
                "over": over,
                "time": time.time(),
                "batches": self.opened,
                "rounds": open_rounds(self.rounds),
                "trials": self.memory.get("trials", []),
                "report": self.memory.get("report", 0),
            },
        )

    def tell(self, now: float, state: str) -> None:
        """Refresh session.json and alarms.jsonl."""
        self.told = now
        usage = shutil.disk_usage(".")
        summary, points, made = self._summary(now, state), read_points(), read_rounds()
        self.memory["disk"] = alarms.sample(self.memory["disk"], now, float(usage.free))
        self.memory["backlog"] = alarms.sample(self.memory["backlog"] if state == "running" else [], now, summary["backlog"])
        trends = {"storage": self.storage_fault} if self.storage_fault else self._trends(points, summary, made)
        found = alarms.find_alarms(self._facts(now, state, trends), self.control.alarms)
        for line in alarms.news(self.active, found):
            layout.append_line(layout.ALARM_LOG, **line)
        self.active = found
        summary |= {"alarms": found, "disk_free_gb": round(usage.free / 1e9, 2)}
        summary["workers"] = self._plan_workers(now, points, summary)
        write_json(layout.SESSION, summary)
        limits = {name: limits for root in self.plan for name, limits in self.limits(root).items()} | self.control.thresholds
        write_page(summary, points, limits, made)

    def suffer(self, error: Exception, state: str) -> None:
        """A disk is at fault: say so, as far as it can be said."""
        self.returned |= bool(results_away())
        sentence = str(error) if isinstance(error, MachineError) else f"the run folder's disk is at fault: {error}"
        if sentence != self.storage_fault:
            say_waiting(sentence)
        self.storage_fault = sentence
        with suppress(OSError):
            self.tell(time.time(), state)

    def recover(self, state: str) -> None:
        """All is well; what could not be told of a fault is told now, and that it is over."""
        if not self.storage_fault:
            return
        if "storage" not in self.active:
            self.tell(time.time(), state)
        self.storage_fault = ""
        self.tell(time.time(), state)

    def _plan_workers(self, now: float, points: Points, summary: dict[str, Any]) -> dict[str, Any]:
        """How devices are best divided between lanes, found out once a minute, and enforced where somebody asked for it."""
        wanted, known = self.control.workers, self.memory.get("workers", {})
        if known.get("wanted", 0) == wanted and now - known["time"] < PLAN_S:
            return dict(known["plan"])
        seconds = seconds_per_movie(points, self.plan)
        plan = plan_workers(wanted, seconds, summary["rates"]["found_per_hour"], summary["backlog"], self.rounds, now)
        enforce(plan)
        self.memory["workers"] = {"wanted": wanted, "time": now, "plan": plan}
        return plan

    @property
    def most_open(self) -> int:
        """Batches that may be in work at once."""
        plan = self.memory.get("workers", {}).get("plan", {"gpus": 0, "workers": self.control.open_batches})
        if self.control.workers is None or plan["gpus"]:
            return self.control.open_batches
        return min(self.control.open_batches, plan["workers"] if self.control.workers == "auto" else self.control.workers)

    def disk_is_full(self) -> bool:
        """Whether too little space is left to start a batch."""
        return shutil.disk_usage(".").free < 1e9 * self.control.alarms.disk_free_gb

    def _trends(self, points: Points, summary: dict[str, Any], made: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
        rates = summary["rates"]
        slow = backlog_alarm(self.memory["backlog"], rates["found_per_hour"], rates["ready_per_hour"], "backlog" in self.active)
        refined = resolutions(made)
        maps = {f"resolution_{name}": resolution_alarm(rounds) for name, rounds in refined.items()}
        views = {f"views_{name}": self._views(name, rounds[-1]["folder"]) for name, rounds in refined.items() if rounds}
        found = attribute_alarms(points, self.active) | {"backlog": slow} | maps | views | given_up(self.rounds)
        found["gain"] = pattern_alarm(layout.read_json(layout.PATTERN, {}).get("contrast", 0.0), "gain" in self.active)
        found["memory"] = memory_alarm(self.opened, {root: plan["jobs"] for root, plan in self.plan.items()}, self.rounds)
        found |= {f"movies_{root}": sentence for root, sentence in self.away.items()}
        return {key: sentence for key, sentence in found.items() if sentence}

    def _views(self, job: str, folder: str) -> str:
        """The alarm about the views of a round, which is found out once."""
        if self.memory["views"].get(job, [None])[0] != folder:
            self.memory["views"][job] = [folder, views_sentence(job, Path(folder))]
        return str(self.memory["views"][job][1])

    def _facts(self, now: float, state: str, trends: dict[str, str]) -> alarms.Facts:
        tries = {f"{root}/{batch}": number for root, ledger in self.ledgers.items() for batch, number in ledger.opened.items()}
        disk = tuple((float(when), float(free)) for when, free in self.memory["disk"])
        events = counters.recent(self.ledgers.values())
        return alarms.Facts(
            now,
            state == "running",
            self.memory["last_found"],
            events,
            disk,
            tries,
            self.control_fault,
            self._waits(now),
            self.active,
            trends,
        )

    def _waits(self, now: float) -> dict[str, float]:
        """Minutes for which open batches wait for their import, whose log is written as it starts."""
        waiting = [(root, batch) for root, ledger in self.ledgers.items() for batch, number in ledger.opened.items() if number == 0]
        cut = {
            f"{root}/{batch}": layout.read_json(layout.batch_file(root, batch), {}).get("cut", now)
            for root, batch in waiting
            if not layout.log_file(root, batch).exists()
        }
        return {name: (now - time) / 60 for name, time in cut.items()}

    def _summary(self, now: float, state: str) -> dict[str, Any]:
        ledgers = list(self.ledgers.values())
        numbers = counters.count(ledgers)
        return {
            "updated": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(now)),
            "state": state,
            "reason": self.control.reason,
            "counters": numbers,
            "backlog": numbers["queued"] + numbers["in_progress"],
            "rates": counters.rates(ledgers, now, self.memory["started"]),
            "minutes_since_last_file": round((now - self.memory["last_found"]) / 60, 2),
            "failures": counters.failures(ledgers),
            "last_refused": counters.last_refused(ledgers),
            "imports": {ledger.root: counters.count([ledger]) for ledger in ledgers},
            "rounds": latest_rounds(self.rounds),
            "tests": told_trials(),
            "picking": {"decisions": len(decided()), "batches_to_pick_again": sum(map(len, self.memory.get("stale", {}).values()))},
            "batches_in_work": open_count(self.opened),
        }


KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("ledgers", "rounds", "views", "alarms", "control", "stale", "late", "workers"), dict),
    **dict.fromkeys(("disk", "backlog", "released", "trials"), list),
    **dict.fromkeys(("started", "last_found", "quiet_since", "told", "generation", "report"), (int, float)),
}
"""What a tick remembers by kind."""


def _of_kinds(memory: Any) -> dict[str, Any]:
    """What is remembered, less what is of no kind that it should be."""
    return {name: value for name, value in memory.items() if isinstance(value, KINDS.get(name, object))} if isinstance(memory, dict) else {}


def _control(remembered: dict[str, Any]) -> Control:
    """What was decided, as it was remembered; the defaults for what another version remembered, until the control file is read."""
    try:
        return Control(**remembered)
    except (TypeError, ValueError):
        return Control()
