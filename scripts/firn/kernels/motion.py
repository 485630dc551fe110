"""Where the frames of a movie have moved: correlation peaks, the likelihood of shifts, and a smooth field that maximises it.

Convention: a shift moves a frame onto the others (towards larger indices), yx; it is minus the displacement of the specimen.
Lengths are Å, frequencies 1/Å; spectra have their origin at index 0 (fourier.plain_rfft2).
Model: each frame holds the same unknown signal, shifted, and white noise. With the signal integrated out, its power S and
the noise N known per ring, n frames have log-likelihood  sum_k W |sum_i F_i exp(-2 pi i k.t_i)|^2 / N,  W = (S/N) / (1 + n S/N).
The prior of the shifts is Gaussian with precision sum_j lambda_j P_j, its lambdas set by the evidence (MacKay 1992).
Sources: Rubinstein & Brubaker, J. Struct. Biol. 192, 188 (2015); Zivanov, Nakane & Scheres, IUCrJ 6, 5 (2019) for the priors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from firn.kernels.fourier import hermitian_weights

PSEUDO_COUNT = 1.0


@dataclass(frozen=True)
class Band:
    """Frequencies of rfft spectra in 1/Å: ky `(y,)`, kx `(x,)`, radius `(y, x)`, and the share `(y, x)` of each in sums over the half plane."""

    ky: Tensor
    kx: Tensor
    radius: Tensor
    share: Tensor


def make_band(shape: tuple[int, int], lengths: tuple[float, float], device: torch.device | str = "cpu") -> Band:
    """Band of the spectra of an image of the shape (pixels) and side lengths (Å)."""
    ny, nx = shape
    ky = torch.arange(ny, device=device)
    ky = torch.where(ky > (ny - 1) // 2, ky - ny, ky) / lengths[0]
    kx = torch.arange(nx // 2 + 1, device=device) / lengths[1]
    radius = torch.sqrt(ky[:, None] ** 2 + kx[None] ** 2)
    share = (hermitian_weights(nx, device) / 2)[None].expand_as(radius)
    return Band(ky, kx, radius, share)


def crop_band(band: Band, radius: float) -> tuple[Tensor, int, Band]:
    """(rows to keep, number of columns to keep, the band of what is kept) to hold all frequencies up to the radius in 1/Å."""
    rows = torch.nonzero(band.ky.abs() <= radius)[:, 0]
    columns = int((band.kx <= radius).sum())
    return rows, columns, Band(band.ky[rows], band.kx[:columns], band.radius[rows, :columns], band.share[rows, :columns])


def move(spectra: Complex[Tensor, "*b y x"], shifts: Float[Tensor, "*b 2"], band: Band) -> Tensor:
    """Spectra of the images moved by shifts in Å."""
    angle_y, angle_x = shifts[..., :1] * band.ky, shifts[..., 1:] * band.kx
    moved = spectra * _unit(-2 * torch.pi * angle_y)[..., :, None]
    return moved.mul_(_unit(-2 * torch.pi * angle_x)[..., None, :])


def correlation_step(
    spectra: Complex[Tensor, "f y x"],
    shifts: Float[Tensor, "f 2"],
    weights: Float[Tensor, "y x"],
    band: Band,
    reach: tuple[int, int],
    smoothing: int,
) -> Float[Tensor, "f 2"]:
    """Further shift in Å of each frame to the peak of its correlation with the sum of all *other* frames.

    reach: largest step (y, x) in pixels of the spectra's grid. smoothing: correlations are averaged over so many frames on
    either side (triangular weights), which finds the peak of frames too weak to have one of their own.
    """
    moved = move(spectra, shifts, band)
    products = moved.sum(dim=0) - moved
    products *= moved.conj_physical_()
    products *= weights * band.share
    pixel = torch.stack((1 / (2 * band.ky.abs().max()), 1 / (2 * band.kx.max())))
    windows = _windows(products, band, pixel, reach)
    return (_subpixel_peaks(_smooth_over_frames(windows, smoothing)) - torch.tensor(reach, device=spectra.device)) * pixel


def ring_signal(
    summed: Float[Tensor, "y x"], own: Float[Tensor, "y x"], images: int, frames: int, band: Band, step: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(signal power, noise power, error of the signal's power) of one frame in rings of width step (1/Å), float64.

    summed: power of the sum of all frames, own: sum of the powers of all frames, each added over so many images (tiles).
    The signal is the mean product of different frames, so noise does not add to it.
    """
    rings = (band.radius / step).round().long().flatten()
    count = int(rings.max()) + 1
    share = band.share.flatten().double()
    totals = [
        torch.zeros(count, dtype=torch.float64, device=own.device).index_add_(0, rings, share * values)
        for values in (summed.flatten(), own.flatten(), 1.0)
    ]
    together, alone, number = totals[0], totals[1], (images * totals[2]).clamp(min=1)
    pairs = frames * max(frames - 1, 1)
    signal = (together - alone) / (number * pairs)
    noise = (alone / (number * frames) - signal).clamp(min=1e-30)
    return signal, noise, noise / torch.sqrt(number * pairs)


