"""Motion correction against movies of known motion: drift and local motion are found, still specimens stay still."""

import numpy as np
import pytest
import torch

from firn.preprocess.frame_sum import sum_frames
from firn.preprocess.frames import Frames, Gain, PackedCounts, bin_images, bin_to_resolution, prepare_frames, sum_counts
from firn.preprocess.motion import Field, Motion, Settings, cut_tiles, estimate_motion, spline_times
from firn.preprocess.motion_fit import Model
from moving_specimen import FRAMES, SIDE, counted_movie, displacement, expected_counts

PIXEL = 3.0
DOSES = torch.arange(1, FRAMES + 1) * 2.0


def frames_of(counts: np.ndarray) -> Frames:
    return prepare_frames([torch.from_numpy(frame) for frame in counts], None, torch.Generator().manual_seed(0))


def motion_of(counts: np.ndarray, **settings: float) -> Motion:
    return estimate_motion(frames_of(counts), DOSES, Settings(PIXEL, max_align_resolution=8.0, **settings))


def residual_px(motion: Motion, drift: float, local: float) -> tuple[float, float]:
    """RMS error in px of the drift, and of drift and local motion, the mean over frames removed."""
    axis = torch.linspace(0.1, 0.9, 7)
    points = torch.cartesian_prod(axis, axis)
    truth = displacement(points[:, 0].numpy() * SIDE, points[:, 1].numpy() * SIDE, drift, local)
    error = -motion.at_points(points).numpy() / PIXEL - truth
    error = error - error.mean(axis=0)
    return float(np.sqrt((error.mean(axis=1) ** 2).sum(-1).mean())), float(np.sqrt((error**2).sum(-1).mean()))


@pytest.mark.parametrize(("drift", "local"), [(4.0, 0.0), (3.0, 1.5), (-6.0, 0.7), (0.0, 0.0)])
def test_drift_and_local_motion_are_found_to_a_tenth_of_a_pixel(drift: float, local: float) -> None:
    motion = motion_of(counted_movie(drift, local))
    rigid, whole = residual_px(motion, drift, local)
    assert rigid < 0.1
    assert whole < 0.15


def test_local_motion_is_left_alone_when_told_to() -> None:
    motion = motion_of(counted_movie(3.0, 1.5), local=False)
    assert motion.field is None
    assert residual_px(motion, 3.0, 1.5)[0] < 0.15


def test_shifts_and_field_are_zero_in_the_first_frame() -> None:
    motion = motion_of(counted_movie(3.0, 1.5))
    assert motion.field is not None
    assert not motion.shifts[0].any()
    assert float(motion.field.at_points(torch.rand(5, 2))[0].abs().max()) < 1e-5


def test_the_field_on_a_raster_is_the_field_at_its_points() -> None:
    motion = motion_of(counted_movie(3.0, 1.5))
    assert motion.field is not None
    y, x = torch.rand(3), torch.rand(4)
    raster = motion.field.on_raster(y, x)
    torch.testing.assert_close(raster.reshape(FRAMES, 12, 2), motion.field.at_points(torch.cartesian_prod(y, x)))


def test_a_specimen_without_any_structure_is_given_no_large_motion() -> None:
    flat = np.random.default_rng(3).poisson(8.0, (FRAMES, SIDE, SIDE)).astype(np.uint8)
    motion = motion_of(flat)
    assert motion.field is not None
    assert float(motion.field.at_points(torch.rand(20, 2)).abs().max()) < 3 * PIXEL
    assert float(motion.shifts.diff(dim=0).norm(dim=1).mean()) < 3 * PIXEL


def test_moved_frames_lie_on_the_first_one() -> None:
    still, moving = expected_counts(0.0, 0.0), expected_counts(3.0, 1.5)
    motion = motion_of(counted_movie(3.0, 1.5))
    inside = (slice(12, -12), slice(12, -12))
    for number in (3, FRAMES - 1):
        moved = moved_frame(moving[number], motion, number)
        before = np.corrcoef(moving[number][inside].ravel(), still[0][inside].ravel())[0, 1]
        after = np.corrcoef(moved[inside].ravel(), still[0][inside].ravel())[0, 1]
        assert after > 0.99
        assert after > before + 0.2


def moved_frame(frame: np.ndarray, motion: Motion, number: int) -> np.ndarray:
    assert motion.field is not None
    field = Field(motion.field.coefficients, motion.field.times[number : number + 1])
    single = Frames([torch.from_numpy(frame).float()], None, torch.zeros(0, dtype=torch.long), torch.zeros(1, 0, dtype=torch.long))
    return sum_frames(single, Motion(motion.shifts[number : number + 1], field, motion.tile_centres), PIXEL, None, 300.0).plain.numpy()


