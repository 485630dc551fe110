"""When the next round of a stream is due, and what it is made from.

2D classes are made again from all particles that are accepted under the thresholds as they are now; good classes are selected; the first
selection that is large enough gives a first map; the map is refined again as the selection grows. Every round goes on from the one before.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from firn.live.control import Streams
from firn.live.layout import round_folder
from firn.live.rounds import Round, Rounds, last_done, round_name

FEWEST_PARTICLES = 20
PER_CLASS = 20
FIRST_UNITS, FEWEST_3D, SMALLEST_3D = 1000, 100, 50
"""Asymmetric units and particles for the first map; particles without which none is tried at the end either."""
GROWTH_2D = 0.1
POOR = 0.7
"""A map worse than this part of the low-pass it started from has learnt nothing; its start is made anew as particles double."""
MOST_THREADS = 16


@dataclass(frozen=True)
class Supply:
    """What the 3D part of a stream is made from: particles, the folder with their table, and the round that made it (0: sources)."""

    particles: int
    folder: str
    number: int


@dataclass(frozen=True)
class Due:
    """A round to plan: its role, particles, folders it reads by slot, and the rounds it is made from by role."""

    role: str
    particles: int
    inputs: dict[str, list[str]]
    made: dict[str, int]


def due_rounds(
    stream: Mapping[str, Any], rounds: Rounds, usable: int, limits: Any, control: Streams, last: bool, picks: int = 0
) -> list[Due]:
    """Rounds of one stream that are due now.

    usable: particles of accepted exposures; limits: what decides which these are; last: no more particles will come; picks: number of the
    decision by which all was picked again. Rounds of particles that were picked otherwise are no source any more, as their images are gone:
    classes and first maps of them are gone on from, but not half maps, since the same particle may be in the other half now.
    """
    jobs = stream["jobs"]
    whole = {role: rounds.get(job["name"], []) for role, job in jobs.items()}
    present = {role: [entry for entry in entries if entry.get("picks", 0) == picks] for role, entries in whole.items()}
    of = present | {role: whole[role] for role in ("initial",) if role in whole}
    if last:
        of = {role: _given_a_chance(entries) for role, entries in of.items()}
    former = last_done(whole.get("classify", []))
    classes = [_classify(jobs["classify"], of["classify"], former, usable, limits, control, last)] if "classify" in jobs else []
    selection = [_select(jobs, of)] if "select" in jobs else []
    found = [due for due in (*classes, *selection) if due is not None]
    if found or _is_open(of.get("select", [])) or (last and _is_open(of.get("classify", []))):
        return found  # a better selection is on its way
    supply = _supply(jobs, of, usable)
    if supply is None:
        return []
    first = [_initial(jobs, of, supply, control, last)] if "initial" in jobs else []
    refined = [_refine(jobs, of, supply, control, last)] if "refine" in jobs else []
    return [due for due in (*first, *refined) if due is not None]


def _given_a_chance(rounds: list[Round]) -> list[Round]:
    """Rounds without the latest if that failed and the one before did not: it is made again when no other will come with more particles."""
    once = bool(rounds) and rounds[-1]["state"] == "failed" and (len(rounds) == 1 or rounds[-2]["state"] != "failed")
    return rounds[:-1] if once else rounds


def _classify(
    job: Mapping[str, Any], rounds: list[Round], done: Round | None, usable: int, limits: Any, control: Streams, last: bool
) -> Due | None:
    if _is_open(rounds) or usable < FEWEST_PARTICLES:
        return None
    settings = job["settings"]
    if not rounds:
        wanted = usable >= (control.first_2d or PER_CLASS * settings["classes"])
    else:
        before = rounds[-1]["particles"]
        step = control.every_2d or max(min(before, 2 * settings["batch_per_class"] * settings["classes"]), GROWTH_2D * before)
        wanted = abs(usable - before) >= step or (last and (usable != before or rounds[-1]["limits"] != limits))
    if not (wanted or (last and not rounds)):
        return None
    former = {} if done is None else {"templates": [_folder(job, done["number"])]}
    return Due("classify", usable, {"particles": ["sources"], **former}, {} if done is None else {"classify": done["number"]})


def _select(jobs: Mapping[str, Any], of: Mapping[str, list[Round]]) -> Due | None:
    done = last_done(of["classify"])
    if done is None or _is_open(of["select"]) or (of["select"] and of["select"][-1]["made"].get("classify") == done["number"]):
        return None
    folder = _folder(jobs["classify"], done["number"])
    return Due("select", done["particles"], {"particles": [folder], "templates": [folder]}, {"classify": done["number"]})


def _supply(jobs: Mapping[str, Any], of: Mapping[str, list[Round]], usable: int) -> Supply | None:
    role = next((role for role in ("select", "classify") if role in jobs), None)
    if role is None:
        return Supply(usable, "sources", usable)
    done = last_done(of[role])
    return None if done is None else Supply(int(done.get("kept") or done["particles"]), _folder(jobs[role], done["number"]), done["number"])


def _initial(jobs: Mapping[str, Any], of: Mapping[str, list[Round]], supply: Supply, control: Streams, last: bool) -> Due | None:
    rounds, settings = of["initial"], jobs["initial"]["settings"]
    if _is_open(rounds) or supply.particles < SMALLEST_3D or (rounds and not _is_fruitless(jobs, of)):
        return None
    enough = control.first_3d or max(FIRST_UNITS / group_order(settings["symmetry"]), FEWEST_3D)
    wanted = supply.particles >= (2 * rounds[-1]["particles"] if rounds else enough)
    fresh = not rounds or rounds[-1]["made"].get("supply") != supply.number
    if not fresh or not (wanted or (last and last_done(rounds) is None)):
        return None
    return Due("initial", supply.particles, {"particles": [supply.folder]}, {"supply": supply.number})


def _is_fruitless(jobs: Mapping[str, Any], of: Mapping[str, list[Round]]) -> bool:
    """Whether the latest first map came to nothing: it failed, or refining it led nowhere."""
    if of["initial"][-1]["state"] != "done":
        return True
    refined = last_done(of.get("refine", []))
    if refined is None or refined["made"].get("initial") != of["initial"][-1]["number"]:
        return False
    settings = jobs["refine"]["settings"]
    coarse = max(POOR * settings["initial_lowpass"], 1.2 * (settings.get("max_resolution") or 0))
    return refined["resolution"] is None or refined["resolution"] > coarse


def _refine(jobs: Mapping[str, Any], of: Mapping[str, list[Round]], supply: Supply, control: Streams, last: bool) -> Due | None:
    job, rounds = jobs["refine"], of["refine"]
    start = last_done(of.get("initial", []))
    if _is_open(rounds) or _is_open(of.get("initial", [])) or ("initial" in jobs and start is None):
        return None
    made = {"supply": supply.number} | ({"initial": start["number"]} if start else {})
    mine = [entry for entry in rounds if entry["made"].get("initial") == made.get("initial")]
    if mine:
        before, changed = mine[-1]["particles"], mine[-1]["made"].get("supply") != supply.number
        grown = abs(supply.particles - before) >= control.grow_3d / 100 * before
        if not changed or not (grown or last):
            return None
    done = last_done(mine)
    first = job["given"].get("volume") or [_folder(jobs["initial"], made["initial"], job["groups"].get("volume", ""))]
    volume = first if done is None else [_folder(job, done["number"])]
    mask = {"mask": job["given"]["mask"]} if "mask" in job["given"] else {}
    return Due("refine", supply.particles, {"particles": [supply.folder], "volume": volume, **mask}, made)


def round_threads() -> int:
    """Threads of a round: half the cores, so that work that keeps up with the microscope finds the others."""
    return max(1, min(MOST_THREADS, (os.cpu_count() or 1) // 2))


def group_order(symmetry: str) -> int:
    """Number of rotations of a point group; 1 for a name that is none."""
    name = symmetry.strip().upper()
    match = re.fullmatch(r"([CD])(\d+)", name)
    if match:
        return int(match[2]) * (2 if match[1] == "D" else 1)
    return {"T": 12, "O": 24, "I": 60}.get(name[:1], 1)


def _folder(job: Mapping[str, Any], number: int, group: str = "") -> str:
    folder = round_folder(job["name"], round_name(number))
    return str(folder / group if group else folder)


def _is_open(rounds: list[Round]) -> bool:
    return bool(rounds) and rounds[-1]["state"] == "open"
