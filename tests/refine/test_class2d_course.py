"""When 2D classification goes on to settle, and to its final passes, by made-up courses."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from firn.refine.class2d_course import at_rest, farthest, has_settled, is_settling
from firn.refine.class2d_state import Step
from motif_particles import make_plan

PLAN = make_plan(iterations=20, batch_size=100, anneal_start=2, anneal_length=14)


def course(rises: Sequence[float], settling: bool = False, **changes: Sequence[float]) -> list[Step]:
    """Iterations whose averages reach 4 of at most 14 Fourier pixels and leave a tenth unexplained, but for what is given of each."""
    plain = Step(4, 4.0, 0.1, 1.2, 1.0, 0.0, 4.0, 0.1, settling)
    each = [{name: values[number] for name, values in changes.items()} for number in range(len(rises))]
    return [plain._replace(rise=rise, **change) for rise, change in zip(rises, each, strict=True)]


FALLING = [1.0, 0.3, 0.06, 0.02, 0.008, 0.004, 0.002]


def test_classes_are_at_rest_when_particles_of_three_iterations_are_explained_hardly_better_than_before() -> None:
    assert [at_rest(PLAN, 100, course(FALLING)[:done]) for done in range(1, 8)] == [False] * 6 + [True]


def test_classes_rest_only_after_as_many_iterations_as_look_at_every_particle() -> None:
    still = course([0.0] * 12)
    assert next(done for done in range(1, 13) if at_rest(PLAN, 500, still[:done])) == 6
    assert not any(at_rest(PLAN, 10_000, still[:done]) for done in range(1, 13))


def test_what_was_never_looked_at_counts_as_risen() -> None:
    assert not at_rest(PLAN, 150, course([1.0, 0.5, 0.4, 0.02, 0.0]))


@pytest.mark.parametrize(
    "changes",
    [
        {"reach": [4.0, 4.0, 4.05, 4.1, 4.15]},
        {"unexplained": [0.1, 0.11, 0.12, 0.14, 0.16]},
        {"temper": [0.25, 0.5, 1.0, 1.0, 1.0]},
        {"radius": [6] * 5},
    ],
    ids=["farther", "fewer", "tempered", "held back"],
)
def test_nothing_rests_while_averages_reach_farther_or_are_held_back_and_particles_are_left_out_or_tempered(
    changes: dict[str, list[float]],
) -> None:
    assert at_rest(PLAN, 100, course([0.0] * 5))
    assert not at_rest(PLAN, 100, course([0.0] * 5, **changes))


def test_averages_at_the_finest_are_not_held_back() -> None:
    finest = replace(PLAN, first_radius=14.0)
    assert at_rest(finest, 100, course([0.0] * 5, radius=[14] * 5, reach=[14.0] * 5))


def test_the_schedule_leads_from_the_first_to_the_finest_radius() -> None:
    radii = [farthest(PLAN, step) for step in range(21)]
    assert (radii[0], radii[6], radii[12], radii[20]) == (4, 7, 14, 14)
    assert radii == sorted(radii)


def test_classes_settle_from_the_first_rest_on_and_have_settled_at_the_second() -> None:
    explored = course(FALLING)
    assert not is_settling(PLAN, 100, explored[:-1])
    assert is_settling(PLAN, 100, explored)
    assert not has_settled(PLAN, 100, explored)
    settling = course([-0.05, 0.02, 0.0, 0.0], settling=True)
    assert all(is_settling(PLAN, 100, explored + settling[:done]) for done in range(1, 5))
    assert [has_settled(PLAN, 100, explored + settling[:done]) for done in range(1, 5)] == [False, False, False, True]


def test_classes_settle_at_the_end_of_the_annealing_whatever_they_do() -> None:
    rising = course([0.5] * 16)
    assert not is_settling(PLAN, 100, rising[:15])
    assert is_settling(PLAN, 100, rising)


def test_nothing_has_settled_before_the_first_iteration() -> None:
    assert not is_settling(PLAN, 100, [])
    assert not has_settled(PLAN, 100, [])
