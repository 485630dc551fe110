"""2D classification on particles made by closed formulae: classes, poses, averages, noise."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from firn.kernels.fourier import irfft2, rfft2
from firn.kernels.fsc import correlate_spectra, shell_average, shell_indices
from firn.refine.class2d import build_search, classify, next_reach, turned_points, uncertainty_at
from firn.refine.class2d_average import (
    Averages,
    ClassSums,
    average,
    centre_of_mass,
    frc_filter,
    half_references,
    recentred,
    reseeded,
    resolved_shell,
    soft_circle,
    with_unresolved,
)
from firn.refine.class2d_search import Batch, Search, Sums, coarse_scores, search_batch
from firn.refine.class2d_start import continued_state, initial_state
from firn.refine.class2d_state import MARGIN, Plan, State
from motif_particles import BOX, MOTIFS, MadeParticles, blobs, make_plan


@pytest.fixture(scope="module")
def run() -> tuple[MadeParticles, Plan, State, object]:
    plan = make_plan()
    particles = MadeParticles(100, 0.25, plan.disc)
    with torch.inference_mode():
        state, assignment = classify(particles, plan, torch.Generator().manual_seed(3))
    return particles, plan, state, assignment


def test_particles_of_two_molecules_part_into_two_classes(run) -> None:
    particles, _, _, assignment = run
    agree = (assignment.class_number == particles.motif).float().mean()
    assert max(float(agree), 1 - float(agree)) > 0.97


def test_angles_differ_from_the_true_ones_by_one_constant_per_class(run) -> None:
    particles, _, _, assignment = run
    for motif in (0, 1):
        mine = particles.motif == motif
        difference = torch.deg2rad(assignment.angle[mine] - particles.psi[mine])
        resultant = torch.polar(torch.ones_like(difference), difference).mean().abs()
        assert resultant > 0.99


def test_shifts_differ_from_the_true_ones_by_the_turned_offset_of_the_average(run) -> None:
    particles, _, _, assignment = run
    for motif in (0, 1):
        mine = particles.motif == motif
        error = assignment.shift[mine] - particles.shift[mine]
        angle = torch.deg2rad(assignment.angle[mine])
        c, s = torch.cos(angle), torch.sin(angle)
        in_average = torch.stack((s * error[:, 1] + c * error[:, 0], c * error[:, 1] - s * error[:, 0]), dim=-1)
        assert (in_average - in_average.median(0).values).norm(dim=-1).median() < 0.5


def test_averages_look_like_the_molecules(run) -> None:
    particles, plan, state, assignment = run
    for motif in (0, 1):
        number = int(assignment.class_number[particles.motif == motif].mode().values)
        image = state.averages.images[number]
        best = max(float(torch.corrcoef(torch.stack((image.flatten(), wanted.flatten())))[0, 1]) for wanted in _turned(motif, plan.side))
        assert best > 0.9


def _turned(motif: int, side: int) -> list[Tensor]:
    ratio = side / BOX
    scaled = [(y * ratio, x * ratio, sigma * ratio, weight) for y, x, sigma, weight in MOTIFS[motif]]
    centre = centre_of_mass(blobs(scaled, 0, (0, 0), side)[None], 0.2)[0].tolist()
    centred = [(y - centre[0], x - centre[1], sigma, weight) for y, x, sigma, weight in scaled]
    return [blobs(centred, psi, (0, 0), side) for psi in range(0, 360, 5)]


def test_the_noise_is_that_of_unmasked_pixels(run) -> None:
    _, _, state, _ = run
    assert float(state.noise[5:15].mean()) == pytest.approx(0.0625, rel=0.15)


def test_a_rerun_gives_the_same_assignment(run) -> None:
    particles, plan, _, assignment = run
    with torch.inference_mode():
        _, again = classify(particles, plan, torch.Generator().manual_seed(3))
    assert torch.equal(again.class_number, assignment.class_number)
    assert torch.equal(again.angle, assignment.angle)


def test_small_batches_see_every_particle_in_the_final_pass() -> None:
    plan = make_plan(batch_size=30, iterations=3, final_iterations=1)
    particles = MadeParticles(60, 0.5, plan.disc)
    with torch.inference_mode():
        state, assignment = classify(particles, plan, torch.Generator().manual_seed(0))
    assert bool((assignment.class_number >= 0).all())
    assert 55 < float(state.sums.count.sum()) <= 60.001


def test_the_uncertainty_falls_from_its_start_to_one_and_stays() -> None:
    plan = make_plan(uncertainty=2.0, anneal_start=2, anneal_length=4, iterations=10)
    values = [uncertainty_at(plan, step) for step in range(12)]
    assert values[:3] == [2.0, 2.0, 2.0]
    assert values[6:] == [1.0] * 6
    assert all(a >= b for a, b in itertools.pairwise(values))


def test_an_average_reaches_farther_where_its_halves_agree_beyond_and_less_far_where_they_do_not() -> None:
    plan = make_plan(iterations=10)
    frc = torch.tensor([[0.9], [0.2], [0.0]]) * torch.ones(plan.side // 2 + 1)
    reach = torch.tensor([8, 8, 8])
    assert next_reach(plan, frc, reach, 10).tolist() == [10, 8, 7]
    assert next_reach(plan, frc, reach, 0).tolist() == [8, 8, 7]
    assert next_reach(plan, frc, torch.tensor([plan.finest, 8, 4]), 10).tolist() == [plan.finest, 8, 4]


def test_halves_that_agree_only_within_the_reach_do_not_carry_it_farther() -> None:
    plan = make_plan(iterations=10)
    frc = (torch.arange(plan.side // 2 + 1) <= 9).float().expand(2, -1)
    assert next_reach(plan, frc, torch.tensor([8, 4]), 10).tolist() == [7, 6]


def test_first_averages_are_as_many_as_classes_and_reach_to_the_first_radius() -> None:
    plan = make_plan()
    state = initial_state(MadeParticles(40, 0.5, plan.disc), plan, torch.Generator().manual_seed(0))
    assert state.averages.images.shape == (2, plan.side, plan.side)
    assert state.reach.tolist() == [4, 4]
    assert plan.gathered(state.reach) == 4 + MARGIN
    assert not torch.equal(state.averages.images[0], state.averages.images[1])


def test_going_on_from_former_classes_reads_particles_once_for_the_noise_and_adds_none_up() -> None:
    plan = make_plan(classes=3)
    particles, taken = MadeParticles(40, 0.5, plan.disc), []
    read = particles.take
    particles.take = lambda rows: taken.extend(rows.tolist()) or read(rows)
    former = torch.stack([blobs(motif, 0, (0, 0), plan.side) for motif in MOTIFS])
    state = continued_state(particles, plan, torch.Generator().manual_seed(0), former, radius=9)
    assert sorted(taken) == list(range(40))
    assert not bool(state.sums.numerator.any() or state.sums.count.any())
    assert torch.allclose(state.averages.images[1], former[1] * plan.mask())
    assert torch.allclose(state.averages.images[[0, 2]].mean(0), former[0] * plan.mask(), atol=1e-5)


def test_the_foretold_size_of_turned_references_is_that_of_a_final_pass() -> None:
    plan = make_plan(first_radius=14.0)
    state = initial_state(MadeParticles(40, 0.5, plan.disc), plan, torch.Generator().manual_seed(0))
    assert build_search(plan, state, temper=1.0, final=True).fine.numel() == plan.classes * turned_points(plan)


def doubtful(images: Tensor, halves: tuple[int, ...] = (0, 1), share: float = 0.2) -> tuple[MadeParticles, Batch, Search]:
    """Particles, a batch of the first twelve, and a search that doubts them, by references that only the given half-sets have made."""
    plan = make_plan(use_frc=False)
    particles = MadeParticles(12, 0.25, plan.disc)
    sums = sums_of(images)
    for half in {0, 1} - set(halves):
        sums.numerator[:, half] = 0
    noise = torch.full((plan.side // 2 + 1,), 0.0625)
    state = State(sums, noise, average(sums, plan.mask(), 10, use_frc=False), torch.tensor([10, 10]), unexplained=share)
    search = build_search(plan, state, temper=1.0, final=True, doubt=True)
    spectra, ctf = (values[:, : len(search.points)] for values in particles.take(torch.arange(12)))
    return particles, Batch(spectra * ctf / 0.0625, ctf.square() / 0.0625, particles.half), search


def motifs() -> Tensor:
    """The molecules in the engine's side and grey values, in which spectra are those of particles divided by their box."""
    side = make_plan().side
    return torch.stack([blobs(motif, 0, (0, 0), side) for motif in MOTIFS]) * (BOX / side**2)


