"""Ab-initio reconstruction: its parts in closed form, and a molecule found from its noisy views."""

import math
from dataclasses import replace

import pytest
import torch

from firn.kernels.fourier import fast_size, irfft3, resize_volumes, rfft3, shift_phases
from firn.kernels.project import prepare_volume, project_points
from firn.kernels.rotation import rotation_distance
from firn.kernels.sampling import rotation_grid, shift_grid
from firn.kernels.symmetry import symmetrize_volume, symmetry_matrices
from firn.refine.ab_initio import FEWEST_FOLDS, AbInitio, Batch, Settings, State, in_order
from firn.refine.ab_initio_course import (
    Course,
    chosen_classes,
    class_logs,
    final_schedule,
    gathered,
    heats,
    joint_evidence,
    needed,
    promising,
    reconstruct_ab_initio,
    starting_schedule,
    with_hand,
)
from firn.refine.class_hands import inverted, without_hand
from firn.refine.initial_data import Observations, observe, solvent_power, solvent_sphere, working_geometry
from firn.refine.initial_model import (
    blend,
    centring_move,
    degree_parts,
    free_axes,
    gather_slices,
    opposites,
    random_volume,
)
from firn.refine.initial_search import Search, Slices, project_grid, rank_grid, search_grid, search_near
from refine.ab_initio_data import BOX, PIXEL_SIZE, particles, volume

DIAMETER = 125.0


def observed(count: int, snr: float, seed: int, resolution: float = 20.0) -> tuple:
    images, ctf, rotations, origins = particles(count, snr, seed)
    geometry = working_geometry(BOX, PIXEL_SIZE, resolution)
    observations = observe(images, PIXEL_SIZE, ctf, torch.zeros(count, 2), geometry)
    return observations, solvent_power(images, DIAMETER / PIXEL_SIZE, geometry), geometry, rotations, origins


