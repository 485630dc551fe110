"""The size of blobs: the peak of a merit over the diameter, refused when it is not clear; profiles of what was picked."""

import itertools
import math

import pytest
import torch

from firn.preprocess.blob_scale import best_scale, likeness, mean_profile, radial_profile, trial_diameters, values_around


def test_diameters_span_the_range_in_even_ratios_no_wider_than_asked():
    diameters = trial_diameters(60.0, 600.0)
    ratios = [b / a for a, b in itertools.pairwise(diameters)]
    assert (diameters[0], diameters[-1]) == pytest.approx((60.0, 600.0))
    assert max(ratios) == pytest.approx(min(ratios))
    assert max(ratios) <= 2**0.25 + 1e-9
    assert trial_diameters(100.0, 101.0) == pytest.approx([100.0, 101.0])


@pytest.mark.parametrize("true", [123.0, 150.0, 171.0])
def test_the_vertex_of_a_parabola_in_the_logarithm_is_found_exactly(true):
    diameters = trial_diameters(60.0, 400.0)
    merits = [3.0 - math.log(diameter / true) ** 2 for diameter in diameters]
    assert best_scale(diameters, merits).diameter == pytest.approx(true)


def test_no_merit_is_no_size():
    scale = best_scale([60.0, 80.0, 100.0], [0.0, 0.0, 0.0])
    assert scale.diameter is None
    assert "no diameter between 60 and 100" in scale.reason


def test_two_sizes_that_match_alike_are_refused_and_both_named():
    scale = best_scale([60.0, 80.0, 110.0, 150.0, 200.0, 260.0], [1.0, 4.0, 1.0, 1.0, 3.9, 1.0])
    assert scale.diameter is None
    assert "80 Å and of 200 Å" in scale.reason


@pytest.mark.parametrize(
    ("merits", "end"), [([3.0, 2.0, 1.0], "smallest diameter tried, 60"), ([1.0, 2.0, 3.0], "largest diameter tried, 100")]
)
def test_a_best_diameter_at_the_end_of_the_range_is_refused(merits, end):
    scale = best_scale([60.0, 80.0, 100.0], merits)
    assert scale.diameter is None
    assert end in scale.reason


def test_the_profile_of_a_round_image_is_its_radial_function():
    line = torch.arange(31.0) - 15
    radius = torch.hypot(*torch.meshgrid(line, line, indexing="ij"))
    profile = radial_profile(radius.round() ** 2)
    assert profile.numpy() == pytest.approx([float(r**2) for r in range(16)])


def test_the_mean_profile_averages_what_lies_around_the_centres_and_leaves_out_those_at_the_rim():
    image = torch.zeros(40, 44)
    image[10, 12], image[25, 30] = 2.0, 4.0
    centres = torch.tensor([[10, 12], [25, 30], [1, 1]])
    profile = mean_profile(image, centres, 9)
    assert profile.numpy() == pytest.approx([3.0, 0.0, 0.0, 0.0, 0.0])
    assert not mean_profile(image, centres[2:], 9).any()


def test_likeness_is_blind_to_scale_and_offset_only():
    profile = torch.tensor([3.0, 2.5, 1.0, 0.2, 0.0])
    assert likeness(profile, 7 * profile - 2) == pytest.approx(1.0)
    assert likeness(profile, -profile) == pytest.approx(-1.0)
    assert likeness(profile, profile.flip(0)) < 0


def test_the_value_around_a_point_is_the_largest_of_nine():
    scores = torch.zeros(6, 7)
    scores[2, 3], scores[5, 6] = 0.5, 0.9
    points = torch.tensor([[2.9, 3.6], [1.2, 1.4], [7.0, 9.0]])
    assert values_around(scores, points).tolist() == pytest.approx([0.5, 0.0, 0.9])
