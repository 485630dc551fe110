"""Is it worth collecting more: the number of particles against resolution, and what the next tenth of an ångström costs.

Rosenthal & Henderson (2003) J. Mol. Biol. 333, 721: amplitudes fall as exp(-B s² / 4), so the resolution d at which N particles reach a given
signal-to-noise ratio follows ln N = B / (2 d²) + constant. 1/d² is fitted as a straight line in ln N (the noise is in d).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LAST_ROUNDS = 12
FEWEST_ROUNDS = 3
LEAST_GROWTH = 1.5
"""Least ratio of the largest to the smallest number of particles in a fit."""
GAINS = (0.1, 0.5)
"""Å."""
NEAR_NYQUIST = 2.15
"""Pixels. A map that is resolved to this is limited by its pixels."""
MOST_PARTICLES = 1e9


@dataclass(frozen=True)
class Line:
    """1/d² = slope ln N + offset; error: standard error of the slope."""

    slope: float
    offset: float
    error: float

    @property
    def b_factor(self) -> float:
        """Å²."""
        return 2 / self.slope if self.slope > 0 else math.inf

    def particles_for(self, resolution: float, particles: float, reached: float) -> float:
        """Particles that reach a resolution (Å), when so many reached another."""
        return particles * math.exp(min((resolution**-2 - reached**-2) / self.slope, 700.0)) if self.slope > 0 else math.inf


def fit_line(particles: Sequence[float], resolutions: Sequence[float]) -> Line:
    """Least squares of 1/d² (Å⁻²) against ln N over three points or more."""
    x, y = [math.log(count) for count in particles], [resolution**-2 for resolution in resolutions]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((value - mean_x) ** 2 for value in x)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread
    offset = mean_y - slope * mean_x
    left = sum((b - offset - slope * a) ** 2 for a, b in zip(x, y, strict=True))
    return Line(slope, offset, math.sqrt(left / max(len(x) - 2, 1) / spread))


def forecast(rounds: Sequence[Mapping[str, float]], per_hour: float, pixel_size: float | None = None) -> dict[str, Any] | None:
    """What more particles would bring, in words and numbers; None before there are rounds enough.

    rounds: particles and resolution (Å) of the rounds of one stream in order; per_hour: particles that come now; pixel_size: Å, of the map.
    """
    used = [entry for entry in rounds if entry["particles"] > 0 and entry["resolution"] > 0][-LAST_ROUNDS:]
    counts = [entry["particles"] for entry in used]
    if len(used) < FEWEST_ROUNDS or max(counts) < LEAST_GROWTH * min(counts):
        return None
    line = fit_line(counts, [entry["resolution"] for entry in used])
    particles, reached = counts[-1], used[-1]["resolution"]
    steps = [_step(line, particles, reached, gain, per_hour) for gain in GAINS if reached > gain]
    verdict, reason = _verdict(line, particles, reached, steps, pixel_size)
    numbers = {"slope": line.slope, "offset": line.offset, "particles": particles, "resolution": reached}
    b_factor = round(line.b_factor, 1) if math.isfinite(line.b_factor) else None
    return {"verdict": verdict, "reason": reason, "b_factor": b_factor, "steps": steps, **numbers}


def _step(line: Line, particles: float, reached: float, gain: float, per_hour: float) -> dict[str, float | None]:
    more = line.particles_for(reached - gain, particles, reached) - particles
    more = more if more < MOST_PARTICLES else math.inf
    hours = more / per_hour if per_hour > 0 else math.inf
    told = {"more_particles": more, "hours": hours}
    return {"gain": gain, **{name: round(value, 2) if math.isfinite(value) else None for name, value in told.items()}}


def _verdict(
    line: Line, particles: float, reached: float, steps: Sequence[Mapping[str, float | None]], pixel_size: float | None
) -> tuple[str, str]:
    if pixel_size and reached < NEAR_NYQUIST * pixel_size:
        return "stop", f"The map is resolved to the limit of its pixels of {pixel_size:.3g} Å; use smaller pixels before more particles."
    if line.slope <= 2 * line.error:
        return "change", "More particles brought no better resolution; look at views, ice, classes and pixel size before collecting more."
    cost = steps[0]["more_particles"] if steps else None
    if cost is None or cost > particles:
        return "stop", "The next 0.1 Å costs more particles than there are."
    return "collect", f"The next 0.1 Å costs {100 * cost / particles:.0f} % more particles."
