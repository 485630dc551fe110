"""How searches follow each other: who strays, how far resolution may grow, what turning is."""

import pytest
import torch
from scipy.stats import chi

from firn.kernels.pose_grid import grid_step
from firn.kernels.rotation import euler_matrices
from firn.kernels.symmetry import symmetry_matrices
from firn.refine.schedule import beyond
from firn.refine.search_course import (
    FIRST_LOCAL,
    coarsest_order,
    finest_wanted,
    likely_error,
    next_searched,
    orientation_change,
    shift_reach_after,
    strays,
    wide_iteration,
)


def test_the_first_iterations_and_some_later_ones_search_everywhere() -> None:
    wide = [wide_iteration(number) for number in range(1, 21)]
    assert all(wide[: FIRST_LOCAL - 1])
    assert not wide[FIRST_LOCAL - 1]
    assert 1 < sum(wide[FIRST_LOCAL:]) < 6


def test_a_particle_strays_beyond_one_and_a_half_steps_of_the_grid_that_a_search_nearby_begins_with() -> None:
    reach = 1.5 * grid_step(3)
    assert strays(torch.tensor([0.0, 0.99 * reach, 1.01 * reach]), order=5).tolist() == [False, False, True]
    assert strays(torch.tensor([1.01 * 1.5 * grid_step(2)]), order=3).tolist() == [True]


def test_a_rotation_by_an_operator_of_the_group_is_none() -> None:
    angles = torch.tensor([[10.0, 20.0, 30.0], [200.0, 100.0, 5.0]])
    first, operators = euler_matrices(angles), symmetry_matrices("C4").float()
    turned = operators[1] @ first
    assert orientation_change(first, turned, operators).tolist() == pytest.approx([0, 0], abs=0.1)
    assert orientation_change(first, turned, operators[:1]).tolist() == pytest.approx([90, 90], abs=0.1)


def test_a_resolution_that_grows_is_given_more_room_than_one_that_stays() -> None:
    assert next_searched(256, best=20.0, resolved=24.0) == 24 + beyond(256)
    assert 24 < next_searched(256, best=24.0, resolved=24.2) < 24 + beyond(256)


def test_shifts_are_looked_for_within_three_times_what_particles_moved_by_and_never_beyond_the_most() -> None:
    moved = torch.tensor([[0.6, 0.8], [-0.8, 0.6]])
    assert shift_reach_after(moved, 10.0) == pytest.approx(3.0)
    assert shift_reach_after(moved, 2.0) == 2.0
    assert shift_reach_after(0 * moved, 10.0) == 1.0


def test_grids_grow_finer_once_few_orientations_share_the_probability() -> None:
    assert finest_wanted(4, torch.tensor([2.0, 3.0, 90.0]), 3) == 5
    assert finest_wanted(4, torch.tensor([2.0, 80.0, 90.0]), 3) == 4


def test_the_grid_gets_coarser_where_most_particles_say_little_about_their_orientation() -> None:
    broad, unknown = torch.tensor([2.0, 300.0, 400.0]), torch.full((3,), torch.inf)
    assert [finest_wanted(order, broad, 3) for order in (5, 4, 3)] == [4, 3, 3]
    assert finest_wanted(4, broad, 4) == 4
    assert finest_wanted(4, unknown, 3) == 4


def test_a_coarser_grid_is_left_once_the_finer_one_would_not_be_shared_by_many() -> None:
    assert finest_wanted(3, torch.full((3,), 11.0), 3) == 4
    assert finest_wanted(3, torch.full((3,), 13.0), 3) == 3
    assert finest_wanted(4, torch.full((3,), 11.0), 3) == 4
    assert coarsest_order(False, 1) is None
    assert coarsest_order(True, 60) == coarsest_order(True, 1) + 1


@pytest.mark.parametrize("step", [1.0, 1.5])
def test_orientations_that_share_a_gaussian_posterior_tell_its_median_error(step):
    sigma, axis = 1.2, torch.arange(-12, 12.1, step, dtype=torch.float64)
    squares = axis.square()[:, None, None] + axis.square()[:, None] + axis.square()
    weights = torch.exp(-squares / (2 * sigma**2))
    shared = float(weights.sum() ** 2 / weights.square().sum())
    assert likely_error(shared, step) == pytest.approx(sigma * chi(3).median(), rel=0.01)
