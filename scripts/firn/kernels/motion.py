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
from jaxtyping import Float
from torch import Tensor

from firn.kernels.fourier import hermitian_weights, plain_irfft2

LARGEST_PRECISION = 1e6
LEAST_DETERMINED = 0.05


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


def move(spectra: Float[Tensor, "*b y x"], shifts: Float[Tensor, "*b 2"], band: Band) -> Tensor:
    """Spectra of the images moved by shifts in Å."""
    angle_y, angle_x = shifts[..., :1] * band.ky, shifts[..., 1:] * band.kx
    return spectra * _unit(-2 * torch.pi * angle_y)[..., :, None] * _unit(-2 * torch.pi * angle_x)[..., None, :]


def correlation_step(
    spectra: Float[Tensor, "f y x"],
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
    shape = (spectra.shape[1], 2 * (spectra.shape[2] - 1))
    moved = move(spectra, shifts, band)
    total = moved.sum(dim=0)
    windows = torch.stack([_central(plain_irfft2((total - frame) * frame.conj() * weights, shape), reach) for frame in moved])
    peaks = _subpixel_peaks(_smooth_over_frames(windows, smoothing)) - torch.tensor(reach, device=spectra.device)
    pixel = torch.tensor([1 / (2 * band.ky.abs().max()), 1 / (2 * band.kx.max())], device=spectra.device)
    return peaks * pixel


def ring_signal(
    spectra: Float[Tensor, "p f y x"], shifts: Float[Tensor, "p f 2"], band: Band, step: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(signal power, noise power, error of the signal's power) of one frame in rings of width step (1/Å), pooled over p.

    The signal is the mean product of different frames, so noise does not add to it.
    """
    frames = spectra.shape[1]
    rings = (band.radius / step).round().long().flatten()
    count = int(rings.max()) + 1
    own = torch.zeros(count, dtype=torch.float64, device=spectra.device)
    together, number = own.clone(), own.clone()
    share = band.share.flatten().double()
    for images, offsets in zip(spectra, shifts, strict=True):
        power = images.abs().square().sum(dim=0).flatten().double()
        summed = move(images, offsets, band).sum(dim=0).abs().square().flatten().double()
        own.index_add_(0, rings, power * share)
        together.index_add_(0, rings, summed * share)
        number.index_add_(0, rings, share)
    number = number.clamp(min=1)
    signal = (together - own) / (number * frames * max(frames - 1, 1))
    noise = (own / (number * frames) - signal).clamp(min=1e-30)
    return signal, noise, noise / torch.sqrt(number * frames * max(frames - 1, 1))


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
    spectra: Float[Tensor, "f y x"], shifts: Float[Tensor, "f 2"], weights: Float[Tensor, "y x"], band: Band
) -> tuple[Tensor, Tensor]:
    """(gradient `(f, 2)` of the log-likelihood in 1/Å, its weighted power above the noise) for spectra with noise of power 1."""
    moved = move(spectra, shifts, band)
    total = moved.sum(dim=0)
    weighted = (weights * band.share) * total.conj()
    slope = torch.imag(weighted * moved)
    along_y = slope.sum(dim=2) @ band.ky
    along_x = slope.sum(dim=1) @ band.kx
    excess = (weights * band.share * (total.abs().square() - moved.abs().square().sum(dim=0))).sum()
    return 4 * torch.pi * torch.stack((along_y, along_x), dim=-1), excess


def expected_curvature(ratio: Float[Tensor, "y x"], weights: Float[Tensor, "y x"], band: Band) -> Float[Tensor, "2"]:
    """h (y, x): minus the expected Hessian over the shifts of n frames is `2 h (n I - 1 1^T)`."""
    information = (2 * torch.pi) ** 2 * band.share * weights * ratio
    return torch.stack(((information.sum(dim=1) * band.ky**2).sum(), (information.sum(dim=0) * band.kx**2).sum()))


def posterior_step(
    basis: Float[Tensor, "p f c"],
    gradients: Float[Tensor, "p f 2"],
    curvatures: Float[Tensor, "p 2"],
    coefficients: Float[Tensor, "c 2"],
    penalties: Sequence[Float[Tensor, "c c"]],
    precisions: Float[Tensor, "j"],
) -> tuple[Float[Tensor, "c 2"], Float[Tensor, "2 c c"]]:
    """(Fisher-scoring step of the coefficients, posterior covariance of each component), float64.

    A shift of all frames alike changes nothing and has no gradient; leaving `1 1^T` out of the Hessian gives it a unit to stay put.
    """
    prior = sum(float(value) * penalty for value, penalty in zip(precisions, penalties, strict=True))
    frames = basis.shape[1]
    per_point = 2 * frames * torch.einsum("pfc,pfd->pcd", basis, basis)
    steps, covariances = [], []
    for axis in range(2):
        hessian = torch.einsum("p,pcd->cd", curvatures[:, axis], per_point) + prior
        ridge = 1e-9 * hessian.diagonal().mean() + 1e-12
        covariance = torch.linalg.inv(hessian + ridge * torch.eye(len(hessian), dtype=hessian.dtype, device=hessian.device))
        slope = torch.einsum("pfc,pf->c", basis, gradients[..., axis]) - prior @ coefficients[:, axis]
        steps.append(covariance @ slope)
        covariances.append(covariance)
    return torch.stack(steps, dim=-1), torch.stack(covariances)


def evidence_precisions(
    coefficients: Float[Tensor, "c 2"],
    covariances: Float[Tensor, "2 c c"],
    penalties: Sequence[Float[Tensor, "c c"]],
    precisions: Float[Tensor, "j"],
) -> Float[Tensor, "j"]:
    """Precisions of the prior's terms, one fixed-point step nearer to those of highest evidence.

    Each becomes (number of coefficients it does not determine) / (its quadratic form), MacKay 1992, eq. 3.25.
    """
    prior = sum(float(value) * penalty for value, penalty in zip(precisions, penalties, strict=True))
    ridge = 1e-7 * prior.diagonal().mean() * torch.eye(len(prior), dtype=prior.dtype, device=prior.device)
    spread = 2 * torch.linalg.inv(prior + ridge) - covariances.sum(dim=0)
    updated = []
    for value, penalty in zip(precisions, penalties, strict=True):
        determined = float(value) * float((spread * penalty).sum())
        form = float((coefficients * (penalty @ coefficients)).sum())
        updated.append(max(determined, LEAST_DETERMINED) / max(form, 1e-12))
    return torch.tensor(updated, dtype=torch.float64, device=precisions.device).clamp(1e-6, LARGEST_PRECISION)


def _unit(angle: Tensor) -> Tensor:
    return torch.polar(torch.ones_like(angle), angle)


def _central(correlation: Float[Tensor, "y x"], reach: tuple[int, int]) -> Tensor:
    rolled = torch.roll(correlation, reach, dims=(0, 1))
    return rolled[: 2 * reach[0] + 1, : 2 * reach[1] + 1]


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
