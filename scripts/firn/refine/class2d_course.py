"""How far 2D classification has come: exploring, settling, or ready for its final passes, as told by the iterations so far.

Classes explore first: they may be parted anew, and all particles count. When nothing improves they settle: none is parted any more, and
particles that no average explains are left out. When nothing improves then either, the final passes may follow. Nothing improves when,
over LOOKS iterations and as many as it takes to look at each particle, particles are explained no better than when looked at before, no average
reaches farther or is held back by the schedule, and as many particles as before are explained by none.
"""

import math
from collections.abc import Sequence
from itertools import takewhile

from firn.refine.class2d_state import Plan, Step

LOOKS = 3
"""Iterations over which nothing must improve, at least."""
LEAST_RISE = 0.01
"""An improvement: share of the evidence by which an iteration's particles are better explained than when looked at before."""
LEAST_FARTHER = 0.02
"""An improvement: share by which averages reach farther."""
LEAST_DRIFT = 0.03
"""A change: of the share of particles that no average explains."""


def farthest(plan: Plan, step: int) -> int:
    """Fourier radius beyond which the schedule lets no average reach in iteration `step`."""
    progress = min(1.0, step / max(1.0, 0.6 * plan.iterations))
    return int(plan.first_radius * (plan.finest / plan.first_radius) ** progress)


def is_settling(plan: Plan, count: int, steps: Sequence[Step]) -> bool:
    """Whether the next online iteration, over some of `count` particles, settles: once at rest, or when the annealing is to be over."""
    return len(steps) >= plan.anneal_start + plan.anneal_length or (bool(steps) and (steps[-1].settling or at_rest(plan, count, steps)))


def has_settled(plan: Plan, count: int, steps: Sequence[Step]) -> bool:
    """Whether online iterations over some of `count` particles may end."""
    return bool(steps) and steps[-1].settling and at_rest(plan, count, steps)


def at_rest(plan: Plan, count: int, steps: Sequence[Step]) -> bool:
    """Whether nothing has improved of late, in iterations of one kind that were not tempered."""
    looks = max(LOOKS, math.ceil(count / plan.batch_size))
    alike = list(takewhile(lambda step: step.settling == steps[-1].settling and step.temper == 1, reversed(steps)))
    if len(alike) <= looks:
        return False
    last, before = alike[0], alike[looks]
    held_back = farthest(plan, len(steps) - 1) <= last.radius < plan.finest
    return (
        not held_back
        and sum(step.rise for step in alike[:looks]) < LEAST_RISE * looks
        and last.reach < (1 + LEAST_FARTHER) * before.reach
        and abs(last.unexplained - before.unexplained) < LEAST_DRIFT
    )
