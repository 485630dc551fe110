"""What a refinement knows: the images, the pose of each, and a model per half-set.

Convention: images `(n, y, x)` with the protein white; shifts yx in pixels, added to the image to centre the particle;
rotations zyx with `r_volume = R r_image`; noise is the variance of one complex Fourier coefficient of an image, per shell.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from firn.kernels.ctf import ctf_2d
from firn.kernels.fourier import frequencies2, irfft2, rfft2, shift_phases
from firn.kernels.grid import FourierDisc
from firn.kernels.mask import soft_disc


@dataclass(frozen=True)
class Optics:
    """CTF parameters, each `(n,)`: Å, degrees, kV, mm."""

    defocus_u: Tensor
    defocus_v: Tensor
    defocus_angle: Tensor
    voltage_kv: Tensor
    cs_mm: Tensor
    phase_shift: Tensor
    amplitude_contrast: Tensor

    def at(self, rows: Tensor, points: Tensor, pixel_size: float, side: int) -> Tensor:
        """CTF `(b, m)` of some images at points yx in units of 1/side."""
        values = (getattr(self, name)[rows] for name in self.__dataclass_fields__)
        return ctf_2d(points / (side * pixel_size), *(value.to(points.device) for value in values))


@dataclass(frozen=True)
class Particles:
    """Images `(n, y, x)` float32, kept on the host, their optics, half-sets `(n,)` (1 or 2) and noise groups `(n,)` (from 0)."""

    images: Tensor
    optics: Optics
    half: Tensor
    group: Tensor
    pixel_size: float

    @property
    def side(self) -> int:
        """Pixels along a side."""
        return self.images.shape[-1]

    def __len__(self) -> int:
        return len(self.images)

    def centred(self, rows: Tensor, shifts: Tensor, device: torch.device) -> Tensor:
        """Spectra `(b, n, n // 2 + 1)` of some images moved by shifts yx in pixels."""
        spectra = rfft2(self.images[rows].to(device))
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


def masked_spectra(spectra: Tensor, side: int, radius: float, edge: float) -> Tensor:
    """Spectra of the images times a soft disc, which removes what cannot be the particle."""
    images = irfft2(spectra, (side, side))
    return rfft2(images * soft_disc(side, radius, edge, spectra.device))


def on_disc(spectra: Tensor, disc: FourierDisc) -> Tensor:
    """Coefficients `(b, m)` of spectra `(b, n, n // 2 + 1)` at the points of a disc."""
    return spectra.flatten(1)[:, disc.index]
