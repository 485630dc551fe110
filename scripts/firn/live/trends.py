"""Alarms from the numbers of exposures, of the backlog and of rounds: what gets worse while nobody looks.

The median of the last NEW exposures is held against the median of those before, with the median absolute deviation (MAD) of single exposures
as the measure. An alarm that holds goes only when the numbers are well back, so that none comes and goes with every movie.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from statistics import median
from typing import Any

from firn.live.points import ATTRIBUTES, Points

NEW, BEFORE, FEWEST = 20, 200, 40
"""Exposures: the latest, those before that they are held against, and how many of these there must be."""
RAISE, CLEAR = 3.0, 2.0
"""MAD by which the median must be worse for an alarm to come, and less than which for it to go."""
LEAST = 0.1
"""Part of the median by which it must be worse too, since numbers that hardly vary have hardly any MAD."""
WORSE_ABOVE = ("ctf_fit_resolution", "ice_ring_score", "motion_total")
FEW_PICKS = 0.1
"""Part of the usual picks."""
AT_MOST = 0.5
"""Share of exposures with the very same, highest count that tells of a limit on picks."""
DOSE_CHANGE, DOSE_CALMER = 0.1, 0.07
"""Part by which the counted dose may change."""
PATTERN, PATTERN_CALMER = 0.1, 0.07
"""Contrast (sd) of a pattern that all micrographs share, in that of one micrograph, for an alarm to come, and below which it goes."""
GROWTH_S, LEAST_BACKLOG = 1800.0, 10
SAMPLED = 0.9
DOUBLED, BETTER = 2.0, 0.02
"""Ratio of particles between rounds that are compared, and the part by which resolution should improve between them."""


def attribute_alarms(points: Points, active: Collection[str]) -> dict[str, str]:
    """Alarms from CTF fit, ice, motion and picks of the latest exposures, by key."""
    found: dict[str, str] = {}
    for attribute in (one for one in ATTRIBUTES if one.column in WORSE_ABOVE):
        values = [value * attribute.factor for value in points.last(attribute.column, NEW + BEFORE)]
        sentence = jump(values, attribute.label, attribute.unit, attribute.column in active)
        if sentence:
            found[attribute.column] = sentence
    others = {
        "picks": picks_alarm([int(count) for count in points.last("picks", NEW + BEFORE)], "picks" in active),
        "dose": dose_alarm(points.last("dose_counted", NEW + BEFORE), "dose" in active),
    }
    return found | {key: sentence for key, sentence in others.items() if sentence}


def jump(values: Sequence[float], label: str, unit: str, held: bool) -> str:
    """A sentence when the latest values are worse, that is greater, than those before; nothing otherwise."""
    new, before = list(values[-NEW:]), list(values[:-NEW])
    if len(before) < FEWEST:
        return ""
    usual, now = median(before), median(new)
    spread = median(abs(value - usual) for value in before)
    limit = usual + max((CLEAR if held else RAISE) * spread, LEAST * abs(usual))
    if now <= limit:
        return ""
    return f"{label} is worse: {now:.3g} {unit}".rstrip() + f" over the last {NEW} exposures, {usual:.3g} {unit}".rstrip() + " before"


def picks_alarm(counts: Sequence[int], held: bool) -> str:
    """A sentence when there are next to no picks, or when most exposures have as many as are allowed; nothing otherwise."""
    new, before = list(counts[-NEW:]), list(counts[:-NEW])
    if len(new) < NEW:
        return ""
    usual, now = median(before) if len(before) >= FEWEST else 0, median(new)
    if now <= max((2 if held else 1) * FEW_PICKS * usual, 1 if held else 0):
        return f"Next to nothing is picked: {now:g} picks per micrograph over the last {NEW}" + (f", {usual:g} before" if usual else "")
    full = sum(count == max(new) for count in new)
    if max(new) > 1 and full >= AT_MOST * NEW:
        return f"{full} of the last {NEW} micrographs have exactly {max(new)} picks, the most that is allowed; is the limit too low?"
    return ""


def dose_alarm(doses: Sequence[float], held: bool) -> str:
    """A sentence when the latest exposures have another dose than those before, as a drifting beam gives; nothing otherwise."""
    new, before = list(doses[-NEW:]), list(doses[:-NEW])
    if len(before) < FEWEST or median(before) <= 0:
        return ""
    usual, now = median(before), median(new)
    if abs(now - usual) <= (DOSE_CALMER if held else DOSE_CHANGE) * usual:
        return ""
    return f"The dose has changed by {100 * (now / usual - 1):+.0f} %: {now:.3g} e/Å² are counted per frame, {usual:.3g} before; is the beam centred?"


def pattern_alarm(contrast: float, held: bool) -> str:
    """A sentence when the latest micrographs share a pattern, as firn.live.pattern measures it; nothing otherwise."""
    if contrast <= (PATTERN_CALMER if held else PATTERN):
        return ""
    return (
        f"All micrographs share a fixed pattern with {100 * contrast:.0f} % of their contrast; is the gain reference of another day, turned or "
        "mirrored?"
    )


def backlog_alarm(samples: Sequence[tuple[float, float]], found_per_hour: float, ready_per_hour: float, held: bool) -> str:
    """A sentence when the backlog grew over half an hour. samples: (time, exposures waiting), oldest first."""
    if not samples:
        return ""
    recent = [(time, size) for time, size in samples if time >= samples[-1][0] - GROWTH_S]
    if recent[-1][0] - recent[0][0] < SAMPLED * GROWTH_S:
        return ""
    third = max(len(recent) // 3, 1)
    early, middle, late = (
        median(size for _, size in part) for part in (recent[:third], recent[third:-third] or recent[:third], recent[-third:])
    )
    if not early <= middle <= late or late < LEAST_BACKLOG or late - early < (1 if held else max(LEAST_BACKLOG, 0.2 * early)):
        return ""
    grown = f"The backlog grew from {early:.0f} to {late:.0f} exposures in half an hour"
    if ready_per_hour <= 0 or found_per_hour <= ready_per_hour:
        return grown
    more = math.ceil(10 * (found_per_hour / ready_per_hour - 1)) / 10
    return f"{grown}: {found_per_hour:.0f} movies come per hour, {ready_per_hour:.0f} are finished; {more:.1f} times as many workers more would keep up"


def resolution_alarm(rounds: Sequence[Mapping[str, Any]]) -> str:
    """A sentence when twice the particles brought no better map. rounds: particles and resolution (Å) of one map, in order."""
    if not rounds:
        return ""
    last = rounds[-1]
    before = [entry for entry in rounds[:-1] if DOUBLED * entry["particles"] <= last["particles"]]
    if not before or last["resolution"] <= (1 - BETTER) * before[-1]["resolution"]:
        return ""
    first = before[-1]
    return (
        f"The map is no better for more particles: {last['resolution']:.2f} Å from {last['particles']:.0f}, "
        f"{first['resolution']:.2f} Å from {first['particles']:.0f} before"
    )
