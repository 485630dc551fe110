"""The one spectrum layout: `rfft` over the last axis, zero frequency first, real-space origin at index `n // 2`.

Convention: frequencies are in cycles per pixel (or 1/Å once divided by the pixel size); grids are zyx or yx; the only
module that calls torch.fft. Transforms carry no normalisation forward and 1/N backward.
"""

import torch
from torch import Tensor


def rfft2(images: Tensor) -> Tensor:
    """Spectra `(*b, n, n // 2 + 1)` of real images `(*b, n, m)` whose origin is at index `n // 2`."""
    return torch.fft.rfft2(torch.fft.ifftshift(images, dim=(-2, -1)))


def irfft2(spectra: Tensor, shape: tuple[int, int]) -> Tensor:
    """Real images of the given (y, x) shape, origin at index `n // 2`; inverse of rfft2."""
    return torch.fft.fftshift(torch.fft.irfft2(spectra, s=shape), dim=(-2, -1))


def rfft3(volumes: Tensor) -> Tensor:
    """Spectra of real volumes `(*b, z, y, x)` whose origin is at index `n // 2`."""
    dims = (-3, -2, -1)
    return torch.fft.rfftn(torch.fft.ifftshift(volumes, dim=dims), dim=dims)


def irfft3(spectra: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Real volumes of the given (z, y, x) shape, origin at index `n // 2`; inverse of rfft3."""
    dims = (-3, -2, -1)
    return torch.fft.fftshift(torch.fft.irfftn(spectra, s=shape, dim=dims), dim=dims)


def irfft3_centre(spectra: Tensor, side: int, n: int) -> Tensor:
    """The central cube of side n of the volumes of a side that irfft3 gives; lines outside it are left out after each axis."""
    kept = (torch.arange(n, device=spectra.device) - n // 2) % side
    lines = torch.fft.ifft(spectra, dim=-3).index_select(-3, kept)
    lines = torch.fft.ifft(lines, dim=-2).index_select(-2, kept)
    return torch.fft.irfft(lines, n=side, dim=-1).index_select(-1, kept)


def frequencies(size: int, device: torch.device | str = "cpu") -> Tensor:
    """Frequencies `(size,)` of an axis in cycles per pixel, those up to Nyquist first."""
    return torch.fft.fftfreq(size, device=device)


def frequencies2(shape: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
    """Grid `(y, x // 2 + 1, 2)` of frequencies yx in cycles per pixel."""
    axes = torch.fft.fftfreq(shape[0], device=device), torch.fft.rfftfreq(shape[1], device=device)
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


def frequencies3(shape: tuple[int, int, int], device: torch.device | str = "cpu") -> Tensor:
    """Grid `(z, y, x // 2 + 1, 3)` of frequencies zyx in cycles per pixel."""
    axes = (
        torch.fft.fftfreq(shape[0], device=device),
        torch.fft.fftfreq(shape[1], device=device),
        torch.fft.rfftfreq(shape[2], device=device),
    )
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


def hermitian_weights(n: int, device: torch.device | str = "cpu") -> Tensor:
    """Weights `(n // 2 + 1,)` of rfft columns in sums over the whole plane: 1 for columns that are their own mirror, else 2."""
    weights = torch.full((n // 2 + 1,), 2.0, device=device)
    weights[0] = 1.0
    if n % 2 == 0:
        weights[-1] = 1.0
    return weights


def shift_phases(frequencies: Tensor, shifts: Tensor) -> Tensor:
    """Factors `(*b, *grid)` that move an image by shifts `(*b, d)` in pixels (towards larger indices); grid `(*grid, d)`."""
    angle = -2 * torch.pi * torch.einsum("...d,bd->b...", frequencies, shifts.reshape(-1, shifts.shape[-1]))
    return torch.polar(torch.ones_like(angle), angle).reshape(*shifts.shape[:-1], *frequencies.shape[:-1])


def shift_lines(images: Tensor, shifts: Tensor) -> Tensor:
    """Each row of images `(*b, y, x)` moved along x by its own shift `(y,)` in pixels, periodically; Nyquist as for shift_phases."""
    angle = -2 * torch.pi * shifts[:, None] * torch.fft.rfftfreq(images.shape[-1], device=images.device)
    return torch.fft.irfft(torch.fft.rfft(images) * torch.polar(torch.ones_like(angle), angle), n=images.shape[-1])


def resize_spectra2(spectra: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Crop or zero-pad rfft spectra `(*b, old)` to the spectra of images of the `new` shape, grey values kept.

    Nyquist rows and columns of an even smaller side are dropped, so that the result is a real image's spectrum.
    """
    half_y, half_x = (min(old[0], new[0]) + 1) // 2, (min(old[1], new[1]) + 1) // 2
    out = spectra.new_zeros(*spectra.shape[:-2], new[0], new[1] // 2 + 1)
    out[..., :half_y, :half_x] = spectra[..., :half_y, :half_x]
    out[..., new[0] - half_y + 1 :, :half_x] = spectra[..., old[0] - half_y + 1 :, :half_x]
    return out * (new[0] * new[1] / (old[0] * old[1]))


def resize_images(images: Tensor, new: tuple[int, int]) -> Tensor:
    """Fourier-crop or pad images `(*b, y, x)` to the `new` shape; the origin `n // 2` stays the origin."""
    old = (images.shape[-2], images.shape[-1])
    return images if old == new else irfft2(resize_spectra2(rfft2(images), old, new), new)


def resize_volumes(volumes: Tensor, new: int) -> Tensor:
    """Fourier-crop or pad cubic volumes `(*b, n, n, n)` to side `new`; the origin `n // 2` stays the origin."""
    old = volumes.shape[-1]
    if old == new:
        return volumes
    half = (min(old, new) + 1) // 2
    spectra, out = rfft3(volumes), volumes.new_zeros(*volumes.shape[:-3], new, new, new // 2 + 1, dtype=torch.complex64)
    for target_z, source_z in ((slice(0, half), slice(0, half)), (slice(new - half + 1, new), slice(old - half + 1, old))):
        for target_y, source_y in ((slice(0, half), slice(0, half)), (slice(new - half + 1, new), slice(old - half + 1, old))):
            out[..., target_z, target_y, :half] = spectra[..., source_z, source_y, :half]
    return irfft3(out * (new / old) ** 3, (new, new, new))


def plain_rfft2(images: Tensor) -> Tensor:
    """Spectra with the real-space origin at index 0: for cross-correlations and convolutions, where the origin cancels."""
    return torch.fft.rfft2(images)


def plain_irfft2(spectra: Tensor, shape: tuple[int, int]) -> Tensor:
    """Inverse of plain_rfft2. Axis by axis, since the transform of both at once copies the spectra first and takes up to twice as long."""
    return torch.fft.irfft(torch.fft.ifft(spectra, n=shape[0], dim=-2), n=shape[1])


def ring_orders(values: Tensor) -> Tensor:
    """Orders 0 ... m / 2 - 1 of values at m even angles, the last axis: means of `exp(-i k angle)` times the value."""
    count = values.shape[-1]
    return torch.fft.fft(values)[..., : count // 2] / count


def ring_values(orders: Tensor, count: int) -> Tensor:
    """Real parts of the sums of orders 0, 1, ... (the last axis) times `exp(i k angle)`, at that many even angles."""
    doubled = torch.cat((2 * orders[..., :1], orders[..., 1:]), dim=-1)
    return torch.fft.irfft(doubled, n=count) * (count / 2)


def fast_size(n: int) -> int:
    """Smallest size >= n whose only prime factors are 2, 3 and 5, and which is even."""
    size = n + n % 2
    while not _is_smooth(size):
        size += 2
    return size


def fast_size_below(n: int) -> int:
    """Largest even size <= n (2 at least) whose only prime factors are 2, 3 and 5."""
    size = max(2, n - n % 2)
    while not _is_smooth(size):
        size -= 2
    return size


def _is_smooth(n: int) -> bool:
    for prime in (2, 3, 5):
        while n % prime == 0:
            n //= prime
    return n == 1
