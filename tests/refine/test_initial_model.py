"""Volumes of ab-initio classes: what halves of the particles tell about each shell, and the filter made of that."""

import pytest
import torch

from firn.kernels.fourier import resize_volumes, rfft3
from firn.kernels.fsc import shell_average, shell_indices
from firn.kernels.mask import centre_distance
from firn.kernels.project import prepare_volume, project_points
from firn.kernels.sampling import rotation_grid
from firn.kernels.symmetry import symmetrize_volume
from firn.refine.class_hands import inverted
from firn.refine.initial_data import solvent_sphere, working_geometry
from firn.refine.initial_model import agreement, gather_slices, moved, solve, with_random_hand
from firn.refine.initial_search import Slices
from refine.ab_initio_data import BOX, PIXEL_SIZE, volume


def views_of_a_molecule(noise: float, seed: int) -> tuple:
    """(working box, sums of views from everywhere, with some noise)."""
    geometry, generator = working_geometry(BOX, PIXEL_SIZE, 20.0), torch.Generator().manual_seed(seed)
    grid = rotation_grid(1)
    values = project_points(prepare_volume(resize_volumes(volume(), geometry.n)), grid, geometry.disc.points)
    values = values + noise * values.abs().mean() * torch.randn(values.shape, generator=generator, dtype=values.dtype)
    slices = Slices(torch.zeros(len(grid), dtype=torch.int64), grid, values, torch.ones(values.shape))
    return geometry, gather_slices(slices, geometry.disc, 0, geometry.n, torch.eye(3)[None])


def test_halves_agree_as_much_as_they_share():
    """The same twice agrees fully, opposites nowhere, and one molecule in much noise the better the less noise there is."""
    geometry, sums = views_of_a_molecule(0.0, 1)
    sphere, shells = solvent_sphere(geometry.n, 11.0), slice(1, 9)
    opposite = -sums[0], sums[1]
    assert agreement((sums, sums), geometry.n, 9.0, sphere)[shells].min() == pytest.approx(1.0, abs=1e-4)
    assert agreement((sums, opposite), geometry.n, 9.0, sphere)[shells].max() == 0
    means = [
        float(agreement((views_of_a_molecule(noise, 2)[1], views_of_a_molecule(noise, 3)[1]), geometry.n, 9.0, sphere)[shells].mean())
        for noise in (10.0, 100.0)
    ]
    assert means[0] > means[1] + 0.2


def test_a_volume_is_scaled_by_its_squared_correlation_with_the_truth():
    geometry, (total, _) = views_of_a_molecule(0.0, 1)
    wide = torch.ones(geometry.n, geometry.n, geometry.n)
    wide[0] = 0
    sums = total, torch.ones(total.shape)
    known, half = (solve(sums, geometry.n, 9.0, wide, False, torch.full((geometry.n // 2 + 1,), correlation)) for correlation in (1.0, 0.5))
    assert torch.allclose(half, known / 2, atol=1e-5 * float(known.abs().max()))


def test_a_class_without_particles_stays_empty():
    geometry, (total, weight) = views_of_a_molecule(0.0, 1)
    nothing = 0 * total, 0 * weight
    sphere = solvent_sphere(geometry.n, 11.0)
    correlation = agreement((nothing, nothing), geometry.n, 9.0, sphere)
    assert solve(nothing, geometry.n, 9.0, sphere, True, correlation).abs().max() == 0


def test_slices_of_a_volume_rebuild_it():
    geometry = working_geometry(BOX, PIXEL_SIZE, 20.0)
    truth, grid = resize_volumes(volume(), geometry.n), rotation_grid(2)
    values = project_points(prepare_volume(truth), grid, geometry.disc.points)
    slices = Slices(torch.zeros(len(grid), dtype=torch.int64), grid, values, torch.ones(values.shape))
    sums = gather_slices(slices, geometry.disc, 0, geometry.n, torch.eye(3)[None])
    made = solve(sums, geometry.n, 9.0, solvent_sphere(geometry.n, 11.0), non_negative=True)
    assert torch.corrcoef(torch.stack((made.flatten(), truth.flatten())))[0, 1] > 0.99
    assert made.min() >= 0
    assert gather_slices(slices, geometry.disc, 1, geometry.n, torch.eye(3)[None])[1].abs().max() == 0


def test_moving_the_sums_moves_the_volume():
    geometry = working_geometry(BOX, PIXEL_SIZE, 20.0)
    truth, grid = resize_volumes(volume(), geometry.n), rotation_grid(1)
    values = project_points(prepare_volume(truth), grid, geometry.disc.points)
    slices = Slices(torch.zeros(len(grid), dtype=torch.int64), grid, values, torch.ones(values.shape))
    sums = gather_slices(slices, geometry.disc, 0, geometry.n, torch.eye(3)[None])
    wide = torch.ones_like(truth)
    wide[0] = 0
    first = solve(sums, geometry.n, 9.0, wide, non_negative=False)
    second = solve(moved(sums, geometry.n, (1, -2, 0)), geometry.n, 9.0, wide, non_negative=False)
    core = slice(4, -4)
    difference = torch.roll(first, (1, -2, 0), (0, 1, 2)) - second
    assert difference[core, core, core].abs().max() < 0.05 * first.max()


def test_a_random_hand_is_the_odd_part_of_a_volume_in_each_shell():
    geometry = working_geometry(48, 3.0, 8.0)
    solvent, chance = torch.ones(geometry.n, geometry.n, geometry.n), torch.Generator().manual_seed(7)
    ball = (centre_distance((geometry.n,) * 3) < 8).float()
    drawn = with_random_hand(ball, geometry, solvent, 12.0, "D2", chance)
    even, odd = (rfft3(drawn + sign * inverted(drawn)) for sign in (1, -1))
    shells = shell_indices((geometry.n,) * 3)
    powers = [shell_average(part.abs().square(), shells, geometry.n)[2:10] for part in (even, odd)]
    assert torch.allclose((powers[1] / powers[0]).sqrt(), torch.tensor(0.3), rtol=0.1)
    inside = centre_distance((geometry.n,) * 3) < geometry.n / 2 - 2
    assert torch.allclose(drawn[inside], symmetrize_volume(drawn, "D2")[inside], atol=0.05 * float(drawn.max()))
