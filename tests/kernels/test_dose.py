"""Exposure weights follow Grant & Grigorieff (2015), keep white noise white, and are rebuilt from few profiles."""

import math

import torch

from firn.kernels.dose import critical_dose, dose_weights, factorise

FREQUENCIES = torch.linspace(0, 0.5, 400)
DOSES = torch.arange(1, 41) * 1.25


def test_the_critical_dose_is_the_published_curve() -> None:
    value = float(critical_dose(torch.tensor([1 / 3.0]), 300)[0])
    assert math.isclose(value, 0.245 * (1 / 3) ** -1.665 + 2.81, rel_tol=1e-6)
    assert math.isclose(float(critical_dose(torch.tensor([1 / 3.0]), 200)[0]), 0.8 * value, rel_tol=1e-6)


def test_squared_weights_sum_to_one_at_every_frequency() -> None:
    torch.testing.assert_close(dose_weights(FREQUENCIES, DOSES, 300.0).square().sum(dim=0), torch.ones(400))


def test_weights_of_two_frames_differ_by_the_decay_of_the_signal_between_them() -> None:
    weights = dose_weights(FREQUENCIES[1:], DOSES, 300.0)
    decay = torch.exp(-(DOSES[3] - DOSES[2]) / (2 * critical_dose(FREQUENCIES[1:], 300.0)))
    torch.testing.assert_close(weights[3] / weights[2], decay, rtol=1e-4, atol=1e-6)


def test_all_frames_weigh_the_same_at_zero_frequency() -> None:
    weights = dose_weights(torch.zeros(1), DOSES, 300.0)[:, 0]
    torch.testing.assert_close(weights, torch.full((40,), 40**-0.5))


def test_few_profiles_rebuild_the_weights_of_forty_frames() -> None:
    weights = dose_weights(FREQUENCIES, DOSES, 300.0)
    for tolerance, rank in ((3e-5, 8), (2e-3, 5)):
        mixing, profiles = factorise(weights, tolerance)
        assert mixing.shape[1] <= rank
        assert float((mixing @ profiles - weights).square().sum(dim=0).sqrt().max()) < 1.1 * tolerance


def test_the_first_of_the_sums_is_the_plain_one_and_is_enough_where_frames_weigh_the_same() -> None:
    mixing, profiles = factorise(dose_weights(FREQUENCIES, DOSES, 300.0), 2e-3)
    assert (mixing[:, 0] == 1).all()
    mixing, profiles = factorise(torch.full((5, 7), 5**-0.5), 2e-3)
    assert mixing.tolist() == [[1.0]] * 5
    torch.testing.assert_close(profiles, torch.full((1, 7), 5**-0.5))
    assert factorise(torch.ones(1, 3))[0].tolist() == [[1.0]]