def ring_correlation(image: np.ndarray, truth: np.ndarray, rings: int = 16) -> np.ndarray:
    """Correlation with the truth in rings of the frequency up to Nyquist, without the edges."""
    inside = (slice(16, -16), slice(16, -16))
    window = np.hanning(SIDE - 32)[:, None] * np.hanning(SIDE - 32)
    a, b = (np.fft.rfft2((part[inside] - part[inside].mean()) * window) for part in (image, truth))
    ring = (np.hypot(np.fft.fftfreq(SIDE - 32)[:, None], np.fft.rfftfreq(SIDE - 32)) * 2 * rings).astype(int).ravel()
    cross, own, other = (np.bincount(ring, values.ravel())[:rings] for values in ((a * b.conj()).real, abs(a) ** 2, abs(b) ** 2))
    return cross / np.sqrt(own * other)


@pytest.mark.parametrize(("drift", "local"), [(4.0, 0.0), (3.0, 1.5)])
def test_the_sum_agrees_with_the_truth_as_well_as_that_of_a_movie_that_never_moved(drift: float, local: float) -> None:
    truth = expected_counts(0.0, 0.0)[0]
    frames = frames_of(counted_movie(drift, local))
    motion = estimate_motion(frames, DOSES, Settings(PIXEL, max_align_resolution=8.0))
    found = ring_correlation(sum_frames(frames, motion, PIXEL, None, 300.0).plain.numpy(), truth)
    perfect = ring_correlation(counted_movie(0.0, 0.0).sum(axis=0).astype(np.float64), truth)
    telling = perfect > 0.3
    assert telling.sum() >= 4
    assert (found[telling] > perfect[telling] - 0.02).all()


