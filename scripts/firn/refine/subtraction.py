"""Removal of a known part of a map from particle images, at known poses.

Convention: as in refine/given_poses; an image is `factor * CTF * shift(projection) + the rest`, with the CTF times the particle's own scale.
Source: Bai et al., eLife 4, e11182 (2015); Ilca et al., Nat. Commun. 6, 8843 (2015).
"""

from collections.abc import Iterable

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from firn.kernels.fourier import irfft2, shift_phases
from firn.kernels.fsc import shell_indices
from firn.kernels.grid import FourierDisc
from firn.kernels.project import project_points
from firn.refine.given_poses import PosedImages, centred_spectra
from firn.refine.state import on_disc


def shell_filtered(spectrum: Complex[Tensor, "n n h"], weights: Float[Tensor, " s"]) -> Complex[Tensor, "n n h"]:
    """A volume's spectrum with each shell multiplied by its weight, zero beyond the last."""
    shells = shell_indices((spectrum.shape[0],) * 3, spectrum.device)
    return spectrum * torch.cat((weights, weights.new_zeros(1)))[shells]


def modelled(prepared: Complex[Tensor, "d d h"], batch: PosedImages, disc: FourierDisc) -> Complex[Tensor, "b m"]:
    """What a map (kernels.project.prepare_volume) contributes to images, on the disc, in the frame of the centred particle."""
    return project_points(prepared, batch.rotations, disc.points) * batch.ctf


def grey_factor(prepared: Complex[Tensor, "d d h"], batches: Iterable[PosedImages], disc: FourierDisc) -> float:
    """Factor by which the map's grey scale must be multiplied to be that of the images: least squares over the disc.

    Raises ValueError when the map is empty on the disc.
    """
    cross, power = 0.0, 0.0
    for batch in batches:
        model = modelled(prepared, batch, disc)
        images = on_disc(centred_spectra(batch.images, batch.shifts), disc)
        cross += float((disc.weights * (images * model.conj()).real).sum())
        power += float((disc.weights * (model.real**2 + model.imag**2)).sum())
    if power <= 0:
        raise ValueError("the map has no power on the disc")
    return cross / power


def contributed(prepared: Complex[Tensor, "d d h"], batch: PosedImages, disc: FourierDisc, factor: float) -> Float[Tensor, "b n n"]:
    """What a map contributes to images."""
    side = batch.images.shape[-1]
    back = shift_phases(disc.points / side, -batch.shifts)
    spectra = torch.zeros(len(batch), side * (side // 2 + 1), dtype=prepared.dtype, device=batch.images.device)
    spectra[:, disc.index] = factor * modelled(prepared, batch, disc) * back
    return irfft2(spectra.reshape(len(batch), side, -1), (side, side))
