"""Limits on picks: found where noise and particles part, and left alone where they do not."""

import pytest
import torch

from firn.preprocess.thresholds import USUAL_NCC, calibrate_power, divide_picks, far_counts, largest_power


def _picks(noise: int, particles: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    score = torch.cat((0.25 + 0.06 * torch.randn(noise, generator=generator), 0.6 + 0.08 * torch.randn(particles, generator=generator)))
    power = torch.exp(torch.cat((0.2 * torch.randn(noise, generator=generator), 1 + 0.2 * torch.randn(particles, generator=generator))))
    return score, power


@pytest.mark.parametrize(("noise", "particles"), [(500, 1500), (1500, 500), (3000, 60)])
def test_particles_are_told_from_noise_whatever_their_share(noise, particles):
    score, power = _picks(noise, particles)
    found = divide_picks(score, power).passes(score, power)
    truth = torch.arange(noise + particles) >= noise
    assert int((found != truth).sum()) < 0.02 * particles + 3


def test_power_decides_where_correlation_cannot():
    generator = torch.Generator().manual_seed(2)
    score = 0.45 + 0.08 * torch.randn(4000, generator=generator)
    power = torch.exp(0.25 * torch.randn(4000, generator=generator) + torch.arange(4000).ge(2000) * 1.5)
    found = divide_picks(score, power).passes(score, power)
    assert float((found == torch.arange(4000).ge(2000)).float().mean()) > 0.98


def test_dirt_is_not_taken_for_the_particles():
    score, power = _picks(500, 1000)
    dirty = torch.cat((score, torch.full((40,), 0.2))), torch.cat((power, torch.full((40,), 300.0)))
    found = divide_picks(*dirty).passes(*dirty)
    kept = found & (dirty[1] <= (largest_power(dirty[1], found) or 0))
    assert int(kept[1500:].sum()) == 0
    assert int(kept[500:1500].sum()) > 950


def _cloud(count: int, score: float, log_power: float, sds: tuple[float, float], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(2, count, generator=generator)
    return score + sds[0] * draws[0], torch.exp(log_power + sds[1] * draws[1])


def _passed(parts: list[tuple[torch.Tensor, torch.Tensor]], whole: bool) -> list[float]:
    """Share of each part that is taken for particles."""
    score, power = (torch.cat(each) for each in zip(*parts, strict=True))
    found = divide_picks(score, power, whole).passes(score, power)
    return [float(part.float().mean()) for part in found.split([len(part[0]) for part in parts])]


FAR, BESIDE = _cloud(2000, 0.2, 0.0, (0.03, 0.08), 5), _cloud(600, 0.19, 0.35, (0.03, 0.15), 6)
WHOLE = _cloud(300, 0.5, 0.5, (0.05, 0.15), 7)


def test_noise_beside_few_particles_is_noise_although_it_holds_more_power():
    passed = _passed([FAR, BESIDE, (WHOLE[0][:150], WHOLE[1][:150])], whole=False)
    assert max(passed[:2]) < 0.02
    assert passed[2] > 0.97


def test_noise_of_a_crowd_stays_noise_beside_some_that_scores_less():
    """Where particles lie everywhere, nearly all noise lies beside them; the little in empty ice does not make particles of the rest."""
    far, beside = _cloud(400, 0.22, 0.0, (0.08, 0.35), 11), _cloud(2300, 0.5, 0.1, (0.09, 0.35), 12)
    passed = _passed([far, beside, _cloud(2400, 0.65, 1.0, (0.09, 0.27), 13)], whole=False)
    assert max(passed[:2]) < 0.15
    assert passed[2] > 0.9


def test_pieces_of_particles_are_refused_where_there_are_whole_ones():
    """Half the particle's own power, on the same noise."""
    noise, own = 1.1, float(WHOLE[1].mean()) - 1.1
    halves = _cloud(200, 0.33, float(torch.tensor(noise + own / 2).log()), (0.04, 0.15), 8)
    passed = _passed([FAR, BESIDE, halves, WHOLE], whole=True)
    assert max(passed[:2]) < 0.01
    assert passed[2] < 0.1
    assert passed[3] > 0.95
    assert _passed([FAR, BESIDE, halves, WHOLE], whole=False)[2] > 0.8
    assert _passed([FAR, BESIDE, halves], whole=True)[2] > 0.8


def test_views_that_no_template_shows_are_no_pieces():
    """They correlate as little as halves do, but have all the power of a particle."""
    assert min(_passed([FAR, BESIDE, _cloud(200, 0.33, 0.5, (0.04, 0.15), 9), WHOLE], whole=True)[2:]) > 0.8


def test_one_cloud_gets_the_usual_threshold():
    generator = torch.Generator().manual_seed(3)
    line = divide_picks(0.4 + 0.1 * torch.randn(2000, generator=generator), torch.exp(0.2 * torch.randn(2000, generator=generator)))
    assert (line.per_score, line.per_log_power, line.least) == (1.0, 0.0, USUAL_NCC)
    assert "usual" in line.reason


def test_few_or_no_picks_get_the_usual_threshold():
    assert divide_picks(torch.rand(5), torch.rand(5)).least == USUAL_NCC
    assert divide_picks(torch.zeros(0), torch.zeros(0)).least == USUAL_NCC


def test_constant_power_is_no_hindrance():
    score, _ = _picks(500, 500)
    line = divide_picks(score, torch.ones(1000))
    assert line.per_log_power == 0
    assert 0.35 < line.least / line.per_score < 0.5


def test_power_that_follows_defocus_is_made_level():
    generator = torch.Generator().manual_seed(4)
    defocus = torch.linspace(8000, 30000, 12).double()
    exposure = torch.arange(12).repeat_interleave(50)
    power = (defocus[exposure] / 20000) ** 1.5 * torch.exp(0.1 * torch.randn(600, generator=generator))
    level = calibrate_power(power, torch.ones(600, dtype=torch.bool), exposure, defocus)
    means = torch.log(level).reshape(12, 50).mean(1)
    assert float(means.std()) < 0.03


def test_exposures_without_defocus_keep_their_power():
    power = torch.rand(300).double() + 1
    defocus = torch.linspace(8000, 30000, 6).double()
    defocus[2] = torch.nan
    exposure = torch.arange(6).repeat_interleave(50)
    level = calibrate_power(power, torch.ones(300, dtype=torch.bool), exposure, defocus)
    torch.testing.assert_close(level[100:150], power[100:150])


def test_an_exposure_with_far_fewer_picks_is_noticed():
    counts = torch.tensor([100.0, 110, 95, 103, 8, 99, 107])
    assert far_counts(counts).tolist() == [False, False, False, False, True, False, False]
