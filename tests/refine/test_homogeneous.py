"""When a refinement ends: it goes on while resolution grows, by however little at a time, or orientations still have far to go."""

from collections.abc import Callable

import pytest
import torch

from firn.refine.homogeneous import PATIENCE, Course, Iteration, Refinement
from firn.refine.search_course import GAIN, SETTLED

MOST = 30
UNSURE = 4.0


def iterations(resolved: Callable[[int], float], moved: Callable[[int], float], strays: float = 0.0, finer_from: int = MOST) -> int:
    """Iterations of a refinement whose resolution (shells) and changes of orientation (degrees) are given by iteration.

    strays: their share; finer_from: iteration that is the first to search a finer grid.
    """
    none = torch.zeros(0)

    class Told(Refinement):
        def __init__(self) -> None:
            self.result, self.course = None, Course(8.0, 8.0, 1.0, 1.0, strays=strays)

        def step(self, number: int, last: bool) -> Iteration:
            return Iteration(
                number, 8.0, True, 4 + (number >= finer_from), (none, none), none, none, none, resolved(number), moved(number), UNSURE, last
            )

        def _finer_next(self, number: int) -> bool:
            return number + 1 == finer_from

    return sum(1 for _ in Told().run(MOST))


def test_many_small_gains_in_resolution_go_on() -> None:
    assert iterations(lambda number: 10 + 0.4 * GAIN * number, lambda number: UNSURE) == MOST


def test_a_resolution_that_fell_back_gains_nothing_by_coming_back() -> None:
    assert iterations(lambda number: 10 - number % 2, lambda number: UNSURE) <= 2 + PATIENCE + 1


def test_settled_orientations_end_it_at_the_first_iteration_without_a_gain() -> None:
    assert iterations(lambda number: 10 * min(number, 4), lambda number: 0.9 * SETTLED * UNSURE) == 6


def test_orientations_that_settled_on_a_grid_must_settle_on_the_finer_one_that_follows() -> None:
    settled = 0.9 * SETTLED * UNSURE
    assert iterations(lambda number: 10 * min(number, 4), lambda number: settled, finer_from=6) == 8
    assert iterations(lambda number: 10 * min(number, 4), lambda number: settled, finer_from=7) == 6


def test_orientations_that_have_far_to_go_are_given_some_iterations() -> None:
    assert iterations(lambda number: 10 * min(number, 4), lambda number: 1.1 * SETTLED * UNSURE) == 5 + PATIENCE


def test_orientations_have_not_settled_while_many_particles_stray() -> None:
    """Most may stay where they are while the rest still finds its way, as those of a shell do."""
    assert iterations(lambda number: 10 * min(number, 4), lambda number: 0.0, strays=0.1) == 5 + PATIENCE


@pytest.mark.parametrize("closed", [0.5, 0.8])
def test_what_is_left_to_go_when_settled_adds_little_to_the_error(closed: float) -> None:
    """A fixed part of the distance is closed by each iteration, the last one after it settled too."""
    left = SETTLED * UNSURE * (1 - closed) / closed * (1 - closed)
    assert (UNSURE**2 + left**2) ** 0.5 < 1.01 * UNSURE
