"""Reconstruction from poses that are already known: nothing is searched, every image counts once, in its one pose.

Convention: images with the protein white; shifts yx in pixels, added to the image to centre the particle; rotations zyx with
`r_volume = R r_image`. The weight of an image at a frequency is its CTF squared, so a map is sum(CTF * image) / sum(CTF²).
Source: direct Fourier inversion, kernels/backproject.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from firn.kernels.backproject import symmetrise_sums
from firn.kernels.fourier import frequencies2, rfft2, shift_phases
from firn.kernels.grid import FourierDisc, fourier_disc
from firn.refine.slice_sums import SliceSums
from firn.refine.state import Optics, on_disc


@dataclass(frozen=True)
class PosedImages:
    """Images `(b, n, n)` with their CTF `(b, m)` on a Fourier disc, rotations `(b, 3, 3)` and shifts `(b, 2)`."""

    images: Tensor
    ctf: Tensor
    rotations: Tensor
    shifts: Tensor

    def __getitem__(self, rows: Tensor) -> "PosedImages":
        return PosedImages(self.images[rows], self.ctf[rows], self.rotations[rows], self.shifts[rows])

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class GivenPoses:
    """Rotations `(n, 3, 3)`, shifts `(n, 2)`, grey scales `(n,)` and optics of particles of one pixel size (Å)."""

    rotations: Tensor
    shifts: Tensor
    scale: Tensor
    optics: Optics
    pixel_size: float

    def of(self, rows: Tensor, images: Tensor, disc: FourierDisc) -> PosedImages:
        """The images `(b, n, n)` of some particles with what is known of them, on the images' device."""
        device = images.device
        ctf = self.optics.at(rows, disc.points, self.pixel_size, images.shape[-1])
        scaled = ctf * self.scale[rows].to(device, ctf.dtype)[:, None]
        return PosedImages(images, scaled, self.rotations[rows].to(device), self.shifts[rows].to(device))


class Backprojection:
    """Fourier sums of images of side n up to a radius (units of 1/n), added batch by batch."""

    def __init__(self, side: int, radius: float, device: torch.device):
        self.disc: FourierDisc = fourier_disc(side, radius, device)
        self._sums, self._half = SliceSums(side, radius, self.disc.points), self.disc.weights / 2

    def add(self, batch: PosedImages) -> None:
        """Back-project a batch."""
        spectra = on_disc(centred_spectra(batch.images, batch.shifts), self.disc)
        self._sums.add(spectra * batch.ctf * self._half, batch.ctf**2 * self._half, batch.rotations)

    def completed(self, operators: Tensor) -> tuple[Tensor, Tensor]:
        """Sums with Friedel mates, averaged over the operators `(g, 3, 3)` of a point group."""
        return symmetrise_sums(*self._sums.completed(), operators)


def centred_spectra(images: Tensor, shifts: Tensor) -> Tensor:
    """Spectra `(b, n, n // 2 + 1)` of images moved by shifts yx in pixels."""
    side = images.shape[-1]
    return rfft2(images) * shift_phases(frequencies2((side, side), images.device), shifts)


def mirrored_rotations(rotations: Tensor) -> Tensor:
    """Rotations that fit the map mirrored in z (kernels.box.mirror) as well as the given ones fit the map: M R M."""
    flip = torch.tensor([-1.0, 1.0, 1.0], dtype=rotations.dtype, device=rotations.device)
    return rotations * flip[:, None] * flip