def signal_to_noise(signal: Tensor, noise: Tensor, error: Tensor) -> Tensor:
    """Spectral signal-to-noise of one frame per ring, smoothed over five rings and shrunk to 0 where it is not twice its error."""
    kernel = torch.tensor([1.0, 2.0, 3.0, 2.0, 1.0], dtype=signal.dtype, device=signal.device) / 9
    padded = torch.nn.functional.pad((signal / noise)[None, None], (2, 2), mode="replicate")
    ratio = torch.nn.functional.conv1d(padded, kernel[None, None])[0, 0].clamp(min=0)
    smoothed_error = error / noise * float(kernel.square().sum().sqrt())
    return ratio * (1 - (2 * smoothed_error / ratio.clamp(min=1e-12)) ** 2).clamp(min=0)


def likelihood_weights(ratio: Float[Tensor, "*n"], frames: int) -> Float[Tensor, "*n"]:
    """W of the model: the weight of the squared sum of n frames."""
    return ratio / (1 + frames * ratio)


def likelihood_gradient(
    spectra: Complex[Tensor, "f y x"], shifts: Float[Tensor, "f 2"], weights: Float[Tensor, "y x"], band: Band
) -> tuple[Tensor, Tensor]:
    """(gradient `(f, 2)` of the log-likelihood in 1/Å, power `(y, x)` of the sum); weights: W / N of the model."""
    moved = move(spectra, shifts, band)
    total = moved.sum(dim=0)
    weighted = 1j * (weights * band.share) * total
    slopes = torch.view_as_real(torch.stack((weighted * band.ky[:, None], weighted * band.kx))).flatten(1)
    return 4 * torch.pi * (torch.view_as_real(moved).flatten(1) @ slopes.T), power(total)


def power(spectra: Tensor) -> Tensor:
    """Squared modulus."""
    squares = torch.view_as_real(spectra).square()
    return squares[..., 0] + squares[..., 1]


def total_power(spectra: Complex[Tensor, "f y x"]) -> Float[Tensor, "y x"]:
    """Sum over images of the squared modulus."""
    squares = torch.view_as_real(spectra).square().sum(dim=0)
    return squares[..., 0] + squares[..., 1]


def expected_curvature(ratio: Float[Tensor, "y x"], weights: Float[Tensor, "y x"], band: Band) -> Float[Tensor, ""]:
    """h: minus the expected Hessian of the log-likelihood over the shifts of n frames, along either axis, is `2 h (n I - 1 1^T)`."""
    return (2 * torch.pi**2 * band.share * band.radius.square() * weights * ratio).sum()


def posterior_step(
    normal: Float[Tensor, "c c"],
    slope: Float[Tensor, "c 2"],
    coefficients: Float[Tensor, "c 2"],
    penalties: Sequence[Float[Tensor, "c c"]],
    precisions: Float[Tensor, "j"],
) -> tuple[Float[Tensor, "c 2"], Float[Tensor, "c c"]]:
    """(Fisher-scoring step of the coefficients, posterior covariance of each component), float64.

    normal: minus the expected Hessian, slope: the gradient of the log-likelihood. A shift of all frames alike changes nothing
    and has no gradient; leaving `1 1^T` out of the Hessian of the frames gives it a unit to stay put.
    """
    prior = _weighted_sum(penalties, precisions)
    covariance = _inverse(normal + prior, 1e-9)
    return covariance @ (slope - prior @ coefficients), covariance


