"""The class quality score: what lowers it and what does not."""

import pytest
import torch

from firn.refine.class2d_quality import class_quality, edge_ratio, offset, weighted_quantile

RADIUS_PX = 16.0


def disc_image(n: int, y0: float, x0: float, radius: float) -> torch.Tensor:
    axis = torch.arange(n, dtype=torch.float64) - n // 2
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return (torch.hypot(y - y0, x - x0) <= radius).double()


@pytest.mark.parametrize("n", [40, 41])
def test_the_offset_of_a_disc_is_its_distance_from_the_centre(n: int) -> None:
    images = torch.stack((disc_image(n, 0, 0, 6), disc_image(n, 3, 4, 6)))
    assert offset(images, RADIUS_PX).tolist() == pytest.approx([0.0, 5 / RADIUS_PX], abs=0.01)


def test_a_particle_inside_the_mask_has_no_edge_and_a_filled_mask_has_as_much_outside_as_inside() -> None:
    images = torch.stack((disc_image(40, 0, 0, 8), torch.ones(40, 40).double(), -torch.ones(40, 40).double() + 2 * disc_image(40, 0, 0, 8)))
    assert edge_ratio(images, RADIUS_PX).tolist() == pytest.approx([0.0, 1.0, 0.0])


def test_a_quantile_is_weighted_by_particles() -> None:
    values, weights = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([10.0, 1.0, 1.0])
    assert weighted_quantile(values, weights, 0.5) == 1.0
    assert weighted_quantile(values, weights, 0.99) == 3.0


def test_weak_offcentre_and_spread_classes_score_below_good_ones() -> None:
    good, moved, full = disc_image(40, 0, 0, 8), disc_image(40, 0, 8, 8), torch.ones(40, 40).double()
    images = torch.stack((good, good, good, moved, full))
    gain = torch.tensor([50.0, 40.0, 5.0, 45.0, 45.0]).double()
    score = class_quality(images, torch.tensor([100.0, 80.0, 30.0, 20.0, 20.0]).double(), gain, RADIUS_PX).score
    assert bool((score[:2] > 0.9).all())
    assert bool((score[2:] < 0.5).all())


def test_a_class_that_blurs_views_of_strong_particles_is_no_junk_and_noise_beside_them_is() -> None:
    images = disc_image(40, 0, 0, 8).repeat(4, 1, 1)
    gain = torch.tensor([300.0, 350.0, 47.0, 10.0]).double()
    score = class_quality(images, torch.tensor([300.0, 200.0, 140.0, 100.0]).double(), gain, RADIUS_PX).score
    assert bool((score[:3] > 0.7).all())
    assert score[3] < 0.2


def test_signal_far_above_a_particles_counts_against_a_class() -> None:
    images = disc_image(40, 0, 0, 8).repeat(2, 1, 1)
    score = class_quality(images, torch.tensor([100.0, 5.0]).double(), torch.tensor([50.0, 1000.0]).double(), RADIUS_PX).score
    assert score[0] > 0.9
    assert score[1] < 0.5