def best_correlation(first: torch.Tensor, second: torch.Tensor, side: int = 16) -> float:
    """Largest correlation over rotations (15 degrees), whole-pixel shifts and hands, at the resolution of a small box."""
    first, second = resize_volumes(first, side), resize_volumes(second, side)
    axis = torch.arange(side) - side // 2
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).float()
    best = 0.0
    for hand in (second, torch.roll(second.flip(0), 1 - side % 2, 0)):
        for part in rotation_grid(2).split(256):
            grid = torch.flip((torch.einsum("bij,zyxj->bzyxi", part, points) + side // 2) * (2 / (side - 1)) - 1, (-1,))
            turned = torch.nn.functional.grid_sample(hand.expand(len(part), 1, -1, -1, -1), grid, align_corners=True)[:, 0]
            cross = irfft3(rfft3(first) * rfft3(turned).conj(), (side, side, side)).flatten(1).amax(1)
            best = max(best, float((cross / turned.flatten(1).norm(dim=1) / first.norm()).max()))
    return best


def test_the_working_box_holds_the_finest_resolution_inside_nyquist():
    geometry = working_geometry(144, 1.5, 12.0)
    assert geometry.n * geometry.pixel_size == pytest.approx(216)
    assert geometry.radius(12.0) == pytest.approx(18, abs=0.5)
    assert geometry.radius(1.0) < geometry.n / 2
    assert geometry.n == fast_size(geometry.n)


def test_origins_of_the_table_centre_the_particles():
    images, ctf, _, origins = particles(4, 100.0, 1)
    geometry = working_geometry(BOX, PIXEL_SIZE, 20.0)
    centred = observe(images, PIXEL_SIZE, ctf, origins, geometry).spectra
    plain = observe(images, PIXEL_SIZE, ctf, torch.zeros(4, 2), geometry).spectra
    angle = -2 * torch.pi * (origins / geometry.pixel_size) @ (geometry.disc.points / geometry.n).T
    assert torch.allclose(centred, plain * torch.polar(torch.ones_like(angle), angle), atol=1e-3)


def test_a_symmetric_aberration_changes_the_ctf_that_a_reconstruction_counts_with():
    """A piston of a rad is a phase shift of -a; without it the CTF is another."""
    images, optics, _, _ = particles(4, 1.0, 1)
    geometry, still = working_geometry(BOX, PIXEL_SIZE, 20.0), torch.zeros(4, 2)
    aberrated, shifted = (
        observe(images, PIXEL_SIZE, replace(optics, **change), still, geometry).ctf
        for change in ({"even": torch.full((4, 1), 0.3)}, {"phase_shift": torch.full((4,), -math.degrees(0.3))})
    )
    assert torch.allclose(aberrated, shifted, atol=1e-4)
    assert (aberrated - observe(images, PIXEL_SIZE, optics, still, geometry).ctf).abs().mean() > 0.05


def test_the_noise_outside_a_particle_is_that_of_pure_noise():
    images = 3 * torch.randn(200, 48, 48, generator=torch.Generator().manual_seed(2))
    geometry = working_geometry(48, 3.0, 8.0)
    ctf = particles(200, 1.0, 1)[1]
    power = observe(images, 3.0, ctf, torch.zeros(200, 2), geometry).spectra.abs().square().mean()
    assert solvent_power(images, 24.0, geometry)[2:].mean() == pytest.approx(float(power), rel=0.05)


def grid_search(snr: float, classes: int = 1) -> tuple:
    observations, noise, geometry, rotations, origins = observed(24, snr, 3)
    grid, n = rotation_grid(2), geometry.n
    spectrum = prepare_volume(resize_volumes(volume(), n))
    projections = project_grid([spectrum] * classes, grid, geometry.disc)
    truth = project_points(spectrum, rotations, geometry.disc.points)
    grey = (observations.spectra * (observations.ctf * truth).conj()).real.sum() / (observations.ctf * truth).abs().square().sum()
    shifts = shift_grid(1.0, 0.5)
    search = Search(n, geometry.disc, noise[geometry.disc.shells], shifts, 2.0)
    return observations, grey * projections, grid, search, rotations, origins / geometry.pixel_size, [grey * spectrum] * classes


def test_the_grid_search_finds_the_nearest_orientations_and_shifts():
    observations, projections, grid, search, rotations, shifts, _ = grid_search(20.0)
    found = search_grid(observations, projections, grid, search).found
    assert rotation_distance(found.rotations, rotations).median() < 12
    assert (found.shifts - shifts).norm(dim=-1).median() < 0.45


def test_ranking_the_grid_finds_what_the_full_search_finds():
    observations, projections, grid, search, *_ = grid_search(1.0, classes=2)
    full, ranked = search_grid(observations, projections, grid, search).found, rank_grid(observations, projections, grid, search)
    assert torch.allclose(full.log_likelihood, ranked.log_likelihood)
    assert torch.equal(full.candidates, ranked.candidates)


def test_the_fine_search_comes_closer_than_the_grid():
    observations, projections, grid, search, rotations, _, spectra = grid_search(20.0)
    coarse = rank_grid(observations, projections, grid, search)
    near = search._replace(shifts=shift_grid(0.4, 0.25))
    fine = search_near(observations, spectra, coarse, grid, 7.5, near).found
    assert rotation_distance(fine.rotations, rotations).mean() < 0.8 * rotation_distance(coarse.rotations, rotations).mean()


def test_equal_classes_share_every_particle_equally():
    observations, projections, grid, search, *_ = grid_search(1.0, classes=2)
    assert torch.allclose(search_grid(observations, projections, grid, search).found.class_posterior, torch.full((24, 2), 0.5), atol=1e-4)


@pytest.mark.parametrize("classes", [1, 2])
def test_the_posterior_hands_out_each_particle_once(classes):
    observations, projections, grid, search, *_ = grid_search(1.0, classes)
    slices = search_grid(observations, projections, grid, search).slices
    given = (observations.ctf**2 / search.noise).sum(0)
    assert torch.allclose(slices.weights.sum(0), given, rtol=1e-3)


def test_the_residual_under_the_truth_is_the_noise():
    observations, projections, grid, search, *_ = grid_search(0.02)
    outcome = search_grid(observations, 0 * projections, grid, search)
    power = observations.spectra.abs().square().sum(0)
    shell = search.disc.shells == 5
    weights = search.disc.weights[shell]
    assert outcome.residual[5] == pytest.approx(float((power[shell] * weights).sum() / weights.sum()), rel=1e-4)


@pytest.mark.parametrize(("particles", "passes"), [(700, 6), (5000, 4), (100_000, 1)])
def test_few_particles_are_passed_over_more_often_and_cool_down(particles, passes):
    factors = heats(particles)
    assert len(factors) == passes
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == 1


def test_heat_counts_as_so_much_more_noise():
    """Images judged by three times the noise: the same posterior as of images whose noise is three times as strong."""
    engine = noise_engine(40, 2)
    rows, state = torch.arange(40), engine.fresh()
    state.fitted = True
    noisier = State(state.volumes, 3 * state.noise, fitted=True)
    hot = engine._expect(state, Batch(30.0, 40, 1.0, 0.0, heat=3.0), rows)[1].found
    noisy = engine._expect(noisier, Batch(30.0, 40, 1.0, 0.0), rows)[1].found
    cold = engine._expect(state, Batch(30.0, 40, 1.0, 0.0), rows)[1].found
    assert torch.allclose(hot.class_posterior, noisy.class_posterior, atol=1e-4)
    assert hot.peak.mean() < cold.peak.mean()


def test_blending_keeps_shells_that_only_the_new_batch_reaches():
    small, large = (torch.ones(8, 8, 5), torch.ones(8, 8, 5)), (torch.ones(12, 12, 7), torch.ones(12, 12, 7))
    total, weight = blend(small, large, 0.25)
    assert total.shape == (12, 12, 7)
    assert total[0, 0, 0] == 1
    assert weight[0, 0, 6] == 0.25


def test_the_centre_of_mass_is_brought_to_the_origin_along_free_axes_only():
    moved_volume = torch.roll(solvent_sphere(24, 4.0) ** 3, (3, -2, 1), (0, 1, 2))
    assert centring_move(moved_volume, free_axes("C1")) == (-3, 2, -1)
    assert centring_move(moved_volume, free_axes("C4")) == (-3, 0, 0)
    assert centring_move(moved_volume, free_axes("D2")) == (0, 0, 0)


def test_a_random_start_has_the_symmetry_and_lies_inside_the_solvent():
    geometry = working_geometry(48, 3.0, 8.0)
    solvent = solvent_sphere(geometry.n, 14.0)
    start = random_volume(geometry, solvent, 35.0, "D2", torch.Generator().manual_seed(4))
    assert torch.allclose(start, symmetrize_volume(start, "D2"), atol=0.03 * float(start.max()))
    assert start.min() >= 0
    assert start[solvent == 0].max() < 0.02 * start.max()
    assert start.std() > 0


def test_schedules_go_from_coarse_to_fine_and_give_up_class_similarity():
    settings = Settings(diameter=100.0)
    batches = starting_schedule(settings) + final_schedule(settings)
    resolutions = [batch.resolution for batch in batches]
    assert resolutions == sorted(resolutions, reverse=True)
    assert (resolutions[0], resolutions[-1]) == pytest.approx((35.0, 12.0))
    assert batches[0].class_mixing == 0.1
    assert batches[-1].class_mixing == 0
    assert batches[-1].particles == 300


@pytest.mark.parametrize("seed", [0])
def test_an_asymmetric_molecule_comes_out_of_its_noisy_views(seed):
    observations, noise, geometry, *_ = observed(200, 0.4, 5)
    settings = Settings(diameter=DIAMETER, max_resolution=20.0, initial_iterations=16, final_iterations=6, final_minibatch=120, starts=2)
    engine = AbInitio(observations, noise, geometry, settings, torch.Generator().manual_seed(seed))
    titles: list[str] = []
    result = reconstruct_ab_initio(Course(engine, lambda fields: None, lambda title, volumes: titles.append(title), lambda state: None))
    assert best_correlation(resize_volumes(volume(), geometry.n), result.volumes[0]) > 0.85
    assert titles[-1] == "final"
    assert len(result.evidences) == 2


def test_a_volume_that_is_its_own_mirror_image_is_given_a_hand():
    """Half the molecule and half its mirror image pose each particle both ways alike; the truth is a hand away."""
    observations, noise, geometry, *_ = observed(200, 0.4, 5)
    settings = Settings(diameter=DIAMETER, max_resolution=20.0, final_minibatch=120)
    engine = AbInitio(observations, noise, geometry, settings, torch.Generator().manual_seed(3))
    course = Course(engine, lambda fields: None, lambda title, volumes: None, lambda state: None)
    truth = resize_volumes(volume(), geometry.n)
    even = engine.restart(truth + inverted(truth), noise)
    assert without_hand(even.volumes[0], geometry.radius(20.0))
    found = with_hand(course, even).volumes[0]
    assert not without_hand(found, geometry.radius(20.0))
    assert best_correlation(truth, found) > max(0.85, best_correlation(truth, even.volumes[0]) + 0.03)
    assert with_hand(course, state := engine.restart(truth, noise)) is state


def test_pure_noise_explains_nothing():
    generator = torch.Generator().manual_seed(6)
    observations, noise, geometry, *_ = observed(100, 0.1, 5)
    empty = Observations(
        torch.complex(torch.randn(observations.ctf.shape, generator=generator), torch.randn(observations.ctf.shape, generator=generator))
        * (noise[geometry.disc.shells] / 2).sqrt(),
        observations.ctf,
    )
    settings = Settings(diameter=DIAMETER, max_resolution=20.0, initial_iterations=8, final_iterations=4, final_minibatch=90, starts=1)
    engine = AbInitio(empty, noise, geometry, settings, torch.Generator().manual_seed(1))
    result = reconstruct_ab_initio(Course(engine, lambda fields: None, lambda title, volumes: None, lambda state: None))
    assert result.found.log_likelihood.mean() < 5


def test_the_group_of_the_engine_is_that_of_the_settings():
    observations, noise, geometry, *_ = observed(10, 0.1, 5)
    engine = AbInitio(observations, noise, geometry, Settings(diameter=DIAMETER, group="D2"), torch.Generator())
    assert len(engine.operators) == len(symmetry_matrices("D2"))


def test_angular_degrees_of_a_quadrupole_are_found_and_turned_round() -> None:
    """x² - y² on a shell is of degree 2 alone, x y z of degree 3; voxels on a shell ten wide are even to about a tenth."""
    n = 32
    axis = (torch.arange(n) - n // 2).float()
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    radius = torch.sqrt(x**2 + y**2 + z**2)
    shell = torch.exp(-((radius - 10) ** 2) / 16) * (radius > 2)
    quadrupole, octupole = shell * (x**2 - y**2) / radius.clamp(min=1) ** 2, shell * x * y * z / radius.clamp(min=1) ** 3
    parts = degree_parts(shell + quadrupole + octupole, 4)
    for degree, expected in ((2, quadrupole), (3, octupole)):
        assert float((parts[degree] - expected).norm() / expected.norm()) < 0.2
    name, turned = opposites(shell + quadrupole)[0]
    assert name == "degree 2"
    assert float((turned - (shell - quadrupole)).norm() / quadrupole.norm()) < 0.25


def test_species_that_two_starts_found_are_put_together():
    """One start explains particles of kind 0 and 1 in one class each and kind 2 badly; the other kind 2 alone."""
    kinds = torch.arange(30) % 3
    explained = [[(0,), (1,), ()], [(2,), (), ()]]
    logs = [torch.stack([10.0 * sum(kinds == kind for kind in own) * torch.ones(30) for own in start], dim=1) for start in explained]
    best, *others = promising(logs, 3)
    assert set(best) == {0, 1, 3}
    assert others == [[0, 1, 2], [3, 4, 5]]
    assert joint_evidence(torch.cat(logs, dim=1)[:, best]) > max(map(joint_evidence, logs))


def test_the_class_that_is_left_out_at_the_end_is_the_one_others_replace_best():
    """Two kinds that nothing else explains, and a tenth of false picks, which a third class explains a little better than the others."""
    kinds = torch.arange(100) % 2
    kinds[::10] = 2
    logs = torch.stack([torch.where(kinds == kind, 20.0 if kind < 2 else 3.0, 0.0) for kind in (0, 2, 1)], dim=1)
    assert needed(logs, 2) == [0, 2]
    assert needed(logs, 3) == [0, 1, 2]


def test_a_class_for_the_rest_comes_with_several_classes_only():
    assert [Settings(diameter=100.0, classes=classes).volumes for classes in (1, 2, 5)] == [1, 3, 6]
    assert Settings(diameter=100.0, classes=2, rest_class=False).volumes == 2


def test_one_class_goes_on_with_the_better_starts_in_order():
    logs = [torch.full((4, 1), value) for value in (1.0, 3.0, 2.0)]
    assert promising(logs, 2) == [[1], [2]]


def test_a_gathered_state_takes_each_class_from_its_start():
    states = [State([torch.full((2, 2, 2), float(2 * s + k)) for k in (0, 1)], torch.full((3,), float(s)), [None, None]) for s in (0, 1)]
    state = gathered(states, [3, 0])
    assert [float(volume.mean()) for volume in state.volumes] == [3.0, 0.0]
    assert torch.equal(state.noise, torch.full((3,), 0.5))
    assert state.fitted


def noise_engine(count: int, classes: int) -> AbInitio:
    """Particles that are noise alone, to be sorted into classes."""
    generator = torch.Generator().manual_seed(7)
    observations, noise, geometry, *_ = observed(count, 0.1, 5)
    spectra = torch.complex(*(torch.randn(observations.ctf.shape, generator=generator) for _ in range(2)))
    empty = Observations(spectra * (noise[geometry.disc.shells] / 2).sqrt(), observations.ctf)
    settings = Settings(diameter=DIAMETER, max_resolution=20.0, classes=classes, rest_class=False)
    return AbInitio(empty, noise, geometry, settings, torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("count", "particles", "folds"), [(100, 90, FEWEST_FOLDS), (103, 10, 11)])
def test_folds_hold_each_particle_once(count, particles, folds):
    engine = noise_engine(count, 2)
    dealt = [engine.fold(number, particles) for number in range(folds)]
    assert {fold for _, fold in dealt} == {folds}
    assert sorted(torch.cat([engine.rows(fold) for fold in dealt]).tolist()) == list(range(count))
    assert max(len(engine.rows(fold)) for fold in dealt) <= particles
    assert engine.fold(folds, particles) == dealt[0]


def test_what_parts_found_comes_back_in_the_order_of_the_particles():
    observations, projections, grid, search, *_ = grid_search(1.0)
    whole = rank_grid(observations, projections, grid, search)
    rows = torch.randperm(24, generator=torch.Generator().manual_seed(1)).split(7)
    parts = [(part, rank_grid(observations.pick(part), projections, grid, search)) for part in rows]
    assert torch.allclose(in_order(parts).log_likelihood, whole.log_likelihood, rtol=1e-4)
    assert torch.equal(in_order(parts).classes, whole.classes)


def test_particles_are_drawn_back_to_the_class_they_were_dealt_to_only_where_they_are_part_of_its_volume():
    """One molecule, its views dealt to two classes by chance: the volumes differ by the noise of their own particles alone."""
    observations, noise, geometry, rotations, origins = observed(150, 0.2, 5)
    disc, dealt = geometry.disc, torch.arange(150) % 2
    settings = Settings(diameter=DIAMETER, max_resolution=20.0, classes=2, rest_class=False)
    engine = AbInitio(observations, noise, geometry, settings, torch.Generator().manual_seed(1))
    power = noise[disc.shells]
    centred = observations.spectra * shift_phases(disc.points / geometry.n, origins / geometry.pixel_size)
    slices = Slices(dealt, rotations, centred * observations.ctf / power, observations.ctf**2 / power)
    state = State([torch.zeros(geometry.n, geometry.n, geometry.n)] * 2, noise, fitted=True)
    for fold in (engine.fold(number, 150) for number in range(FEWEST_FOLDS)):
        part = Slices(*(column[engine.rows(fold)] for column in slices))
        state.recent.append((fold, [gather_slices(part, disc, k, geometry.n, engine.operators) for k in (0, 1)]))
    whole, apart = engine.assign_apart(state, 20.0)
    together = engine.assign(whole, torch.arange(150), 20.0)
    assert (together.classes == dealt).float().mean() > 0.7
    assert abs((apart.classes == dealt).float().mean() - 0.5) < 0.15


def test_volumes_apart_from_a_fold_know_nothing_of_it():
    engine = noise_engine(60, 2)
    state = engine.fresh()
    for number in range(FEWEST_FOLDS):
        engine.iterate_apart(state, Batch(30.0, 12, 1.0, 0.0), number)
    left_out = engine.fold(2, 12)
    changed = state.copy()
    changed.recent = [
        (fold, [(50 * total, weight) if fold == left_out else (total, weight) for total, weight in sums]) for fold, sums in state.recent
    ]
    for apart, same in ((left_out, True), (engine.fold(1, 12), False)):
        engine.renew(state, 30.0, apart, centred=False)
        engine.renew(changed, 30.0, apart, centred=False)
        assert torch.equal(state.volumes[0], changed.volumes[0]) == same


def test_log_likelihoods_of_classes_join_to_that_of_the_particle():
    observations, projections, grid, search, *_ = grid_search(1.0, classes=2)
    found = rank_grid(observations, projections, grid, search)
    logs = class_logs(found)
    assert torch.allclose(logs.logsumexp(1) - math.log(2), found.log_likelihood, atol=1e-3)
    assert torch.allclose(torch.softmax(logs, 1), found.class_posterior, atol=1e-3)


def test_chosen_classes_keep_their_volumes_and_sums():
    volumes = [torch.full((2, 2, 2), float(k)) for k in range(3)]
    recent = [((0, 5), [(torch.full((2,), float(k)), torch.ones(2)) for k in range(3)])]
    state = chosen_classes(State(volumes, torch.ones(3), [None] * 3, True, recent), [2, 0])
    assert [float(volume.mean()) for volume in state.volumes] == [2.0, 0.0]
    assert [float(total.mean()) for total, _ in state.recent[0][1]] == [2.0, 0.0]