def test_odd_and_even_sums_are_parts_of_the_plain_one_and_independent() -> None:
    frames = frames_of(counted_movie(3.0, 1.5))
    motion = estimate_motion(frames, DOSES, Settings(PIXEL, max_align_resolution=8.0))
    sums = sum_frames(frames, motion, PIXEL, DOSES, 300.0, halves=True)
    without = sum_frames(frames, motion, PIXEL, DOSES, 300.0)
    assert sums.odd is not None
    assert sums.even is not None
    assert sums.weighted is not None
    assert without.weighted is not None
    torch.testing.assert_close(sums.odd + sums.even, sums.plain, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(sums.plain, without.plain, rtol=1e-3, atol=0.05)
    torch.testing.assert_close(sums.weighted, without.weighted, rtol=1e-4, atol=1e-3)
    assert float(sums.odd.mean() / sums.even.mean()) == pytest.approx(5 / 4, rel=0.02)
    still = Motion(torch.zeros(FRAMES, 2), None, torch.full((1, 2), 0.5))
    noise = frames_of(np.random.default_rng(5).poisson(8.0, (FRAMES, SIDE, SIDE)).astype(np.uint8))
    parts = sum_frames(noise, still, PIXEL, None, 300.0, halves=True)
    assert parts.odd is not None
    assert parts.even is not None
    assert abs(float(torch.corrcoef(torch.stack((parts.odd.flatten(), parts.even.flatten())))[0, 1])) < 0.02


def test_sums_keep_the_counts_and_dose_weights_keep_white_noise_white() -> None:
    noise = np.random.default_rng(2).poisson(8.0, (FRAMES, SIDE, SIDE)).astype(np.uint8)
    still = Motion(torch.zeros(FRAMES, 2), None, torch.full((1, 2), 0.5))
    sums = sum_frames(frames_of(noise), still, PIXEL, DOSES, 300.0)
    plain, weighted = sums.plain, sums.weighted
    assert weighted is not None
    np.testing.assert_allclose(plain.numpy(), noise.sum(axis=0), atol=0.05)
    assert float(weighted.mean()) == pytest.approx(noise.sum(axis=0).mean() / FRAMES**0.5, rel=1e-4)
    assert float(weighted.var()) == pytest.approx(8.0, rel=0.03)


def test_a_cropped_sum_is_smaller_and_keeps_its_mean() -> None:
    counts = counted_movie(0.0, 0.0)
    still = Motion(torch.zeros(FRAMES, 2), None, torch.full((1, 2), 0.5))
    plain = sum_frames(frames_of(counts), still, PIXEL, None, 300.0, f_crop=0.5).plain
    assert plain.shape == (SIDE // 2, SIDE // 2)
    assert float(plain.mean()) == pytest.approx(counts.sum(axis=0).mean(), rel=1e-4)


def test_the_gain_is_applied_and_its_zeros_are_filled_from_neighbours() -> None:
    gain = torch.full((SIDE, SIDE), 0.5)
    gain[40, 50] = 0
    counts = [torch.from_numpy(frame) for frame in counted_movie(0.0, 0.0)]
    frames = prepare_frames(counts, Gain(gain), torch.Generator().manual_seed(1))
    assert 40 * SIDE + 50 in frames.defects.tolist()
    assert float(frames[0][100, 100]) == 0.5 * float(counts[0][100, 100])
    assert sum(float(frames[number][40, 50]) for number in range(FRAMES)) > 0


@pytest.mark.parametrize(("kind", "most"), [(torch.uint8, 5), (torch.uint8, 200), (torch.int8, 100), (torch.int32, 9), (torch.float32, 9)])
def test_binning_takes_means_of_squares_whatever_the_type(kind: torch.dtype, most: int) -> None:
    images = torch.randint(0, most + 1, (2, 13, 17), generator=torch.Generator().manual_seed(1)).to(kind)
    expected = torch.nn.functional.avg_pool2d(images.float(), 3)
    torch.testing.assert_close(bin_images(images, 3), expected)


def test_bytes_of_many_bright_frames_add_up() -> None:
    counts = [torch.full((3, 4), 255, dtype=torch.uint8)] * 300
    assert sum_counts(counts).tolist() == [[300 * 255.0] * 4] * 3


@pytest.mark.parametrize("rows", [6, 7])
def test_packed_counts_come_out_unchanged(rows: int) -> None:
    generator = torch.Generator().manual_seed(6)
    frames = [torch.randint(0, 18, (rows, 5), generator=generator).to(torch.uint8), torch.full((rows, 5), 300, dtype=torch.int32)]
    frames[0][2, 3] = 255
    packed = PackedCounts()
    for frame in frames:
        packed.append(frame)
    assert len(packed) == 2
    for found, frame in zip(packed[:], frames, strict=True):
        assert found.dtype == frame.dtype
        assert torch.equal(found, frame)
    assert torch.equal(sum_counts(packed), frames[0].float() + 300)


def test_an_even_illumination_seen_through_the_gain_is_even_once_binned() -> None:
    gain = 0.8 + 0.4 * torch.rand(SIDE, SIDE, generator=torch.Generator().manual_seed(2))
    none = torch.zeros(1, 0, dtype=torch.long)
    binned, pixel = bin_to_resolution(Frames([100 / gain], Gain(gain), none[0], none), 1.5, 9.0)
    assert pixel == 4.5
    assert binned.shape == (1, SIDE // 3, SIDE // 3)
    assert float(binned.abs().max()) < 1e-3


def test_bins_with_defects_have_the_harmonic_mean_of_the_filled_gain() -> None:
    reference = 0.8 + 0.4 * torch.rand(15, 14, generator=torch.Generator().manual_seed(3))
    reference[4, 5] = 0
    gain, defects = Gain(reference), torch.tensor([3, 4 * 14 + 5, 14 * 14 + 13])
    for factor in (2, 3):
        torch.testing.assert_close(gain.of_bins(factor, defects), 1 / bin_images((1 / gain.filled(defects))[None], factor)[0])
    assert gain.filled(defects)[4, 5] == pytest.approx(float(reference.mean()))
    assert gain.dead.tolist() == [4 * 14 + 5]


def test_tiles_are_cut_where_whole_pixels_of_the_shift_put_them() -> None:
    scene = torch.randn(160, 144, generator=torch.Generator().manual_seed(3))
    shifts = torch.tensor([[0.0, 0.0], [-6.2, 8.9], [90.0, 0.0]])
    binned = torch.stack([torch.roll(scene, (3, -4), (0, 1)), torch.roll(scene, (0, 0), (0, 1)), scene])
    tiles = cut_tiles(binned, shifts[:2].repeat_interleave(torch.tensor([1, 2]), dim=0), 2.0, (2, 3), 4.0)
    assert tiles.applied.tolist() == [[0.0, 0.0], [-6.0, 8.0], [-6.0, 8.0]]
    assert tiles.spectra.shape[:2] == (6, 3)
    torch.testing.assert_close(tiles.spectra[:, 1], tiles.spectra[:, 2])
    ruined = cut_tiles(binned, shifts * 10, 2.0, (2, 3), 4.0)
    assert float(ruined.applied.abs().max()) <= 2 * 160 // 8


def test_the_model_of_shifts_has_its_adjoint_and_normal_matrix() -> None:
    generator = torch.Generator().manual_seed(4)
    time, space = (torch.randn(*shape, dtype=torch.float64, generator=generator) for shape in ((5, 3), (4, 2)))
    model = Model(5, time, space)
    basis = torch.stack([model.shifts(torch.eye(11, dtype=torch.float64)[:, [column, column]])[..., 0] for column in range(11)], dim=-1)
    coefficients, slopes = (torch.randn(*shape, 2, dtype=torch.float64, generator=generator) for shape in ((11,), (4, 5)))
    torch.testing.assert_close(model.shifts(coefficients), torch.einsum("pfc,cd->pfd", basis, coefficients))
    torch.testing.assert_close(model.project(slopes), torch.einsum("pfc,pfd->cd", basis, slopes))
    information = torch.rand(4, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(model.normal(information), torch.einsum("pfc,p,pfe->ce", basis, information, basis))


def test_early_frames_get_more_of_the_splines_time() -> None:
    times = spline_times(DOSES)
    assert float(times[0]) == 0
    assert float(times[-1]) == 1
    assert bool((times.diff().diff() < 0).all())


def test_one_and_two_frames_are_movies_too() -> None:
    for count in (1, 2):
        counts = counted_movie(2.0, 0.0)[:count]
        motion = estimate_motion(frames_of(counts), DOSES[:count], Settings(PIXEL))
        assert motion.shifts.shape == (count, 2)
        assert bool(torch.isfinite(motion.shifts).all())