def test_averages_of_nothing_tell_nothing_of_a_particle() -> None:
    _, batch, search = doubtful(torch.zeros_like(motifs()))
    assert torch.allclose(search_batch(search, batch, None).explained, torch.tensor(0.8), atol=1e-5)


def test_a_particle_is_explained_by_the_mean_likelihood_of_all_poses_against_that_of_noise() -> None:
    _, batch, search = doubtful(motifs() * 0.3)
    points = search.points[: search.coarse.shape[-1]].double()
    number, prior = 3, torch.softmax(search.grid.shift_prior.double(), 0)
    weighted, squared = batch.weighted[number, : len(points)], batch.squared[number, : len(points)].double()
    mean = 0.0
    for share, (y, x) in zip(prior, search.grid.shifts.double(), strict=True):
        centred = weighted * torch.exp(2j * math.pi * (points[:, 0] * y + points[:, 1] * x))
        half_turn = search.crossed[int(batch.half[number])].flatten(0, 1)
        for reference in torch.cat((half_turn, half_turn.conj())):
            score = 2 * (centred * reference.conj()).real.sum() - (squared * reference.abs().square()).sum()
            mean += float(share * torch.exp(score)) / math.prod(search.turned)
    assert abs(math.log(mean)) > 0.05
    found = search_batch(search, batch, None).explained[number]
    assert float(torch.logit(found)) == pytest.approx(math.log(mean * 0.8 / 0.2), abs=2e-3)


