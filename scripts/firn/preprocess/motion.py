"""Motion of one movie: whole frames first, then a smooth field over the micrograph, fitted jointly to all tiles and frames.

Convention: shifts move a frame onto the first one, in Å, yx. The field is a cubic B-spline in time, y and x over [0, 1]^3, zero in
the first frame; the shift of frame i at a point is global[i] + field(i, point).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from firn.kernels import motion as kernel
from firn.kernels.fourier import fast_size, plain_rfft2
from firn.kernels.spline import cubic_basis, difference_penalty, separable_field
from firn.preprocess.frames import Frames, bin_images, bin_to_resolution, edge_taper, taper_frames
from firn.preprocess.motion_fit import Fit, Limits, Model

TILE_LENGTH = 250.0
MOST_TILES = 6
TILE_OVERLAP = 1.1
TILE_TAPER = 0.125
SEARCH_LENGTH = 60.0
MOST_SEARCHES = 4
COARSER = 3.0
EARLY_DOSE = 4.0
START_PRECISION = 0.25
DOUBT = 0.01
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
    """Global and local motion of the frames; doses `(f,)` in e/Å² at the end of each frame.

    Whole frames are aligned at half the resolution first; then tiles of frames moved by whole pixels are fitted jointly.
    """
    binned, pixel = bin_to_resolution(frames, settings.pixel_size, settings.max_align_resolution)
    times = spline_times(doses.to(binned.device))
    shifts, precision = align_whole_frames(binned, pixel, times, settings)
    if len(frames) < 3:
        return Motion(shifts - shifts[:1], None, torch.full((1, 2), 0.5, device=shifts.device))
    lengths = tuple(side * settings.pixel_size for side in frames.shape)
    grid = tuple(max(1, min(MOST_TILES, round(length / TILE_LENGTH))) for length in lengths)
    tiles = cut_tiles(binned, shifts, pixel, (grid[0], grid[1]), settings.max_align_resolution)
    covered = [side * pixel / length for side, length in zip(binned.shape[1:], lengths, strict=True)]
    del binned
    centres = tiles.centres * torch.tensor(covered).to(shifts)
    counts = field_splines(len(frames), grid) if settings.local and grid != (1, 1) else None
    shifts, field = fit_field(replace(tiles, centres=centres), shifts, times, precision, counts, settings)
    return Motion(shifts - shifts[:1], field, centres)


def align_whole_frames(binned: Tensor, pixel: float, times: Tensor, settings: Settings) -> tuple[Tensor, float]:
    """(global shifts `(f, 2)` in Å, mean 0; precision of the prior on acceleration): correlation peaks first, then the likelihood.

    Peaks that jump about more than they gain in likelihood are those of noise: then the search starts from no motion.
    binned: `(f, y, x)` with pixels of so many Å, binned further here.
    """
    factor = max(1, round(COARSER * settings.max_align_resolution / (2 * pixel)))
    coarse = taper_frames(bin_images(binned, factor))
    shape = (coarse.shape[1], coarse.shape[2])
    lengths = (shape[0] * pixel * factor, shape[1] * pixel * factor)
    spectra, band = plain_rfft2(coarse), kernel.make_band(shape, lengths, coarse.device)
    shifts = _search_peaks(spectra, shape, lengths, band, settings)
    if len(spectra) < 3:
        return shifts, START_PRECISION
    limits = Limits(max(settings.max_align_resolution, 2 * pixel * factor), pixel * factor, settings.limits.stiffness)
    penalty, shifts = acceleration_penalty(times), shifts.double()
    fit = Fit(spectra[None], band, Model(len(spectra)), [penalty], [START_PRECISION], limits)
    if fit.gain(shifts) < DOUBT * float((shifts * (penalty @ shifts)).sum()):
        shifts = torch.zeros_like(shifts)
    return fit.maximise(shifts).float(), float(fit.precisions[0])


@dataclass(frozen=True)
class Tiles:
    """Spectra `(p, f, y, x)` of tapered tiles, their band, centres `(p, 2)` yx as shares of the image, and the whole-pixel shifts
    `(f, 2)` in Å that they have undergone."""

    spectra: Tensor
    band: kernel.Band
    centres: Tensor
    applied: Tensor


def cut_tiles(binned: Tensor, shifts: Tensor, pixel: float, grid: tuple[int, int], resolution: float) -> Tiles:
    """Tiles `(y, x)` of a grid that overlap a little; each frame is cut where its shift in Å puts it, to the next whole pixel.

    Their spectra end at the resolution in Å.
    """
    shape = (binned.shape[1], binned.shape[2])
    most = torch.tensor([side // 8 for side in shape], device=shifts.device)
    whole = torch.minimum((shifts / pixel).round().long().abs(), most) * shifts.sign().long()
    reach = whole.abs().amax(dim=0).tolist()
    sizes, starts = zip(*(_tile_line(side, margin, count) for side, margin, count in zip(shape, reach, grid, strict=True)), strict=True)
    window = edge_taper(sizes[0], binned.device, TILE_TAPER)[:, None] * edge_taper(sizes[1], binned.device, TILE_TAPER)
    corners = [(y, x) for y in starts[0] for x in starts[1]]
    moves = whole.tolist()
    cut = torch.empty(len(binned), sizes[0], sizes[1], device=binned.device)
    band = kernel.make_band((sizes[0], sizes[1]), (sizes[0] * pixel, sizes[1] * pixel), binned.device)
    rows, columns, band = kernel.crop_band(band, 1 / resolution)
    upper = int((band.ky >= 0).sum())
    spectra = torch.empty(len(corners), len(binned), len(rows), columns, dtype=torch.complex64, device=binned.device)
    for number, (y, x) in enumerate(corners):
        for image, frame, (dy, dx) in zip(cut, binned, moves, strict=True):
            torch.mul(frame[y - dy : y - dy + sizes[0], x - dx : x - dx + sizes[1]], window, out=image)
        whole_band = plain_rfft2(cut)
        spectra[number, :, :upper] = whole_band[:, :upper, :columns]
        spectra[number, :, upper:] = whole_band[:, sizes[0] - len(rows) + upper :, :columns]
    centres = torch.tensor([((y + sizes[0] / 2) / shape[0], (x + sizes[1] / 2) / shape[1]) for y, x in corners], device=shifts.device)
    return Tiles(spectra, band, centres, whole * pixel)


def _tile_line(side: int, margin: int, count: int) -> tuple[int, list[int]]:
    """(size of a tile, first pixel of each) along one axis, so that no tile moved by the margin leaves the image."""
    room = side - 2 * margin
    size = min(fast_size(int(TILE_OVERLAP * room / count)), room - room % 2)
    return size, torch.linspace(margin, margin + room - size, count).round().long().tolist()


def field_splines(frames: int, grid: tuple[int, ...]) -> tuple[int, int, int]:
    """Numbers of B-splines in time, y and x; in time one per three frames or so: the prior, not their number, makes the field smooth."""
    return (min(4 + frames // 3, 20), 4 if grid[0] < 5 else 5, 4 if grid[1] < 5 else 5)


def fit_field(
    tiles: Tiles, shifts: Tensor, times: Tensor, precision: float, counts: tuple[int, int, int] | None, settings: Settings
) -> tuple[Tensor, Field | None]:
    """(global shifts `(f, 2)`, local field, zero in the first frame) that are together most probable given all tiles and frames.

    precision: of the prior on the global shifts' acceleration. counts: of splines in time, y and x; None: no local field.
    """
    frames, rigid = len(times), acceleration_penalty(times)
    if counts is None:
        fit = Fit(tiles.spectra, tiles.band, Model(frames), [rigid], [precision], settings.limits, tiles.applied)
        return fit.maximise(shifts.double()).float(), None
    time = cubic_basis(times.double(), counts[0] - 3)
    y, x = (cubic_basis(tiles.centres[:, axis].double(), counts[1 + axis] - 3) for axis in range(2))
    space = torch.einsum("py,px->pyx", y, x)
    terms = [penalty.to(time) for penalty in _field_penalties(*counts)]
    size = len(terms[0])
    penalties = [torch.block_diag(rigid, torch.zeros(size, size).to(time))]
    penalties += [torch.block_diag(torch.zeros(frames, frames).to(time), term) for term in terms]
    model = Model(frames, time, space.flatten(1))
    fit = Fit(tiles.spectra, tiles.band, model, penalties, [precision, *FIELD_PRECISIONS], settings.limits, tiles.applied)
    solution = fit.maximise(torch.cat((shifts.double(), torch.zeros(size, 2).to(time))))
    return _split_mean(solution[:frames], solution[frames:].reshape(*counts, 2), time, space.mean(dim=0), times)


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


def _field_penalties(ct: int, cy: int, cx: int) -> list[Tensor]:
    """Acceleration, roughness in space of the velocity, velocity itself: each a quadratic form of the coefficients."""
    eye_y, eye_x = torch.eye(cy, dtype=torch.float64), torch.eye(cx, dtype=torch.float64)
    space = torch.kron(eye_y, eye_x)
    rough = torch.kron(difference_penalty(cy, 2), eye_x) + torch.kron(eye_y, difference_penalty(cx, 2))
    velocity = difference_penalty(ct, 1)
    return [torch.kron(difference_penalty(ct, 2), space), torch.kron(velocity, rough), torch.kron(velocity, space)]
