"""Motion of one movie: whole frames first, then a smooth field over the micrograph, fitted jointly to all tiles and frames.

Convention: shifts move a frame onto the first one, in Å, yx. The field is a cubic B-spline in time, y and x over [0, 1]^3, zero in
the first frame; the shift of frame i at a point is global[i] + field(i, point).
The weights of frequencies are measured: the product of different frames tells signal from noise in every ring.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from firn.kernels import motion as kernel
from firn.kernels.fourier import fast_size, plain_irfft2, plain_rfft2, resize_spectra2
from firn.kernels.spline import cubic_basis, difference_penalty, separable_field
from firn.preprocess.frames import Frames, crop_to_resolution, edge_taper

TILE_LENGTH = 250.0
MOST_TILES = 8
TILE_OVERLAP = 1.25
SEARCH_LENGTH = 60.0
INFORMATION_SHARE = 0.998
CONVERGED_PX = 0.01
LARGEST_STEP = 4.0


@dataclass(frozen=True)
class Settings:
    """pixel_size and max_align_resolution in Å, b_factor in Å²; smoothing 0.5 takes the prior that the evidence prefers."""

    pixel_size: float
    max_align_resolution: float = 5.0
    b_factor: float = 500.0
    smoothing: float = 0.5
    local: bool = True


@dataclass(frozen=True)
class Field:
    """Coefficients `(ct, cy, cx, 2)` in Å of the local shifts, and the number of frames they span."""

    coefficients: Tensor
    frames: int

    def on_raster(self, frame: int, y: Tensor, x: Tensor) -> Tensor:
        """Shift `(2, h, w)` in Å of a frame at rows y and columns x, both in [0, 1]."""
        ct, cy, cx, _ = self.coefficients.shape
        times = frame_times(self.frames, y.device)[frame : frame + 1]
        values = separable_field(cubic_basis(times, ct - 3), cubic_basis(y, cy - 3), cubic_basis(x, cx - 3), self.coefficients)
        return values[0].movedim(-1, 0)

    def at_points(self, points: Tensor) -> Tensor:
        """Shifts `(f, p, 2)` in Å of all frames at points `(p, 2)` yx in [0, 1]."""
        ct, cy, cx, _ = self.coefficients.shape
        time = cubic_basis(frame_times(self.frames, points.device), ct - 3)
        y, x = cubic_basis(points[:, 0], cy - 3), cubic_basis(points[:, 1], cx - 3)
        return torch.einsum("ft,py,px,tyxd->fpd", time, y, x, self.coefficients)


@dataclass(frozen=True)
class Motion:
    """Global shifts `(f, 2)` in Å, zero in the first frame; the local field; tile centres `(p, 2)` yx in [0, 1]."""

    shifts: Tensor
    field: Field | None
    tile_centres: Tensor

    def at_points(self, points: Tensor) -> Tensor:
        """Whole shifts `(f, p, 2)` in Å at points `(p, 2)` yx in [0, 1]."""
        rigid = self.shifts[:, None].expand(-1, len(points), -1)
        return rigid if self.field is None else rigid + self.field.at_points(points.to(self.shifts.dtype))


def estimate_motion(frames: Frames, settings: Settings) -> Motion:
    """Global and local motion of the frames."""
    lengths = (frames.shape[0] * settings.pixel_size, frames.shape[1] * settings.pixel_size)
    spectra, shape = crop_to_resolution(frames, settings.pixel_size, settings.max_align_resolution)
    shifts = align_whole_frames(spectra, shape, lengths, settings)
    grid = tuple(max(1, min(MOST_TILES, round(length / TILE_LENGTH))) for length in lengths)
    if not settings.local or len(frames) < 3 or grid == (1, 1):
        return Motion(shifts - shifts[:1], None, torch.full((1, 2), 0.5, device=shifts.device))
    tiles, centres, band = cut_tiles(spectra, shifts, shape, lengths, (grid[0], grid[1]))
    field = fit_field(tiles, centres, band, settings)
    return Motion(shifts - shifts[:1], field, centres)


def align_whole_frames(spectra: Tensor, shape: tuple[int, int], lengths: tuple[float, float], settings: Settings) -> Tensor:
    """Global shifts `(f, 2)` in Å, mean 0: correlation peaks first, then the likelihood with a prior on acceleration."""
    band = kernel.make_band(shape, lengths, spectra.device)
    shifts = _search_peaks(spectra, shape, lengths, band, settings)
    if len(spectra) < 3:
        return shifts
    eye = torch.eye(len(spectra), dtype=torch.float64, device=spectra.device)
    penalties = [difference_penalty(len(spectra), 2).to(spectra.device)]
    fit = _Fit(spectra[None], band, eye[None], penalties, [0.25], settings)
    return fit.maximise(shifts.double()).float()


def cut_tiles(
    spectra: Tensor, shifts: Tensor, shape: tuple[int, int], lengths: tuple[float, float], grid: tuple[int, int]
) -> tuple[Tensor, Tensor, kernel.Band]:
    """(spectra `(p, f, y, x)` of tapered tiles of the globally aligned frames, tile centres `(p, 2)` in [0, 1], their band)."""
    band = kernel.make_band(shape, lengths, spectra.device)
    aligned = torch.stack([plain_irfft2(kernel.move(frame, shift, band), shape) for frame, shift in zip(spectra, shifts, strict=True)])
    sizes = [min(fast_size(int(TILE_OVERLAP * side / count)), side) for side, count in zip(shape, grid, strict=True)]
    starts = [torch.linspace(0, side - size, count).round().long().tolist() for side, size, count in zip(shape, sizes, grid, strict=True)]
    window = edge_taper(sizes[0], spectra.device, 0.125)[:, None] * edge_taper(sizes[1], spectra.device, 0.125)
    corners = [(y, x) for y in starts[0] for x in starts[1]]
    tiles = torch.stack([plain_rfft2(aligned[:, y : y + sizes[0], x : x + sizes[1]] * window) for y, x in corners])
    centres = torch.tensor([((y + sizes[0] / 2) / shape[0], (x + sizes[1] / 2) / shape[1]) for y, x in corners], device=spectra.device)
    tile_lengths = (lengths[0] * sizes[0] / shape[0], lengths[1] * sizes[1] / shape[1])
    return tiles, centres, kernel.make_band((sizes[0], sizes[1]), tile_lengths, spectra.device)


def fit_field(tiles: Tensor, centres: Tensor, band: kernel.Band, settings: Settings) -> Field:
    """Local shifts as a B-spline field that is most probable given all tiles and frames, zero in the first frame."""
    frames = tiles.shape[1]
    counts = (frame_knots(frames), *(_space_coefficients(int(torch.unique(centres[:, axis]).numel())) for axis in range(2)))
    time = cubic_basis(frame_times(frames, tiles.device).double(), counts[0] - 3)
    y, x = (cubic_basis(centres[:, axis].double(), counts[1 + axis] - 3) for axis in range(2))
    basis = torch.einsum("ft,py,px->pftyx", time, y, x).flatten(2)
    penalties = [penalty.to(tiles.device) for penalty in _field_penalties(*counts)]
    fit = _Fit(tiles, band, basis, penalties, [10.0, 4.0, 4.0], settings)
    start = torch.zeros(basis.shape[2], 2, dtype=torch.float64, device=tiles.device)
    coefficients = fit.maximise(start).reshape(*counts, 2)
    first = torch.einsum("t,tyxd->yxd", time[0], coefficients)
    return Field((coefficients - first).float(), frames)


def frame_times(frames: int, device: torch.device | str = "cpu") -> Tensor:
    """Time of each frame in [0, 1]."""
    return torch.linspace(0, 1, frames, device=device)


def frame_knots(frames: int) -> int:
    """Number of B-splines in time: one per two frames or so; the prior, not their number, makes the field smooth."""
    return min(4 + frames // 2, 24)


class _Fit:
    """Maximises the posterior of the coefficients of shifts `(p, f, 2)` = basis @ coefficients, with measured spectral weights."""

    rounds, iterations, evidence_steps = 2, 8, 4

    def __init__(
        self, spectra: Tensor, band: kernel.Band, basis: Tensor, penalties: Sequence[Tensor], precisions: list[float], settings: Settings
    ):
        self.spectra, self.band, self.basis, self.penalties, self.settings = spectra, band, basis, penalties, settings
        self.precisions = torch.tensor(precisions, dtype=torch.float64, device=spectra.device)
        self.ring_step = float(max(band.kx[1], band.ky[1]))

    def maximise(self, coefficients: Tensor) -> Tensor:
        """Coefficients `(c, 2)` at the maximum, from a start near it."""
        for _ in range(self.rounds):
            self._measure_weights(coefficients)
            for _ in range(self.iterations):
                step = self._step(coefficients)
                coefficients = coefficients + step
                if float((self.basis @ step).abs().max()) < CONVERGED_PX * self.settings.pixel_size:
                    break
        return coefficients

    def _measure_weights(self, coefficients: Tensor) -> None:
        signal, noise, error = kernel.ring_signal(self.spectra, self._shifts(coefficients), self.band, self.ring_step)
        ratio = kernel.signal_to_noise(signal, noise, error)
        ratio[:2] = 0
        ratio[int(1 / self.settings.max_align_resolution / self.ring_step) :] = 0
        rings = (self.band.radius / self.ring_step).round().long()
        self.ratio = _cut_information(ratio, self.spectra.shape[1]).float()[rings]
        self.inverse_noise = (1 / noise.sqrt()).float()[rings]
        self.weights = kernel.likelihood_weights(self.ratio, self.spectra.shape[1])

    def _step(self, coefficients: Tensor) -> Tensor:
        frames = self.spectra.shape[1]
        weights = self.weights * self.inverse_noise**2
        pairs = [
            kernel.likelihood_gradient(tile, shift, weights, self.band)
            for tile, shift in zip(self.spectra, self._shifts(coefficients), strict=True)
        ]
        gradients = torch.stack([gradient for gradient, _ in pairs]).double()
        excess = torch.stack([value for _, value in pairs]).double()
        strength = self._strengths(excess, frames)
        curvature = kernel.expected_curvature(self.ratio, self.weights, self.band).double()
        trust = strength[0] * strength[1]
        for _ in range(self.evidence_steps):
            step, covariances = kernel.posterior_step(
                self.basis,
                gradients * strength[1][:, None, None],
                trust[:, None] * curvature,
                coefficients,
                self.penalties,
                self.precisions * self.settings.smoothing / 0.5,
            )
            self.precisions = kernel.evidence_precisions(coefficients + step, covariances, self.penalties, self.precisions)
        largest = float((self.basis @ step).abs().max())
        return step * min(1.0, LARGEST_STEP / max(largest, 1e-9))

    def _strengths(self, excess: Tensor, frames: int) -> Tensor:
        """(signal power of each tile relative to the mean, weight its gradient gets): a tile without signal has no say."""
        expected = (self.weights * self.ratio * self.band.share).sum() * frames * (frames - 1)
        strength = (excess / expected.clamp(min=1e-12)).clamp(0.02, 5.0) if float(expected) > 0 else torch.zeros_like(excess)
        typical = (self.weights * self.ratio**2 * self.band.share).sum() / (self.weights * self.ratio * self.band.share).sum().clamp(
            min=1e-12
        )
        factor = strength * (1 + frames * typical) / (1 + frames * strength * typical)
        return torch.stack((strength, factor))

    def _shifts(self, coefficients: Tensor) -> Tensor:
        return (self.basis @ coefficients).float()


def _cut_information(ratio: Tensor, frames: int) -> Tensor:
    """The ratio, zero beyond the ring within which nearly all information about shifts lies."""
    ring = torch.arange(len(ratio), device=ratio.device, dtype=ratio.dtype)
    information = torch.cumsum(ring**3 * ratio * kernel.likelihood_weights(ratio, frames), dim=0)
    return torch.where(information <= INFORMATION_SHARE * information[-1], ratio, torch.zeros_like(ratio))


def _search_peaks(spectra: Tensor, shape: tuple[int, int], lengths: tuple[float, float], band: kernel.Band, settings: Settings) -> Tensor:
    """Shifts `(f, 2)` in Å by correlation with the other frames, over fewer and fewer neighbours in time."""
    inside = (band.radius <= 1 / settings.max_align_resolution) & (band.radius > 1.5 / min(lengths))
    weights = torch.exp(-settings.b_factor / 4 * band.radius**2) * inside
    pixel = max(lengths[0] / shape[0], lengths[1] / shape[1])
    shifts = torch.zeros(len(spectra), 2, device=spectra.device)
    for smoothing, length in (
        (3, SEARCH_LENGTH),
        (2, SEARCH_LENGTH),
        (1, SEARCH_LENGTH / 2),
        (1, SEARCH_LENGTH / 2),
        (0, SEARCH_LENGTH / 4),
        (0, SEARCH_LENGTH / 4),
    ):
        reach = tuple(int(min(side // 4, max(4, length / pixel))) for side in shape)
        step = kernel.correlation_step(spectra, shifts, weights, band, (reach[0], reach[1]), smoothing)
        shifts = shifts + step - step.mean(dim=0)
        if smoothing == 0 and float(step.abs().max()) < pixel / 4:
            break
    return shifts


def _space_coefficients(tiles: int) -> int:
    return 4 if tiles < 5 else 5


def _field_penalties(ct: int, cy: int, cx: int) -> list[Tensor]:
    """Acceleration, roughness in space of the velocity, velocity itself: each a quadratic form of the coefficients."""
    eye_y, eye_x = torch.eye(cy, dtype=torch.float64), torch.eye(cx, dtype=torch.float64)
    space = torch.kron(eye_y, eye_x)
    rough = torch.kron(difference_penalty(cy, 2), eye_x) + torch.kron(eye_y, difference_penalty(cx, 2))
    velocity = difference_penalty(ct, 1)
    return [torch.kron(difference_penalty(ct, 2), space), torch.kron(velocity, rough), torch.kron(velocity, space)]


def crop_spectra(spectra: Tensor, shape: tuple[int, int], factor: float) -> Tensor:
    """Image of a spectrum after Fourier-cropping both sides to the factor (even sides)."""
    new = (shape[0], shape[1]) if factor == 1 else (round(shape[0] * factor / 2) * 2, round(shape[1] * factor / 2) * 2)
    return plain_irfft2(resize_spectra2(spectra, shape, new) if new != shape else spectra, new)
