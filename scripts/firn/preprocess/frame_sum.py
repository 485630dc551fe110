"""Frames moved back and summed, plain and dose-weighted, each resampled once by cubic splines, strip by strip of rows.

The dose weights of all frames have low rank, so a few weighted sums and their transforms replace one transform per
frame; the spline's prefilter is applied to the spectra of those sums.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from firn.kernels.dose import dose_weights, factorise
from firn.kernels.fourier import fast_size, frequencies, plain_irfft2, plain_rfft2, resize_spectra2
from firn.kernels.interpolate import resample_rows_, spline_prefilter, spline_taps
from firn.kernels.spline import cubic_basis
from firn.preprocess.frames import Frames, split_frames
from firn.preprocess.motion import Motion

STRIP_PIXELS = 262144
LEAST_ROWS, MOST_ROWS = 8, 128
STEP_PX = 16
STRIP_TOLERANCE_PX = 0.2
DOSE_TOLERANCE = 5e-3
"""Largest error of the dose weights, relative to the noise at any frequency; its square is what it may cost of the signal-to-noise."""
SPECTRUM_ROWS = 64


@dataclass(frozen=True)
class Sums:
    """Plain sum `(y, x)`; dose-weighted sum, or None without doses; plain sums of the odd and of the even frames (counted from 1), on request."""

    plain: Tensor
    weighted: Tensor | None = None
    odd: Tensor | None = None
    even: Tensor | None = None


def sum_frames(
    frames: Frames,
    motion: Motion,
    pixel_size: float,
    doses: Tensor | None,
    voltage_kv: float,
    f_crop: float = 1.0,
    halves: bool = False,
) -> Sums:
    """Sums of the moved frames; doses `(f,)` in e/Å² at the end of each frame; f_crop: factor of Fourier-cropping."""
    shape = frames.shape
    recipe = _make_recipe(len(frames), shape, doses, voltage_kv, pixel_size, motion.shifts.device, halves)
    grown = (fast_size(shape[0]), fast_size(shape[1])) if f_crop == 1 else shape
    mixed = torch.zeros(recipe.mixing.shape[1], *grown, device=motion.shifts.device)
    warp = _Warp(motion, shape, pixel_size)
    for numbers in split_frames(len(frames), shape):
        _add_group(mixed, frames, numbers, warp, recipe.mixing)
    return _finish(mixed, recipe, shape, f_crop)


@dataclass(frozen=True)
class _Recipe:
    """Weights `(f, r)` of the frames in the sums that are kept: the plain one, those that the dose weights need, and that of the
    odd frames on request; radial profiles `(r', n)` of the dose-weighted sum in the first of them at steps in cycles per pixel, or None."""

    mixing: Tensor
    profiles: Tensor | None
    step: float
    halves: bool


def _make_recipe(
    frames: int, shape: tuple[int, int], doses: Tensor | None, voltage_kv: float, pixel_size: float, device: torch.device, halves: bool
) -> _Recipe:
    samples = 4 * max(shape)
    step = 0.7072 / (samples - 1)
    mixing, profiles = torch.ones(frames, 1, device=device), None
    if doses is not None:
        weights = dose_weights(torch.arange(samples, device=device) * step / pixel_size, doses.to(device), voltage_kv)
        mixing, profiles = factorise(weights, DOSE_TOLERANCE)
    if halves:
        odd = torch.arange(frames, device=device) % 2 == 0
        mixing = torch.cat((mixing, odd[:, None].float()), dim=1)
    return _Recipe(mixing, profiles, step, halves)


class _Warp:
    """Shifts in pixels at the centres of strips, every STEP_PX columns."""

    def __init__(self, motion: Motion, shape: tuple[int, int], pixel_size: float):
        self.field, self.shape = motion.field, shape
        self.rigid = motion.shifts / pixel_size
        self.rows = min(MOST_ROWS, max(LEAST_ROWS, STRIP_PIXELS // shape[1]))
        if motion.field is None:
            return
        axis = torch.linspace(0, 1, 9, device=self.rigid.device)
        local = motion.field.on_raster(axis, axis) / pixel_size
        slope = float((local[:, 1:] - local[:, :-1]).abs().max()) * 8 / shape[0]
        self.rows = max(LEAST_ROWS, min(self.rows, int(STRIP_TOLERANCE_PX / max(slope, 1e-9))))
        ct, _, cx, _ = motion.field.coefficients.shape
        in_time = torch.einsum("ft,tyxd->fyxd", cubic_basis(motion.field.times, ct - 3), motion.field.coefficients) / pixel_size
        columns = torch.arange(STEP_PX / 2, shape[1] + STEP_PX / 2, STEP_PX, device=self.rigid.device)
        self.columns = cubic_basis(columns / shape[1], cx - 3)
        sources = ((columns + self.rigid[:, 1:]) / shape[1]).flatten()
        self.source_columns = cubic_basis(sources, cx - 3).reshape(len(self.rigid), -1, cx)
        middles = torch.tensor([start + count / 2 for start, count in self.strips()], device=self.rigid.device)
        self.in_rows = torch.einsum("sy,fyxd->sfxd", cubic_basis(middles / shape[0], in_time.shape[1] - 3), in_time)

    def strips(self) -> Iterator[tuple[int, int]]:
        """(first row, number of rows) of each strip."""
        for start in range(0, self.shape[0], self.rows):
            yield start, min(self.rows, self.shape[0] - start)

    def shifts(self, start: int) -> tuple[Tensor, Tensor]:
        """Shifts `(f, n)` of all frames along y and along x in the strip that starts there; along y those at the column that a pixel comes from."""
        if self.field is None:
            return self.rigid[:, :1], self.rigid[:, 1:]
        along = self.in_rows[start // self.rows]
        along_y = torch.bmm(self.source_columns, along[..., :1])[..., 0]
        along_x = torch.matmul(self.columns, along[..., 1:])[..., 0]
        return self.rigid[:, :1] + along_y, self.rigid[:, 1:] + along_x


def _add_group(mixed_: Tensor, frames: Frames, numbers: list[int], warp: _Warp, mixing: Tensor) -> None:
    """Add frames, each moved, to the weighted sums."""
    counts = [frames.counts_of(number) for number in numbers]
    width = warp.shape[1]
    weights = mixing[numbers].T
    moved = torch.zeros(len(numbers), warp.rows, mixed_.shape[2], device=mixed_.device)
    for start, count in warp.strips():
        along_y, along_x = (shifts[numbers] for shifts in warp.shifts(start))
        repeat_y, repeat_x = (STEP_PX if shifts.shape[1] > 1 else width for shifts in (along_y, along_x))
        first_y, taps_y, rows = spline_taps(along_y, repeat_y, width)
        first_x, taps_x, columns = spline_taps(along_x, repeat_x, width)
        lines = zip(counts, first_y.tolist(), first_x.tolist(), taps_y, taps_x, rows, columns, moved, strict=True)
        for frame, top, left, ty, tx, row_weights, column_weights, strip in lines:
            source = frames.rows(frame, start + top, count + ty - 1)
            resample_rows_(strip[:count, :width], source, row_weights[:ty], column_weights[:tx], left)
        mixed_[:, start : start + count].flatten(1).addmm_(weights, moved[:, :count].flatten(1))


def _finish(mixed: Tensor, recipe: _Recipe, shape: tuple[int, int], f_crop: float) -> Sums:
    """The sums as images of the shape, cropped by the factor; room for sides that transform fast is filled with the edge pixels."""
    height, width = shape
    mixed[:, :, width:] = mixed[:, :, width - 1 : width]
    mixed[:, height:] = mixed[:, height - 1 : height]
    full = (mixed.shape[1], mixed.shape[2])
    new = full if f_crop == 1 else (round(height * f_crop / 2) * 2, round(width * f_crop / 2) * 2)

    def image(spectrum: Tensor) -> Tensor:
        if new != full:
            return plain_irfft2(resize_spectra2(spectrum, full, new), new)
        return plain_irfft2(spectrum, full)[:height, :width].contiguous()

    spectra = _combine(mixed, recipe)
    rows, columns = spline_prefilter(full, mixed.device)
    for spectrum in spectra:
        for start in range(0, full[0], SPECTRUM_ROWS):
            spectrum[start : start + SPECTRUM_ROWS] *= rows[start : start + SPECTRUM_ROWS] * columns
    images = [image(spectrum) for spectrum in spectra]
    weighted = images[1] if recipe.profiles is not None else None
    odd = images[-1] if recipe.halves else None
    return Sums(images[0], weighted, odd, None if odd is None else images[0] - odd)


def _combine(mixed: Tensor, recipe: _Recipe) -> list[Tensor]:
    """Spectra of the plain sum, of the dose-weighted one and of the odd frames, those of them that are wanted."""
    plain = plain_rfft2(mixed[0])
    spectra = [plain]
    if recipe.profiles is not None:
        weighted = torch.zeros_like(plain)
        index = _radial_index((mixed.shape[1], mixed.shape[2]), recipe.step, mixed.device)
        for number, profile in enumerate(recipe.profiles):
            _add_weighted(weighted, plain_rfft2(mixed[number]) if number else plain, profile, index)
        spectra.append(weighted)
    if recipe.halves:
        spectra.append(plain_rfft2(mixed[-1]))
    return spectra


def _radial_index(shape: tuple[int, int], step: float, device: torch.device) -> Tensor:
    """Number `(y, x // 2 + 1)` of the radial sample nearest to each frequency, int32."""
    ky, kx = frequencies(shape[0], device)[:, None], frequencies(shape[1], device)[: shape[1] // 2 + 1]
    index = torch.empty(shape[0], len(kx), dtype=torch.int32, device=device)
    for start in range(0, shape[0], SPECTRUM_ROWS):
        part = slice(start, start + SPECTRUM_ROWS)
        index[part] = (ky[part].square() + kx.square()).sqrt_().div_(step).add_(0.5)
    return index


def _add_weighted(total_: Tensor, spectrum: Tensor, profile: Tensor, index: Tensor) -> None:
    """Add a spectrum times its radial profile, strip by strip of rows."""
    factors = profile.to(spectrum.dtype)
    for start in range(0, len(spectrum), SPECTRUM_ROWS):
        part = slice(start, start + SPECTRUM_ROWS)
        weights = factors.index_select(0, index[part].view(-1))
        total_[part].addcmul_(spectrum[part], weights.view(index[part].shape))
