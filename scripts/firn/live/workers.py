"""How devices are divided between lanes: an integer program on measured times, the rate of movies, and what waits.

A lane needs so many devices as it keeps busy on average. Preprocessing must keep up with the microscope, then rounds, then the rest; each lane
has at least one device, if need be in turns with others; what nobody needs goes to preprocessing. Without GPUs, cores are divided.
"""

import itertools
import math
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from firn.live.points import STAGE, Points
from firn.live.rounds import Rounds
from firn.live.streams import round_threads
from firn.runtime.atomic import write_text

LANES = ("preprocess", "reconstruct", "auxiliary")
WORTH = {"preprocess": 100.0, "reconstruct": 10.0, "auxiliary": 1.0}
"""What a device too few in a lane costs; sharing costs less than any of it, an idle device least."""
SHARING, IDLE = 1e-2, 1e-4
GROUPS = tuple(group for size in (1, 2, 3) for group in itertools.combinations(LANES, size))
"""Lanes that a device may serve."""
UNMEASURED = {"reconstruct": 0.5, "auxiliary": 0.05}
"""Devices that rounds take before any was timed."""
HOUR, RECENT = 3600.0, 50
LANES_FILE, HEAD = Path("lanes.yaml"), "# planned by the live session (workers in live/control.yaml); without this line it is yours\n"

Division = dict[tuple[str, ...], int]
"""How many devices serve which lanes."""


def divide(count: int, needs: Mapping[str, float], preprocess: int | None = None) -> Division:
    """Devices by the lanes they serve, such that the least is missing. preprocess: devices of that lane, when somebody has decided."""
    try:
        return _solved(count, needs, preprocess)
    except (ImportError, AttributeError, ArithmeticError, OSError):
        return _plain(count, preprocess)


def _solved(count: int, needs: Mapping[str, float], preprocess: int | None) -> Division:
    import pulp  # slow to import, and wanted once a minute

    problem = pulp.LpProblem("lanes", pulp.LpMinimize)
    devices = {group: problem.add_variable(f"n_{'_'.join(group)}", 0, count, "Integer") for group in GROUPS}
    time = {(lane, group): problem.add_variable(f"t_{lane}_{'_'.join(group)}", 0) for group in GROUPS for lane in group}
    missing = {lane: problem.add_variable(f"m_{lane}", 0) for lane in LANES}
    shared = pulp.lpSum((len(group) - 1) * devices[group] for group in GROUPS)
    problem += pulp.lpSum(WORTH[lane] * missing[lane] for lane in LANES) + SHARING * shared - IDLE * devices[("preprocess",)]
    problem += pulp.lpSum(devices.values()) == count
    for group in GROUPS:
        problem += pulp.lpSum(time[lane, group] for lane in group) <= devices[group]
    for lane in LANES:
        problem += missing[lane] >= needs.get(lane, 0.0) - pulp.lpSum(time[lane, group] for group in GROUPS if lane in group)
        of_lane = pulp.lpSum(devices[group] for group in GROUPS if lane in group)
        problem += (of_lane == min(preprocess, count)) if lane == "preprocess" and preprocess else (of_lane >= 1)
    try:
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            status = problem.solve(pulp.PULP_CBC_CMD(msg=False))
    except pulp.PulpError as error:
        raise ArithmeticError(str(error)) from error
    if pulp.LpStatus[status] != "Optimal":
        raise ArithmeticError("no division of the devices")
    return {group: round(variable.value()) for group, variable in devices.items() if round(variable.value())}


def _plain(count: int, preprocess: int | None) -> Division:
    """A division without a solver: the last device for rounds, all others for preprocessing."""
    if count == 1 or (preprocess or 0) >= count:
        return {LANES: 1} | ({("preprocess",): count - 1} if count > 1 else {})
    own = min(preprocess or count - 1, count - 1)
    return {("preprocess",): own, ("reconstruct", "auxiliary"): count - own}