def evidence_precisions(
    coefficients: Float[Tensor, "c 2"],
    covariance: Float[Tensor, "c c"],
    penalties: Sequence[Float[Tensor, "c c"]],
    precisions: Float[Tensor, "j"],
    expected: Float[Tensor, "j"],
) -> Float[Tensor, "j"]:
    """Precisions of the prior's terms, one fixed-point step nearer to those of highest evidence.

    Each becomes (number of coefficients the data determine) / (its quadratic form), MacKay 1992, eq. 3.25, as if
    PSEUDO_COUNT more coefficients had been seen at the expected precision: data that tell little leave it there.
    """
    spread = 2 * (_inverse(_weighted_sum(penalties, precisions), 1e-7) - covariance)
    updated = []
    for value, penalty, usual in zip(precisions, penalties, expected.tolist(), strict=True):
        determined = float(value) * float((spread * penalty).sum())
        form = float((coefficients * (penalty @ coefficients)).sum())
        updated.append((max(determined, 0.0) + PSEUDO_COUNT) / (form + PSEUDO_COUNT / usual))
    return torch.tensor(updated, dtype=torch.float64, device=precisions.device)


def _weighted_sum(penalties: Sequence[Tensor], precisions: Tensor) -> Tensor:
    total = torch.zeros_like(penalties[0])
    for value, penalty in zip(precisions.tolist(), penalties, strict=True):
        total.add_(penalty, alpha=value)
    return total


def _inverse(matrix: Tensor, ridge: float) -> Tensor:
    """Inverse of a symmetric matrix without negative eigenvalues, a share of its mean diagonal added so that it exists."""
    lifted = matrix + (ridge * matrix.diagonal().mean() + 1e-12) * torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    return torch.cholesky_inverse(torch.linalg.cholesky(lifted))


def _unit(angle: Tensor) -> Tensor:
    return torch.polar(torch.ones_like(angle), angle)


def _windows(spectra: Complex[Tensor, "f y x"], band: Band, pixel: Float[Tensor, "2"], reach: tuple[int, int]) -> Float[Tensor, "f wy wx"]:
    """Images about their origin, so many pixels either way: two products of matrices, since little of each image is wanted."""
    steps_y, steps_x = (torch.arange(-side, side + 1, device=spectra.device) * size for side, size in zip(reach, pixel, strict=True))
    rows = _unit(2 * torch.pi * steps_y[:, None] * band.ky)
    columns = _unit(2 * torch.pi * band.kx[:, None] * steps_x)
    return torch.matmul(rows, torch.matmul(spectra, columns)).real


def _smooth_over_frames(windows: Float[Tensor, "f y x"], smoothing: int) -> Tensor:
    if smoothing == 0:
        return windows
    distance = torch.arange(len(windows), device=windows.device)
    kernel = (smoothing + 1 - (distance[:, None] - distance[None]).abs()).clamp(min=0).to(windows.dtype)
    return torch.einsum("fg,gyx->fyx", kernel / kernel.sum(dim=1, keepdim=True), windows)


def _subpixel_peaks(windows: Float[Tensor, "f y x"]) -> Float[Tensor, "f 2"]:
    """Positions (y, x) of the maxima, refined by a parabola through the neighbours along each axis; none at the border."""
    frames, _, width = windows.shape
    inner = windows[:, 1:-1, 1:-1].reshape(frames, -1).argmax(dim=1)
    y, x = inner // (width - 2) + 1, inner % (width - 2) + 1
    number = torch.arange(frames, device=windows.device)
    centre = windows[number, y, x]
    offset_y = _parabola(windows[number, y - 1, x], centre, windows[number, y + 1, x])
    offset_x = _parabola(windows[number, y, x - 1], centre, windows[number, y, x + 1])
    return torch.stack((y + offset_y, x + offset_x), dim=-1)


def _parabola(below: Tensor, centre: Tensor, above: Tensor) -> Tensor:
    bend = below - 2 * centre + above
    offset = 0.5 * (below - above) / torch.where(bend.abs() < 1e-30, torch.full_like(bend, -1e30), bend)
    return offset.clamp(-0.5, 0.5)
