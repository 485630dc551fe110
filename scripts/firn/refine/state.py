"""What a refinement knows: the images, the pose of each, and a model per half-set.

Convention: images `(n, y, x)` with the protein white; shifts yx in pixels, added to the image to centre the particle;
rotations zyx with `r_volume = R r_image`; noise is the variance of one complex Fourier coefficient of an image, per shell.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from firn.kernels.aberrations import aberrated_phase
from firn.kernels.fourier import frequencies2, irfft2, rfft2, shift_phases
from firn.kernels.fsc import shell_average, shell_indices
from firn.kernels.grid import FourierDisc
from firn.kernels.mask import soft_disc
from firn.refine.ranks import ALONE, Ranks

CTF_COLUMNS = ("defocus_u", "defocus_v", "defocus_angle", "voltage_kv", "cs_mm", "phase_shift", "amplitude_contrast")


@dataclass(frozen=True)
class Optics:
    """CTF parameters, each `(n,)`: Å, degrees, kV, mm; even: symmetric Zernike coefficients `(n, k)` in rad, or none."""

    defocus_u: Tensor
    defocus_v: Tensor
    defocus_angle: Tensor
    voltage_kv: Tensor
    cs_mm: Tensor
    phase_shift: Tensor
    amplitude_contrast: Tensor
    even: Tensor | None = None

    def at(self, rows: Tensor, points: Tensor, pixel_size: float, side: int) -> Tensor:
        """CTF `(b, m)` of some images at points yx in units of 1/side."""
        return torch.sin(self.phase(rows, points, pixel_size, side))

    def phase(self, rows: Tensor, points: Tensor, pixel_size: float, side: int) -> Tensor:
        """The angle `(b, m)` whose sine the CTF is, in rad."""
        values = {name: getattr(self, name)[rows].to(points.device) for name in CTF_COLUMNS}
        even = None if self.even is None else self.even[rows].to(points.device)
        return aberrated_phase(points / (side * pixel_size), even, **values)


class Images(Protocol):
    """Float32 images `(n, y, x)` on the host: a tensor of them, or what gets them when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As a tensor's."""

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        """Images of some rows, in their order."""


@dataclass(frozen=True)
class Particles:
    """Images, optics, half-sets `(n,)` (1 or 2) and noise groups `(n,)` (from 0) of n particles.

    held: rows, in order, of the particles whose images `(held, y, x)` this rank has; all of them when None.
    """

    images: Images
    optics: Optics
    half: Tensor
    group: Tensor
    pixel_size: float
    held: Tensor | None = None

    @property
    def side(self) -> int:
        """Pixels along a side."""
        return self.images.shape[-1]

    def __len__(self) -> int:
        return len(self.half)

    def here(self, rows: Tensor) -> Tensor:
        """Whether this rank has the images of rows."""
        return torch.ones_like(rows, dtype=torch.bool) if self.held is None else torch.isin(rows, self.held)

    def centred(self, rows: Tensor, shifts: Tensor, device: torch.device) -> Tensor:
        """Spectra `(b, n, n // 2 + 1)` of some images, which this rank has, moved by shifts yx in pixels."""
        places = rows if self.held is None else torch.searchsorted(self.held, rows)
        spectra = rfft2(self.images[places].to(device))
        return spectra * shift_phases(frequencies2((self.side, self.side), device), shifts.to(device))


@dataclass
class Poses:
    """Best pose of each particle and how sure it is; all on the host."""

    rotations: Tensor
    shifts: Tensor
    peak: Tensor
    """Posterior probability of the best pose."""
    spread: Tensor
    """Effective number of coarse orientations."""
    detail: Tensor
    """Effective number of orientations of the finest grid."""
    scale: Tensor
    """Factor on the reference's grey values."""

    @classmethod
    def unknown(cls, count: int) -> "Poses":
        """No rotation, no shift."""
        return cls(
            torch.eye(3).repeat(count, 1, 1),
            torch.zeros(count, 2),
            torch.zeros(count),
            torch.full((count,), torch.inf),
            torch.full((count,), torch.inf),
            torch.ones(count),
        )

    def found(self, rows: Tensor) -> Tensor:
        """What a search finds of some particles `(b, 14)`: all but the scale."""
        return torch.cat((self.rotations[rows].flatten(1), self.shifts[rows], *(part[rows, None] for part in self._sureness())), dim=1)

    def take(self, rows: Tensor, found: Tensor) -> None:
        """Put in what `found` gave."""
        self.rotations[rows], self.shifts[rows] = found[:, :9].unflatten(1, (3, 3)), found[:, 9:11]
        for part, values in zip(self._sureness(), found[:, 11:].unbind(1), strict=True):
            part[rows] = values

    def _sureness(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.peak, self.spread, self.detail

    def copy(self) -> "Poses":
        """The same values in memory of their own."""
        return Poses(*(value.clone() for value in vars(self).values()))


@dataclass
class HalfModel:
    """Reference volume `(n, n, n)` of a half-set, its noise `(groups, n // 2 + 1)`, and whether its grey scale is that of the images."""

    volume: Tensor
    noise: Tensor
    scaled: bool = False


@dataclass(frozen=True)
class Settings:
    """What does not change during a refinement; lengths in pixels, frequencies in units of 1/n."""

    group: str
    diameter: float
    mask_radius: float
    mask_edge: float
    initial_radius: float
    max_radius: float
    shift_reach: float
    particle_scale: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    ranks: Ranks = ALONE


def masked_spectra(spectra: Tensor, mask: Tensor) -> Tensor:
    """Spectra of the images times a mask `(n, n)`, a soft disc that removes what cannot be the particle."""
    return rfft2(irfft2(spectra, (len(mask), len(mask))) * mask)


def on_disc(spectra: Tensor, disc: FourierDisc) -> Tensor:
    """Coefficients `(b, m)` of spectra `(b, n, n // 2 + 1)` at the points of a disc."""
    return spectra.flatten(1)[:, disc.index]


def first_noise(particles: Particles, settings: Settings, half: int) -> Tensor:
    """Noise per shell, all groups alike: the power outside the mask's disc or within it, whichever is less; neither is all noise."""
    device, side = settings.device, particles.side
    disc = soft_disc(side, settings.mask_radius, settings.mask_edge, device)
    rows = torch.nonzero(particles.half == half).squeeze(-1)
    powers = torch.zeros(2, side, side // 2 + 1, device=device)
    for batch in rows[particles.here(rows)].split(256):
        spectra = particles.centred(batch, torch.zeros(len(batch), 2), device)
        inside = masked_spectra(spectra, disc)
        for power_, part in zip(powers, (inside, spectra - inside), strict=True):
            power_ += (part.real**2 + part.imag**2).sum(0)
    settings.ranks.add_(powers)
    shares = torch.stack(((disc**2).mean(), ((1 - disc) ** 2).mean()))
    spectrum = shell_average(powers / (len(rows) * shares[:, None, None]), shell_indices((side, side), device), side)
    return spectrum.amin(0).clamp(min=1e-12).repeat(int(particles.group.max()) + 1, 1)


def moved_to(value: Any, device: torch.device) -> Any:
    """A state as it was kept, made of dicts, lists and tuples, with its tensors on a device."""
    if isinstance(value, dict):
        return {name: moved_to(part, device) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(moved_to(part, device) for part in value)
    return value.to(device) if isinstance(value, Tensor) else value