def test_scores_over_the_coarse_grid_are_the_log_likelihoods_of_each_pose_alone() -> None:
    _, batch, search = doubtful(motifs())
    points = search.points[: search.coarse.shape[-1]]
    rows = batch.weighted[:, None, : len(points)] * torch.exp(2j * math.pi * (search.grid.shifts @ points.T))
    classes, angles = search.turned
    found = coarse_scores(search, rows, batch.squared).reshape(*rows.shape[:2], classes, angles)
    whole_turn = search.fine[:, search.grid.divisions // 2 :: search.grid.divisions, : len(points)]
    for number, angle in itertools.product(range(classes), (0, 1, angles // 2, angles - 1)):
        reference = whole_turn[number, angle]
        norm = (batch.squared[:, : len(points)] * reference.abs().square()).sum(-1)
        wanted = 2 * (rows * reference.conj()).real.sum(-1) - norm[:, None] + search.grid.shift_prior
        assert torch.allclose(found[:, :, number, angle], wanted, atol=1e-3, rtol=1e-4)


def test_a_particle_is_judged_by_the_averages_that_it_has_no_part_in() -> None:
    particles, batch, search = doubtful(motifs(), halves=(0,))
    found = search_batch(search, batch, None).explained
    assert not bool(search.crossed[0].any())
    assert torch.allclose(found[particles.half == 0], torch.tensor(0.8), atol=1e-5)
    assert bool((found[particles.half == 1] > 0.999).all())


def test_a_batch_of_empty_pictures_alone_adds_nothing_to_sums() -> None:
    _, batch, search = doubtful(motifs())
    classes, angles, points = search.fine.shape
    shape = (classes, 2, angles, points)
    sums = Sums(torch.zeros(shape, dtype=torch.complex64), torch.zeros(classes, 2, int(search.shells[-1]) + 1), torch.zeros(classes))
    match = search_batch(search, Batch(torch.zeros_like(batch.weighted), batch.squared, batch.half), sums)
    assert bool((match.explained < 1e-6).all())
    assert not bool(sums.numerator.any())
    assert float(sums.count.sum()) < 1e-4


def test_pictures_of_noise_alone_come_to_the_number_after_the_last_class_and_into_no_sum() -> None:
    plan = make_plan()
    particles = MadeParticles(120, 0.5, plan.disc)
    signal = torch.arange(120) < 80
    noise = torch.randn(40, BOX, BOX, generator=torch.Generator().manual_seed(9)) * 0.5 * soft_circle(BOX, 15.0, 3.0)
    particles.spectra[~signal] = rfft2(noise).flatten(1)[:, plan.disc.layout] / BOX
    with torch.inference_mode():
        state, assignment = classify(particles, plan, torch.Generator().manual_seed(3))
    unexplained = assignment.class_number == plan.classes
    assert float(unexplained[~signal].float().mean()) > 0.9
    assert float(unexplained[signal].float().mean()) < 0.05
    assert float(state.sums.count.sum()) == pytest.approx(80, abs=5)
    assert state.unexplained == pytest.approx(1 / 3, abs=0.05)


def test_half_references_of_equal_halves_are_the_unfiltered_images() -> None:
    images = motifs()
    found = half_references(sums_of(images), torch.ones(images.shape[-2:]), images.shape[-1] // 2)
    assert torch.allclose(found[:, 0], images, atol=0.01 * float(images.max()))
    assert torch.equal(found[:, 0], found[:, 1])


def sums_of(images: Tensor) -> ClassSums:
    """Sums as if each half-set had seen the images without noise, with unit weight in every shell."""
    n = images.shape[-1]
    return ClassSums(torch.stack((images, images), dim=1), torch.ones(len(images), 2, n // 2 + 1), torch.full((len(images),), 20.0))


def test_identical_halves_are_averaged_unfiltered() -> None:
    image = blobs(MOTIFS[0], 0, (0, 0))[None]
    found = average(sums_of(image), torch.ones(BOX, BOX), BOX // 2)
    assert torch.allclose(found.images, image, atol=0.01)
    assert bool((resolved_shell(found.frc) >= 15).all())


def test_halves_do_not_agree_where_no_particle_was_added_up() -> None:
    sums = sums_of(blobs(MOTIFS[0], 0, (0, 0))[None])
    sums.denominator[..., 9:] = 0
    mask = soft_circle(BOX, 12.0, 3.0)
    frc = average(sums, mask, BOX // 2).frc
    assert bool((frc[:, :8] > 0.9).all())
    assert not bool(frc[:, 9:].any())


def test_independent_halves_are_filtered_away() -> None:
    noise = torch.randn(3, 2, BOX, BOX, generator=torch.Generator().manual_seed(0))
    found = average(ClassSums(noise, torch.ones(3, 2, BOX // 2 + 1), torch.ones(3)), torch.ones(BOX, BOX), BOX // 2)
    assert found.images.square().mean() < 0.1 * noise.square().mean()


def test_the_frc_filter_is_the_wiener_filter_of_the_full_average() -> None:
    frc = torch.tensor([[1.0, 0.5, 1 / 3, 0.1, 0.5]])
    assert frc_filter(frc)[0].tolist() == pytest.approx([1.0, 2 / 3, 0.5, 0.0, 0.0])


def test_recentring_brings_the_centre_of_mass_to_the_centre() -> None:
    image = blobs([(3.0, -4.0, 2.5, 1.0)], 0, (0, 0))[None]
    moved = recentred(sums_of(image), image, 0.2, reach_px=10.0)
    assert centre_of_mass(moved.numerator[:, 0], 0.2).abs().max() < 0.05


def test_an_empty_class_becomes_half_of_the_fullest() -> None:
    images = torch.stack([blobs(MOTIFS[0], 0, (0, 0)), blobs(MOTIFS[1], 0, (0, 0))])
    sums = sums_of(images)
    sums.count[:] = torch.tensor([100.0, 1.0])
    found, source = reseeded(sums, 5.0, torch.Generator().manual_seed(1))
    assert source.tolist() == [0, 0]
    assert found.count.tolist() == [50.0, 50.0]
    assert torch.allclose(found.numerator.sum(0), sums.numerator[0], atol=1e-5)
    assert torch.allclose(found.denominator.sum(0), sums.denominator[0])


def test_the_parts_of_a_class_of_noise_have_the_power_of_half_as_many_particles_and_halves_that_do_not_correlate() -> None:
    n, chance = 64, torch.Generator().manual_seed(2)
    denominator = torch.linspace(300.0, 30.0, n // 2 + 1).expand(2, 2, -1).clone()
    index = shell_indices((n, n), torch.device("cpu"))
    power = torch.nn.functional.pad(denominator, (0, 1))[..., index.clamp(max=n // 2 + 1)]
    noise = irfft2(rfft2(torch.randn(2, 2, n, n, generator=chance) / n) * power.sqrt(), (n, n))
    parts = reseeded(ClassSums(noise, denominator, torch.tensor([100.0, 1.0])), 5.0, chance)[0]
    spectra = rfft2(parts.numerator)
    for number in range(2):
        ratio = shell_average(spectra[number].abs().square(), index, n) / (denominator[0] / 2)
        assert float(ratio[:, 4:15].mean()) == pytest.approx(1, abs=0.15)
        assert float(ratio[:, 15:].mean()) == pytest.approx(1, abs=0.1)
        assert float(correlate_spectra(*spectra[number], index, n)[4 : n // 2].mean()) == pytest.approx(0, abs=0.1)
    across = correlate_spectra(spectra[0, 0], spectra[1, 0], index, n)[4 : n // 2]
    assert float(across.mean()) == pytest.approx(0, abs=0.1)


def test_with_force_max_each_class_keeps_one_pose_of_a_particle_and_the_best_class_stays_best() -> None:
    plans = [make_plan(force_max=force) for force in (True, False)]
    particles = MadeParticles(12, 0.25, plans[0].disc)
    state = initial_state(particles, plans[0], torch.Generator().manual_seed(0))
    rows = torch.arange(12)
    spectra, ctf = particles.take(rows)
    found = []
    for plan in plans:
        search = build_search(plan, state, temper=1.0, final=True)
        points = len(search.points)
        weight = state.noise[search.shells].rsqrt()
        batch = Batch(spectra[:, :points] * ctf[:, :points] * weight**2, (ctf[:, :points] * weight).square(), particles.half)
        found.append(search_batch(search, batch, None))
    hard, soft = found
    assert torch.allclose(hard.class_probability.sum(-1), torch.ones(12), atol=1e-5)
    assert torch.allclose(hard.gain, soft.gain, atol=1e-3)


def test_an_average_that_no_frc_supports_shows_its_filtered_sum_instead_of_nothing() -> None:
    image = blobs(MOTIFS[0], 0, (0, 0))[None]
    sums = ClassSums(torch.stack((image, torch.zeros_like(image)), dim=1), torch.ones(1, 2, BOX // 2 + 1), torch.ones(1))
    mask = torch.ones(BOX, BOX)
    empty = average(sums, mask, BOX // 2)
    empty = Averages(torch.zeros_like(empty.images), empty.frc)
    shown = with_unresolved(empty, sums, mask, BOX // 2).images
    assert float((shown * image).sum() / (shown.norm() * image.norm())) > 0.9