def lanes_of(division: Division) -> dict[str, list[int]]:
    """Numbers of the devices of each lane, those of preprocessing first."""
    order = sorted(division, key=lambda group: ("preprocess" not in group, len(group), group))
    served = [group for group in order for _ in range(division[group])]
    return {lane: [number for number, group in enumerate(served) if lane in group] for lane in LANES}


def seconds_per_movie(points: Points, imports: Iterable[str]) -> float | None:
    """Median time that a lane of preprocessing takes for a movie; None before one is known. imports: their time needs no device."""
    columns = [name for name in points.columns if name.startswith(STAGE) and name.removeprefix(STAGE) not in set(imports)]
    times = [median(values) for name in columns if (values := points.last(name, RECENT))]
    return sum(times) if times else None


def needed(seconds: float | None, per_hour: float, waiting: int, rounds: Rounds, now: float, threads: int) -> dict[str, float]:
    """Devices that each lane keeps busy. per_hour: movies that come; waiting: those not done, to be caught up within an hour.

    threads: of a round, in devices.
    """
    needs = {"preprocess": (per_hour + waiting) / HOUR * (seconds or 0.0)}
    for lane, roles in (("reconstruct", ("classify", "refine")), ("auxiliary", ("initial",))):
        done = [entry for entries in rounds.values() for entry in entries if entry["role"] in roles and entry.get("seconds")]
        recent = sum(float(entry["seconds"]) for entry in done if entry.get("finished", 0.0) > now - HOUR)
        needs[lane] = threads * min(recent / HOUR if done else UNMEASURED[lane] if rounds else 0.0, 1.0)
    return {lane: round(need, 3) for lane, need in needs.items()}


def gpu_count() -> int:
    """GPUs of this machine that a session may use; 0 where there are none, or where a scheduler gives them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = len(list(Path("/dev").glob("nvidia[0-9]*")))
    return min(there, len([name for name in visible.split(",") if name.strip()])) if visible is not None else there


def plan_workers(
    wanted: int | str | None, seconds: float | None, per_hour: float, waiting: int, rounds: Rounds, now: float
) -> dict[str, Any]:
    """A plan for people and for the session: devices of each lane, what they need, and why."""
    gpus = gpu_count()
    count = gpus or os.cpu_count() or 1
    needs = needed(seconds, per_hour, waiting, rounds, now, 1 if gpus else round_threads())
    division = divide(count, needs, wanted if isinstance(wanted, int) else None)
    lanes = lanes_of(division)
    kind = "GPU" if gpus else "core"
    parts = [f"{number} {kind}{'s' if number > 1 else ''} for {' and '.join(group)}" for group, number in division.items()]
    pace = f"{seconds:.3g} s per movie, {per_hour:.0f} movies per hour and {waiting} waiting" if seconds else "no movie was timed yet"
    reason = f"{pace}: preprocess needs {needs['preprocess']:.2g}, reconstruct {needs['reconstruct']:.2g}; {', '.join(parts)}"
    if needs["preprocess"] > len(lanes["preprocess"]):
        reason += f"; {math.ceil(needs['preprocess'])} would keep up"
    return {
        "gpus": gpus,
        "workers": len(lanes["preprocess"]),
        "lanes": lanes,
        "needs": needs,
        "in_force": wanted is not None,
        "reason": reason,
    }


def enforce(plan: Mapping[str, Any]) -> None:
    """Give GPUs to lanes as planned, in a lanes.yaml that nobody else wrote."""
    if not plan["gpus"] or not plan["in_force"] or (LANES_FILE.exists() and not LANES_FILE.read_text(encoding="utf-8").startswith(HEAD)):
        return
    lanes: Mapping[str, Sequence[int]] = plan["lanes"]
    text = HEAD + yaml.safe_dump({lane: list(numbers) for lane, numbers in lanes.items()}, default_flow_style=None)
    if not LANES_FILE.exists() or LANES_FILE.read_text(encoding="utf-8") != text:
        write_text(LANES_FILE, text)
