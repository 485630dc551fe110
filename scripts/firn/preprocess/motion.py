"""Motion of one movie: whole frames first, then a smooth field over the micrograph, fitted jointly to all tiles and frames.

Convention: shifts move a frame onto the first one, in Å, yx. The field is a cubic B-spline in time, y and x over [0, 1]^3, zero in
the first frame; the shift of frame i at a point is global[i] + field(i, point).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from firn.kernels import motion as kernel
from firn.kernels.fourier import fast_size, plain_irfft2, plain_rfft2
from firn.kernels.spline import cubic_basis, difference_penalty, separable_field
from firn.preprocess.frames import Frames, crop_to_resolution, edge_taper
from firn.preprocess.motion_fit import Fit, Limits

TILE_LENGTH = 250.0
MOST_TILES = 8
TILE_OVERLAP = 1.25
SEARCH_LENGTH = 60.0
MOST_SEARCHES = 4
EARLY_DOSE = 4.0
START_PRECISION = 0.25
FIELD_PRECISIONS = (10.0, 4.0, 4.0)


@dataclass(frozen=True)
class Settings:
    """pixel_size and max_align_resolution in Å, b_factor in Å²; smoothing 0.5 takes the prior that the evidence prefers."""

    pixel_size: float
    max_align_resolution: float = 5.0
    b_factor: float = 500.0
    smoothing: float = 0.5
    local: bool = True

    @property
    def limits(self) -> Limits:
        """What the fits need of the settings."""
        return Limits(self.max_align_resolution, self.pixel_size, self.smoothing / 0.5)


@dataclass(frozen=True)
class Field:
    """Coefficients `(ct, cy, cx, 2)` in Å of the local shifts, and the time `(f,)` of each frame in [0, 1]."""

    coefficients: Tensor
    times: Tensor

    def on_raster(self, y: Tensor, x: Tensor) -> Tensor:
        """Shifts `(f, h, w, 2)` in Å of all frames at rows y and columns x, both in [0, 1]."""
        ct, cy, cx, _ = self.coefficients.shape
        return separable_field(cubic_basis(self.times, ct - 3), cubic_basis(y, cy - 3), cubic_basis(x, cx - 3), self.coefficients)

    def on_row(self, numbers: list[int], y: float, x: Tensor) -> Tensor:
        """Shifts `(f, n, 2)` in Å of the numbered frames on one row y, at columns x `(f, n)` of their own, all in [0, 1]."""
        ct, cy, cx, _ = self.coefficients.shape
        time = cubic_basis(self.times[numbers], ct - 3)
        row = cubic_basis(torch.tensor([y], device=time.device), cy - 3)[0]
        along = torch.einsum("ft,y,tyxd->fxd", time, row, self.coefficients)
        return torch.bmm(cubic_basis(x.flatten(), cx - 3).reshape(*x.shape, cx), along)

    def at_points(self, points: Tensor) -> Tensor:
        """Shifts `(f, p, 2)` in Å of all frames at points `(p, 2)` yx in [0, 1]."""
        ct, cy, cx, _ = self.coefficients.shape
        time = cubic_basis(self.times, ct - 3)
        y, x = cubic_basis(points[:, 0], cy - 3), cubic_basis(points[:, 1], cx - 3)
        in_space = torch.einsum("py,px->pyx", y, x).flatten(1)
        return torch.einsum("ft,pk,tkd->fpd", time, in_space, self.coefficients.flatten(1, 2))


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


def estimate_motion(frames: Frames, doses: Tensor, settings: Settings) -> Motion:
    """Global and local motion of the frames; doses `(f,)` in e/Å² at the end of each frame."""
    lengths = (frames.shape[0] * settings.pixel_size, frames.shape[1] * settings.pixel_size)
    spectra, shape = crop_to_resolution(frames, settings.pixel_size, settings.max_align_resolution)
    times = spline_times(doses.to(spectra.device))
    shifts, precision = align_whole_frames(spectra, shape, lengths, times, settings)
    grid = tuple(max(1, min(MOST_TILES, round(length / TILE_LENGTH))) for length in lengths)
    if not settings.local or len(frames) < 3 or grid == (1, 1):
        return Motion(shifts - shifts[:1], None, torch.full((1, 2), 0.5, device=shifts.device))
    tiles, centres, band = cut_tiles(spectra, shifts, shape, lengths, (grid[0], grid[1]))
    shifts, field = fit_field(tiles, centres, band, shifts, times, precision, settings)
    return Motion(shifts - shifts[:1], field, centres)


def align_whole_frames(
    spectra: Tensor, shape: tuple[int, int], lengths: tuple[float, float], times: Tensor, settings: Settings
) -> tuple[Tensor, float]:
    """(global shifts `(f, 2)` in Å, mean 0; precision of the prior on acceleration): correlation peaks first, then the likelihood."""
    band = kernel.make_band(shape, lengths, spectra.device)
    shifts = _search_peaks(spectra, shape, lengths, band, settings)
    if len(spectra) < 3:
        return shifts, START_PRECISION
    eye = torch.eye(len(spectra), dtype=torch.float64, device=spectra.device)
    fit = Fit(spectra[None], band, eye[None], [acceleration_penalty(times)], [START_PRECISION], settings.limits)
    shifts = fit.maximise(shifts.double()).float()
    return shifts, float(fit.precisions[0])


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


def fit_field(
    tiles: Tensor, centres: Tensor, band: kernel.Band, shifts: Tensor, times: Tensor, precision: float, settings: Settings
) -> tuple[Tensor, Field]:
    """(global shifts `(f, 2)`, local field, zero in the first frame) that are together most probable given all tiles and frames.

    shifts: the global ones that the tiles have undergone; precision: of the prior on their acceleration.
    """
    frames = tiles.shape[1]
    counts = (frame_splines(frames), *(_space_splines(int(torch.unique(centres[:, axis]).numel())) for axis in range(2)))
    time = cubic_basis(times.double(), counts[0] - 3)
    y, x = (cubic_basis(centres[:, axis].double(), counts[1 + axis] - 3) for axis in range(2))
    local = torch.einsum("ft,pk->pftk", time, torch.einsum("py,px->pyx", y, x).flatten(1)).flatten(2)
    rigid = torch.eye(frames, dtype=torch.float64, device=tiles.device).expand(len(tiles), -1, -1)
    penalties = [
        torch.block_diag(acceleration_penalty(times), torch.zeros(local.shape[2], local.shape[2], dtype=torch.float64, device=tiles.device))
    ]
    empty = torch.zeros(frames, frames, dtype=torch.float64, device=tiles.device)
    penalties += [torch.block_diag(empty, penalty.to(tiles.device)) for penalty in _field_penalties(*counts)]
    fit = Fit(tiles, band, torch.cat((rigid, local), dim=2), penalties, [precision, *FIELD_PRECISIONS], settings.limits)
    fit.applied = shifts.double()
    start = torch.cat((shifts.double(), torch.zeros(local.shape[2], 2, dtype=torch.float64, device=tiles.device)))
    solution = fit.maximise(start)
    return _split_mean(solution[:frames], solution[frames:].reshape(*counts, 2), time, torch.einsum("py,px->yx", y, x) / len(tiles), times)


def _split_mean(shifts: Tensor, coefficients: Tensor, time: Tensor, weights: Tensor, times: Tensor) -> tuple[Tensor, Field]:
    """(global shifts, field) of the same sum, the field with mean 0 over the tiles and 0 in the first frame; weights `(cy, cx)` give the mean."""
    mean = torch.einsum("yx,tyxd->td", weights, coefficients)
    coefficients = coefficients - mean[:, None, None]
    first = torch.einsum("t,tyxd->yxd", time[0], coefficients)
    return (shifts + time @ mean).float(), Field((coefficients - first).float(), times.float())


def spline_times(doses: Tensor) -> Tensor:
    """Time of each frame in [0, 1] from the dose at its end: the logarithm of the dose, since specimens move most at first.

    Source: Brilot et al., J. Struct. Biol. 177, 630 (2012); the scale of 4 e/Å² is where RELION parts early from late motion.
    """
    logarithm = torch.log1p(doses.double() / EARLY_DOSE)
    return (logarithm - logarithm[0]) / (logarithm[-1] - logarithm[0]).clamp(min=1e-12)


def acceleration_penalty(times: Tensor) -> Tensor:
    """Quadratic form `(f, f)` of shifts: squared changes of velocity, in the time of the splines, scaled to unit steps."""
    steps = times[1:] - times[:-1]
    velocity = (
        torch.diff(torch.eye(len(times), dtype=torch.float64, device=times.device), dim=0) / (steps * len(steps)).clamp(min=1e-6)[:, None]
    )
    change = torch.diff(velocity, dim=0)
    return change.T @ change


def frame_splines(frames: int) -> int:
    """Number of B-splines in time: one per three frames or so; the prior, not their number, makes the field smooth."""
    return min(4 + frames // 3, 20)


def _search_peaks(spectra: Tensor, shape: tuple[int, int], lengths: tuple[float, float], band: kernel.Band, settings: Settings) -> Tensor:
    """Shifts `(f, 2)` in Å by correlation with the other frames, over fewer and fewer neighbours in time."""
    inside = (band.radius <= 1 / settings.max_align_resolution) & (band.radius > 1.5 / min(lengths))
    weights = torch.exp(-settings.b_factor / 4 * band.radius**2) * inside
    pixel = max(lengths[0] / shape[0], lengths[1] / shape[1])
    shifts = torch.zeros(len(spectra), 2, device=spectra.device)
    for smoothing, length in ((3, SEARCH_LENGTH), (1, SEARCH_LENGTH / 2), (0, SEARCH_LENGTH / 4)):
        reach = tuple(int(min(side // 4, max(4, length / pixel))) for side in shape)
        for _ in range(MOST_SEARCHES):
            step = kernel.correlation_step(spectra, shifts, weights, band, (reach[0], reach[1]), smoothing)
            step = step - step.mean(dim=0)
            shifts = shifts + step
            if float(step.abs().max()) < pixel:
                break
    return shifts


def _space_splines(tiles: int) -> int:
    return 4 if tiles < 5 else 5


def _field_penalties(ct: int, cy: int, cx: int) -> list[Tensor]:
    """Acceleration, roughness in space of the velocity, velocity itself: each a quadratic form of the coefficients."""
    eye_y, eye_x = torch.eye(cy, dtype=torch.float64), torch.eye(cx, dtype=torch.float64)
    space = torch.kron(eye_y, eye_x)
    rough = torch.kron(difference_penalty(cy, 2), eye_x) + torch.kron(eye_y, difference_penalty(cx, 2))
    velocity = difference_penalty(ct, 1)
    return [torch.kron(difference_penalty(ct, 2), space), torch.kron(velocity, rough), torch.kron(velocity, space)]
